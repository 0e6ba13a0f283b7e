//! Replication slots as the dynamic configuration names them.

use serde::{Deserialize, Serialize};

/// A replication slot that the cluster keeps whoever leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermanentSlot {
    pub kind: SlotKind,
    /// For physical slots only.
    pub cluster_type: Option<SlotClusterType>,
}

/// What kind of slot it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SlotKind {
    Physical,
    Logical(LogicalSlot),
}

/// What a logical slot decodes, and with what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogicalSlot {
    pub database: String,
    pub plugin: String,
    /// PostgreSQL 17 and later: the servers synchronise it to standbys by themselves.
    #[serde(default)]
    pub failover: bool,
}

/// In which kind of cluster a permanent physical slot exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SlotClusterType {
    Primary,
    Standby,
}

/// Slots that match in every field given here are left alone. One that gives nothing matches every slot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotMatcher {
    pub name: Option<String>,
    /// `physical` or `logical`.
    pub kind: Option<String>,
    pub database: Option<String>,
    pub plugin: Option<String>,
}

impl SlotMatcher {
    /// Exactly the slot of this name.
    pub fn named(name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..Self::default() }
    }

    /// `database` and `plugin` are those of a logical slot.
    pub fn matches(&self, name: &str, database: Option<&str>, plugin: Option<&str>) -> bool {
        let kind = if plugin.is_some() { "logical" } else { "physical" };
        let fits = |wanted: &Option<String>, has: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| has == Some(wanted))
        };
        fits(&self.name, Some(name))
            && fits(&self.kind, Some(kind))
            && fits(&self.database, database)
            && fits(&self.plugin, plugin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matcher_takes_what_fits_in_everything_it_names() {
        let of = |name: Option<&str>, kind: Option<&str>, database: Option<&str>, plugin: Option<&str>| {
            let text = |value: Option<&str>| value.map(str::to_owned);
            SlotMatcher { name: text(name), kind: text(kind), database: text(database), plugin: text(plugin) }
        };
        let logical = |matcher: &SlotMatcher| matcher.matches("x", Some("d"), Some("p"));
        let physical = |matcher: &SlotMatcher| matcher.matches("x", None, None);
        for (matcher, takes_logical, takes_physical) in [
            (of(None, None, None, None), true, true),
            (of(Some("x"), None, None, None), true, true),
            (of(Some("y"), None, None, None), false, false),
            (of(None, Some("logical"), None, None), true, false),
            (of(Some("x"), Some("physical"), None, None), false, true),
            (of(None, None, Some("d"), Some("p")), true, false),
            (of(Some("x"), Some("logical"), Some("d"), Some("q")), false, false),
        ] {
            assert_eq!(
                (logical(&matcher), physical(&matcher)),
                (takes_logical, takes_physical),
                "{matcher:?}"
            );
        }
    }
}
