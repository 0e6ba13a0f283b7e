//! What people, their scripts and the other members are told.

use serde::{Deserialize, Serialize};

use crate::memory::ScheduledRestart;

/// What the member key shall say beyond what was observed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MemberUpdate {
    /// Overlay `nosync: true, sync_priority: 0`.
    pub release_sync: bool,
    /// Publish `checkpoint_after_promote: false`.
    pub checkpoint_pending: bool,
    pub pause: bool,
    pub scheduled_restart: Option<ScheduledRestart>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallbackEvent {
    OnStart,
    OnStop,
    OnRestart,
    OnReload,
    OnRoleChange,
}

/// The answer to an operator's request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Begun; the job's end is told separately.
    Started,
    Refused {
        why: String,
    },
    Done,
    Failed {
        why: String,
    },
}

/// Why the process ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// Told to stop, and everything is in order.
    Stopped,
    BootstrapFailed,
    ForeignSystemId {
        mine: String,
        theirs: String,
    },
    /// No initialize key, and PostgreSQL runs as a replica.
    ReplicaWithoutCluster,
}
