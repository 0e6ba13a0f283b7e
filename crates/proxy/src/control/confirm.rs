//! When the store has been silent for a while, the leader itself is asked whether it still holds its lease: in failsafe mode it does,
//! and clients should not be turned away for that.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use bellwether_types::{Duty, MemberName, Timestamp, topology::Topology};
use tokio::task::JoinSet;

use crate::clock;

/// For an answer. What was true when it was asked for is what counts.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// How long before new sessions would end the leader is asked.
const AHEAD: Duration = Duration::from_millis(750);

/// What is asked of other members, by their REST APIs.
pub trait Peers: Send + Sync + fmt::Debug {
    /// True only if the member at `api_url` says that it holds the lease.
    fn holds_lease(&self, api_url: String) -> Pin<Box<dyn Future<Output = bool> + Send>>;

    /// Has the agent at `api_url` write down whether a member takes readers.
    fn set_duty(
        &self,
        _api_url: String,
        _member: MemberName,
        _duty: Duty,
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> {
        Box::pin(async { Err("nobody is there to ask".to_owned()) })
    }

    /// Hands a request to cancel to the proxy beside the member at `api_url`, whose client's key it is. Whether it was taken.
    fn cancel(
        &self,
        _api_url: String,
        _process: u32,
        _secret: Vec<u8>,
    ) -> Pin<Box<dyn Future<Output = bool> + Send>> {
        Box::pin(async { false })
    }
}

/// What the leader has said itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Confirmed {
    leader: MemberName,
    /// Before it was asked.
    at: Timestamp,
}

#[derive(Debug)]
pub(super) struct Confirmation {
    peers: Arc<dyn Peers>,
    asking: JoinSet<Option<Confirmed>>,
    last: Option<Confirmed>,
}

impl Confirmation {
    pub(super) fn new(peers: Arc<dyn Peers>) -> Self {
        Self { peers, asking: JoinSet::new(), last: None }
    }

    /// The picture, with what the leader has said itself since.
    pub(super) fn applied_to(&self, topology: &Topology) -> Topology {
        let mut topology = topology.clone();
        if let Some(last) = self.last.as_ref().filter(|last| Some(&last.leader) == topology.leader.as_ref()) {
            let lease = topology.believable_until.since(topology.confirmed_at);
            if last.at > topology.confirmed_at {
                topology.confirmed_at = last.at;
                topology.believable_until = last.at + lease;
            }
        }
        topology
    }

    /// Asks the leader if new sessions would soon end; one question at a time.
    pub(super) fn look(&mut self, topology: &Topology, open_until: Timestamp) {
        let now = clock::now();
        if !self.asking.is_empty() || topology.paused || now + AHEAD < open_until {
            return;
        }
        let leader = topology.members.iter().find(|member| Some(&member.name) == topology.leader.as_ref());
        let Some((name, url)) =
            leader.and_then(|member| Some((member.name.clone(), member.api_url.clone()?)))
        else {
            return;
        };
        let question = self.peers.holds_lease(url);
        self.asking.spawn(async move {
            let holds = tokio::time::timeout(ANSWER_WITHIN, question).await.unwrap_or(false);
            holds.then_some(Confirmed { leader: name, at: now })
        });
    }

    /// Waits for an answer that changes something. Safe to drop.
    pub(super) async fn heard(&mut self) {
        loop {
            match self.asking.join_next().await {
                Some(Ok(Some(confirmed))) => {
                    self.last = Some(confirmed);
                    return;
                }
                Some(_) => {}
                None => return std::future::pending().await,
            }
        }
    }
}
