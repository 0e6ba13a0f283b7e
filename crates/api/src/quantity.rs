//! Numbers with units as the REST API takes them: `lag=16MB`, `"timeout": "1min"`.

/// What a number without a unit counts, and which units may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Bytes,
    Seconds,
}

impl Unit {
    /// The factor of a unit; upper and lower case matter, as they do to PostgreSQL.
    fn factor(self, unit: &str) -> Option<f64> {
        let factor = match (self, unit) {
            (_, "") => 1.0,
            (Self::Bytes, "B") => 1.0,
            (Self::Bytes, "kB") => 1024.0,
            (Self::Bytes, "MB") => 1024.0 * 1024.0,
            (Self::Bytes, "GB") => 1024.0 * 1024.0 * 1024.0,
            (Self::Bytes, "TB") => 1024.0 * 1024.0 * 1024.0 * 1024.0,
            (Self::Seconds, "us") => 1e-6,
            (Self::Seconds, "ms") => 1e-3,
            (Self::Seconds, "s") => 1.0,
            (Self::Seconds, "min") => 60.0,
            (Self::Seconds, "h") => 3600.0,
            (Self::Seconds, "d") => 86400.0,
            _ => return None,
        };
        Some(factor)
    }
}

/// Hexadecimal (`0x10`), octal (`010`), decimal or a fraction, and an optional unit; the result is rounded.
pub(crate) fn parse(text: &str, base: Unit) -> Option<i64> {
    let text = text.trim();
    let (negative, digits) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    let (number, unit) = split_number(digits)?;
    let value = (number * base.factor(unit.trim())?).round_ties_even();
    // Within the range where a double is exact; nothing sensible is larger (8 PB).
    (value < 9.0e15).then_some(if negative { -value } else { value } as i64)
}

fn split_number(text: &str) -> Option<(f64, &str)> {
    let count =
        |from: usize, is: fn(&u8) -> bool| text.as_bytes()[from..].iter().take_while(|b| is(b)).count();
    if text.starts_with("0x") || text.starts_with("0X") {
        let end = 2 + count(2, u8::is_ascii_hexdigit);
        return Some((u32::from_str_radix(&text[2..end], 16).ok()?.into(), &text[end..]));
    }
    let mut end = count(0, u8::is_ascii_digit);
    let whole = end;
    if text[end..].starts_with('.') {
        end += 1 + count(end + 1, u8::is_ascii_digit);
    }
    if text[end..].starts_with(['e', 'E']) {
        let sign = usize::from(text[end + 1..].starts_with(['+', '-']));
        let exponent = count(end + 1 + sign, u8::is_ascii_digit);
        end += if exponent > 0 { 1 + sign + exponent } else { 0 };
    }
    if end == whole && whole > 1 && text.starts_with('0') {
        return Some((u32::from_str_radix(&text[1..whole], 8).ok()?.into(), &text[whole..]));
    }
    Some((text[..end].parse().ok()?, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times() {
        for (text, base, expected) in [
            ("1048576", Unit::Bytes, Some(1_048_576)),
            (" 16MB ", Unit::Bytes, Some(16 << 20)),
            ("16 kB", Unit::Bytes, Some(16 << 10)),
            ("1.5kB", Unit::Bytes, Some(1536)),
            ("0x10", Unit::Bytes, Some(16)),
            ("010", Unit::Bytes, Some(8)),
            ("0", Unit::Bytes, Some(0)),
            ("-1", Unit::Bytes, Some(-1)),
            ("1e3", Unit::Bytes, Some(1000)),
            ("1KB", Unit::Bytes, None),
            ("1k", Unit::Bytes, None),
            ("10s", Unit::Bytes, None),
            ("", Unit::Bytes, None),
            ("MB", Unit::Bytes, None),
            (".", Unit::Bytes, None),
            ("08", Unit::Bytes, None),
            ("1 BAD", Unit::Seconds, None),
            ("1min", Unit::Seconds, Some(60)),
            ("2500ms", Unit::Seconds, Some(2)),
            ("3500ms", Unit::Seconds, Some(4)),
            ("2h", Unit::Seconds, Some(7200)),
            ("é", Unit::Seconds, None),
        ] {
            assert_eq!(parse(text, base), expected, "{text:?}");
        }
    }
}
