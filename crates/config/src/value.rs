//! How lenient values are read: booleans, whole numbers, numbers with units.

use serde_json::Value;

/// `on true yes 1` and `off false no 0` in any case; anything else is not set.
pub(crate) fn lenient_bool(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::Number(number) => match number.as_f64() {
            Some(1.0) => Some(true),
            Some(0.0) => Some(false),
            _ => None,
        },
        Value::String(text) => match text.trim().to_ascii_lowercase().as_str() {
            "on" | "true" | "yes" | "1" => Some(true),
            "off" | "false" | "no" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// A whole number without unit: what Python's `int()` accepts, but no booleans.
pub(crate) fn plain_int(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().or_else(|| whole(number.as_f64()?)),
        Value::String(text) => text.trim().replace('_', "").parse().ok(),
        _ => None,
    }
}

/// What a quantity without unit is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Bytes,
    Kilobytes,
    Megabytes,
    Milliseconds,
    Seconds,
    Minutes,
}

impl Unit {
    /// In bytes, or in microseconds.
    fn size(self) -> f64 {
        match self {
            Self::Bytes => 1.0,
            Self::Kilobytes => 1024.0,
            Self::Megabytes => 1024.0 * 1024.0,
            Self::Milliseconds => 1e3,
            Self::Seconds => 1e6,
            Self::Minutes => 60e6,
        }
    }

    fn is_memory(self) -> bool {
        matches!(self, Self::Bytes | Self::Kilobytes | Self::Megabytes)
    }
}

/// A whole number with an optional unit, counted in `base`, rounded: `128MB`, `30min`, `0x10`, `010` (octal), `1.5`.
///
/// Memory units (`B kB MB GB TB`, 1024 each) are case-sensitive; time units are `us ms s min h d`. With `base: None` no unit
/// may be given.
pub fn int_with_unit(value: &Value, base: Option<Unit>) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().or_else(|| whole(round_half_even(number.as_f64()?))),
        Value::String(text) => {
            let (number, rest) = leading_number(text.trim())?;
            let unit = rest.trim();
            let scaled = if unit.is_empty() { number } else { number * factor(unit, base?)? };
            whole(round_half_even(scaled))
        }
        _ => None,
    }
}

/// The number of `base` units in one `unit`.
fn factor(unit: &str, base: Unit) -> Option<f64> {
    const KIB: f64 = 1024.0;
    let size = match (unit, base.is_memory()) {
        ("B", true) => 1.0,
        ("kB", true) => KIB,
        ("MB", true) => KIB * KIB,
        ("GB", true) => KIB * KIB * KIB,
        ("TB", true) => KIB * KIB * KIB * KIB,
        ("us", false) => 1.0,
        ("ms", false) => 1e3,
        ("s", false) => 1e6,
        ("min", false) => 60e6,
        ("h", false) => 3600e6,
        ("d", false) => 86400e6,
        _ => return None,
    };
    Some(size / base.size())
}

/// The C-like number at the start and what follows it.
fn leading_number(text: &str) -> Option<(f64, &str)> {
    let (sign, body) = match text.as_bytes().first()? {
        b'-' => (-1.0, &text[1..]),
        b'+' => (1.0, &text[1..]),
        _ => (1.0, text),
    };
    if let Some(hex) = body.strip_prefix("0x").or_else(|| body.strip_prefix("0X")) {
        let end = hex.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(hex.len());
        return Some((sign * i64::from_str_radix(&hex[..end], 16).ok()? as f64, &hex[end..]));
    }
    let end = body.find(|c: char| !c.is_ascii_digit()).unwrap_or(body.len());
    let fractional = body[end..].starts_with(['.', 'e', 'E']);
    if !fractional {
        let digits = &body[..end];
        let base = if digits.len() > 1 && digits.starts_with('0') { 8 } else { 10 };
        return Some((sign * i64::from_str_radix(digits, base).ok()? as f64, &body[end..]));
    }
    let end = float_end(body);
    Some((sign * body[..end].parse::<f64>().ok()?, &body[end..]))
}

/// Where `digits[.digits][e[+-]digits]` ends.
fn float_end(text: &str) -> usize {
    let digits = |from: usize| text[from..].bytes().take_while(u8::is_ascii_digit).count();
    let mut end = digits(0);
    if text[end..].starts_with('.') {
        end += 1 + digits(end + 1);
    }
    if text[end..].starts_with(['e', 'E']) {
        let sign = usize::from(text[end + 1..].starts_with(['+', '-']));
        let exponent = digits(end + 1 + sign);
        if exponent > 0 {
            end += 1 + sign + exponent;
        }
    }
    end
}

fn round_half_even(number: f64) -> f64 {
    number.round_ties_even()
}

fn whole(number: f64) -> Option<i64> {
    const LIMIT: f64 = 9.2e18;
    (number.is_finite() && number.abs() < LIMIT).then_some(number as i64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn booleans_are_lenient_but_not_guessed() {
        for (value, flag) in [
            (json!(true), Some(true)),
            (json!("ON"), Some(true)),
            (json!("yes"), Some(true)),
            (json!(1), Some(true)),
            (json!("0"), Some(false)),
            (json!("Off"), Some(false)),
            (json!("no"), Some(false)),
            (json!(2), None),
            (json!("quorum"), None),
            (json!(""), None),
            (json!(null), None),
        ] {
            assert_eq!(lenient_bool(&value), flag, "{value}");
        }
    }

    #[test]
    fn numbers_carry_units() {
        for (value, base, number) in [
            (json!("30min"), Some(Unit::Seconds), Some(1800)),
            (json!("1h"), Some(Unit::Seconds), Some(3600)),
            (json!(90), Some(Unit::Seconds), Some(90)),
            (json!("90"), Some(Unit::Seconds), Some(90)),
            (json!("1500ms"), Some(Unit::Seconds), Some(2)),
            (json!("128MB"), Some(Unit::Megabytes), Some(128)),
            (json!("1GB"), Some(Unit::Megabytes), Some(1024)),
            (json!("1KB"), Some(Unit::Megabytes), None),
            (json!("1k"), Some(Unit::Bytes), None),
            (json!("16mb"), Some(Unit::Megabytes), None),
            (json!("010"), None, Some(8)),
            (json!("0x10"), None, Some(16)),
            (json!("1e2"), None, Some(100)),
            (json!("2.5"), None, Some(2)),
            (json!("3.5"), None, Some(4)),
            (json!(1.6), None, Some(2)),
            (json!("-1"), None, Some(-1)),
            (json!("1 GB"), Some(Unit::Kilobytes), Some(1_048_576)),
            (json!("10s"), None, None),
            (json!("abc"), None, None),
            (json!(true), None, None),
        ] {
            assert_eq!(int_with_unit(&value, base), number, "{value} {base:?}");
        }
    }

    #[test]
    fn plain_numbers_have_no_unit() {
        assert_eq!(plain_int(&json!("40")), Some(40));
        assert_eq!(plain_int(&json!("40s")), None);
        assert_eq!(plain_int(&json!(40.7)), Some(40));
        assert_eq!(plain_int(&json!(true)), None);
    }
}
