//! Taking secrets out of a document before a person or a log sees it.

use bellwether_types::secret::{REDACTED, is_secret};
use serde_json::Value;

/// A URL with a name or password in it.
fn has_login(key: &str, value: &Value) -> bool {
    matches!(key, "url" | "proxy") && value.as_str().is_some_and(|url| url.contains('@'))
}

/// A copy in which every secret is replaced by [`REDACTED`].
pub fn redacted(document: &Value) -> Value {
    match document {
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| match value {
                Value::Null => (key.clone(), Value::Null),
                value if is_secret(key) || has_login(key, value) => {
                    (key.clone(), Value::String(REDACTED.to_owned()))
                }
                value => (key.clone(), redacted(value)),
            })
            .collect(),
        Value::Array(items) => items.iter().map(redacted).collect(),
        other => other.clone(),
    }
}

/// Whether a document holds any secret.
pub(crate) fn contains_secret(document: &Value) -> bool {
    match document {
        Value::Object(map) => map.iter().any(|(key, value)| {
            (is_secret(key) && !value.is_null()) || has_login(key, value) || contains_secret(value)
        }),
        Value::Array(items) => items.iter().any(contains_secret),
        _ => false,
    }
}
