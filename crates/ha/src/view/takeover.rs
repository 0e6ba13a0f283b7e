//! What quorum take-over rests on at this member.

use bellwether_types::{MemberName, Timestamp, takeover::Promise};
use serde::{Deserialize, Serialize};

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
