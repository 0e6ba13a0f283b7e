//! Long actions beside the loop, and what operators asked for.

use std::time::Duration;

use bellwether_types::{Lsn, Role, Timestamp, WallTime};
use serde::{Deserialize, Serialize};

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
    /// Stop: every process was killed and runs no code any more, but not all have left the kernel, where a disk that hangs may keep
    /// them for ever. Nothing is acknowledged any more.
    Harmless,
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
    /// Removing the data directory.
    Wipe,
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
