//! The failsafe protocol between members: a leader without a store asks every other member to let it go on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Lsn, MemberName};

/// Body of `POST /failsafe`, sent by the leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailsafeRequest {
    /// The leader that sends it.
    pub name: MemberName,
    pub conn_url: String,
    pub api_url: String,
    /// Position per replication slot on the leader; absent if they could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<BTreeMap<String, Lsn>>,
}

/// What a member answers to [`FailsafeRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FailsafeAnswer {
    /// This member will not race for the leader lock for `ttl`. Durable before it is said.
    Accepted {
        /// Where this member's WAL ends, if known.
        lsn: Option<Lsn>,
    },
    /// `failsafe_mode` is off.
    Off,
    /// This member runs as a primary itself: the sender must not go on.
    RunningAsLeader,
}
