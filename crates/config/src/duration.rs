//! Spans of time as the settings of Consul and ZooKeeper write them: `10s`, `1m30s`, `500ms`.

use std::time::Duration;

/// Numbers with units, longest first where one begins like another.
const UNITS: [(&str, f64); 7] =
    [("ns", 1e-9), ("us", 1e-6), ("ms", 1e-3), ("min", 60.0), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];

/// A sum of numbers with units; a single number without one is counted in `unit`. `None` if it is none of that, or below 1 ms.
pub(crate) fn parse(text: &str, unit: Duration) -> Option<Duration> {
    let mut rest = text.trim();
    if let Ok(number) = rest.parse::<f64>() {
        return span(number * unit.as_secs_f64());
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let (word, size) = UNITS.iter().find(|(word, _)| rest.starts_with(word))?;
        seconds += number * size;
        rest = rest[word.len()..].trim_start();
    }
    span(seconds)
}

fn span(seconds: f64) -> Option<Duration> {
    let span = Duration::try_from_secs_f64(seconds).ok()?;
    (span >= Duration::from_millis(1)).then_some(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_sums_of_numbers_with_units() {
        let millis = |millis| Some(Duration::from_millis(millis));
        for (text, expected) in [
            ("10s", millis(10_000)),
            ("500ms", millis(500)),
            (" 1m30s ", millis(90_000)),
            ("2min", millis(120_000)),
            ("1.5h", millis(5_400_000)),
            ("2000", millis(2_000)),
            ("", None),
            ("0", None),
            ("-5s", None),
            ("5 apples", None),
            ("s", None),
            ("NaN", None),
            ("1s x", None),
        ] {
            assert_eq!(parse(text, Duration::from_millis(1)), expected, "{text:?}");
        }
    }
}
