//! Values of ours, which Patroni ignores: the cluster's feature level, and the end of each member's journal.

use bellwether_types::MemberName;
use serde_json::{Value, json};

use super::{json::parse_object, keys};
use crate::store::{Key, Snapshot};

/// Format of the journals in the store; readers ignore newer ones.
const JOURNAL_VERSION: u64 = 1;

/// The level that every member of the cluster understands; 0 while one of them is not ours. `None` if nobody wrote it yet.
pub fn feature_level(snapshot: &Snapshot) -> Option<u32> {
    let entry = snapshot.entries.get(&Key::from(keys::FEATURE_LEVEL))?;
    let level = parse_object(&entry.value)?.get("level")?.as_u64()?;
    u32::try_from(level).ok()
}

/// The text of [`keys::FEATURE_LEVEL`]. `leader`: who found it out.
pub fn encode_feature_level(level: u32, leader: &MemberName) -> String {
    json!({"level": level, "leader": leader}).to_string()
}

/// The text of a journal's end: records in the order of time.
pub fn encode_journal(records: &[Value]) -> String {
    json!({"v": JOURNAL_VERSION, "records": records}).to_string()
}

/// The records; `None` if it is no journal, or one of a newer version.
pub fn decode_journal(bytes: &[u8]) -> Option<Vec<Value>> {
    let mut fields = parse_object(bytes)?;
    match (fields.get("v")?.as_u64()?, fields.remove("records")?) {
        (1..=JOURNAL_VERSION, Value::Array(records)) => Some(records),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use bellwether_types::{LeaseId, Revision};

    use super::*;
    use crate::store::Entry;

    fn snapshot(key: Key, value: &str) -> Snapshot {
        let entry = Entry {
            value: value.into(),
            created: Revision(1),
            modified: Revision(1),
            lease: None::<LeaseId>,
        };
        Snapshot { revision: Revision(1), entries: [(key, entry)].into() }
    }

    #[test]
    fn the_level_is_read_as_it_was_written() {
        let leader = MemberName::new("a").unwrap();
        for (text, expected) in [
            (encode_feature_level(3, &leader), Some(3)),
            (encode_feature_level(0, &leader), Some(0)),
            ("{}".to_owned(), None),
            ("nonsense".to_owned(), None),
        ] {
            let level = feature_level(&snapshot(keys::FEATURE_LEVEL.into(), &text));
            assert_eq!(level, expected, "{text}");
        }
    }

    #[test]
    fn a_journal_of_a_newer_version_is_not_misread() {
        let records = vec![json!({"kind": "start"})];
        assert_eq!(decode_journal(encode_journal(&records).as_bytes()), Some(records));
        for text in [r#"{"v":2,"records":[]}"#, r#"{"records":[]}"#, r#"{"v":1,"records":{}}"#, ""] {
            assert_eq!(decode_journal(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn our_keys_are_nobody_elses() {
        let (name, cluster) = (MemberName::new("a").unwrap(), super::super::decode);
        assert_eq!(keys::journal_of(&keys::journal(&name)), Some(name.clone()));
        assert_eq!(keys::journal_of(&keys::member(&name)), None);
        let empty = cluster(&snapshot(keys::journal(&name), "{}"));
        assert!(empty.members.is_empty() && empty.leader.is_none());
    }
}
