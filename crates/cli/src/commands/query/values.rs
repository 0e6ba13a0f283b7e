//! Values as people and scripts know them from `patronictl query`, which reads them with psycopg2 and writes them as Python does.

use serde_json::{Map, Value, json};
use tokio_postgres::types::{Kind, Type};

/// The value behind PostgreSQL's text. What JSON has no kind for stays a text.
pub(super) fn read(text: Option<&str>, kind: Option<&Type>) -> Value {
    let Some(text) = text else { return Value::Null };
    let Some(kind) = kind else { return json!(text) };
    if let Kind::Array(element) = kind.kind() {
        return array(text, element).unwrap_or_else(|| json!(text));
    }
    let typed = match *kind {
        Type::BOOL => Some(json!(text == "t")),
        Type::INT2 | Type::INT4 | Type::INT8 | Type::OID => {
            serde_json::from_str(text).ok().filter(Value::is_number)
        }
        Type::FLOAT4 | Type::FLOAT8 => {
            text.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::from)
        }
        Type::JSON | Type::JSONB => serde_json::from_str(text).ok(),
        Type::TIMESTAMP | Type::TIMESTAMPTZ | Type::TIME | Type::TIMETZ => Some(json!(time(text))),
        Type::INTERVAL => interval(text).map(Value::from),
        _ => None,
    };
    typed.unwrap_or_else(|| json!(text))
}

/// As Python's `str` writes it.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => represented(other),
    }
}

/// As Python's `repr` writes it.
fn represented(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(float) => float_text(float),
            None => number.to_string(),
        },
        Value::String(text) => quoted(text),
        Value::Array(items) => format!("[{}]", items.iter().map(represented).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => format!("{{{}}}", pairs(map).join(", ")),
    }
}

fn pairs(map: &Map<String, Value>) -> Vec<String> {
    map.iter().map(|(key, value)| format!("{}: {}", quoted(key), represented(value))).collect()
}

fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut shown = String::from(quote);
    for character in text.chars() {
        match character {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            '\\' => shown.push_str("\\\\"),
            other if other == quote => shown.extend(['\\', other]),
            other => shown.push(other),
        }
    }
    shown.push(quote);
    shown
}

/// The shortest text that reads back the same: `1.5`, `2.0`, `1e+20`.
fn float_text(number: f64) -> String {
    let scientific = format!("{number:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..16).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        _ => format!("{number:?}"),
    }
}

/// The fraction of a second has six digits or is not there, and an offset has its minutes.
fn time(text: &str) -> String {
    let clock_at = text.find(':').unwrap_or(0);
    let offset_at = text[clock_at..].find(['+', '-']).map_or(text.len(), |at| clock_at + at);
    let (local, offset) = text.split_at(offset_at);
    let local = match local.split_once('.') {
        Some((whole, fraction)) => format!("{whole}.{fraction:0<6}"),
        None => local.to_owned(),
    };
    let minutes = if offset.len() == 3 { ":00" } else { "" };
    format!("{local}{offset}{minutes}")
}

/// `1 day, 2:00:00`: a year has 365 days there, and a month 30. `None` for what PostgreSQL was told to write otherwise.
fn interval(text: &str) -> Option<String> {
    const DAY: i64 = 86_400_000_000;
    let mut days: i64 = 0;
    let mut micros: i64 = 0;
    let mut words = text.split(' ');
    while let Some(word) = words.next() {
        if word.contains(':') {
            micros = clock_micros(word)?;
            continue;
        }
        let number: i64 = word.parse().ok()?;
        days += number
            * match words.next()?.trim_end_matches('s') {
                "year" => 365,
                "mon" => 30,
                "day" => 1,
                _ => return None,
            };
    }
    let (days, micros) = (days + micros.div_euclid(DAY), micros.rem_euclid(DAY));
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let mut shown = match days {
        0 => String::new(),
        1 | -1 => format!("{days} day, "),
        _ => format!("{days} days, "),
    };
    shown.push_str(&format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60));
    if fraction != 0 {
        shown.push_str(&format!(".{fraction:06}"));
    }
    Some(shown)
}

fn clock_micros(text: &str) -> Option<i64> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(text) => (-1, text),
        None => (1, text),
    };
    let mut parts = text.splitn(3, ':');
    let (hours, minutes): (i64, i64) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let (seconds, fraction) = parts.next()?.split_once('.').unwrap_or((text.rsplit(':').next()?, ""));
    let micros: i64 = format!("{fraction:0<6}").parse().ok()?;
    Some(sign * (((hours * 60 + minutes) * 60 + seconds.parse::<i64>().ok()?) * 1_000_000 + micros))
}

/// `{1,NULL,"a b"}`, of any depth.
fn array(text: &str, element: &Type) -> Option<Value> {
    let mut characters = text.chars().peekable();
    let value = array_from(&mut characters, element)?;
    characters.next().is_none().then_some(value)
}

fn array_from(characters: &mut std::iter::Peekable<std::str::Chars<'_>>, element: &Type) -> Option<Value> {
    characters.next_if_eq(&'{')?;
    let mut items = Vec::new();
    if characters.next_if_eq(&'}').is_some() {
        return Some(json!(items));
    }
    loop {
        items.push(match characters.peek()? {
            '{' => array_from(characters, element)?,
            '"' => read(Some(&quoted_item(characters)?), Some(element)),
            _ => {
                let mut item = String::new();
                while let Some(character) = characters.next_if(|character| !matches!(character, ',' | '}')) {
                    item.push(character);
                }
                read((item != "NULL").then_some(item.as_str()), Some(element))
            }
        });
        match characters.next()? {
            ',' => {}
            '}' => return Some(json!(items)),
            _ => return None,
        }
    }
}

fn quoted_item(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<String> {
    characters.next();
    let mut item = String::new();
    loop {
        match characters.next()? {
            '"' => return Some(item),
            '\\' => item.push(characters.next()?),
            other => item.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_python_writes_them() {
        for (text, kind, expected) in [
            ("t", Type::BOOL, "True"),
            ("1.5", Type::FLOAT4, "1.5"),
            ("2", Type::FLOAT8, "2.0"),
            ("1e+20", Type::FLOAT8, "1e+20"),
            ("1e-05", Type::FLOAT8, "1e-05"),
            ("123456789012345", Type::FLOAT8, "123456789012345.0"),
            ("1.50", Type::NUMERIC, "1.50"),
            ("2026-01-02 03:04:05.5+00", Type::TIMESTAMPTZ, "2026-01-02 03:04:05.500000+00:00"),
            ("2026-01-02 03:04:05+05:30", Type::TIMESTAMPTZ, "2026-01-02 03:04:05+05:30"),
            ("2026-01-02 03:04:05", Type::TIMESTAMP, "2026-01-02 03:04:05"),
            ("1 day 02:00:00", Type::INTERVAL, "1 day, 2:00:00"),
            ("1 year 2 mons 3 days", Type::INTERVAL, "428 days, 0:00:00"),
            ("-00:00:01", Type::INTERVAL, "-1 day, 23:59:59"),
            ("00:00:05.12", Type::INTERVAL, "0:00:05.120000"),
            ("{1,NULL,3}", Type::INT4_ARRAY, "[1, None, 3]"),
            ("{{a,\"b c\"},{\"it's\",\"q\\\"\"}}", Type::TEXT_ARRAY, "[['a', 'b c'], [\"it's\", 'q\"']]"),
            ("{}", Type::TEXT_ARRAY, "[]"),
            ("{\"a\": [1, true, null]}", Type::JSONB, "{'a': [1, True, None]}"),
        ] {
            assert_eq!(shown(&read(Some(text), Some(&kind))), expected, "{text}");
        }
        assert_eq!(shown(&read(None, Some(&Type::TEXT))), "None");
    }
}
