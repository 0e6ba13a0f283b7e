//! Which members a listener may send its clients to.

use std::fmt;

/// What a listener's clients want to reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// The holder of the leader lock: reads and writes.
    Primary,
    /// Every replica that follows.
    Replicas,
    /// Synchronous replicas only.
    Sync,
    /// Asynchronous replicas only.
    Async,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Replicas => "replicas",
            Self::Sync => "sync",
            Self::Async => "async",
        })
    }
}
