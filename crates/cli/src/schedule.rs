//! Points in time: as people type them, and as messages show them.

use jiff::{
    Timestamp, Zoned,
    civil::{Date, DateTime, Time},
    tz::TimeZone,
};

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
    if text.is_empty() || text == "now" {
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
    let (text, zone) = match text.strip_suffix("UTC").or_else(|| text.strip_suffix("GMT")) {
        Some(text) => (text.trim_end(), &TimeZone::UTC),
        None => (text.trim(), zone),
    };
    let civil = civil(text, zone).ok_or_else(unparsable)?;
    let zoned = civil.to_zoned(zone.clone()).map_err(|_| unparsable())?;
    Ok(Some(iso(&zoned)))
}

/// A date and a time without a zone, as people write them. A date alone is its midnight, a time alone is today's.
fn civil(text: &str, zone: &TimeZone) -> Option<DateTime> {
    const DATES: [&str; 8] =
        ["%Y-%m-%d", "%Y/%m/%d", "%Y%m%d", "%m/%d/%Y", "%d.%m.%Y", "%d %b %Y", "%b %d %Y", "%b %d, %Y"];
    const TIMES: [&str; 4] = ["%H:%M:%S", "%H:%M", "%H%M%S", "%H%M"];
    if let Ok(civil) = text.parse() {
        return Some(civil);
    }
    for date in DATES {
        if let Ok(date) = Date::strptime(date, text) {
            return Some(date.into());
        }
        for time in TIMES {
            for between in [" ", "T"] {
                if let Ok(civil) = DateTime::strptime(format!("{date}{between}{time}"), text) {
                    return Some(civil);
                }
            }
        }
    }
    let today = Timestamp::now().to_zoned(zone.clone()).date();
    TIMES[..2].iter().find_map(|time| Time::strptime(time, text).ok()).map(|time| today.to_datetime(time))
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
            ("", None),
            ("2030-01-01", Some("2030-01-01T00:00:00+02:00")),
            ("1 Jan 2030 10:00", Some("2030-01-01T10:00:00+02:00")),
            ("2030-01-01 00:00 UTC", Some("2030-01-01T00:00:00+00:00")),
            ("20300101T1000", Some("2030-01-01T10:00:00+02:00")),
            ("01/02/2030 10:00", Some("2030-01-02T10:00:00+02:00")),
            ("2030-01-01T00:00:00.5Z", Some("2030-01-01T00:00:00.500000+00:00")),
        ] {
            assert_eq!(parse(typed, &local).unwrap().as_deref(), expected, "{typed}");
        }
        let today = parse("10:00", &local).unwrap().unwrap();
        assert!(today.ends_with("T10:00:00+02:00"), "{today}");
        assert!(parse("NOW", &local).is_err());
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
