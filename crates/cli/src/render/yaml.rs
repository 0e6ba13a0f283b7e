//! YAML as PyYAML writes it: sorted keys, block style, a line width of 200, quotes only where a reader of YAML 1.1 needs them.

use serde_json::{Map, Value};

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

/// A key must end on its line.
fn key_text(key: &str) -> String {
    if key.contains('\n') { double_quoted(key) } else { inline_text(key, usize::MAX, 0) }
}

fn flow_text(text: &str) -> String {
    match text.contains([',', '[', ']', '{', '}', '?', ':']) && style(text) == Style::Plain {
        true => quoted(text, usize::MAX, 0),
        false => inline_text(text, usize::MAX, 0),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Plain,
    Single,
    Double,
}

/// A text that begins at `column`; where it must be broken, the next line begins at `indent`. `usize::MAX`: never broken.
fn inline_text(text: &str, column: usize, indent: usize) -> String {
    match style(text) {
        Style::Plain => fold(text, column, indent),
        Style::Single => quoted(text, column, indent),
        Style::Double => double_quoted(text),
    }
}

fn quoted(text: &str, column: usize, indent: usize) -> String {
    let doubled = text.replace('\'', "''");
    let mut quoted = String::from("'");
    let mut rest = doubled.as_str();
    while let Some(at) = rest.find('\n') {
        quoted.push_str(&fold(&rest[..at], column.saturating_add(1), indent));
        // A line end inside quotes is an empty line: a run of them takes one more than there are.
        let after = rest[at..].trim_start_matches('\n');
        let ends = rest.len() - at - after.len();
        quoted.push_str(&"\n".repeat(ends + 1));
        quoted.push_str(&" ".repeat(indent));
        rest = after;
    }
    quoted.push_str(&fold(rest, column.saturating_add(1), indent));
    quoted.push('\'');
    quoted
}

fn fold(text: &str, column: usize, indent: usize) -> String {
    if column == usize::MAX || column + text.chars().count() <= WIDTH {
        return text.to_owned();
    }
    let (mut folded, mut at) = (String::new(), column);
    let mut words = text.split(' ').peekable();
    while let Some(word) = words.next() {
        folded.push_str(word);
        at += word.chars().count();
        let Some(next) = words.peek() else { break };
        // Only a single blank between two words may become a line end.
        if at > WIDTH && !word.is_empty() && !next.is_empty() {
            folded.push('\n');
            folded.push_str(&" ".repeat(indent));
            at = indent;
        } else {
            folded.push(' ');
            at += 1;
        }
    }
    folded
}

fn double_quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\0' => quoted.push_str("\\0"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{1b}' => quoted.push_str("\\e"),
            other if is_printable(other) => quoted.push(other),
            other if (other as u32) < 0x100 => quoted.push_str(&format!("\\x{:02X}", other as u32)),
            other if (other as u32) < 0x1_0000 => quoted.push_str(&format!("\\u{:04X}", other as u32)),
            other => quoted.push_str(&format!("\\U{:08X}", other as u32)),
        }
    }
    quoted.push('"');
    quoted
}

fn is_printable(character: char) -> bool {
    matches!(character, ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}' | '\u{1_0000}'..)
}

fn style(text: &str) -> Style {
    if text.chars().any(|character| character != '\n' && !is_printable(character)) {
        return Style::Double;
    }
    let blank_at_an_end = text.starts_with(' ') || text.ends_with(' ');
    if text.contains('\n') {
        // Blanks beside a line end would be lost by folding.
        let is_safe = !text.contains(" \n") && !text.contains("\n ");
        return if is_safe { Style::Single } else { Style::Double };
    }
    if text.is_empty() || blank_at_an_end || has_indicator(text) || is_typed(text) {
        Style::Single
    } else {
        Style::Plain
    }
}

/// Characters that mean something to YAML where they stand.
fn has_indicator(text: &str) -> bool {
    let first = text.chars().next().unwrap_or(' ');
    let second_is_blank = text.chars().nth(1).is_none_or(char::is_whitespace);
    text.starts_with("---")
        || text.starts_with("...")
        || "#,[]{}&*!|>'\"%@`".contains(first)
        || ("-?:".contains(first) && second_is_blank)
        || text.contains(": ")
        || text.ends_with(':')
        || text.contains(" #")
}

/// Whether a reader of YAML 1.1 takes the plain text for something else than a text.
fn is_typed(text: &str) -> bool {
    const WORDS: [&str; 8] = ["null", "yes", "no", "true", "false", "on", "off", "~"];
    let lower = text.to_ascii_lowercase();
    let cased = text == lower || text == text.to_ascii_uppercase() || is_capitalised(text);
    (cased && WORDS.contains(&lower.as_str()))
        || matches!(text, "<<" | "=")
        || is_integer(text)
        || is_float(text)
        || is_date(text)
}

fn is_capitalised(text: &str) -> bool {
    text.chars().next().is_some_and(char::is_uppercase) && !text.chars().skip(1).any(char::is_uppercase)
}

fn unsigned(text: &str) -> &str {
    text.strip_prefix(['-', '+']).unwrap_or(text)
}

fn all(text: &str, allowed: impl Fn(char) -> bool) -> bool {
    !text.is_empty() && text.chars().all(|character| character == '_' || allowed(character))
}

fn is_integer(text: &str) -> bool {
    let digits = unsigned(text);
    if let Some(binary) = digits.strip_prefix("0b") {
        return all(binary, |digit| matches!(digit, '0' | '1'));
    }
    if let Some(hex) = digits.strip_prefix("0x") {
        return all(hex, |digit| digit.is_ascii_hexdigit());
    }
    if let Some(octal) = digits.strip_prefix('0') {
        return octal.is_empty() || all(octal, |digit| digit.is_digit(8));
    }
    starts_with_digit(digits) && (all(digits, |digit| digit.is_ascii_digit()) || is_base_60(digits))
}

fn starts_with_digit(text: &str) -> bool {
    text.starts_with(|digit: char| digit.is_ascii_digit())
}

fn is_base_60(text: &str) -> bool {
    let mut parts = text.split(':');
    let first = parts.next().unwrap_or("");
    let rest: Vec<&str> = parts.collect();
    let sixtieth = |part: &&str| part.len() <= 2 && part.parse::<u8>().is_ok_and(|number| number < 60);
    starts_with_digit(first)
        && all(first, |digit| digit.is_ascii_digit())
        && !rest.is_empty()
        && rest.iter().all(sixtieth)
}

fn is_float(text: &str) -> bool {
    let body = unsigned(text);
    if matches!(body, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let Some((whole, rest)) = body.split_once('.') else { return false };
    let (fraction, has_good_exponent) = match rest.split_once(['e', 'E']) {
        None => (rest, true),
        Some((fraction, exponent)) => {
            let digits = exponent.strip_prefix(['-', '+']).unwrap_or("");
            (fraction, !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit()))
        }
    };
    let is_fraction = fraction.is_empty() || all(fraction, |digit| digit.is_ascii_digit());
    let is_whole = match whole {
        "" => starts_with_digit(fraction),
        whole => {
            (starts_with_digit(whole) && all(whole, |digit| digit.is_ascii_digit())) || is_base_60(whole)
        }
    };
    is_whole && is_fraction && has_good_exponent
}

/// `2026-01-02`, or a date with a time.
fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let is_year = (0..4).all(digit) && bytes.get(4) == Some(&b'-');
    is_year
        && digit(5)
        && text.bytes().skip(5).all(|byte| byte.is_ascii_digit() || b"-:. +TtZ".contains(&byte))
        && text.matches('-').count() >= 2
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
    fn texts_are_quoted_where_a_reader_would_see_something_else() {
        for (text, written) in [
            ("plain text", "plain text"),
            ("on", "'on'"),
            ("Off", "'Off'"),
            ("oN", "oN"),
            ("100", "'100'"),
            ("0600", "'0600'"),
            ("0o17", "0o17"),
            ("1:30", "'1:30'"),
            ("1.5", "'1.5'"),
            ("1e3", "1e3"),
            ("1.2.3", "1.2.3"),
            ("10.0.0.1", "10.0.0.1"),
            ("16MB", "16MB"),
            ("2026-01-02", "'2026-01-02'"),
            ("2026-01-02T03:04:05+00:00", "'2026-01-02T03:04:05+00:00'"),
            ("", "''"),
            (" x", "' x'"),
            ("*", "'*'"),
            ("-", "'-'"),
            ("-x", "-x"),
            ("a: b", "'a: b'"),
            ("a:b", "a:b"),
            ("a #b", "'a #b'"),
            ("it's", "it's"),
            ("'x", "'''x'"),
            ("a\tb", "\"a\\tb\""),
            ("é", "é"),
            ("%p", "'%p'"),
            ("a\nb", "'a\n\nb'"),
            ("a\n\nb", "'a\n\n\nb'"),
            ("a\n", "'a\n\n'"),
            ("a \nb", "\"a \\nb\""),
            ("? x", "'? x'"),
            (".5", "'.5'"),
            ("08", "08"),
            ("-1.5e+3", "'-1.5e+3'"),
        ] {
            assert_eq!(inline_text(text, usize::MAX, 0), written, "{text:?}");
        }
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
