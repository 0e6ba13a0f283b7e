//! Values as Patroni's messages show them.

use serde_json::Value;

/// A value as Python's `str()` writes it.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => part(other),
    }
}

/// As `repr()` writes it.
fn part(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) if text.contains('\'') && !text.contains('"') => format!("\"{text}\""),
        Value::String(text) => format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")),
        Value::Array(items) => format!("[{}]", items.iter().map(part).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let pairs = map.iter().map(|(key, value)| {
                let secret = bellwether_types::secret::is_secret(key);
                let value = if secret { "...".to_owned() } else { part(value) };
                format!("{}: {value}", part(&Value::String(key.clone())))
            });
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_look_as_python_shows_them() {
        for (value, text) in [
            (json!("a'b"), "a'b"),
            (json!(["a", 5, true, null]), "['a', 5, True, None]"),
            (json!({"a": "it's"}), "{'a': \"it's\"}"),
            (json!({"password": "x"}), "{'password': ...}"),
            (json!(null), "None"),
            (json!(1.5), "1.5"),
        ] {
            assert_eq!(shown(&value), text);
        }
    }
}
