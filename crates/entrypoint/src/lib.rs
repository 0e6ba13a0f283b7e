//! Entry points: make a cluster reachable by address and by name.
//!
//! [`vip`] holds virtual addresses while the lease lasts that they rest on; [`dns`] keeps a name that leads to the leader. Both are
//! tasks of their own beside the agent's loop: they read what the agent publishes ([`situation`]), decide by plain functions
//! ([`vip::plan`], [`dns::plan`]), and act with deadlines. Nothing that they do delays a decision of the agent, and a missed
//! event costs a tick: wanted and actual state are compared again and again.
//!
//! Deliberately not here: who leads. An entry point for writes hangs on the lease that the agent publishes; when in doubt it leads
//! nowhere.
//!
//! What each of them wants, has and fails at is on the [`board`], for the REST API, metrics and `bellwether entrypoints`.

pub mod board;
mod confirm;
pub mod dns;
pub mod provider;
pub mod situation;
pub mod vip;

use std::{fmt, sync::Arc};

use bellwether_api_client::ApiClient;
use bellwether_types::{Timestamp, status::NodeStatus, topology::Topology};
use serde_json::Value;
use tokio::sync::watch;

/// Takes records of what happened, for the member's journal.
#[derive(Clone)]
pub struct Tell(pub Arc<Hear>);

/// The kind of a record, and what it says.
type Hear = dyn Fn(&str, Value) + Send + Sync;

impl fmt::Debug for Tell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tell").finish_non_exhaustive()
    }
}

/// What the agent publishes, and its clock.
#[derive(Clone, Debug)]
pub struct Agent {
    pub status: watch::Receiver<Arc<NodeStatus>>,
    pub topology: watch::Receiver<Arc<Topology>>,
    /// CLOCK_BOOTTIME.
    pub now: fn() -> Timestamp,
    /// For questions to other members.
    pub client: ApiClient,
    pub tell: Tell,
}

impl Agent {
    /// The situation as it is published, judged by the clock of now.
    pub(crate) fn situation(&self) -> situation::Situation {
        situation::Situation::of(&self.status.borrow(), &self.topology.borrow(), (self.now)())
    }

    pub(crate) fn tell(&self, kind: &str, record: Value) {
        (self.tell.0)(kind, record);
    }
}
