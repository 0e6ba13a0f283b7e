//! How an unquoted YAML scalar is read: as PyYAML reads it (YAML 1.1), because `patroni.yml` files were written for it.

use serde_json::{Number, Value};

/// The meaning of a plain scalar. What YAML 1.1 takes for a date stays text.
pub(crate) fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Value::Bool(true),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Value::Bool(false),
        _ => integer(text)
            .map(Value::Number)
            .or_else(|| float(text).and_then(Number::from_f64).map(Value::Number))
            .unwrap_or_else(|| Value::String(text.to_owned())),
    }
}

/// Decimal, `0b`, `0x`, octal with a leading zero, base 60 (`1:30` is 90); underscores are ignored.
fn integer(text: &str) -> Option<Number> {
    let (negative, digits) = split_sign(text);
    let magnitude = if let Some(binary) = digits.strip_prefix("0b") {
        radix(binary, 2)?
    } else if let Some(hex) = digits.strip_prefix("0x") {
        radix(hex, 16)?
    } else if digits == "0" {
        0
    } else if let Some(octal) = digits.strip_prefix('0') {
        radix(octal, 8)?
    } else if digits.contains(':') {
        base_60(digits)?
    } else {
        radix(digits, 10)?
    };
    if negative { i64::try_from(-magnitude).ok().map(Number::from) } else { to_number(magnitude) }
}

fn to_number(magnitude: i128) -> Option<Number> {
    i64::try_from(magnitude).map(Number::from).or_else(|_| u64::try_from(magnitude).map(Number::from)).ok()
}

fn split_sign(text: &str) -> (bool, &str) {
    match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    }
}

fn radix(digits: &str, base: u32) -> Option<i128> {
    if base == 10 && digits.starts_with('_') {
        return None;
    }
    let digits = digits.replace('_', "");
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(base)) {
        return None;
    }
    i128::from_str_radix(&digits, base).ok()
}

fn base_60(text: &str) -> Option<i128> {
    let mut parts = text.split(':');
    let first = parts.next()?;
    if !first.starts_with(|digit: char| digit.is_ascii_digit()) {
        return None;
    }
    parts.try_fold(radix(first, 10)?, |sum, part| Some(sum.checked_mul(60)? + sixtieth(part)?))
}

fn sixtieth(part: &str) -> Option<i128> {
    let short = matches!(part.len(), 1 | 2) && part.bytes().all(|digit| digit.is_ascii_digit());
    part.parse().ok().filter(|value| short && *value < 60)
}

/// A number with a `.`; an exponent needs a sign (`1e3` is text). Infinity and NaN stay text: JSON has none.
fn float(text: &str) -> Option<f64> {
    let (negative, body) = split_sign(text);
    let (whole, rest) = body.split_once('.')?;
    let signed = body.len() != text.len();
    let (fraction, exponent) = match rest.split_once(['e', 'E']) {
        Some((fraction, exponent)) => (fraction, Some(exponent)),
        None => (rest, None),
    };
    let digits_only = |part: &str| part.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    let exponent_fits = exponent.is_none_or(|text| {
        text.starts_with(['+', '-']) && text.len() > 1 && text[1..].bytes().all(|b| b.is_ascii_digit())
    });
    let starts_with_digit = |part: &str| part.starts_with(|digit: char| digit.is_ascii_digit());
    if !digits_only(fraction) || !exponent_fits {
        return None;
    }
    let magnitude = if whole.contains(':') {
        let sixties = base_60(whole).filter(|_| exponent.is_none())?;
        sixties as f64 + format!("0.{}0", fraction.replace('_', "")).parse::<f64>().ok()?
    } else {
        let fits = if whole.is_empty() {
            starts_with_digit(fraction) && !signed
        } else {
            starts_with_digit(whole) && digits_only(whole)
        };
        if !fits {
            return None;
        }
        let exponent = exponent.unwrap_or("0");
        format!("0{whole}.{fraction}0e{exponent}").replace('_', "").parse::<f64>().ok()?
    };
    Some(if negative { -magnitude } else { magnitude })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Checked against PyYAML 6.0.3.
    #[test]
    fn plain_scalars_mean_what_pyyaml_makes_of_them() {
        for (text, value) in [
            ("0600", json!(384)),
            ("010", json!(8)),
            ("08", json!("08")),
            ("0o600", json!("0o600")),
            ("0x1F", json!(31)),
            ("0b11", json!(3)),
            ("1_000", json!(1000)),
            ("-1", json!(-1)),
            ("+1", json!(1)),
            ("1e3", json!("1e3")),
            ("1.0e3", json!("1.0e3")),
            ("1.0e+3", json!(1000.0)),
            ("1.5", json!(1.5)),
            ("1.", json!(1.0)),
            (".5", json!(0.5)),
            ("-.5", json!("-.5")),
            ("-1.5", json!(-1.5)),
            ("1:30", json!(90)),
            ("1:60", json!("1:60")),
            ("20:30:40", json!(73840)),
            ("1:30.5", json!(90.5)),
            ("127.0.0.1:5432", json!("127.0.0.1:5432")),
            ("10.0.0.1", json!("10.0.0.1")),
            ("yes", json!(true)),
            ("On", json!(true)),
            ("no", json!(false)),
            ("OFF", json!(false)),
            ("y", json!("y")),
            ("oN", json!("oN")),
            ("~", Value::Null),
            ("Null", Value::Null),
            ("", Value::Null),
            (".inf", json!(".inf")),
            ("2024-01-02", json!("2024-01-02")),
            ("0", json!(0)),
            ("-0", json!(0)),
            ("_1", json!("_1")),
            ("1_", json!(1)),
            ("18446744073709551615", json!(18446744073709551615u64)),
            ("30s", json!("30s")),
            ("5432", json!(5432)),
        ] {
            assert_eq!(resolve(text), value, "{text:?}");
        }
    }
}
