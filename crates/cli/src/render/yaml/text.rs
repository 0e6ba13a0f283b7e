//! How a text is written: plain, in single or in double quotes, and where it is broken.

use super::{WIDTH, typed::is_typed};

/// A key must end on its line.
pub(super) fn key_text(key: &str) -> String {
    if key.contains('\n') { double_quoted(key) } else { inline_text(key, usize::MAX, 0) }
}

pub(super) fn flow_text(text: &str) -> String {
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
pub(super) fn inline_text(text: &str, column: usize, indent: usize) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
