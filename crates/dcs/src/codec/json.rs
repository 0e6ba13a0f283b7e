//! Reading JSON that somebody else wrote, and writing it back without losing what we do not know.
//!
//! Readers are lenient: a value of the wrong kind is absent, a number may come as text. None of them fails.

use bellwether_types::{Lsn, MemberName};
use serde_json::{Map, Value};

pub(crate) fn parse(bytes: &[u8]) -> Option<Value> {
    serde_json::from_slice(bytes).ok()
}

pub(crate) fn parse_object(bytes: &[u8]) -> Option<Map<String, Value>> {
    match parse(bytes)? {
        Value::Object(map) => Some(map),
        _ => None,
    }
}

/// A non-negative integer, also as text.
pub(crate) fn integer(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

pub(crate) fn lsn(value: &Value) -> Option<Lsn> {
    integer(value).map(Lsn)
}

pub(crate) fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

pub(crate) fn name(value: &Value) -> Option<MemberName> {
    MemberName::new(value.as_str()?).ok()
}

/// Absent, `null`, `false`, zero and empty are false; everything else is true.
pub(crate) fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(on) => *on,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// A JSON value that may be wrapped into a text once more, as Kubernetes annotations are.
pub(crate) fn unwrap_text(value: &Value) -> Option<Value> {
    match value {
        Value::String(text) => serde_json::from_str(text).ok(),
        other => Some(other.clone()),
    }
}

/// `fields` in their order, followed by those of `previous` that are not among `known`.
pub(crate) fn rewrite(
    fields: Map<String, Value>,
    known: &[&str],
    previous: Option<&[u8]>,
) -> Map<String, Value> {
    let mut result = fields;
    for (key, value) in previous.and_then(parse_object).unwrap_or_default() {
        if !known.contains(&key.as_str()) {
            result.entry(key).or_insert(value);
        }
    }
    result
}

/// Compact text of an object.
pub(crate) fn compact(fields: Map<String, Value>) -> String {
    Value::Object(fields).to_string()
}
