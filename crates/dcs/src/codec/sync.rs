//! `sync`: whom a promotion must consult.

use std::collections::BTreeSet;

use bellwether_types::{MemberName, cluster::SyncState};
use serde_json::{Map, Value};

use super::json;

const FIELDS: [&str; 3] = ["leader", "quorum", "sync_standby"];

/// Compact JSON; unknown fields of `previous` are kept.
pub fn encode_sync(state: &SyncState, previous: Option<&[u8]>) -> String {
    let voters = state.voters.iter().map(MemberName::as_str).collect::<Vec<_>>().join(",");
    let mut fields = Map::new();
    fields
        .insert("leader".to_owned(), state.leader.as_ref().map_or(Value::Null, |name| name.as_str().into()));
    fields.insert("quorum".to_owned(), state.quorum.into());
    fields.insert("sync_standby".to_owned(), if voters.is_empty() { Value::Null } else { voters.into() });
    json::compact(json::rewrite(fields, &FIELDS, previous))
}

/// A state without a leader is empty: synchronous mode is not active.
pub(super) fn decode(bytes: &[u8]) -> SyncState {
    let Some(fields) = json::parse_object(bytes) else { return SyncState::default() };
    let Some(leader) = fields.get("leader").and_then(json::name) else { return SyncState::default() };
    let quorum = fields.get("quorum").and_then(json::integer).unwrap_or(0);
    SyncState {
        leader: Some(leader),
        quorum: u32::try_from(quorum).unwrap_or(u32::MAX),
        voters: fields.get("sync_standby").map(voters).unwrap_or_default(),
    }
}

fn voters(value: &Value) -> BTreeSet<MemberName> {
    let names: Vec<&str> = match value {
        Value::String(text) => text.split(',').collect(),
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    names.into_iter().filter_map(|name| MemberName::new(name.trim()).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> MemberName {
        MemberName::new(text).unwrap()
    }

    #[test]
    fn the_state_is_written_sorted_and_joined() {
        let state =
            SyncState { leader: Some(name("pg-a")), quorum: 1, voters: [name("pg-c"), name("pg-b")].into() };
        let text = r#"{"leader":"pg-a","quorum":1,"sync_standby":"pg-b,pg-c"}"#;
        assert_eq!(encode_sync(&state, None), text);
        assert_eq!(decode(text.as_bytes()), state);
        assert_eq!(
            encode_sync(&SyncState::default(), None),
            r#"{"leader":null,"quorum":0,"sync_standby":null}"#
        );
    }

    #[test]
    fn a_missing_or_null_quorum_is_zero_and_blanks_do_not_count() {
        for (value, quorum, voters) in [
            (r#"{"leader":"a","quorum":null,"sync_standby":"b"}"#, 0, vec!["b"]),
            (r#"{"leader":"a","sync_standby":" b, c ,,"}"#, 0, vec!["b", "c"]),
            (r#"{"leader":"a","quorum":"2","sync_standby":["b","c","d"]}"#, 2, vec!["b", "c", "d"]),
            (r#"{"leader":"a","quorum":-1,"sync_standby":null}"#, 0, vec![]),
        ] {
            let state = decode(value.as_bytes());
            assert_eq!((state.quorum, state.leader), (quorum, Some(name("a"))), "{value}");
            assert_eq!(state.voters, voters.into_iter().map(name).collect(), "{value}");
        }
    }

    #[test]
    fn without_a_leader_the_state_is_empty() {
        for value in ["", "{}", "[]", r#"{"leader":null,"quorum":1,"sync_standby":"b"}"#, r#"{"leader":""}"#]
        {
            assert_eq!(decode(value.as_bytes()), SyncState::default(), "{value:?}");
        }
    }

    #[test]
    fn unknown_fields_survive() {
        let text = encode_sync(&SyncState::default(), Some(br#"{"leader":"a","takeover":7}"#));
        assert_eq!(text, r#"{"leader":null,"quorum":0,"sync_standby":null,"takeover":7}"#);
    }
}
