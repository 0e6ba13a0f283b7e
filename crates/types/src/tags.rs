//! Member tags and what they mean.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::MemberName;

/// The tags of a member, as configured or as published. Unknown tags are kept as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tags(pub BTreeMap<String, Value>);

impl Tags {
    /// May never lead. An explicit `nofailover` beats a contradicting `failover_priority`.
    pub fn nofailover(&self) -> bool {
        self.flag_or_priority("nofailover", "failover_priority")
    }

    /// Breaks ties between equal WAL positions; higher wins. Default 1, 0 for a true `nofailover`.
    pub fn failover_priority(&self) -> i64 {
        self.priority("nofailover", "failover_priority")
    }

    /// Never a synchronous standby. An explicit `nosync` beats a contradicting `sync_priority`.
    pub fn nosync(&self) -> bool {
        self.flag_or_priority("nosync", "sync_priority")
    }

    /// Preference among synchronous standbys. Default 1, 0 for a true `nosync`.
    pub fn sync_priority(&self) -> i64 {
        self.priority("nosync", "sync_priority")
    }

    pub fn noloadbalance(&self) -> bool {
        self.truthy("noloadbalance").unwrap_or(false)
    }

    /// Its share of the readers, beside other replicas. Default 1; 0: none, if there are others.
    pub fn weight(&self) -> u32 {
        let given = match self.0.get("weight") {
            Some(Value::Number(number)) => number.as_i64(),
            Some(Value::String(text)) => text.trim().parse().ok(),
            _ => None,
        };
        given.map_or(1, |weight| u32::try_from(weight.clamp(0, 1000)).unwrap_or(1))
    }

    /// Where it is: a data centre, for example.
    pub fn zone(&self) -> Option<&str> {
        self.0.get("zone").and_then(Value::as_str).filter(|zone| !zone.is_empty())
    }

    /// A preferred source of base backups.
    pub fn clonefrom(&self) -> bool {
        self.truthy("clonefrom").unwrap_or(false)
    }

    /// Archive recovery only: it does not stream and owns no slot.
    pub fn nostream(&self) -> bool {
        match self.0.get("nostream") {
            Some(Value::Bool(on)) => *on,
            Some(Value::String(text)) => {
                matches!(text.to_ascii_lowercase().as_str(), "on" | "true" | "yes" | "1")
            }
            Some(Value::Number(number)) => number.as_i64() == Some(1),
            _ => false,
        }
    }

    /// The member to stream from instead of the leader.
    pub fn replicatefrom(&self) -> Option<MemberName> {
        self.0.get("replicatefrom").and_then(Value::as_str).and_then(|name| MemberName::new(name).ok())
    }

    /// What goes into the member key: boolean tags that are off are left out, unless they contradict a priority.
    pub fn published(&self) -> Tags {
        const BOOLEAN: [&str; 5] = ["clonefrom", "nofailover", "noloadbalance", "nosync", "nostream"];
        let keep = |key: &str| match key {
            key if !BOOLEAN.contains(&key) => true,
            "nofailover" => self.truthy(key) == Some(true) || self.0.contains_key("failover_priority"),
            "nosync" => self.truthy(key) == Some(true) || self.0.contains_key("sync_priority"),
            key => self.truthy(key) == Some(true),
        };
        Tags(self.0.iter().filter(|(key, _)| keep(key)).map(|(k, v)| (k.clone(), v.clone())).collect())
    }

    fn flag_or_priority(&self, flag: &str, priority: &str) -> bool {
        match self.truthy(flag) {
            Some(set) => set,
            None => self.integer(priority).is_some_and(|value| value <= 0),
        }
    }

    fn priority(&self, flag: &str, priority: &str) -> i64 {
        match self.truthy(flag) {
            Some(true) => 0,
            _ => self.integer(priority).unwrap_or(1),
        }
    }

    /// The truthiness that peers use: any non-empty text is true, even `"false"`.
    fn truthy(&self, key: &str) -> Option<bool> {
        match self.0.get(key)? {
            Value::Null => None,
            Value::Bool(on) => Some(*on),
            Value::Number(number) => Some(number.as_f64() != Some(0.0)),
            Value::String(text) => Some(!text.is_empty()),
            Value::Array(items) => Some(!items.is_empty()),
            Value::Object(map) => Some(!map.is_empty()),
        }
    }

    fn integer(&self, key: &str) -> Option<i64> {
        match self.0.get(key)? {
            // Peers round.
            Value::Number(number) => number.as_i64().or_else(|| Some(number.as_f64()?.round() as i64)),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tags(value: Value) -> Tags {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn an_explicit_flag_beats_a_contradicting_priority() {
        for (value, nofailover, priority) in [
            (json!({}), false, 1),
            (json!({"nofailover": true}), true, 0),
            (json!({"failover_priority": 0}), true, 0),
            (json!({"failover_priority": 3}), false, 3),
            (json!({"nofailover": false, "failover_priority": 0}), false, 0),
            (json!({"nofailover": true, "failover_priority": 5}), true, 0),
            (json!({"nofailover": null, "failover_priority": 0}), true, 0),
            (json!({"nofailover": "false"}), true, 0),
            (json!({"failover_priority": -1}), true, -1),
            (json!({"failover_priority": "2"}), false, 2),
            (json!({"failover_priority": 1.7}), false, 2),
            (json!({"failover_priority": "x"}), false, 1),
        ] {
            let tags = tags(value.clone());
            assert_eq!((tags.nofailover(), tags.failover_priority()), (nofailover, priority), "{value}");
        }
    }

    #[test]
    fn published_tags_leave_out_what_is_off() {
        let published = tags(
            json!({"clonefrom": false, "nosync": false, "nofailover": false, "failover_priority": 0, "x": 1}),
        )
        .published();
        assert_eq!(published, tags(json!({"nofailover": false, "failover_priority": 0, "x": 1})));
        // A text is not empty, whatever it says; what it means is another matter.
        let said = tags(json!({"nostream": "false", "replicatefrom": null}));
        assert_eq!(said.published(), said);
        assert!(!said.nostream() && said.replicatefrom().is_none());
    }
}
