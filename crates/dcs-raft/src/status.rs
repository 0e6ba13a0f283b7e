//! What a node tells about the store, for people and metrics.

use serde::{Deserialize, Serialize};

/// One node of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberInfo {
    pub id: u64,
    pub addr: String,
    pub role: MemberRole,
    /// A vote without PostgreSQL.
    pub witness: bool,
    pub leader: bool,
    /// Milliseconds since the store leader last heard this node; only the leader knows.
    pub silent_ms: Option<u64>,
    /// Log entries it has less than the leader; only the leader knows.
    pub lag_entries: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberRole {
    Voter,
    /// Receives the log but has no vote yet.
    Learner,
}

/// The store as one node sees it at this moment. Not linearizable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreStatus {
    pub cluster: String,
    pub node: u64,
    pub addr: String,
    /// The id of the store, once this node belongs to one.
    pub store: Option<u64>,
    /// `leader`, `follower`, `candidate`, `learner`, `waiting` (belongs to no store yet) or `stopped`.
    pub state: String,
    /// Why it is `stopped` or `waiting`.
    pub detail: Option<String>,
    pub term: u64,
    /// The address of the store leader, if one is known.
    pub leader: Option<String>,
    pub last_log: Option<u64>,
    pub applied: Option<u64>,
    pub revision: u64,
    pub leases: usize,
    /// The newest protocol that it speaks with other nodes; 0 if it did not tell.
    #[serde(default)]
    pub protocol: u8,
    /// The newest format of its files; 0 if it did not tell.
    #[serde(default)]
    pub format: u8,
    pub members: Vec<MemberInfo>,
}
