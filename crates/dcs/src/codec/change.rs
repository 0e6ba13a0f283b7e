//! "Did it change?", as Patroni asks: by key sets and by the text of leaf values, so that `1` equals `"1"`.

use serde_json::Value;

use super::json;

/// Whether writing `new` over `previous` would change anything that matters. An absent or unreadable value always changes.
pub fn differs(previous: Option<&[u8]>, new: &str) -> bool {
    let Some(previous) = previous else { return true };
    if previous == new.as_bytes() {
        return false;
    }
    match (json::parse(previous), json::parse(new.as_bytes())) {
        (Some(old), Some(new)) => !same(&old, &new),
        _ => true,
    }
}

/// Objects are equal if they have the same keys with equal values, in any order; leaves if their texts are equal. Arrays are
/// compared exactly: a needless write is better than a missed one.
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter().all(|(key, value)| b.get(key).is_some_and(|other| same(value, other)))
        }
        (Value::Array(_), _) | (_, Value::Array(_)) | (Value::Object(_), _) | (_, Value::Object(_)) => a == b,
        _ => leaf_text(a) == leaf_text(b),
    }
}

/// The text that Patroni compares.
fn leaf_text(value: &Value) -> String {
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
    use super::*;

    #[test]
    fn a_change_is_a_different_key_set_or_a_different_leaf_text() {
        for (old, new, changed) in [
            (r#"{"a":1}"#, r#"{ "a": "1" }"#, false),
            (r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1}"#, false),
            (r#"{"a":{"b":"True"}}"#, r#"{"a":{"b":true}}"#, false),
            (r#"{"a":null}"#, r#"{}"#, true),
            (r#"{"a":1}"#, r#"{"a":2}"#, true),
            (r#"{"a":1}"#, r#"{"a":1,"b":0}"#, true),
            (r#"{"a":[1]}"#, r#"{"a":["1"]}"#, true),
            (r#"[1,2]"#, r#"[1, 2]"#, false),
            (r#"{"a":{}}"#, r#"{"a":"{}"}"#, true),
            ("nonsense", "{}", true),
        ] {
            assert_eq!(differs(Some(old.as_bytes()), new), changed, "{old} -> {new}");
        }
        assert!(differs(None, "{}"));
    }
}
