//! `status`: the position that the leader last reported, with the slots it has.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_types::{Lsn, cluster::Status};
use serde_json::{Map, Value};

use super::json;

const FIELDS: [&str; 3] = ["optime", "slots", "retain_slots"];

/// Compact JSON. `optime` is always written, `slots` and `retain_slots` only if given; unknown fields of `previous` are kept.
pub fn encode_status(status: &Status, previous: Option<&[u8]>) -> String {
    let mut fields = Map::new();
    fields.insert("optime".to_owned(), status.optime.0.into());
    if let Some(slots) = &status.slots {
        let slots = slots.iter().map(|(slot, lsn)| (slot.clone(), lsn.0.into())).collect();
        fields.insert("slots".to_owned(), Value::Object(slots));
    }
    if let Some(retained) = &status.retain_slots {
        fields.insert("retain_slots".to_owned(), retained.iter().cloned().map(Value::from).collect());
    }
    json::compact(json::rewrite(fields, &FIELDS, previous))
}

/// For a writer that knows the position alone, as at shutdown: everything else of `previous` is carried over.
pub fn encode_optime(optime: Lsn, previous: Option<&[u8]>) -> String {
    let mut fields = Map::new();
    fields.insert("optime".to_owned(), optime.0.into());
    json::compact(json::rewrite(fields, &["optime"], previous))
}

/// `None` if nothing can be read. A bare number (of old leaders, or in `optime/leader`) is the position.
pub(super) fn decode(bytes: &[u8]) -> Option<Status> {
    match json::parse(bytes)? {
        Value::Object(fields) => Some(Status {
            optime: fields.get("optime").and_then(json::lsn).unwrap_or(Lsn::ZERO),
            slots: fields.get("slots").and_then(slots),
            retain_slots: fields.get("retain_slots").and_then(retained),
        }),
        number => json::lsn(&number).map(|optime| Status { optime, slots: None, retain_slots: None }),
    }
}

fn slots(value: &Value) -> Option<BTreeMap<String, Lsn>> {
    let value = json::unwrap_text(value)?;
    let slots = value.as_object()?;
    Some(slots.iter().filter_map(|(slot, lsn)| Some((slot.clone(), json::lsn(lsn)?))).collect())
}

fn retained(value: &Value) -> Option<BTreeSet<String>> {
    let value = json::unwrap_text(value)?;
    Some(value.as_array()?.iter().filter_map(json::text).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_position_is_read_from_every_form() {
        for (value, optime) in [
            (r#"{"optime":67109024,"slots":{"a":5}}"#, Some(67_109_024)),
            (r#"{"optime":"67109024"}"#, Some(67_109_024)),
            (r#"{"slots":{}}"#, Some(0)),
            ("67109024", Some(67_109_024)),
            (r#""67109024""#, Some(67_109_024)),
            ("", None),
            ("nonsense", None),
            ("[1]", None),
        ] {
            assert_eq!(decode(value.as_bytes()).map(|status| status.optime.0), optime, "{value:?}");
        }
    }

    #[test]
    fn slots_given_as_none_are_dropped_and_slots_not_supplied_are_carried_over() {
        let previous = br#"{"optime":1,"slots":{"a":5},"retain_slots":["b"],"note":true}"#;
        let bare = Status { optime: Lsn(9), slots: None, retain_slots: None };
        assert_eq!(encode_status(&bare, Some(previous)), r#"{"optime":9,"note":true}"#);
        assert_eq!(
            encode_optime(Lsn(9), Some(previous)),
            r#"{"optime":9,"slots":{"a":5},"retain_slots":["b"],"note":true}"#
        );
        assert_eq!(encode_optime(Lsn(9), Some(b"5")), r#"{"optime":9}"#);
    }

    #[test]
    fn slots_may_be_text_within_text() {
        let status = decode(br#"{"optime":1,"slots":"{\"a\":\"5\"}","retain_slots":"[\"b\"]"}"#).unwrap();
        assert_eq!(status.slots, Some([("a".to_owned(), Lsn(5))].into()));
        assert_eq!(status.retain_slots, Some(["b".to_owned()].into()));
    }
}
