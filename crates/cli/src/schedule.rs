//! Points in time: as people type them, and as messages show them.

use jiff::{Timestamp, Zoned, civil::DateTime, tz::TimeZone};

use crate::error::CliError;

/// `2026-11-22 02:30:00.12345`, local time: what stands before messages.
pub(crate) fn stamp() -> String {
    let now = Zoned::now();
    let fraction = format!("{:06}", now.subsec_nanosecond() / 1000);
    format!("{}.{}", now.strftime("%Y-%m-%d %H:%M:%S"), &fraction[..5])
}

/// `2026-11-22 02:30:00`, local time.
pub(crate) fn second_stamp() -> String {
    Zoned::now().strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// An example for a prompt: an hour from now.
pub(crate) fn in_an_hour() -> String {
    let later = Zoned::now().saturating_add(jiff::Span::new().hours(1));
    later.strftime("%Y-%m-%dT%H:%M").to_string()
}

/// Reads what was typed; `None` is "now". Without a zone it is meant in the local one.
pub(crate) fn parse(text: &str, zone: &TimeZone) -> Result<Option<String>, CliError> {
    let text = text.trim();
    if text.is_empty() || text.eq_ignore_ascii_case("now") {
        return Ok(None);
    }
    let unparsable = || {
        CliError::refused(format!(
            "Unable to parse scheduled timestamp ({text}). It should be in an unambiguous format (e.g. ISO 8601)"
        ))
    };
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        // The zone that was typed is kept, so that the person recognises the time.
        let offset =
            jiff::fmt::temporal::Pieces::parse(text).ok().and_then(|pieces| pieces.to_numeric_offset());
        let zoned = timestamp.to_zoned(TimeZone::fixed(offset.unwrap_or(jiff::tz::Offset::UTC)));
        return Ok(Some(iso(&zoned)));
    }
    let civil: DateTime = text.parse().map_err(|_| unparsable())?;
    let zoned = civil.to_zoned(zone.clone()).map_err(|_| unparsable())?;
    Ok(Some(iso(&zoned)))
}

/// ISO 8601 with a numeric offset.
fn iso(time: &Zoned) -> String {
    let has_fraction = time.subsec_nanosecond() != 0;
    let format = if has_fraction { "%Y-%m-%dT%H:%M:%S.%6f%:z" } else { "%Y-%m-%dT%H:%M:%S%:z" };
    time.strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_their_zone_or_the_local_one() {
        let local = TimeZone::fixed(jiff::tz::offset(2));
        for (typed, expected) in [
            ("now", None),
            ("2030-01-01T02:00", Some("2030-01-01T02:00:00+02:00")),
            ("2030-01-01 02:00:30", Some("2030-01-01T02:00:30+02:00")),
            ("2030-01-01T02:00:00+05:30", Some("2030-01-01T02:00:00+05:30")),
            ("2030-01-01T02:00Z", Some("2030-01-01T02:00:00+00:00")),
        ] {
            assert_eq!(parse(typed, &local).unwrap().as_deref(), expected, "{typed}");
        }
        let error = parse("tomorrow", &local).unwrap_err().to_string();
        assert_eq!(
            error,
            "Unable to parse scheduled timestamp (tomorrow). It should be in an unambiguous format (e.g. ISO 8601)"
        );
    }

    #[test]
    fn stamps_have_five_digits_of_a_second() {
        let stamp = stamp();
        assert_eq!((stamp.len(), stamp.as_bytes()[19]), (25, b'.'), "{stamp}");
    }
}
