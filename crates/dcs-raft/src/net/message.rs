//! What nodes and clients say to each other.

use std::collections::BTreeMap;

use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};

use crate::{
    command::{Blob, CheckRecord, Outcome, WriteRecord},
    consensus::{NodeId, Peer, TypeConfig, Vote},
    state::{Change, Stored},
    status::StoreStatus,
};

/// The newest protocol of this program. It also speaks the one before (there is none yet).
pub(crate) const PROTOCOL: u8 = 1;
pub(crate) const OLDEST_PROTOCOL: u8 = 1;

/// The first frame of a connection, from the side that opened it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// The newest protocol that the visitor speaks. Both sides use the newest that both know.
    pub(crate) protocol: u8,
    pub(crate) oldest_protocol: u8,
    pub(crate) cluster: String,
    pub(crate) store: Option<u64>,
    pub(crate) from: Option<NodeId>,
    /// The node that is meant; `None` for whoever answers there.
    pub(crate) to: Option<NodeId>,
}

impl Hello {
    /// Whether there is a protocol that both sides speak.
    pub(crate) fn is_understood(&self) -> bool {
        self.oldest_protocol <= PROTOCOL && self.protocol >= OLDEST_PROTOCOL
    }
}

/// The answer to it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Welcome {
    pub(crate) protocol: u8,
    pub(crate) node: NodeId,
    pub(crate) store: Option<u64>,
    #[serde(default)]
    pub(crate) refusal: Option<Refusal>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Refusal {
    #[error("it belongs to cluster `{0}`")]
    OtherCluster(String),
    #[error("it belongs to another store of the same cluster name (id {0:x})")]
    OtherStore(u64),
    #[error("another node answers there (id {0:x})")]
    OtherNode(NodeId),
    #[error("it speaks protocol {0}, which is too new or too old for us")]
    Protocol(u8),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    Append(AppendEntriesRequest<TypeConfig>),
    Vote(VoteRequest<TypeConfig>),
    PreVote(VoteRequest<TypeConfig>),
    Snapshot { vote: Vote, meta: SnapshotHeader, data: Blob },
    Transfer(TransferLeaderRequest<TypeConfig>),
    Probe,
    Ask { budget_ms: u64, ask: Ask },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SnapshotHeader {
    pub(crate) last: Option<crate::consensus::LogId>,
    pub(crate) membership: crate::consensus::StoredMembership,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Response {
    Append(AppendEntriesResponse<TypeConfig>),
    Vote(VoteResponse<TypeConfig>),
    Snapshot(SnapshotResponse<TypeConfig>),
    Transfer(TransferLeaderResponse<TypeConfig>),
    Probe(Probed),
    Answer(Answer),
    Failed(String),
}

/// What a node tells a stranger about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Probed {
    pub(crate) node: NodeId,
    pub(crate) addr: String,
    pub(crate) witness: bool,
    /// It never took part in a store.
    pub(crate) empty: bool,
    pub(crate) store: Option<u64>,
}

/// What a client, or another node on a client's behalf, wants of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    /// How far a node must have applied the log to read linearizably.
    ReadIndex,
    Read,
    Commit {
        checks: Vec<CheckRecord>,
        writes: Vec<WriteRecord>,
    },
    Grant {
        ttl_ms: u64,
    },
    KeepAlive {
        lease: u64,
        holding: Option<String>,
    },
    Revoke {
        lease: u64,
    },
    /// The changes after a revision, or after a while the proof that there were none. Any node answers.
    Watch {
        after: u64,
    },
    /// As the asked node sees it. Any node answers.
    Status,
    /// From a node with an empty directory: take me in.
    Join {
        node: NodeId,
        peer: Peer,
    },
    AddMember {
        addr: String,
    },
    RemoveMember {
        who: String,
    },
    TransferLeadership {
        to: Option<String>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// Nothing was done: ask there, or again in a moment.
    NotLeader {
        leader: Option<String>,
    },
    /// Nothing was done: there is no quorum, or not yet.
    Unavailable(String),
    /// It may have been done, or may still be.
    Unknown(String),
    /// Refused for a reason that waiting does not change.
    Refused(String),
    ReadIndex {
        next: u64,
    },
    Read {
        revision: u64,
        keys: BTreeMap<String, Stored>,
    },
    Outcome(Outcome),
    Renewed {
        ttl_ms: u64,
    },
    NotHolding,
    Gone,
    Changes {
        changes: Vec<Change>,
        revision: u64,
    },
    Lost,
    Status(Box<StoreStatus>),
    Done,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_in_version_understand_each_other() {
        for (case, oldest_protocol, protocol, understood) in [
            ("same version", PROTOCOL, PROTOCOL, true),
            ("newer, and speaks ours", PROTOCOL, PROTOCOL + 1, true),
            ("too new", PROTOCOL + 1, PROTOCOL + 2, false),
            ("too old", 0, OLDEST_PROTOCOL - 1, false),
        ] {
            let hello = Hello {
                protocol,
                oldest_protocol,
                cluster: "demo".to_owned(),
                store: None,
                from: None,
                to: None,
            };
            assert_eq!(hello.is_understood(), understood, "{case}");
        }
    }
}
