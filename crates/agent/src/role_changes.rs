//! Which records of the journal tell of a change of role, and their short form for the store.

use serde_json::{Map, Value};

/// Records that are kept, whatever their size.
pub(crate) const KEPT: usize = 32;
/// Further rules of a decision that are kept.
const ALSO: usize = 3;

/// Kinds that are told whatever is in them.
const KINDS: [&str; 3] = ["start", "failover", "guardian_fired"];
/// Actions that begin, end or repair the life of a primary or a replica.
const ACTIONS: [&str; 16] = [
    "AcquireLease",
    "RestoreKeys",
    "ResumeLease",
    "ReleaseLease",
    "Promote",
    "Demote",
    "Bootstrap",
    "BootstrapStandby",
    "Clone",
    "Rewind",
    "CrashRecovery",
    "Reinitialize",
    "WipeDataDirectory",
    "SetDataDirectoryAside",
    "Restart",
    "Start",
];
/// What is kept of a record, in this order.
const FIELDS: [&str; 16] = [
    "v",
    "time",
    "cluster",
    "member",
    "kind",
    "version",
    "reason",
    "sentence",
    "event",
    "old_leader",
    "detect_ms",
    "decide_ms",
    "fence_ms",
    "promote_ms",
    "route_ms",
    "total_ms",
];
/// What is kept of what was seen.
const SEEN: [&str; 6] = ["leader", "role", "lsn", "timeline", "store_age_ms", "answer_age_ms"];

/// The short form of a record that tells of a change of role; `None` for any other.
pub(crate) fn brief(record: &Value) -> Option<Value> {
    let kind = record.get("kind")?.as_str()?;
    let actions: Vec<&str> = actions(record).collect();
    let tells =
        KINDS.contains(&kind) || kind == "decision" && actions.iter().any(|action| ACTIONS.contains(action));
    if !tells {
        return None;
    }
    let mut brief = pick(record, &FIELDS);
    if let Some(also) = record.get("also").and_then(Value::as_array).filter(|also| !also.is_empty()) {
        brief.insert("also".into(), also.iter().take(ALSO).cloned().collect());
    }
    if !actions.is_empty() {
        brief.insert("actions".into(), actions.into());
    }
    if let Some(seen) = record.get("seen").filter(|seen| seen.is_object()) {
        brief.insert("seen".into(), pick(seen, &SEEN).into());
    }
    Some(brief.into())
}

/// The newest records whose texts together stay below `bytes`, in the order of time.
pub(crate) fn newest_within(records: &[Value], bytes: usize) -> &[Value] {
    let mut left = bytes;
    let fits = records.iter().rev().take_while(|record| {
        let needed = record.to_string().len() + 1;
        let fits = needed <= left;
        left = left.saturating_sub(needed);
        fits
    });
    &records[records.len() - fits.count()..]
}

fn pick(from: &Value, names: &[&str]) -> Map<String, Value> {
    let present = |name: &&&str| from.get(**name).filter(|value| !value.is_null()).is_some();
    names.iter().filter(present).map(|name| ((*name).to_owned(), from[*name].clone())).collect()
}

/// The names of the actions: an action without fields is a text, one with fields an object with one key.
fn actions(record: &Value) -> impl Iterator<Item = &str> {
    let actions = record.get("actions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    actions.iter().filter_map(|action| match action {
        Value::String(name) => Some(name.as_str()),
        Value::Object(fields) => fields.keys().next().map(String::as_str),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn changes_of_role_are_kept_in_short_and_nothing_else() {
        let promotion = json!({
            "v": 1, "time": "t", "boottime_ms": 5, "kind": "decision", "reason": "promoted_having_lock",
            "actions": [{"Promote": {"lease": 1}}, "Reload"],
            "seen": {"lsn": "0/3000000", "peers": {"much": "text"}, "leader": null},
        });
        let expected = json!({
            "v": 1, "time": "t", "kind": "decision", "reason": "promoted_having_lock",
            "actions": ["Promote", "Reload"], "seen": {"lsn": "0/3000000"},
        });
        assert_eq!(brief(&promotion), Some(expected));
        for (case, record) in [
            ("routine", json!({"kind": "decision", "reason": "secondary_following", "actions": []})),
            ("another deed", json!({"kind": "decision", "actions": [{"WriteSync": {}}]})),
            ("a call", json!({"kind": "call", "actions": ["Promote"]})),
            ("nonsense", json!("Promote")),
        ] {
            assert_eq!(brief(&record), None, "{case}");
        }
        assert!(brief(&json!({"kind": "failover", "total_ms": 5})).is_some());
    }

    /// The names above are those of the enum: a renamed action would silently no longer be told.
    #[test]
    fn the_names_are_those_of_actions() {
        let source = include_str!("../../ha/src/action.rs");
        for action in ACTIONS {
            let is_variant =
                [",", " {", "("].iter().any(|end| source.contains(&format!("\n    {action}{end}")));
            assert!(is_variant, "{action}");
        }
    }

    #[test]
    fn the_newest_records_fill_the_room_there_is() {
        let records: Vec<Value> = (0..5).map(|number| json!({"number": number})).collect();
        let one = records[0].to_string().len() + 1;
        assert_eq!(newest_within(&records, 2 * one + 1), &records[3..]);
        assert_eq!(newest_within(&records, usize::MAX), &records[..]);
        assert!(newest_within(&records, one - 1).is_empty());
    }
}
