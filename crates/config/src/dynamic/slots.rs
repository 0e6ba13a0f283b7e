//! `slots` and `ignore_slots`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::Reader;

/// A replication slot that exists on every primary (or, `Standby`, on every standby leader).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PermanentSlot {
    pub kind: SlotKind,
    pub cluster_type: Option<SlotClusterType>,
}

/// What kind of slot it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotKind {
    Physical,
    Logical { database: String, plugin: String },
}

/// In which kind of cluster a permanent physical slot exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotClusterType {
    Primary,
    Standby,
}

/// Slots that match in every field given here are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotMatcher {
    pub name: Option<String>,
    /// `physical` or `logical`.
    pub kind: Option<String>,
    pub database: Option<String>,
    pub plugin: Option<String>,
}

/// The first of the three names that holds anything.
const NAMES: [&str; 3] = ["permanent_replication_slots", "permanent_slots", "slots"];

pub(super) fn read_permanent(reader: &mut Reader<'_>) -> BTreeMap<String, PermanentSlot> {
    let filled = |key: &&str| match reader.get(key) {
        Some(Value::Object(slots)) => !slots.is_empty(),
        Some(_) => true,
        None => false,
    };
    let Some(key) = NAMES.into_iter().find(|key| filled(key)) else { return BTreeMap::new() };
    let Some(Value::Object(slots)) = reader.get(key) else {
        reader.messages.push(format!("{key} is not a map of slots, and is ignored"));
        return BTreeMap::new();
    };
    let mut permanent = BTreeMap::new();
    for (name, value) in slots {
        match read_slot(name, value) {
            Ok(slot) => {
                permanent.insert(name.clone(), slot);
            }
            Err(reason) => reader.messages.push(format!("the permanent slot `{name}` is ignored: {reason}")),
        }
    }
    permanent
}

fn read_slot(name: &str, value: &Value) -> Result<PermanentSlot, &'static str> {
    let fits = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_';
    if name.is_empty() || name.len() > 63 || !name.bytes().all(fits) {
        return Err("a name has 1 to 63 characters of a-z, 0-9 and _");
    }
    let empty = Map::new();
    let fields = match value {
        Value::Object(fields) => fields,
        Value::Null | Value::Number(_) => &empty,
        _ => return Err("expects a map"),
    };
    let text = |key: &str| fields.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let (database, plugin) = (text("database"), text("plugin"));
    let logical = match text("type") {
        Some(kind) => kind.eq_ignore_ascii_case("logical"),
        None => database.is_some() && plugin.is_some(),
    };
    let kind = match (logical, database, plugin) {
        (false, ..) => SlotKind::Physical,
        (true, Some(database), Some(plugin)) => {
            SlotKind::Logical { database: database.to_owned(), plugin: plugin.to_owned() }
        }
        (true, ..) => return Err("a logical slot needs `database` and `plugin`"),
    };
    let cluster_type = match text("cluster_type") {
        Some("primary") => Some(SlotClusterType::Primary),
        Some("standby") => Some(SlotClusterType::Standby),
        Some(_) => return Err("`cluster_type` is `primary` or `standby`"),
        None => None,
    };
    Ok(PermanentSlot { cluster_type: cluster_type.filter(|_| kind == SlotKind::Physical), kind })
}

pub(super) fn read_ignored(reader: &mut Reader<'_>) -> Vec<SlotMatcher> {
    let Some(Value::Array(items)) = reader.get("ignore_slots") else { return Vec::new() };
    let mut matchers = Vec::new();
    for item in items {
        let text = |key: &str| item.get(key).and_then(Value::as_str).map(str::to_owned);
        let matcher = SlotMatcher {
            name: text("name"),
            kind: text("type"),
            database: text("database"),
            plugin: text("plugin"),
        };
        if matcher == SlotMatcher::default() {
            reader.messages.push(format!("the entry {item} of ignore_slots matches nothing, and is ignored"));
        } else {
            matchers.push(matcher);
        }
    }
    matchers
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::dynamic::{Floors, parse};

    fn logical() -> SlotKind {
        SlotKind::Logical { database: "d".to_owned(), plugin: "p".to_owned() }
    }

    #[test]
    fn permanent_slots_have_three_names_and_two_kinds() {
        for (case, document, name, expected) in [
            ("null is physical", json!({"slots": {"a": null}}), "a", Some(SlotKind::Physical)),
            ("zero is physical", json!({"slots": {"a": 0}}), "a", Some(SlotKind::Physical)),
            (
                "database and plugin make it logical",
                json!({"slots": {"a": {"database": "d", "plugin": "p"}}}),
                "a",
                Some(logical()),
            ),
            (
                "the oldest name wins",
                json!({"slots": {"a": null}, "permanent_slots": {"b": null}, "permanent_replication_slots": {"c": null}}),
                "c",
                Some(SlotKind::Physical),
            ),
            (
                "an empty one does not count",
                json!({"slots": {"a": null}, "permanent_slots": {}}),
                "a",
                Some(SlotKind::Physical),
            ),
            ("a bad name is ignored", json!({"slots": {"A": null}}), "A", None),
            ("half a logical slot is ignored", json!({"slots": {"a": {"type": "logical"}}}), "a", None),
        ] {
            let dynamic = parse(&document, Floors::patroni()).unwrap();
            assert_eq!(dynamic.slots.get(name).map(|slot| slot.kind.clone()), expected, "{case}");
            assert_eq!(dynamic.slots.len(), usize::from(expected.is_some()), "{case}");
            assert_eq!(dynamic.messages.is_empty(), expected.is_some(), "{case}: {:?}", dynamic.messages);
        }
    }

    #[test]
    fn ignored_slots_need_something_to_match() {
        let document = json!({"ignore_slots": [{"name": "x", "type": "logical"}, {}]});
        let dynamic = parse(&document, Floors::patroni()).unwrap();
        let expected = SlotMatcher {
            name: Some("x".to_owned()),
            kind: Some("logical".to_owned()),
            ..Default::default()
        };
        assert_eq!(dynamic.ignore_slots, [expected]);
        assert_eq!(dynamic.messages.len(), 1);
    }
}
