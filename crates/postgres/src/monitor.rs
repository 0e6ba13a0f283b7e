//! The agent's one persistent connection to the local server, and the statement that tells everything.

use std::sync::Arc;

use bellwether_types::{Lsn, TimelineId};

use crate::{postmaster::PostmasterId, settings::PgSettings};

/// One look at the running server.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// For example 150018.
    pub server_version: u32,
    /// `YYYY-MM-DD HH:MM:SS.ffffff+00:00`.
    pub postmaster_start_time: String,
    pub postmaster_start_unix: f64,
    pub in_recovery: bool,
    /// The timeline being written; `None` in recovery.
    pub timeline: Option<TimelineId>,
    /// The timeline of the latest checkpoint (or restart point).
    pub control_timeline: TimelineId,
    pub wal: WalPositions,
    pub receiver: Option<WalReceiver>,
    pub synchronous_standby_names: String,
    pub synchronous_commit: String,
    /// Empty if none or not shown on a primary.
    pub restore_command: String,
    pub primary_conninfo: String,
    pub primary_slot_name: String,
    pub walsenders: Vec<WalSenderRow>,
    pub slots: Vec<SlotRow>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum WalPositions {
    Primary {
        /// End of the WAL that is safely on disk.
        flushed: Lsn,
    },
    Standby {
        /// Written by the WAL receiver if there is one, else the end of what was ever received; `None` if nothing was.
        received: Option<Lsn>,
        replayed: Lsn,
        paused: bool,
        /// `YYYY-MM-DD HH:MM:SS.ffffff+00:00`.
        replayed_timestamp: Option<String>,
        replayed_unix: Option<f64>,
    },
}

/// `pg_stat_wal_receiver`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalReceiver {
    pub pid: i32,
    /// `streaming`, `waiting`, ...
    pub status: String,
    /// May be ahead of what is replayed: never take it for the server's own timeline.
    pub received_timeline: Option<TimelineId>,
    pub written: Option<Lsn>,
    pub flushed: Option<Lsn>,
    /// The end of WAL that the upstream last announced.
    pub latest_end: Option<Lsn>,
    /// Milliseconds since 1970 of the last message from the upstream, by the local clock.
    pub last_message_unix_millis: Option<i64>,
    pub slot_name: Option<String>,
    pub sender_host: Option<String>,
    pub sender_port: Option<u16>,
    pub conninfo: String,
}

/// A row of `pg_stat_replication`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalSenderRow {
    pub pid: i32,
    /// Microseconds since 1970: with the pid, the identity of the connection.
    pub backend_start_unix_micros: i64,
    pub usename: String,
    pub application_name: String,
    pub client_addr: Option<String>,
    pub state: String,
    pub sync_state: String,
    pub sync_priority: i32,
    pub sent: Option<Lsn>,
    pub write: Option<Lsn>,
    pub flush: Option<Lsn>,
    pub replay: Option<Lsn>,
}

/// A row of `pg_replication_slots`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotRow {
    pub name: String,
    /// `None` for a physical slot.
    pub plugin: Option<String>,
    pub database: Option<String>,
    pub active: bool,
    pub temporary: bool,
    pub restart_lsn: Option<Lsn>,
    pub confirmed_flush_lsn: Option<Lsn>,
    pub has_xmin: bool,
    pub catalog_xmin: Option<u64>,
    /// `reserved`, `extended`, `unreserved`, `lost`.
    pub wal_status: Option<String>,
    /// PostgreSQL 17+.
    pub failover: bool,
    pub synced: bool,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MonitorError {
    /// The server does not accept connections now.
    #[error("could not connect to the local server")]
    Connect(#[source] tokio_postgres::Error),
    /// No answer in time: a hanging server.
    #[error("the local server did not answer within {limit_ms} ms")]
    Timeout { limit_ms: u64 },
    #[error("a query of the local server failed")]
    Query(#[source] tokio_postgres::Error),
}

/// The persistent superuser connection. One user at a time; reconnects by itself.
#[derive(Debug)]
pub struct Monitor {
    settings: Arc<PgSettings>,
}

impl Monitor {
    /// No connection is made yet.
    pub fn new(settings: Arc<PgSettings>) -> Self {
        Self { settings }
    }

    pub fn set_settings(&mut self, settings: Arc<PgSettings>) {
        self.settings = settings;
    }

    /// Closes the connection; the next call makes a new one.
    pub fn disconnect(&mut self) {}

    /// Observes the server that `postmaster` is. A connection made to another postmaster is dropped first.
    /// Ends within about 3 s (connect) + 2 s (statement).
    pub async fn observe(&mut self, _postmaster: &PostmasterId) -> Result<Observation, MonitorError> {
        Err(MonitorError::Timeout { limit_ms: 0 })
    }

    /// Writes a WAL record without waiting for anybody: gives replicas something to acknowledge.
    pub async fn generate_wal(&mut self) -> Result<(), MonitorError> {
        Err(MonitorError::Timeout { limit_ms: 0 })
    }

    /// The value that a new session would see.
    pub async fn show(&mut self, _parameter: &str) -> Result<String, MonitorError> {
        Err(MonitorError::Timeout { limit_ms: 0 })
    }

    pub async fn create_physical_slot(&mut self, _name: &str) -> Result<(), MonitorError> {
        Err(MonitorError::Timeout { limit_ms: 0 })
    }

    /// `Ok(false)`: it is active or gone, nothing was dropped.
    pub async fn drop_slot(&mut self, _name: &str) -> Result<bool, MonitorError> {
        Err(MonitorError::Timeout { limit_ms: 0 })
    }

    pub async fn advance_slot(&mut self, _name: &str, _to: Lsn) -> Result<(), MonitorError> {
        Err(MonitorError::Timeout { limit_ms: 0 })
    }

    /// Resumes a replay that a parameter change or somebody paused.
    pub async fn resume_replay(&mut self) -> Result<(), MonitorError> {
        Err(MonitorError::Timeout { limit_ms: 0 })
    }
}

/// CHECKPOINT on the local server over a connection of its own, without statement timeout. Dropping the future cancels the wait,
/// not the checkpoint.
pub async fn checkpoint(_settings: &PgSettings) -> Result<(), MonitorError> {
    Err(MonitorError::Timeout { limit_ms: 0 })
}
