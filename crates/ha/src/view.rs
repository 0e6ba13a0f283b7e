//! Everything that is known at one instant. Plain data, no handles; a view can be written to a file and decided on again.
//!
//! Observations are evidence: each says how old it is, and "unknown" is a value of its own, never `false`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bellwether_types::{
    Lsn, MemberName, PostgresState, Revision, Role, SystemId, Tags, Term, TimelineId, TimelineSwitch,
    Timestamp, WallTime,
    cluster::Cluster,
    settings::Settings,
    takeover::{Promise, Word},
};
use serde::{Deserialize, Serialize};

use crate::Memory;

/// What one member knows when it decides.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct View {
    pub now: Timestamp,
    /// For schedules and history entries only.
    pub wall: WallTime,
    pub me: Me,
    /// The dynamic configuration in force (the last valid one, whatever the store holds now).
    pub settings: Settings,
    pub store: StoreView,
    pub lease: LeaseView,
    pub postgres: PostgresView,
    pub peers: Peers,
    pub failsafe: FailsafeView,
    #[serde(default)]
    pub takeover: TakeoverView,
    pub fencing: Fencing,
    /// The long action that runs now; never two.
    pub job: Option<Job>,
    /// How the last long action ended. Stays until the next one ends.
    pub last_job: Option<FinishedJob>,
    /// What operators asked of this member through its API, oldest first; each is answered by [`crate::Action::Answer`].
    pub requests: Vec<Request>,
    /// The agent was told to stop.
    pub stopping: bool,
    pub memory: Memory,
}

/// The local, rarely changing facts about this member.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Me {
    pub name: MemberName,
    pub tags: Tags,
    pub api_url: String,
    pub conn_url: String,
    /// The file has a `bootstrap` section: this member may found a cluster.
    pub may_bootstrap: bool,
    /// Some clone method works without a running source (`no_leader`).
    pub clones_without_leader: bool,
    pub has_pre_promote: bool,
}

/// What the store said, and how old that is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoreView {
    /// The last view that was read; kept when the store falls silent.
    pub cluster: Option<Arc<Cluster>>,
    /// Every change before this instant is in `cluster`.
    pub confirmed_at: Timestamp,
    /// The last attempt to read failed.
    pub unavailable_since: Option<Timestamp>,
    /// Transactions over several keys are possible.
    pub multi_key_transactions: bool,
    /// The empty `initialize` in `cluster` hangs on the lease of this very process.
    #[serde(default)]
    pub owns_claim: bool,
}

impl StoreView {
    /// The cluster view if it may still be acted on: the store answers, or its silence is younger than `patience`.
    pub fn usable(&self, now: Timestamp, patience: Duration) -> Option<&Cluster> {
        let silent_for = self.unavailable_since.map_or(Duration::ZERO, |since| now.since(since));
        let stale_for = now.since(self.confirmed_at);
        self.cluster.as_deref().filter(|_| silent_for < patience && stale_for < patience)
    }
}

/// The right to lead, as the store confirmed it to *this* process. A name read in `leader` is not ownership.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum LeaseView {
    NotHeld,
    Held {
        /// Writes may be accepted until then: sent_at + guaranteed time - margin (see [`crate::lease`]).
        until: Timestamp,
        /// Demotion must begin by then.
        demote_at: Timestamp,
        term: Term,
        revision: Revision,
        /// Since when renewals get no answer; `None` while the last one was confirmed.
        unavailable_since: Option<Timestamp>,
    },
    /// The store is healthy and said no: somebody else may be writing already.
    Rejected {
        at: Timestamp,
    },
}

impl LeaseView {
    pub fn is_held_at(&self, now: Timestamp) -> bool {
        matches!(self, Self::Held { until, .. } if now < *until)
    }
}

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

/// What peers answered when they were last asked directly.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Peers {
    /// When the last complete round *began*; `None` before the first.
    pub polled_at: Option<Timestamp>,
    pub answers: BTreeMap<MemberName, PeerAnswer>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum PeerAnswer {
    /// No answer. `refused`: the host is there and nobody listens (evidence); otherwise silence (none).
    Unreachable {
        refused: bool,
    },
    Answered(PeerReport),
}

/// What a member said about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerReport {
    pub role: Role,
    /// It said that its PostgreSQL runs and is no standby, or that it was none when it fell silent.
    pub is_running_primary: bool,
    /// The larger of received and replayed, or the primary's location; `None` if its PostgreSQL is down or does not answer.
    pub position: Option<Lsn>,
    pub as_of: AsOf,
    pub timeline: Option<TimelineId>,
    pub nofailover: bool,
    pub failover_priority: i64,
    pub watchdog_failed: bool,
    /// What it says about a lost primary; nothing, as members of Patroni.
    #[serde(default)]
    pub takeover: Word,
}

/// When a member looked up the position that it told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AsOf {
    /// After it had been asked.
    Asked,
    /// So long before it answered, and before it was asked: it may have more by now.
    Earlier { ago: Duration },
    /// It does not say, as members of Patroni; taken for the present one.
    Unsaid,
}

/// What quorum take-over rests on at this member; see [`crate::takeover`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TakeoverView {
    /// From whom this member's WAL receiver is to get WAL, and when something came last. `None`: nobody, or not known.
    pub hearing: Option<Hearing>,
    /// What this member promised; on disk before anybody was told, and read from there when the agent starts.
    pub promise: Option<Kept>,
}

/// The last sign of life from an upstream: WAL, or a keepalive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hearing {
    /// The member that the WAL receiver is connected to, or was last.
    pub upstream: MemberName,
    /// If nothing came from it yet: when the agent, or the WAL receiver, began to listen.
    pub heard_at: Timestamp,
}

/// A promise on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    pub promise: Promise,
    /// By this boot's clock; zero if it was made in an earlier boot.
    pub made_at: Timestamp,
}

/// The failsafe protocol, both directions.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct FailsafeView {
    /// A leader without a store told us that it lives; durable before it was answered.
    pub accepted: Option<FailsafeAcceptance>,
    /// Our own last complete round as leader.
    pub round: Option<FailsafeRound>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailsafeAcceptance {
    pub leader: MemberName,
    pub conn_url: String,
    pub api_url: String,
    /// We promised not to race until then.
    pub until: Timestamp,
    pub slots: BTreeMap<String, Lsn>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailsafeRound {
    /// Before the first request left: what the acceptances are counted from.
    pub began_at: Timestamp,
    pub asked: BTreeSet<MemberName>,
    pub accepted: BTreeSet<MemberName>,
    /// For how long, from `began_at`, every acceptance may be relied on: see [`crate::lease::failsafe_belief`].
    pub good_for: Duration,
    /// Still under way.
    pub running: bool,
    /// Where those that accepted were then: while the store is silent nothing else tells it.
    #[serde(default)]
    pub positions: BTreeMap<MemberName, Lsn>,
}

/// What keeps this member from writing when the agent cannot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fencing {
    pub guardian: Guardian,
    pub watchdog: Watchdog,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Guardian {
    /// Switched off, or rehearsing: it stops nobody, and nothing waits for it.
    Off,
    /// Lives, holds no deadline.
    Ready,
    /// Holds a deadline and has acknowledged it.
    Armed { until: Timestamp },
    /// Should live and does not.
    Dead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Watchdog {
    Off,
    /// `mode: automatic`, and the device may or may not work.
    Optional {
        active: bool,
    },
    Required {
        usable: bool,
        active: bool,
    },
}

/// A long action beside the loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    pub kind: JobKind,
    pub since: Timestamp,
    pub phase: JobPhase,
}

/// What a job is doing, as far as decisions depend on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum JobPhase {
    Working,
    /// Promotion: `pre_promote` runs and the server was not touched yet.
    PrePromote,
    /// Stop: the shutdown checkpoint is on disk; the postmaster may still be archiving.
    ShutdownCheckpoint {
        checkpoint: Lsn,
        end: Lsn,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum JobKind {
    Bootstrap,
    PostBootstrap,
    Clone,
    Start,
    Restart,
    Reinitialize,
    Promote,
    Demote,
    Stop,
    CheckDivergence,
    CrashRecovery,
    Rewind,
    Checkpoint,
    CopySlots,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FinishedJob {
    pub kind: JobKind,
    pub ended_at: Timestamp,
    pub outcome: JobOutcome,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum JobOutcome {
    Succeeded,
    /// `source_unreachable`: a clone or rewind could not reach its source, and trying again may help.
    Failed {
        why: String,
        source_unreachable: bool,
    },
    Cancelled,
}

/// What an operator asked of this member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    pub id: u64,
    pub kind: RequestKind,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum RequestKind {
    Restart {
        conditions: RestartConditions,
        timeout: Option<Duration>,
    },
    Reinitialize {
        force: bool,
        from_leader: bool,
    },
    Reload,
    /// Restart at a given time; replaces an earlier schedule.
    ScheduleRestart {
        at: WallTime,
        text: String,
        conditions: RestartConditions,
        timeout: Option<Duration>,
    },
    CancelScheduledRestart,
}

/// All that are given must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RestartConditions {
    pub role: Option<Role>,
    /// Only if the running version is lower than this.
    pub version_below: Option<u32>,
    pub pending: bool,
}
