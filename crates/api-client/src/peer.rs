//! What a peer says about itself, read tolerantly: it may be a Patroni of any age.

use bellwether_types::{Lsn, Role, Tags, TimelineId};
use serde_json::Value;

/// The fields of `GET /patroni` that members tell each other.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerStatus {
    pub role: Option<Role>,
    pub state: Option<String>,
    /// `xlog.location`: only a running primary publishes it.
    pub location: Option<Lsn>,
    pub received: Option<Lsn>,
    pub replayed: Option<Lsn>,
    pub timeline: Option<TimelineId>,
    pub tags: Tags,
    pub watchdog_failed: bool,
    /// The whole document.
    pub raw: Value,
}

impl PeerStatus {
    /// `None` if the document is no JSON object.
    pub fn parse(document: Value) -> Option<Self> {
        let fields = document.as_object()?;
        // Old members said `wal`.
        let xlog = fields.get("xlog").or_else(|| fields.get("wal"));
        let position = |name: &str| xlog.and_then(|xlog| xlog.get(name)).and_then(integer).map(Lsn);
        let tags = fields.get("tags").and_then(|tags| serde_json::from_value(tags.clone()).ok());
        let text = |name: &str| fields.get(name).and_then(Value::as_str);
        Some(Self {
            role: text("role").and_then(|role| role.parse().ok()),
            state: text("state").map(str::to_owned),
            location: position("location"),
            received: position("received_location"),
            replayed: position("replayed_location"),
            timeline: fields
                .get("timeline")
                .and_then(integer)
                .and_then(|tl| u32::try_from(tl).ok())
                .map(TimelineId),
            tags: tags.unwrap_or_default(),
            watchdog_failed: fields.get("watchdog_failed").is_some_and(|failed| *failed == Value::Bool(true)),
            raw: document,
        })
    }

    /// The end of its WAL; `None` if its PostgreSQL is down.
    pub fn position(&self) -> Option<Lsn> {
        self.location.or(self.received.max(self.replayed))
    }

    /// It says that its PostgreSQL runs and accepts writes.
    pub fn is_running_primary(&self) -> bool {
        self.location.is_some()
            || (self.role == Some(Role::Primary) && self.state.as_deref() == Some("running"))
    }
}

/// Old members wrote some numbers as text.
fn integer(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn peers_of_every_age_are_understood() {
        let old =
            PeerStatus::parse(json!({"role": "master", "wal": {"location": "100"}, "timeline": 2})).unwrap();
        assert_eq!(
            (old.role, old.position(), old.timeline),
            (Some(Role::Primary), Some(Lsn(100)), Some(TimelineId(2)))
        );
        assert!(old.is_running_primary());

        let standby = json!({"role": "replica", "state": "running", "xlog": {"received_location": 7, "replayed_location": 9}});
        let standby = PeerStatus::parse(standby).unwrap();
        assert_eq!(standby.position(), Some(Lsn(9)));
        assert!(!standby.is_running_primary());
    }

    #[test]
    fn a_member_without_postgresql_has_no_position() {
        let down = PeerStatus::parse(json!({"role": "demoted", "state": "stopped"})).unwrap();
        assert_eq!(down.position(), None);
        assert_eq!(PeerStatus::parse(json!([1])), None);
    }
}
