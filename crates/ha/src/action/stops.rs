//! How servers are started, stopped and copied.

use bellwether_types::Timestamp;
use serde::{Deserialize, Serialize};

use super::Fence;
use crate::view::Upstream;

/// How a copy of a running member is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CopyBy {
    /// By the configured methods, in their order.
    Methods,
    /// By a base backup, whatever is configured: the operator wants what this very member has.
    Basebackup,
}

/// What to do with a data directory that was set aside earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Earlier {
    /// It makes room: nobody was ever told of what is in it.
    Remove,
    /// It stays, and nothing is renamed.
    Keep,
}

/// Why and how a primary is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DemoteMode {
    /// A planned change: checkpoint, fast stop, hand the lock over once a peer has the shutdown checkpoint.
    Graceful,
    /// Unfit while holding the lock: immediate stop, release the lock.
    Immediate,
    /// The lock is lost or never was ours: immediate stop, touch no key.
    ImmediateNoLock,
    /// The store is silent: fast stop with escalation before the lease ends.
    Offline { stop_by: Timestamp },
    /// The cluster became a standby cluster: fast stop, and no longer any need for others to wait.
    DemoteCluster,
}

impl DemoteMode {
    /// The word in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Graceful => "graceful",
            Self::Immediate => "immediate",
            Self::ImmediateNoLock => "immediate-nolock",
            Self::Offline { .. } => "offline",
            Self::DemoteCluster => "demote-cluster",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopMode {
    Fast,
    Immediate,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartRole {
    /// As the primary that it was a moment ago, on the same timeline.
    Primary { fence: Fence },
    /// As a standby; without an upstream it only replays what it has.
    Standby { upstream: Option<Upstream> },
    /// The same with the settings of a standby leader.
    StandbyLeader { upstream: Option<Upstream> },
}
