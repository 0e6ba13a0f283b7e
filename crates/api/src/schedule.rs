//! Points in time that callers name.

use bellwether_types::WallTime;
use jiff::fmt::temporal::Pieces;
use serde_json::Value;

use crate::{control::ScheduledTime, reply::Rejection};

/// Reads a time in the future with an explicit zone; `action` is the word for the message.
pub(crate) fn parse(value: &Value, now: WallTime, action: &str) -> Result<ScheduledTime, Rejection> {
    let scheduled = match value.as_str().and_then(read) {
        Some(Reading::Time(scheduled)) => scheduled,
        Some(Reading::WithoutZone) => {
            let message = format!("Timezone information is mandatory for the scheduled {action}");
            return Err(Rejection::new(400, message));
        }
        None => {
            let message =
                "Unable to parse scheduled timestamp. It should be in an unambiguous format, e.g. ISO 8601";
            return Err(Rejection::new(422, message));
        }
    };
    if scheduled.time < now {
        return Err(Rejection::new(422, format!("Cannot schedule {action} in the past")));
    }
    Ok(scheduled)
}

enum Reading {
    Time(ScheduledTime),
    WithoutZone,
}

fn read(text: &str) -> Option<Reading> {
    if let Ok(zoned) = jiff::fmt::rfc2822::parse(text.trim()) {
        return Some(Reading::Time(scheduled(zoned.datetime(), zoned.offset())?));
    }
    let text = normalize(text);
    let pieces = Pieces::parse(&text).ok()?;
    let time = pieces.time().unwrap_or_else(jiff::civil::Time::midnight);
    let datetime = pieces.date().to_datetime(time);
    match pieces.to_numeric_offset() {
        Some(offset) => Some(Reading::Time(scheduled(datetime, offset)?)),
        None => Some(Reading::WithoutZone),
    }
}

/// Brings the usual spellings to ISO 8601: `2027-01-01 10:00:00 +0200`, `2027-01-01 10:00 UTC`.
fn normalize(text: &str) -> String {
    let text = text.trim();
    for zone in ["UTC", "GMT", "utc", "gmt"] {
        if let Some(rest) = text.strip_suffix(zone) {
            return format!("{}Z", rest.trim_end());
        }
    }
    match text.rsplit_once(' ') {
        Some((rest, offset)) if offset.starts_with(['+', '-']) => format!("{}{offset}", rest.trim_end()),
        _ => text.to_owned(),
    }
}

fn scheduled(datetime: jiff::civil::DateTime, offset: jiff::tz::Offset) -> Option<ScheduledTime> {
    let instant = offset.to_timestamp(datetime).ok()?;
    let zoned = instant.to_zoned(jiff::tz::TimeZone::fixed(offset));
    let micros = zoned.subsec_nanosecond() / 1000;
    let fraction = if micros == 0 { String::new() } else { format!(".{micros:06}") };
    let text = format!("{}{fraction}{}", zoned.strftime("%Y-%m-%dT%H:%M:%S"), zoned.strftime("%:z"));
    Some(ScheduledTime { text, time: WallTime::from_unix_millis(instant.as_millisecond()) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// 2026-11-22T00:00:00Z.
    const NOW: WallTime = WallTime::from_unix_millis(1_795_305_600_000);

    #[test]
    fn times_are_read_leniently_and_written_as_iso_8601() {
        for (text, iso) in [
            ("2027-01-01T10:00:00+00:00", "2027-01-01T10:00:00+00:00"),
            ("2027-01-01T10:00:00Z", "2027-01-01T10:00:00+00:00"),
            ("2027-01-01 10:00+02", "2027-01-01T10:00:00+02:00"),
            ("2027-01-01 10:00:00 +0200", "2027-01-01T10:00:00+02:00"),
            ("2027-01-01 10:00:00.25-05:30", "2027-01-01T10:00:00.250000-05:30"),
            ("2027-01-01T10:00 UTC", "2027-01-01T10:00:00+00:00"),
            ("20270101T100000Z", "2027-01-01T10:00:00+00:00"),
            ("Fri, 01 Jan 2027 10:00:00 +0200", "2027-01-01T10:00:00+02:00"),
        ] {
            assert_eq!(parse(&json!(text), NOW, "restart").unwrap().text, iso, "{text}");
        }
        let time = parse(&json!("2027-01-01T02:00:00+02:00"), NOW, "restart").unwrap().time;
        assert_eq!(time.unix_millis, 1_798_761_600_000);
    }

    #[test]
    fn what_cannot_be_scheduled_says_why() {
        let unable =
            "Unable to parse scheduled timestamp. It should be in an unambiguous format, e.g. ISO 8601";
        let no_zone = "Timezone information is mandatory for the scheduled switchover";
        for (value, status, message) in [
            (json!("2027-01-01T10:00:00"), 400, no_zone),
            (json!("2027-01-01"), 400, no_zone),
            (json!("2026-11-21T23:59:59Z"), 422, "Cannot schedule switchover in the past"),
            (json!("tomorrow"), 422, unable),
            (json!(""), 422, unable),
            (json!(17), 422, unable),
        ] {
            let rejection = parse(&value, NOW, "switchover").unwrap_err();
            assert_eq!((rejection.status, rejection.message.as_str()), (status, message), "{value}");
        }
    }
}
