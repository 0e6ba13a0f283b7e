//! `POST /restart`: reading the conditions.

use std::time::Duration;

use bellwether_types::{Role, WallTime};
use serde_json::{Map, Value, json};

use crate::{
    control::{RestartOutcome, RestartRequest},
    quantity::{self, Unit},
    reply::{Rejection, Reply},
    schedule,
};

/// Reads the body, key by key; the first bad one answers.
pub(crate) fn parse(
    body: &Map<String, Value>,
    now: WallTime,
    is_paused: bool,
) -> Result<RestartRequest, Rejection> {
    let mut request = RestartRequest::default();
    for (key, value) in body {
        let published = match key.as_str() {
            "schedule" if is_paused => {
                return Err(Rejection::new(500, "Can't schedule restart in the paused state"));
            }
            "schedule" => {
                let scheduled = schedule::parse(value, now, "restart")?;
                let text = json!(scheduled.text);
                request.schedule = Some(scheduled);
                text
            }
            "role" => {
                request.role = Some(role(value)?);
                value.clone()
            }
            "postgres_version" => {
                request.version_below = Some(version(value)?);
                value.clone()
            }
            "timeout" => {
                let seconds = timeout_seconds(value)?;
                request.timeout = Some(Duration::from_secs(seconds));
                json!(seconds)
            }
            // Its presence counts, even as `false`.
            "restart_pending" => {
                request.pending_only = true;
                value.clone()
            }
            other => {
                return Err(Rejection::new(
                    400,
                    format!("Unknown filter for the scheduled restart: {other}"),
                ));
            }
        };
        request.published.insert(key.clone(), published);
    }
    Ok(request)
}

fn role(value: &Value) -> Result<Role, Rejection> {
    match value.as_str() {
        Some("primary") => Ok(Role::Primary),
        Some("standby_leader") => Ok(Role::StandbyLeader),
        Some("replica") => Ok(Role::Replica),
        _ => {
            let message = "PostgreSQL role should be either primary, standby_leader, or replica";
            Err(Rejection::new(400, message))
        }
    }
}

/// `16.4` is 160004, `9.6.24` is 90624.
fn version(value: &Value) -> Result<u32, Rejection> {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let invalid = || Rejection::new(400, format!("Invalid PostgreSQL version: {text}"));
    let parts: Vec<u32> =
        text.split('.').map(|part| part.trim().parse().map_err(|_| invalid())).collect::<Result<_, _>>()?;
    if parts.iter().any(|part| *part > 99) {
        return Err(invalid());
    }
    match parts[..] {
        [major, minor] if major >= 10 => Ok(major * 10_000 + minor),
        [major, minor, patch] => Ok(major * 10_000 + minor * 100 + patch),
        _ => {
            let message = format!("Invalid PostgreSQL version format: X.Y or X.Y.Z is accepted: {text}");
            Err(Rejection::new(400, message))
        }
    }
}

fn timeout_seconds(value: &Value) -> Result<u64, Rejection> {
    let seconds = match value {
        Value::String(text) => quantity::parse(text, Unit::Seconds),
        Value::Number(number) => quantity::parse(&number.to_string(), Unit::Seconds),
        _ => None,
    };
    match seconds {
        Some(seconds) if seconds > 0 => Ok(seconds.unsigned_abs()),
        _ => Err(Rejection::new(400, "Timeout should be a positive number of seconds")),
    }
}

pub(crate) fn reply(outcome: RestartOutcome) -> Reply {
    match outcome {
        RestartOutcome::Restarted => Reply::message(200, "restarted successfully"),
        RestartOutcome::Scheduled => Reply::message(202, "Restart scheduled"),
        RestartOutcome::AlreadyScheduled => Reply::message(409, "Another restart is already scheduled"),
        RestartOutcome::StillStarting => Reply::message(503, "postgres is still starting"),
        RestartOutcome::Failed => Reply::message(503, "restart failed"),
        RestartOutcome::Refused { why } => Reply::message(503, why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallTime = WallTime::from_unix_millis(1_795_305_600_000);

    fn read(body: Value, is_paused: bool) -> Result<RestartRequest, (u16, String)> {
        let body = body.as_object().unwrap();
        parse(body, NOW, is_paused).map_err(|rejection| (rejection.status, rejection.message))
    }

    #[test]
    fn all_conditions_are_understood() {
        let body = json!({
            "restart_pending": false, "role": "replica", "postgres_version": "16.4", "timeout": "2min",
            "schedule": "2027-01-01 10:00Z",
        });
        let request = read(body, false).unwrap();
        assert!(request.pending_only, "the presence of restart_pending counts, whatever its value");
        assert_eq!(request.role, Some(Role::Replica));
        assert_eq!(request.version_below, Some(160_004));
        assert_eq!(request.timeout, Some(Duration::from_secs(120)));
        assert_eq!(request.schedule.unwrap().time.unix_millis, 1_798_797_600_000);
        assert_eq!(
            Value::Object(request.published).to_string(),
            r#"{"restart_pending":false,"role":"replica","postgres_version":"16.4","timeout":120,"schedule":"2027-01-01T10:00:00+00:00"}"#
        );
        assert_eq!(read(json!({}), true).unwrap(), RestartRequest::default());
    }

    #[test]
    fn a_bad_condition_is_named() {
        let bad_role = "PostgreSQL role should be either primary, standby_leader, or replica";
        let bad_timeout = "Timeout should be a positive number of seconds";
        for (body, status, message) in [
            (json!({"role": "master"}), 400, bad_role),
            (json!({"role": null}), 400, bad_role),
            (json!({"postgres_version": "x"}), 400, "Invalid PostgreSQL version: x"),
            (
                json!({"postgres_version": "16"}),
                400,
                "Invalid PostgreSQL version format: X.Y or X.Y.Z is accepted: 16",
            ),
            (
                json!({"postgres_version": "9.6"}),
                400,
                "Invalid PostgreSQL version format: X.Y or X.Y.Z is accepted: 9.6",
            ),
            (json!({"timeout": 0}), 400, bad_timeout),
            (json!({"timeout": "soon"}), 400, bad_timeout),
            (json!({"timeout": true}), 400, bad_timeout),
            (json!({"when": 1}), 400, "Unknown filter for the scheduled restart: when"),
            (json!({"role": "x", "when": 1}), 400, bad_role),
            (json!({"schedule": "2020-01-01T00:00Z"}), 422, "Cannot schedule restart in the past"),
            (
                json!({"schedule": "2027-01-01T00:00"}),
                400,
                "Timezone information is mandatory for the scheduled restart",
            ),
        ] {
            assert_eq!(read(body.clone(), false).unwrap_err(), (status, message.to_owned()), "{body}");
        }
        let paused = (500, "Can't schedule restart in the paused state".to_owned());
        for text in ["2027-01-01T00:00Z", "nonsense"] {
            assert_eq!(read(json!({"schedule": text}), true).unwrap_err(), paused, "{text}");
        }
    }

    #[test]
    fn versions_become_numbers() {
        assert_eq!(version(&json!("9.6.24")), Ok(90_624));
        assert_eq!(version(&json!("18.0")), Ok(180_000));
        assert_eq!(version(&json!(16.4)), Ok(160_004));
        assert!(version(&json!("16.100")).is_err());
    }
}
