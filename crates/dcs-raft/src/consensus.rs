//! The types that tie the Raft library to this store.

use std::fmt;

use openraft::vote::RaftLeaderId;
use serde::{Deserialize, Serialize};

use crate::{
    command::{Command, Outcome},
    storage::machine::Machine,
};

openraft::declare_raft_types!(
    pub(crate) TypeConfig:
        D = Command,
        R = Outcome,
        NodeId = u64,
        Node = Peer,
);

pub(crate) type NodeId = u64;
pub(crate) type Raft = openraft::Raft<TypeConfig, Machine>;
pub(crate) type LogId = openraft::alias::LogIdOf<TypeConfig>;
pub(crate) type LogEntry = openraft::alias::EntryOf<TypeConfig>;
pub(crate) type Vote = openraft::alias::VoteOf<TypeConfig>;
pub(crate) type Membership = openraft::Membership<NodeId, Peer>;
pub(crate) type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
pub(crate) type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;
pub(crate) type Snapshot = openraft::alias::SnapshotOf<TypeConfig, Vec<u8>>;
pub(crate) type Metrics = openraft::RaftMetrics<TypeConfig>;

/// A node as the membership entries of the log describe it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Peer {
    pub(crate) addr: String,
    #[serde(default)]
    pub(crate) witness: bool,
}

/// One leadership of the store. Unlike a bare term it names exactly one leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct LeaderTag {
    pub(crate) term: u64,
    pub(crate) node: NodeId,
}

impl fmt::Display for LeaderTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "term {} node {:x}", self.term, self.node)
    }
}

impl LeaderTag {
    pub(crate) fn of(leader: &openraft::alias::CommittedLeaderIdOf<TypeConfig>) -> Self {
        Self { term: leader.term(), node: *leader.node_id() }
    }

    pub(crate) fn to_leader_id(self) -> openraft::alias::CommittedLeaderIdOf<TypeConfig> {
        openraft::impls::leader_id_adv::LeaderId::new(self.term, self.node)
    }
}

/// Copies the metrics out. Never hold their borrow across an await: it blocks the Raft core.
pub(crate) fn metrics(raft: &Raft) -> Metrics {
    use openraft::async_runtime::watch::WatchReceiver;
    raft.metrics().borrow_watched().clone()
}
