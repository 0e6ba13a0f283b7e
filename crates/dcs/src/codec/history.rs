//! `history`: the finished timelines, and `failsafe`: every member's API.

use std::collections::BTreeMap;

use bellwether_types::{
    MemberName, TimelineId,
    cluster::{FailsafeMap, History, HistoryEntry},
};
use serde_json::{Map, Value};

use super::json;

/// Compact JSON: `[timeline, lsn, reason, promoted_at, new_leader]` per entry, without what is not known at the end.
pub fn encode_history(history: &History) -> String {
    Value::Array(history.0.iter().map(entry_value).collect()).to_string()
}

fn entry_value(entry: &HistoryEntry) -> Value {
    let mut columns: Vec<Value> =
        vec![entry.timeline.0.into(), entry.end.0.into(), entry.reason.as_str().into()];
    if entry.promoted_at.is_some() || entry.new_leader.is_some() {
        columns.push(entry.promoted_at.as_deref().map_or(Value::Null, Value::from));
    }
    columns.extend(entry.new_leader.as_ref().map(|name| Value::from(name.as_str())));
    Value::Array(columns)
}

/// `None` (the cluster's timeline is unknown) if it is no array or its last entry cannot be read. An older entry that cannot be
/// read is left out: the last one tells the timeline, and losing that would let a node return on an old one.
pub(super) fn decode_history(bytes: &[u8]) -> Option<History> {
    let Value::Array(lines) = json::parse(bytes)? else { return None };
    let entries: Vec<Option<HistoryEntry>> = lines.iter().map(entry).collect();
    match entries.last() {
        Some(None) => None,
        _ => Some(History(entries.into_iter().flatten().collect())),
    }
}

fn entry(line: &Value) -> Option<HistoryEntry> {
    let columns = line.as_array()?;
    let timeline = u32::try_from(json::integer(columns.first()?)?).ok()?;
    if timeline == 0 || timeline == u32::MAX {
        return None; // no timeline can have come before, or after
    }
    let reason = match columns.get(2)? {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    Some(HistoryEntry {
        timeline: TimelineId(timeline),
        end: json::lsn(columns.get(1)?)?,
        reason,
        promoted_at: columns.get(3).and_then(json::text),
        new_leader: columns.get(4).and_then(json::name),
    })
}

/// Compact JSON of every member's `api_url`.
pub fn encode_failsafe(map: &FailsafeMap) -> String {
    let fields: Map<String, Value> =
        map.0.iter().map(|(name, url)| (name.to_string(), url.as_str().into())).collect();
    json::compact(fields)
}

/// `None` if anything in it cannot be read: a primary that asks only some of the members in failsafe mode could keep writing
/// beside one that it did not ask.
pub(super) fn decode_failsafe(bytes: &[u8]) -> Option<FailsafeMap> {
    let fields = json::parse_object(bytes)?;
    let members: Option<BTreeMap<MemberName, String>> =
        fields.iter().map(|(name, url)| Some((MemberName::new(name).ok()?, json::text(url)?))).collect();
    members.map(FailsafeMap)
}

#[cfg(test)]
mod tests {
    use bellwether_types::Lsn;

    use super::*;

    fn timeline(value: &str) -> Option<u32> {
        decode_history(value.as_bytes()).map(|history| history.timeline().0)
    }

    #[test]
    fn the_clusters_timeline_comes_from_the_last_entry() {
        for (value, expected) in [
            ("[]", Some(1)),
            (r#"[[1,67109024,"no recovery target specified"]]"#, Some(2)),
            (r#"[[1,5,"x"],["2","6","y","2026-01-05T10:00:00+00:00","pg-b"]]"#, Some(3)),
            (r#"[["broken"],[2,6,"y"]]"#, Some(3)),
            (r#"[[1,5,"x"],["broken"]]"#, None),
            (r#"[[4294967295,5,"x"]]"#, None),
            (r#"[[0,5,"x"]]"#, None),
            ("{}", None),
            ("", None),
        ] {
            assert_eq!(timeline(value), expected, "{value}");
        }
    }

    #[test]
    fn entries_of_three_to_five_columns_keep_their_form() {
        let text = concat!(
            r#"[[1,5,"a"],[2,6,"b","2026-01-05T10:00:00+00:00"],"#,
            r#"[3,7,"c","2026-01-05T10:00:00+00:00","pg-b"],[4,8,"d",null,"pg-c"]]"#
        );
        let history = decode_history(text.as_bytes()).unwrap();
        assert_eq!(encode_history(&history), text);
        assert_eq!(history.0[2].end, Lsn(7));
    }

    #[test]
    fn a_failsafe_map_is_read_whole_or_not_at_all() {
        let text = r#"{"pg-a":"http://10.0.0.1:8008/patroni","pg-b":"http://10.0.0.2:8008/patroni"}"#;
        let map = decode_failsafe(text.as_bytes()).unwrap();
        assert_eq!(encode_failsafe(&map), text);
        for broken in [r#"{"pg-a":"http://x","pg-b":null}"#, r#"{"a/b":"http://x"}"#, "[]", ""] {
            assert_eq!(decode_failsafe(broken.as_bytes()), None, "{broken}");
        }
    }
}
