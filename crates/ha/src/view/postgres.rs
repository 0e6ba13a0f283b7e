//! The local PostgreSQL: its files, its process, and where its history stands.

use std::{collections::BTreeSet, time::Duration};

use bellwether_types::{
    Lsn, MemberName, PostgresState, Role, SystemId, TimelineId, TimelineSwitch, Timestamp, settings::Settings,
};
use serde::{Deserialize, Serialize};

use super::{JobKind, LeaderSlots, Server};

/// The local PostgreSQL.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PostgresView {
    pub data: DataDirectory,
    /// The bootstrap that made, or was making, a data directory that is marked as one in the making: unique, and kept in the mark.
    #[serde(default)]
    pub founding: Option<String>,
    pub process: Process,
    /// What is published; the executor keeps it truthful.
    pub state: PostgresState,
    /// What this PostgreSQL is, or was when it was last known.
    pub role: Role,
    pub system_id: Option<SystemId>,
    /// For example 150018; 0 = unknown.
    pub server_version: u32,
    /// The control file; read at least whenever PostgreSQL is not running.
    pub control: Option<Control>,
    /// The last answer to the monitoring query; `None` while not running or before the first answer.
    pub server: Option<Server>,
    /// PostgreSQL is there and does not let the agent log in, in its words: nothing can be found out or done by SQL.
    #[serde(default)]
    pub refuses_login: Option<String>,
    /// The upstream that the configuration files name now.
    pub upstream: Option<Upstream>,
    pub pending_restart: bool,
    /// Where this member's history parts from the leader's: the result of the last check.
    pub divergence: Option<Divergence>,
    /// Does `synchronous_standby_names` in the files differ from empty? Known also while stopped.
    pub sync_names_in_files: Option<String>,
    /// The history file of the timeline that is being written; `None` on timeline 1 or if it could not be read.
    pub local_history: Option<LocalHistory>,
    /// The checkpointer of the running postmaster acts by the configuration files as they were then, or later. It alone decides whether
    /// commits wait for standbys at all; see [`crate::sync::ready`].
    #[serde(default)]
    pub checkpointer_read_at: Option<Timestamp>,
    /// It archives its WAL: `archive_mode` is on and there is an `archive_command`.
    #[serde(default)]
    pub archives_wal: bool,
    /// When the running postmaster was started, as PostgreSQL writes it; for scheduled restarts.
    pub postmaster_started_at: Option<String>,
    /// The configuration files have `hot_standby_feedback` on, whatever the user wants.
    #[serde(default)]
    pub feedback_forced: bool,
    /// The last answer of the primary about logical slots; see [`crate::Action::AskLeaderSlots`].
    #[serde(default)]
    pub leader_slots: Option<LeaderSlots>,
    /// Logical slots here that could not be advanced because what they need is gone, since they were made.
    #[serde(default)]
    pub unusable_slots: BTreeSet<String>,
}

/// A timeline history file of this member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalHistory {
    /// Whose history it is.
    pub timeline: TimelineId,
    pub switches: Vec<TimelineSwitch>,
    /// When the file was written (the promotion), ISO 8601 with the local zone.
    pub written_at: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum DataDirectory {
    Missing,
    Empty,
    /// I/O error or permission: an event, not an exception.
    Unreadable(String),
    /// Files, but no control file that can be read.
    Invalid(String),
    /// A job of ours began to change these files and never ended: a durable mark beside the directory says so. PostgreSQL might even
    /// start on them, with blocks of two histories; it must not.
    Interrupted {
        by: JobKind,
    },
    Present,
}

/// The postmaster, identified by pid and start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Process {
    NotRunning,
    /// Does not accept connections yet.
    Starting {
        since: Timestamp,
    },
    Running {
        since: Timestamp,
    },
    /// Was told to stop.
    Stopping {
        since: Timestamp,
    },
}

impl Process {
    pub fn exists(self) -> bool {
        self != Self::NotRunning
    }
}

/// "Database cluster state" of pg_controldata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlState {
    StartingUp,
    ShutDown,
    ShutDownInRecovery,
    ShuttingDown,
    InCrashRecovery,
    InArchiveRecovery,
    InProduction,
    Unknown,
}

/// What decisions need from pg_controldata.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Control {
    pub state: ControlState,
    pub timeline: TimelineId,
    pub checkpoint: Lsn,
    pub minimum_recovery_end: Option<Lsn>,
    pub minimum_recovery_timeline: Option<TimelineId>,
    /// `wal_log_hints` or data checksums: pg_rewind can work.
    pub rewindable: bool,
    /// `standby.signal` or `recovery.signal` is there.
    pub has_recovery_signal: bool,
    pub has_backup_label: bool,
}

/// How long an answer of PostgreSQL counts: an older one is no evidence of where it is, neither for its own agent nor for others.
pub fn answers_count_for(settings: &Settings) -> Duration {
    settings.loop_wait.max(Duration::from_secs(2))
}

/// Whom to stream from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    pub member: MemberName,
    /// `postgres://host:port/database`; of a remote member perhaps several `host:port`, or nothing at all.
    pub conn_url: String,
    /// The slot on the upstream that this member uses.
    pub slot: Option<String>,
    /// It belongs to another cluster, which this one follows.
    #[serde(default)]
    pub is_remote: bool,
    #[serde(default)]
    pub archive: ArchiveRecovery,
}

/// What a standby cluster does with the archive of the cluster that it follows, instead of what the files say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveRecovery {
    pub restore_command: Option<String>,
    pub archive_cleanup_command: Option<String>,
    /// `recovery_min_apply_delay`.
    pub min_apply_delay: Option<String>,
}

/// What a comparison of histories with the leader found. Evidence only: [`crate::Decision`] draws the conclusion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Divergence {
    pub checked_at: Timestamp,
    pub leader: MemberName,
    /// The leader was really out of recovery when it was asked.
    pub leader_is_primary: bool,
    pub leader_timeline: TimelineId,
    /// The leader's TIMELINE_HISTORY; empty on timeline 1.
    pub leader_history: Vec<TimelineSwitch>,
    pub local_timeline: TimelineId,
    /// The switches that led to `local_timeline`; empty on timeline 1, or if the file could not be read.
    #[serde(default)]
    pub local_history: Vec<TimelineSwitch>,
    pub local_lsn: Lsn,
    /// The local data directory was last written as a primary.
    pub local_was_primary: bool,
    /// End of the shutdown checkpoint record, if the server was a primary and shut down cleanly.
    pub shutdown_checkpoint_end: Option<Lsn>,
}
