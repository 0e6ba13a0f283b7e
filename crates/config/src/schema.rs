//! A JSON schema of the local file, for editors that complete and check YAML by one.

use serde_json::{Map, Value, json};

use crate::keys::{Applies, Form, Key, ROOT};

/// The schema (draft 2020-12), made from the same table that finds unknown keys.
pub fn json_schema() -> Value {
    let mut schema = section(ROOT, false);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("Bellwether configuration");
    schema
}

fn section(keys: &[Key], open: bool) -> Value {
    let shown = keys.iter().filter(|key| key.applies != Applies::Never);
    let properties: Map<String, Value> = shown.map(|key| (key.name.to_owned(), property(key))).collect();
    json!({"type": "object", "properties": properties, "additionalProperties": open})
}

fn property(key: &Key) -> Value {
    let mut schema = match key.form {
        Form::Text => json!({"type": ["string", "number"]}),
        Form::Secret => json!({"type": "string"}),
        Form::Flag => {
            json!({"anyOf": [{"type": "boolean"}, {"enum": ["on", "off", "true", "false", "yes", "no", 0, 1]}]})
        }
        Form::Int => json!({"type": "integer"}),
        Form::Number => json!({"type": "number"}),
        Form::Words(words) => json!({"enum": words}),
        Form::Texts => {
            json!({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})
        }
        Form::Any => json!({}),
        Form::Section(keys) => section(keys, false),
        Form::Named(keys, each) => {
            let mut named = section(keys, false);
            named["additionalProperties"] = section(each, false);
            named
        }
        Form::Open(keys) => section(keys, true),
    };
    let when = match key.applies {
        Applies::Reload => "Applied on reload.",
        Applies::Restart => "Applied on restart of the daemon.",
        Applies::Bootstrap => "Read when a new cluster is created.",
        Applies::Never => "Has no effect here.",
    };
    let default =
        if key.default.is_empty() { String::new() } else { format!(" Default: `{}`.", key.default) };
    schema["description"] = json!(format!("{}{default} {when}", key.doc));
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_describes_every_section() {
        let schema = json_schema();
        let property = &schema["properties"]["raft"]["properties"]["timing"];
        assert_eq!(property["enum"], json!(["default", "fast", "wan"]));
        assert_eq!(
            property["description"],
            json!("How patient elections are. Default: `default`. Applied on restart of the daemon.")
        );
        assert_eq!(schema["properties"]["tags"]["additionalProperties"], json!(true));
        assert!(schema["properties"].get("ttl").is_none(), "a key without effect is not offered");
    }
}
