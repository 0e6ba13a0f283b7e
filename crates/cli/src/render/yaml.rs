//! YAML as PyYAML writes it: sorted keys, block style, a line width of 200, quotes only where a reader of YAML 1.1 needs them.

mod text;
mod typed;

use serde_json::{Map, Value};

use self::text::{flow_text, inline_text, key_text};

/// Longer lines are broken at a blank.
const WIDTH: usize = 200;

/// A document in block style, with its line end.
pub fn block(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => write_map(&mut text, map, 0, 0),
        Value::Array(items) if !items.is_empty() => write_list(&mut text, items, 0, 0),
        leaf => {
            text.push_str(&inline(leaf));
            text.push('\n');
            // A plain scalar alone needs an end that is no part of it.
            if !matches!(leaf, Value::Object(_) | Value::Array(_)) && !text.starts_with(['\'', '"']) {
                text.push_str("...\n");
            }
        }
    }
    text
}

/// `{a: b, c: [1, 2]}` on one line, without a line end.
pub(crate) fn flow(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let pairs: Vec<String> = sorted(map)
                .iter()
                .map(|(key, value)| format!("{}: {}", flow_text(key), flow(value)))
                .collect();
            format!("{{{}}}", pairs.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::String(text) => flow_text(text),
        leaf => inline(leaf),
    }
}

/// `indent`: of the keys; the first one stands where the text ends now (`skip` columns are written already).
fn write_map(text: &mut String, map: &Map<String, Value>, indent: usize, written: usize) {
    for (at, (key, value)) in sorted(map).into_iter().enumerate() {
        if at > 0 || written == 0 {
            text.push_str(&" ".repeat(indent));
        }
        let key = key_text(key);
        text.push_str(&key);
        text.push(':');
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                text.push('\n');
                write_map(text, inner, indent + 2, 0);
            }
            Value::Array(items) if !items.is_empty() => {
                text.push('\n');
                write_list(text, items, indent, 0);
            }
            Value::String(scalar) => {
                let column = indent + key.chars().count() + 2;
                text.push(' ');
                text.push_str(&inline_text(scalar, column, indent + 2));
                text.push('\n');
            }
            leaf => {
                text.push(' ');
                text.push_str(&inline(leaf));
                text.push('\n');
            }
        }
    }
}

fn write_list(text: &mut String, items: &[Value], indent: usize, written: usize) {
    for (at, item) in items.iter().enumerate() {
        if at > 0 || written == 0 {
            text.push_str(&" ".repeat(indent));
        }
        text.push_str("- ");
        match item {
            Value::Object(map) if !map.is_empty() => write_map(text, map, indent + 2, indent + 2),
            Value::Array(inner) if !inner.is_empty() => write_list(text, inner, indent + 2, indent + 2),
            Value::String(scalar) => {
                text.push_str(&inline_text(scalar, indent + 2, indent + 2));
                text.push('\n');
            }
            leaf => {
                text.push_str(&inline(leaf));
                text.push('\n');
            }
        }
    }
}

fn sorted(map: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut pairs: Vec<_> = map.iter().collect();
    pairs.sort_by_key(|(key, _)| *key);
    pairs
}

/// A value that fits on one line.
fn inline(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(on) => on.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => inline_text(text, usize::MAX, 0),
        Value::Array(_) => "[]".to_owned(),
        Value::Object(_) => "{}".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_look_as_pyyaml_writes_them() {
        let value = json!({
            "ttl": 30,
            "postgresql": {"use_pg_rewind": true, "parameters": {"work_mem": "4MB", "archive_command": "cp %p /a: b"},
                           "pg_hba": ["host all all 0.0.0.0/0 md5", "local all all trust"]},
            "slots": {}, "list": [], "maps": [{"b": 1, "a": null}, [1, [2]]],
        });
        let expected = "\
list: []
maps:
- a: null
  b: 1
- - 1
  - - 2
postgresql:
  parameters:
    archive_command: 'cp %p /a: b'
    work_mem: 4MB
  pg_hba:
  - host all all 0.0.0.0/0 md5
  - local all all trust
  use_pg_rewind: true
slots: {}
ttl: 30
";
        assert_eq!(block(&value), expected);
    }

    #[test]
    fn what_is_written_is_read_back_the_same() {
        let long = vec!["two words"; 60].join(" ");
        let texts = [
            "0o17",
            "1e3",
            "0600",
            "1:30",
            "yes",
            "a\nb\n",
            "\n\na",
            " a",
            "a: b #c",
            "it's 'quoted'",
            "%p \"x\"",
            "a\tb\\n",
            "\u{1}",
            "é😀",
            "- a",
            "&x *y",
            "!tag",
            "~",
            "",
            "[a]",
            "a\n b",
            long.as_str(),
        ];
        for text in texts {
            let value = json!({"key": text, text: {"list": [text, [text], {"inner": text}]}});
            let yaml = block(&value);
            let read = bellwether_config::parse_yaml(&yaml, "test")
                .unwrap_or_else(|error| panic!("{error}\n{yaml}"));
            assert_eq!(read, value, "{yaml}");
        }
    }

    #[test]
    fn flow_maps_fit_on_a_line() {
        let tags = json!({"nosync": true, "clonefrom": true, "zone": "a, b"});
        assert_eq!(flow(&tags), "{clonefrom: true, nosync: true, zone: 'a, b'}");
    }

    #[test]
    fn long_lines_are_broken_at_a_blank() {
        let text = vec!["word"; 60].join(" ");
        let written = block(&json!({ "key": text }));
        let lines: Vec<&str> = written.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].len() > WIDTH && lines[0].len() < WIDTH + 6, "{}", lines[0].len());
        assert!(lines[1].starts_with("  word"));
    }
}
