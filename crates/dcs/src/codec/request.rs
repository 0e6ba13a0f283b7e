//! `failover`: a requested switchover or failover, and the points in time that people write.

use bellwether_types::{
    MemberName, WallTime,
    cluster::{FailoverRequest, Schedule},
};
use serde_json::{Map, Value};

use super::json;

/// The value that says "no request". The key is not deleted.
pub const NO_REQUEST: &str = "{}";

/// Compact JSON. A request replaces the one before it whole, so nothing of an earlier value is kept.
pub fn encode_failover(request: &FailoverRequest) -> String {
    let mut fields = Map::new();
    let mut put = |key: &str, text: Option<&str>| {
        if let Some(text) = text {
            fields.insert(key.to_owned(), text.into());
        }
    };
    put("leader", request.leader.as_ref().map(MemberName::as_str));
    put("member", request.candidate.as_ref().map(MemberName::as_str));
    put("scheduled_at", request.scheduled_at.as_ref().map(schedule_text));
    json::compact(fields)
}

/// `None` if there is no request. A request that names somebody who cannot exist is none either: without that name a
/// switchover would become a failover, or go to anybody.
pub(super) fn decode(bytes: &[u8]) -> Option<FailoverRequest> {
    match json::parse(bytes) {
        Some(Value::Object(fields)) => from_fields(&fields),
        Some(_) => None,
        None => legacy(std::str::from_utf8(bytes).ok()?),
    }
}

fn from_fields(fields: &Map<String, Value>) -> Option<FailoverRequest> {
    let name = |key: &str| match fields.get(key).filter(|value| json::truthy(value)) {
        None => Some(None),
        Some(value) => json::name(value).map(Some),
    };
    let (leader, candidate) = (name("leader")?, name("member")?);
    if leader.is_none() && candidate.is_none() {
        return None;
    }
    let scheduled_at =
        fields.get("scheduled_at").filter(|value| json::truthy(value)).map(|value| match value {
            Value::String(text) => parse_schedule(text),
            other => Schedule::Unparsable { text: other.to_string() },
        });
    Some(FailoverRequest { leader, candidate, scheduled_at })
}

/// `leader:candidate`, each of which may be empty.
fn legacy(text: &str) -> Option<FailoverRequest> {
    if text.trim_start().starts_with(['{', '[', '"']) {
        return None; // broken JSON, no names
    }
    let (leader, candidate) = text.split_once(':').unwrap_or((text, ""));
    let name = |text: &str| match text.trim() {
        "" => Some(None),
        text => MemberName::new(text).ok().map(Some),
    };
    let request = FailoverRequest { leader: name(leader)?, candidate: name(candidate)?, scheduled_at: None };
    (request.leader.is_some() || request.candidate.is_some()).then_some(request)
}

/// Reads an ISO 8601 date and time with a zone; without one nobody knows which instant is meant.
pub fn parse_schedule(text: &str) -> Schedule {
    match text.trim().parse::<jiff::Timestamp>() {
        Ok(time) => {
            Schedule::At { text: text.to_owned(), time: WallTime::from_unix_millis(time.as_millisecond()) }
        }
        Err(_) => Schedule::Unparsable { text: text.to_owned() },
    }
}

/// The text as it was written.
pub fn schedule_text(schedule: &Schedule) -> &str {
    match schedule {
        Schedule::At { text, .. } | Schedule::Unparsable { text } => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Option<MemberName> {
        (!name.is_empty()).then(|| MemberName::new(name).unwrap())
    }

    #[test]
    fn requests_are_read_in_every_form_they_were_ever_written() {
        for (value, expected) in [
            (r#"{"leader":"a","member":"b"}"#, Some(("a", "b"))),
            (r#"{"member":"b"}"#, Some(("", "b"))),
            (r#"{"leader":"a","member":null,"note":1}"#, Some(("a", ""))),
            ("a:b", Some(("a", "b"))),
            (" a : b ", Some(("a", "b"))),
            (":b", Some(("", "b"))),
            ("a", Some(("a", ""))),
            ("{}", None),
            ("", None),
            (":", None),
            ("[]", None),
            ("12", None),
            ("{broken", None),
            (r#"{"scheduled_at":"2026-03-01T02:00:00+00:00"}"#, None),
        ] {
            let expected = expected.map(|(leader, candidate)| FailoverRequest {
                leader: named(leader),
                candidate: named(candidate),
                scheduled_at: None,
            });
            assert_eq!(decode(value.as_bytes()), expected, "{value:?}");
        }
    }

    #[test]
    fn a_switchover_from_an_impossible_name_never_becomes_a_failover() {
        for value in [
            r#"{"leader":"a/b","member":"c"}"#,
            r#"{"leader":7,"member":"c"}"#,
            r#"{"leader":"a","member":"c/d"}"#,
            "a/b:c",
        ] {
            assert_eq!(decode(value.as_bytes()), None, "{value}");
        }
    }

    #[test]
    fn a_schedule_needs_a_zone() {
        for (text, millis) in [
            ("2026-03-01T02:00:00+00:00", Some(1_772_330_400_000)),
            ("2026-03-01 04:00+02", Some(1_772_330_400_000)),
            ("2026-03-01T02:00:00Z", Some(1_772_330_400_000)),
            ("2026-03-01T02:00:00", None),
            ("tomorrow", None),
        ] {
            let time = match parse_schedule(text) {
                Schedule::At { time, .. } => Some(time.unix_millis),
                Schedule::Unparsable { .. } => None,
            };
            assert_eq!(time, millis, "{text}");
            assert_eq!(schedule_text(&parse_schedule(text)), text);
        }
        let odd = decode(br#"{"leader":"a","scheduled_at":5}"#).unwrap();
        assert_eq!(odd.scheduled_at, Some(Schedule::Unparsable { text: "5".into() }));
    }

    #[test]
    fn a_request_is_written_in_patronis_form() {
        let request = FailoverRequest {
            leader: named("pg-a"),
            candidate: named("pg-b"),
            scheduled_at: Some(parse_schedule("2026-03-01T02:00:00+00:00")),
        };
        let text = r#"{"leader":"pg-a","member":"pg-b","scheduled_at":"2026-03-01T02:00:00+00:00"}"#;
        assert_eq!(encode_failover(&request), text);
        assert_eq!(decode(text.as_bytes()), Some(request));
        assert_eq!(encode_failover(&FailoverRequest::default()), NO_REQUEST);
    }
}
