//! What a reader of YAML 1.1 takes for something else than a text.

/// Whether a reader of YAML 1.1 takes the plain text for something else than a text.
pub(super) fn is_typed(text: &str) -> bool {
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
