//! `slots` and `ignore_slots`.

use std::collections::BTreeMap;

use bellwether_types::{
    settings::Settings,
    slots::{LogicalSlot, PermanentSlot, SlotClusterType, SlotKind, SlotMatcher},
};
use serde_json::{Map, Value};

use super::Reader;
use crate::value::lenient_bool;

/// The first of the three names that holds anything.
const NAMES: [&str; 3] = ["permanent_replication_slots", "permanent_slots", "slots"];

/// Reads both. A slot that is named by an entry which can't be understood is neither made nor dropped: a slip in an edit must not cost
/// a consumer its position.
pub(super) fn read(reader: &mut Reader<'_>, settings: &mut Settings) {
    settings.ignore_slots = read_ignored(reader);
    settings.slots = read_permanent(reader, &mut settings.ignore_slots);
}

fn read_permanent(
    reader: &mut Reader<'_>,
    left_alone: &mut Vec<SlotMatcher>,
) -> BTreeMap<String, PermanentSlot> {
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
            Err(reason) => {
                reader.messages.push(format!("the permanent slot `{name}` is ignored: {reason}"));
                left_alone.push(SlotMatcher::named(name));
            }
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
            let failover = fields.get("failover").and_then(lenient_bool).unwrap_or(false);
            SlotKind::Logical(LogicalSlot {
                database: database.to_owned(),
                plugin: plugin.to_owned(),
                failover,
            })
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

fn read_ignored(reader: &mut Reader<'_>) -> Vec<SlotMatcher> {
    let Some(Value::Array(items)) = reader.get("ignore_slots") else { return Vec::new() };
    let mut matchers = Vec::new();
    for item in items {
        if !item.is_object() {
            reader.messages.push(format!("the entry {item} of ignore_slots is no map, and is ignored"));
            continue;
        }
        let text = |key: &str| item.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let text = |key: &str| text(key).map(str::to_owned);
        matchers.push(SlotMatcher {
            name: text("name"),
            kind: text("type"),
            database: text("database"),
            plugin: text("plugin"),
        });
    }
    matchers
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::dynamic::{Floors, parse};

    fn logical() -> SlotKind {
        SlotKind::Logical(LogicalSlot { database: "d".to_owned(), plugin: "p".to_owned(), failover: false })
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
            assert_eq!(dynamic.settings.slots.get(name).map(|slot| slot.kind.clone()), expected, "{case}");
            let settings = &dynamic.settings;
            assert_eq!(settings.slots.len(), usize::from(expected.is_some()), "{case}");
            let left_alone = settings.ignore_slots.iter().any(|slot| slot.matches(name, None, None));
            assert_eq!(left_alone, expected.is_none(), "{case}");
            assert_eq!(dynamic.messages.is_empty(), expected.is_some(), "{case}: {:?}", dynamic.messages);
        }
    }

    #[test]
    fn ignored_slots_are_matched_by_what_is_given() {
        let document = json!({"ignore_slots": [{"name": "x", "type": "logical"}, {}, "x"]});
        let dynamic = parse(&document, Floors::patroni()).unwrap();
        let expected = SlotMatcher {
            name: Some("x".to_owned()),
            kind: Some("logical".to_owned()),
            ..Default::default()
        };
        assert_eq!(dynamic.settings.ignore_slots, [expected, SlotMatcher::default()]);
        assert_eq!(dynamic.messages.len(), 1);
    }
}
