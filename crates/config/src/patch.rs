//! Changing a configuration document: what `PATCH /config` and `edit-config` mean.

use serde_json::{Map, Value};

/// Merges `change` into `document`: maps are merged at every depth, `null` deletes, anything else replaces.
///
/// A scalar with the same text is no change (`"20"` over `20`); a map over a scalar replaces it. Returns whether
/// anything changed.
pub fn patch(document: &mut Value, change: &Value) -> bool {
    match (document, change) {
        (Value::Object(document), Value::Object(change)) => patch_map(document, change),
        (document, change) if same(document, change) => false,
        (document, change) => {
            *document = without_nulls(change);
            true
        }
    }
}

fn patch_map(document: &mut Map<String, Value>, change: &Map<String, Value>) -> bool {
    let mut changed = false;
    for (key, value) in change {
        changed |= match (document.get_mut(key), value) {
            (Some(_), Value::Null) => document.shift_remove(key).is_some(),
            (None, Value::Null) => false,
            (Some(present), value) => patch(present, value),
            (None, value) => {
                document.insert(key.clone(), without_nulls(value));
                true
            }
        };
    }
    changed
}

/// A map that arrives where there was none has nothing to delete.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key.clone(), without_nulls(value)))
            .collect(),
        other => other.clone(),
    }
}

/// Whether two documents mean the same: scalars are compared by their text, so changing only the type is no change.
pub fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(key, value)| right.get(key).is_some_and(|other| same(value, other)))
        }
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same(left, right))
        }
        (Value::Object(_) | Value::Array(_), _) | (_, Value::Object(_) | Value::Array(_)) => false,
        (left, right) => scalar_text(left) == scalar_text(right),
    }
}

/// The text of a scalar as the reference prints it, so that `true` and `"True"` compare equal.
fn scalar_text(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_patch_merges_deletes_and_replaces() {
        for (case, before, change, after, changed) in [
            (
                "maps merge deeply",
                json!({"a": {"b": 1}}),
                json!({"a": {"c": 2}}),
                json!({"a": {"b": 1, "c": 2}}),
                true,
            ),
            ("null deletes", json!({"a": 1, "b": 2}), json!({"a": null}), json!({"b": 2}), true),
            (
                "null for an absent key is no change",
                json!({"b": 2}),
                json!({"a": null}),
                json!({"b": 2}),
                false,
            ),
            (
                "the same text is no change",
                json!({"ttl": 20}),
                json!({"ttl": "20"}),
                json!({"ttl": 20}),
                false,
            ),
            (
                "true and True are the same",
                json!({"x": true}),
                json!({"x": "True"}),
                json!({"x": true}),
                false,
            ),
            (
                "a map replaces a scalar",
                json!({"s": "x"}),
                json!({"s": {"host": "h"}}),
                json!({"s": {"host": "h"}}),
                true,
            ),
            ("a scalar replaces a map", json!({"s": {"a": 1}}), json!({"s": 1}), json!({"s": 1}), true),
            ("lists are replaced whole", json!({"l": [1, 2]}), json!({"l": [2]}), json!({"l": [2]}), true),
            ("the same list is no change", json!({"l": [1]}), json!({"l": ["1"]}), json!({"l": [1]}), false),
            (
                "nulls inside a new map vanish",
                json!({}),
                json!({"a": {"b": null, "c": 1}}),
                json!({"a": {"c": 1}}),
                true,
            ),
        ] {
            let mut document = before;
            assert_eq!(patch(&mut document, &change), changed, "{case}");
            assert_eq!(document, after, "{case}");
        }
    }
}
