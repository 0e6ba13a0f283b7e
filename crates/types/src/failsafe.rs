//! The failsafe protocol between members: a leader without a store asks every other member to let it go on.

use std::{collections::BTreeMap, time::Duration};

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
    /// For how long, counted from before this was sent, the sender wants to rely on an acceptance, in milliseconds. Patroni neither
    /// sends nor reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rely_on_ms: Option<u64>,
}

impl FailsafeRequest {
    /// [`FailsafeRequest::rely_on_ms`] as a length of time.
    pub fn rely_on(&self) -> Option<Duration> {
        self.rely_on_ms.map(Duration::from_millis)
    }
}

/// What a member answers to [`FailsafeRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FailsafeAnswer {
    /// This member will not race for the leader lock. Durable before it is said.
    Accepted {
        /// Where this member's WAL ends, if known.
        lsn: Option<Lsn>,
        /// For how long, from now.
        promised: Duration,
    },
    /// `failsafe_mode` is off.
    Off,
    /// This member runs as a primary itself: the sender must not go on.
    RunningAsLeader,
    /// This member promised to receive nothing from the sender any more: a quorum take-over is under way.
    PromisedOtherwise,
}
