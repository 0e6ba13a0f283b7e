//! What a member says about itself in answer to `GET /patroni`.

use std::time::Duration;

use bellwether_types::{
    Alarm, Lsn, MemberName, PostgresState, ReplicationState, Role, SystemId, Tags, TimelineId,
    measured::{Measured, Span},
    takeover::Word,
};
use serde_json::{Map, Value};

/// A member's own report. Tolerant: what is absent or not understood is `None` or off, in words of old releases, too.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PeerStatus {
    pub name: Option<MemberName>,
    /// Patroni's version number.
    pub version: Option<String>,
    pub state: Option<PostgresState>,
    pub role: Option<Role>,
    pub server_version: Option<u32>,
    pub timeline: Option<TimelineId>,
    /// `None` if its PostgreSQL is down or did not answer.
    pub wal: Option<PeerWal>,
    /// When it asked its PostgreSQL for all this; `None`: it does not say, as members of Patroni.
    pub observed: Option<Observed>,
    /// It was restarted and has not come to the end of its own WAL: it has more than it tells.
    pub replays_own_wal: bool,
    pub replication_state: Option<ReplicationState>,
    pub tags: Tags,
    pub watchdog_failed: bool,
    /// It says for certain that nothing there starts as a primary before the store gives it the leader lock.
    pub at_rest: bool,
    /// It says that it was given the leader lock, whatever it is doing with it.
    pub holds_lock: bool,
    /// What is wrong there although its PostgreSQL runs; those of later versions are left out.
    pub alarms: Vec<Alarm>,
    /// How fast things are there; nothing, as members of Patroni.
    pub measured: Measured,
    pub pause: bool,
    pub pending_restart: bool,
    pub sync_standby: bool,
    pub quorum_standby: bool,
    /// It sees no leader, or has no view of the store.
    pub cluster_unlocked: bool,
    pub failsafe_mode_is_active: bool,
    pub system_id: Option<SystemId>,
    /// What it says about a lost primary.
    pub takeover: Word,
}

/// When a member asked its PostgreSQL for what it tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed {
    /// How long before it answered us.
    pub ago: Duration,
    /// After our request had arrived there.
    pub since_asked: bool,
}

/// Where a member's WAL is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerWal {
    /// It is no standby.
    Primary {
        location: Lsn,
    },
    Standby {
        received: Lsn,
        replayed: Lsn,
    },
}

impl PeerStatus {
    /// Reads the status document; `None` if it is no JSON object.
    pub fn parse(document: &Value) -> Option<Self> {
        let fields = document.as_object()?;
        let set = |key: &str| fields.get(key).is_some_and(|value| value == &Value::Bool(true));
        let text = |key: &str| fields.get(key).and_then(Value::as_str);
        let about = fields.get("patroni").and_then(Value::as_object);
        let about = |key: &str| about?.get(key)?.as_str();
        let replication =
            |text: &str| ReplicationState::ALL.iter().copied().find(|state| state.as_str() == text);
        Some(Self {
            name: about("name").and_then(|name| MemberName::new(name).ok()),
            version: about("version").map(str::to_owned),
            state: text("state").and_then(|state| state.parse().ok()),
            role: text("role").and_then(|role| role.parse().ok()),
            server_version: number(fields, "server_version"),
            timeline: number(fields, "timeline").filter(|number| *number > 0).map(TimelineId),
            wal: fields.get("xlog").or_else(|| fields.get("wal")).and_then(wal),
            observed: number(fields, "observed_ms_ago").map(|ms| Observed {
                ago: Duration::from_millis(ms),
                since_asked: set("observed_since_asked"),
            }),
            replays_own_wal: set("replays_own_wal"),
            replication_state: text("replication_state").and_then(replication),
            tags: fields
                .get("tags")
                .and_then(Value::as_object)
                .map(|tags| Tags(tags.clone().into_iter().collect()))
                .unwrap_or_default(),
            watchdog_failed: set("watchdog_failed"),
            at_rest: set("at_rest"),
            holds_lock: set("holds_lock"),
            measured: fields.get("measured").map(measured).unwrap_or_default(),
            alarms: fields
                .get("alarms")
                .and_then(Value::as_array)
                .map(|alarms| alarms.iter().filter_map(|alarm| Alarm::of_code(alarm.as_str()?)).collect())
                .unwrap_or_default(),
            pause: set("pause"),
            pending_restart: set("pending_restart"),
            sync_standby: set("sync_standby"),
            quorum_standby: set("quorum_standby"),
            cluster_unlocked: set("cluster_unlocked"),
            failsafe_mode_is_active: set("failsafe_mode_is_active"),
            system_id: text("database_system_identifier").and_then(|id| id.parse().ok()),
            takeover: fields
                .get("takeover")
                .and_then(|word| serde_json::from_value(word.clone()).ok())
                .unwrap_or_default(),
        })
    }

    /// The furthest position that it has: the location of a primary, else the larger of received and replayed.
    pub fn position(&self) -> Option<Lsn> {
        self.wal.map(|wal| match wal {
            PeerWal::Primary { location } => location,
            PeerWal::Standby { received, replayed } => received.max(replayed),
        })
    }

    /// It says that its PostgreSQL runs and is no standby. Says nothing about who holds the leader lock.
    pub fn is_running_primary(&self) -> bool {
        let is_primary = match self.wal {
            Some(PeerWal::Primary { .. }) => true,
            Some(PeerWal::Standby { .. }) => false,
            None => self.role == Some(Role::Primary),
        };
        self.state == Some(PostgresState::Running) && is_primary
    }

    /// It may be a primary: it says that it is one, or its PostgreSQL should run, does not answer, and was one when it last did.
    pub fn may_be_primary(&self) -> bool {
        let is_silent = self.state.is_none() && self.wal.is_none();
        self.is_running_primary() || (is_silent && self.role == Some(Role::Primary))
    }
}

fn wal(value: &Value) -> Option<PeerWal> {
    let fields = value.as_object()?;
    let lsn = |key: &str| number(fields, key).map(Lsn);
    if let Some(location) = lsn("location") {
        return Some(PeerWal::Primary { location });
    }
    let (received, replayed) = (lsn("received_location"), lsn("replayed_location"));
    let known = received.or(replayed)?;
    Some(PeerWal::Standby { received: received.unwrap_or(known), replayed: replayed.unwrap_or(Lsn::ZERO) })
}

fn measured(value: &Value) -> Measured {
    let span = |key: &str| {
        let field = |name: &str| value.get(key)?.get(name)?.as_f64();
        let time = |name| {
            let ms = field(name).unwrap_or_default();
            Duration::try_from_secs_f64(ms / 1000.0).unwrap_or_default()
        };
        Span {
            count: field("count").unwrap_or_default() as u32,
            typical: time("typical_ms"),
            worst: time("worst_ms"),
        }
    };
    Measured { store: span("store"), commit: span("commit"), late: span("late") }
}

/// A number, or its decimal text.
fn number<N: TryFrom<u64>>(fields: &Map<String, Value>, key: &str) -> Option<N> {
    let number = match fields.get(key)? {
        Value::Number(number) => number.as_u64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    N::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(document: Value) -> PeerStatus {
        PeerStatus::parse(&document).unwrap()
    }

    #[test]
    fn a_replicas_report_is_understood() {
        let peer = read(json!({
            "state": "running", "role": "replica", "server_version": 150018, "timeline": 3,
            "xlog": {"received_location": 500, "replayed_location": 400, "replayed_timestamp": null, "paused": false},
            "replication_state": "streaming", "quorum_standby": true, "pause": true,
            "tags": {"nofailover": true, "zone": "x"}, "watchdog_failed": true, "at_rest": true, "holds_lock": true,
            "database_system_identifier": "7421833905512378144",
            "patroni": {"version": "4.1.5", "scope": "demo", "name": "b"}, "of_the_future": [1],
        }));
        assert_eq!(peer.name.as_ref().map(MemberName::as_str), Some("b"));
        assert_eq!((peer.state, peer.role), (Some(PostgresState::Running), Some(Role::Replica)));
        assert_eq!((peer.timeline, peer.server_version), (Some(TimelineId(3)), Some(150_018)));
        assert_eq!(peer.position(), Some(Lsn(500)));
        assert!(peer.tags.nofailover() && peer.watchdog_failed && peer.quorum_standby && peer.pause);
        assert!(peer.at_rest && peer.holds_lock);
        assert!(!peer.is_running_primary() && !peer.sync_standby && !peer.cluster_unlocked);
        assert_eq!(peer.replication_state, Some(ReplicationState::Streaming));
    }

    #[test]
    fn words_of_old_releases_are_understood() {
        let peer = read(json!({"state": "running", "role": "master", "wal": {"location": 700}}));
        assert_eq!((peer.role, peer.position()), (Some(Role::Primary), Some(Lsn(700))));
        assert!(peer.is_running_primary());
    }

    #[test]
    fn a_report_tells_the_age_of_its_position_or_says_nothing_of_it() {
        let observed = |since_asked| Some(Observed { ago: Duration::from_millis(7), since_asked });
        for (document, expected) in [
            (json!({"observed_ms_ago": 7, "observed_since_asked": true}), observed(true)),
            (json!({"observed_ms_ago": 7, "observed_since_asked": false}), observed(false)),
            (json!({"observed_ms_ago": 7}), observed(false)),
            (json!({"observed_since_asked": true}), None),
        ] {
            assert_eq!(read(document.clone()).observed, expected, "{document}");
            assert!(!read(document).replays_own_wal);
        }
        assert!(read(json!({"replays_own_wal": true})).replays_own_wal);
    }

    #[test]
    fn a_primary_is_one_that_runs_and_is_no_standby() {
        for (case, document, expected) in [
            ("runs", json!({"state": "running", "role": "primary", "xlog": {"location": 1}}), true),
            (
                "a leader that is still a standby",
                json!({"state": "running", "role": "primary", "xlog": {"received_location": 1}}),
                false,
            ),
            (
                "promoted before its role says so",
                json!({"state": "running", "role": "replica", "xlog": {"location": 1}}),
                true,
            ),
            ("runs, position not told", json!({"state": "running", "role": "primary"}), true),
            ("stopped", json!({"state": "stopped", "role": "primary"}), false),
            ("says nothing", json!({}), false),
        ] {
            assert_eq!(read(document.clone()).is_running_primary(), expected, "{case}");
            assert_eq!(read(document).may_be_primary(), expected, "{case}");
        }
    }

    #[test]
    fn a_primary_that_hangs_is_no_evidence_and_no_all_clear() {
        let silent = read(json!({"state": "unknown", "role": "primary"}));
        assert!(!silent.is_running_primary() && silent.may_be_primary());
        assert!(!read(json!({"state": "unknown", "role": "replica"})).may_be_primary());
    }

    #[test]
    fn nonsense_is_unknown_not_an_error() {
        let peer = read(json!({
            "state": "levitating", "role": 7, "timeline": 0, "xlog": {"received_location": null, "replayed_location": "12"},
            "tags": "none", "pause": "yes", "server_version": -1, "patroni": {"name": "a/b"},
        }));
        let expected = PeerStatus {
            wal: Some(PeerWal::Standby { received: Lsn(12), replayed: Lsn(12) }),
            ..PeerStatus::default()
        };
        assert_eq!(peer, expected);
        assert_eq!(PeerStatus::parse(&json!([])), None);
    }
}
