//! What running servers say: the local one about itself, its standbys and slots, and the primary about slots of its own.

use std::collections::BTreeMap;

use bellwether_types::{Lsn, MemberName, TimelineId, Timestamp};
use serde::{Deserialize, Serialize};

/// One answer to the monitoring query.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Server {
    /// When it was asked: the answer is at least as new.
    pub answered_at: Timestamp,
    pub in_recovery: bool,
    /// The timeline that is being written or replayed; `None` if it could not be told.
    pub timeline: Option<TimelineId>,
    /// Primary: flushed. Standby: the larger of received and replayed.
    pub position: Lsn,
    /// It has no more than `position`. A standby that was restarted and has not come to the end of its own WAL yet has.
    #[serde(default = "is_so")]
    pub has_read_own_wal: bool,
    pub received: Lsn,
    pub replayed: Lsn,
    pub replay_paused: bool,
    /// The WAL receiver is connected and streams.
    pub streaming: bool,
    /// Where the WAL receiver is connected to, `host:port`.
    pub receiver_source: Option<String>,
    /// `synchronous_standby_names` as the server has it.
    pub synchronous_standby_names: String,
    pub synchronous_commit: String,
    pub standbys: Vec<Standby>,
    pub slots: Vec<Slot>,
    #[serde(default)]
    pub hot_standby_feedback: bool,
    /// Both as the running server has them: what a slot file that is put into its directory depends on.
    #[serde(default)]
    pub wal_level: String,
    #[serde(default)]
    pub max_replication_slots: u32,
    /// Bytes of WAL that stay without any slot (`wal_keep_size`).
    #[serde(default)]
    pub kept_wal: u64,
}

/// For views that were written down before it was known.
fn is_so() -> bool {
    true
}

/// A row of pg_stat_replication that belongs to a physical standby.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standby {
    pub application_name: String,
    /// Tells one connection from the next of the same name (walsender pid and backend start).
    pub connection: String,
    pub state: String,
    pub sync_state: String,
    pub write: Option<Lsn>,
    pub flush: Option<Lsn>,
    pub replay: Option<Lsn>,
}

/// A row of pg_replication_slots.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    pub name: String,
    pub physical: bool,
    pub temporary: bool,
    pub active: bool,
    pub restart_lsn: Option<Lsn>,
    pub has_xmin: bool,
    pub wal_status_lost: bool,
    /// Of a logical slot, as all that follows but the last.
    #[serde(default)]
    pub database: Option<String>,
    #[serde(default)]
    pub plugin: Option<String>,
    #[serde(default)]
    pub confirmed_flush_lsn: Option<Lsn>,
    #[serde(default)]
    pub catalog_xmin: Option<u32>,
    /// PostgreSQL 17 and later: the servers carry it over to standbys by themselves.
    #[serde(default)]
    pub failover: bool,
    /// On a standby: carried over from the primary by the server.
    #[serde(default)]
    pub synced: bool,
}

/// What the primary said of slots that interest a standby.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeaderSlots {
    pub asked_at: Timestamp,
    pub leader: MemberName,
    pub slots: BTreeMap<String, LeaderSlot>,
}

/// A slot on the primary.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LeaderSlot {
    pub database: Option<String>,
    pub plugin: Option<String>,
    pub catalog_xmin: Option<u32>,
    pub failover: bool,
    /// Its state file came with the answer.
    pub has_state: bool,
}
