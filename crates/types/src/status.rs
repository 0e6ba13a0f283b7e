//! What one member knows about itself, as the REST API shows it. Published by the agent; answering needs no SQL and no store.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Alarm, ClusterName, Lsn, MemberName, PostgresState, ReplicationState, Role, SystemId, Tags, TimelineId,
    Timestamp, WallTime,
    cluster::{Cluster, FailsafeMap},
    measured::Measured,
    settings::Settings,
    takeover::{Heard, Promise, Word},
};

/// A snapshot of one member, complete enough for every GET of the REST API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    pub cluster: ClusterName,
    pub me: MemberName,
    /// Patroni's version number that we claim.
    pub version: String,
    pub taken_at: Timestamp,

    pub state: PostgresState,
    pub role: Role,
    /// Answers of PostgreSQL; `None` while it is not running or did not answer.
    pub server: Option<ServerStatus>,
    pub system_id: Option<SystemId>,
    pub pending_restart: bool,
    pub pending_restart_reason: Value,
    pub tags: Tags,
    pub scheduled_restart: Option<Value>,
    pub watchdog_failed: bool,
    /// No PostgreSQL runs here, and this member holds no lock: nothing here starts as a primary before the store gives it one.
    #[serde(default)]
    pub at_rest: bool,
    /// What is wrong here although PostgreSQL runs.
    #[serde(default)]
    pub alarms: BTreeSet<Alarm>,
    /// How fast things are here.
    #[serde(default)]
    pub measured: Measured,

    /// The leader lease of this member: believed until then.
    pub lease_until: Option<Timestamp>,
    /// The last view of the store; `None` if it could not be read within `ttl`.
    pub store: Option<Cluster>,
    /// Wall-clock time of the last successful read of the store.
    pub store_last_seen: Option<WallTime>,
    pub settings: Settings,
    /// The dynamic configuration that is in force here.
    pub config: Value,
    /// Failsafe is active until then: the leader said so within `ttl`.
    pub failsafe_until: Option<Timestamp>,
    pub failsafe: Option<FailsafeMap>,
    /// What this member says about a lost primary.
    #[serde(default)]
    pub takeover: TakeoverStatus,
    /// The loop is alive if the clock has not passed this instant.
    pub next_tick_by: Timestamp,
    /// Why the last tick did what it did.
    pub reason: String,
    pub reason_code: String,
}

/// What a member knows about a lost primary, to be told as a [`Word`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TakeoverStatus {
    /// Whom the WAL receiver is, or was last, connected to, and when something came from there.
    pub heard: Option<(MemberName, Timestamp)>,
    pub promise: Option<Promise>,
}

impl TakeoverStatus {
    /// As it is told at `now`; `None`: there is nothing to tell.
    pub fn word(&self, now: Timestamp) -> Option<Word> {
        let heard = self.heard.as_ref().map(|(from, at)| Heard {
            from: from.clone(),
            ago_ms: u64::try_from(now.since(*at).as_millis()).unwrap_or(u64::MAX),
        });
        let word = Word { heard, promise: self.promise.clone() };
        (word != Word::default()).then_some(word)
    }
}

/// What PostgreSQL said the last time it was asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// When it was asked, on the clock of [`NodeStatus::taken_at`]: nothing here is older.
    pub asked_at: Timestamp,
    /// For example 150018.
    pub server_version: u32,
    /// `YYYY-MM-DD HH:MM:SS.ffffff+00:00`.
    pub postmaster_start_time: String,
    pub postmaster_start_unix: f64,
    pub in_recovery: bool,
    pub timeline: Option<TimelineId>,
    pub wal: WalStatus,
    /// A standby that was restarted and has not come to the end of its own WAL: it has more than `wal` says.
    #[serde(default)]
    pub replays_own_wal: bool,
    pub replication_state: Option<ReplicationState>,
    /// The end of WAL that the upstream last announced.
    pub latest_end_lsn: Option<Lsn>,
    pub replication: Vec<WalSender>,
}

/// Positions in the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum WalStatus {
    Primary {
        location: Lsn,
    },
    Standby {
        received: Lsn,
        replayed: Lsn,
        /// `YYYY-MM-DD HH:MM:SS.ffffff+00:00`.
        replayed_timestamp: Option<String>,
        replayed_unix: Option<f64>,
        paused: bool,
    },
}

/// A row of `pg_stat_replication`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalSender {
    pub usename: String,
    pub application_name: String,
    pub client_addr: Option<String>,
    pub state: String,
    pub sync_state: String,
    pub sync_priority: i64,
}

impl NodeStatus {
    /// Whether this member holds the leader lease at `now`: the only ground for answering "I am the primary".
    pub fn holds_lease_at(&self, now: Timestamp) -> bool {
        self.lease_until.is_some_and(|until| now < until)
    }

    pub fn is_failsafe_active_at(&self, now: Timestamp) -> bool {
        self.failsafe_until.is_some_and(|until| now < until)
    }
}
