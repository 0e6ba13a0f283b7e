//! Everything that is known at one instant. Plain data, no handles; a view can be written to a file and decided on again.
//!
//! Observations are evidence: each says how old it is, and "unknown" is a value of its own, never `false`.

pub mod health;
mod job;
mod peers;
mod postgres;
mod server;
mod takeover;

use std::{sync::Arc, time::Duration};

use bellwether_types::{
    MemberName, Revision, Tags, Term, Timestamp, WallTime, cluster::Cluster, settings::Settings,
};
use serde::{Deserialize, Serialize};

pub use self::{
    job::{FinishedJob, Job, JobKind, JobOutcome, JobPhase, Request, RequestKind, RestartConditions},
    peers::{AsOf, FailsafeAcceptance, FailsafeRound, FailsafeView, PeerAnswer, PeerReport, Peers},
    postgres::{
        ArchiveRecovery, Control, ControlState, DataDirectory, Divergence, LocalHistory, PostgresView,
        Process, Upstream, answers_count_for,
    },
    server::{LeaderSlot, LeaderSlots, Server, Slot, Standby},
    takeover::{Hearing, Kept, TakeoverView},
};
use crate::Memory;
use health::Health;

/// What one member knows when it decides.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct View {
    pub now: Timestamp,
    /// For schedules and history entries only.
    pub wall: WallTime,
    pub me: Me,
    /// The dynamic configuration in force (the last valid one, whatever the store holds now).
    pub settings: Settings,
    pub store: StoreView,
    pub lease: LeaseView,
    pub postgres: PostgresView,
    pub peers: Peers,
    pub failsafe: FailsafeView,
    #[serde(default)]
    pub takeover: TakeoverView,
    pub fencing: Fencing,
    #[serde(default)]
    pub health: Health,
    /// The long action that runs now; never two.
    pub job: Option<Job>,
    /// How the last long action ended. Stays until the next one ends.
    pub last_job: Option<FinishedJob>,
    /// What operators asked of this member through its API, oldest first; each is answered by [`crate::Action::Answer`].
    pub requests: Vec<Request>,
    /// The agent was told to stop.
    pub stopping: bool,
    pub memory: Memory,
}

/// The local, rarely changing facts about this member.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Me {
    pub name: MemberName,
    pub tags: Tags,
    pub api_url: String,
    pub conn_url: String,
    /// The file has a `bootstrap` section: this member may found a cluster.
    pub may_bootstrap: bool,
    /// Some clone method works without a running source (`no_leader`).
    pub clones_without_leader: bool,
    pub has_pre_promote: bool,
    /// Bootstraps that failed here, the last within a day; earlier agents' too.
    #[serde(default)]
    pub failed_bootstraps: Option<FailedBootstraps>,
}

/// Each ended an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedBootstraps {
    pub times: u32,
    pub last_at: Timestamp,
}

/// What the store said, and how old that is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoreView {
    /// The last view that was read; kept when the store falls silent.
    pub cluster: Option<Arc<Cluster>>,
    /// Every change before this instant is in `cluster`.
    pub confirmed_at: Timestamp,
    /// The last attempt to read failed.
    pub unavailable_since: Option<Timestamp>,
    /// Transactions over several keys are possible.
    pub multi_key_transactions: bool,
    /// The empty `initialize` in `cluster` hangs on the lease of this very process.
    #[serde(default)]
    pub owns_claim: bool,
}

impl StoreView {
    /// The cluster view if it may still be acted on: the store answers, or its silence is younger than `patience`.
    pub fn usable(&self, now: Timestamp, patience: Duration) -> Option<&Cluster> {
        let silent_for = self.unavailable_since.map_or(Duration::ZERO, |since| now.since(since));
        let stale_for = now.since(self.confirmed_at);
        self.cluster.as_deref().filter(|_| silent_for < patience && stale_for < patience)
    }
}

/// The right to lead, as the store confirmed it to *this* process. A name read in `leader` is not ownership.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum LeaseView {
    NotHeld,
    Held {
        /// Writes may be accepted until then: sent_at + guaranteed time - margin (see [`crate::lease`]).
        until: Timestamp,
        /// Demotion must begin by then.
        demote_at: Timestamp,
        term: Term,
        revision: Revision,
        /// Since when renewals get no answer; `None` while the last one was confirmed.
        unavailable_since: Option<Timestamp>,
    },
    /// The store is healthy and said no: somebody else may be writing already.
    Rejected {
        at: Timestamp,
        /// Until when a demotion had to begin by the last confirmation: nobody can have been given the lock lawfully before that.
        #[serde(default)]
        good_until: Timestamp,
    },
}

impl LeaseView {
    pub fn is_held_at(&self, now: Timestamp) -> bool {
        matches!(self, Self::Held { until, .. } if now < *until)
    }
}

/// What keeps this member from writing when the agent cannot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fencing {
    pub guardian: Guardian,
    pub watchdog: Watchdog,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Guardian {
    /// Switched off, or rehearsing: it stops nobody, and nothing waits for it.
    Off,
    /// Lives, holds no deadline.
    Ready,
    /// Holds a deadline and has acknowledged it.
    Armed { until: Timestamp },
    /// Should live and does not.
    Dead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Watchdog {
    Off,
    /// `mode: automatic`, and the device may or may not work.
    Optional {
        active: bool,
    },
    Required {
        usable: bool,
        active: bool,
    },
}
