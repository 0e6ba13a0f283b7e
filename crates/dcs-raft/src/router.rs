//! Finds the store leader and asks it, and keeps apart what surely had no effect from what may have had one.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bellwether_dcs::{Deadline, StoreError};
use tokio::time::sleep;

use crate::{
    clock::{budget, is_over},
    net::{
        Net,
        connection::ConnectError,
        link::{CallError, Link},
        message::{Answer, Ask, Refusal, Request, Response},
    },
    node::Node,
};

/// The pause before the next attempt, when nobody leads or nobody answers.
const PAUSE: Duration = Duration::from_millis(20);
/// One attempt of a question that can be repeated: a leader that does not answer is perhaps none any more.
const ATTEMPT: Duration = Duration::from_millis(800);
/// The other side stops so much earlier, so that its "not in time" arrives in time.
const ROUND_TRIP: Duration = Duration::from_millis(20);

/// How long the answer of a leader that was deposed may take.
const LATE_ANSWER: Duration = Duration::from_millis(50);

/// A question that was not answered.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// It had no effect and never will.
    WithoutEffect(StoreError),
    Unknown(StoreError),
}

impl From<Unanswered> for StoreError {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::WithoutEffect(error) | Unanswered::Unknown(error) => error,
        }
    }
}

/// Links to the store by address.
#[derive(Debug)]
pub(crate) struct Router {
    net: Arc<Net>,
    /// Where to begin, if the local node does not know the leader.
    addresses: Vec<String>,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    links: BTreeMap<String, Link>,
    leader: Option<String>,
    /// Which of the addresses is tried next.
    turn: usize,
}

/// How one attempt ended.
enum Attempt {
    Answered(Answer),
    /// Without effect: try again.
    Again(StoreError),
    Unknown(StoreError),
}

impl From<Attempt> for Result<Answer, Unanswered> {
    fn from(attempt: Attempt) -> Self {
        match attempt {
            Attempt::Answered(answer) => Ok(answer),
            Attempt::Again(error) => Err(Unanswered::WithoutEffect(error)),
            Attempt::Unknown(error) => Err(Unanswered::Unknown(error)),
        }
    }
}

impl Router {
    pub(crate) fn new(net: Arc<Net>, addresses: Vec<String>) -> Self {
        Self { net, addresses, memory: Mutex::default() }
    }

    pub(crate) fn net(&self) -> &Arc<Net> {
        &self.net
    }

    /// Asks until somebody who may decide has answered, or the deadline. With a local node, that is asked first.
    pub(crate) async fn ask(
        &self,
        local: Option<&Node>,
        ask: Ask,
        by: Deadline,
    ) -> Result<Answer, Unanswered> {
        let mut last = StoreError::TimedOut;
        while !is_over(by) {
            let attempt = match local {
                Some(node) => self.through(node, &ask, by).await,
                None => match self.next_address() {
                    Some(address) => self.at(None, &address, &ask, by).await,
                    None => Attempt::Again(StoreError::Unreachable("no address is known".to_owned())),
                },
            };
            match attempt {
                Attempt::Answered(answer) => return Ok(answer),
                Attempt::Unknown(error) => return Err(Unanswered::Unknown(error)),
                // "In time" is about this attempt; what earlier ones met says more.
                Attempt::Again(StoreError::TimedOut) => {}
                Attempt::Again(error) => last = error,
            }
            match local {
                Some(node) => node.leader_changes(PAUSE).await,
                None => sleep(PAUSE).await,
            }
        }
        Err(Unanswered::WithoutEffect(last))
    }

    /// The local node, or the leader that it knows.
    async fn through(&self, node: &Node, ask: &Ask, by: Deadline) -> Attempt {
        match node.answer(ask.clone(), by).await {
            Answer::NotLeader { leader: Some(leader) } => self.at(Some(node), &leader, ask, by).await,
            answer => judge(answer),
        }
    }

    /// One question to one address, or to the leader that it names.
    pub(crate) async fn once(
        &self,
        local: Option<&Node>,
        address: &str,
        ask: &Ask,
        by: Deadline,
    ) -> Result<Answer, Unanswered> {
        let mut attempt = self.at(local, address, ask, by).await;
        let leader = self.lock().leader.clone();
        if let (Attempt::Again(_), Some(leader)) = (&attempt, leader)
            && leader != address
        {
            attempt = self.at(local, &leader, ask, by).await;
        }
        attempt.into()
    }

    /// One question to the node at this address and to no other.
    pub(crate) async fn exactly(&self, address: &str, ask: &Ask, by: Deadline) -> Result<Answer, Unanswered> {
        self.attempt(None, address, ask, by).await.into()
    }

    /// A question that must not be asked twice is asked only of a leader that has just proved to be one: of a dead
    /// one nobody would ever learn what became of it.
    async fn at(&self, local: Option<&Node>, address: &str, ask: &Ask, by: Deadline) -> Attempt {
        if !ask.is_repeatable() {
            match self.attempt(local, address, &Ask::ReadIndex, by).await {
                Attempt::Answered(Answer::ReadIndex { .. }) => {}
                Attempt::Answered(other) => {
                    return Attempt::Again(StoreError::Protocol(format!("{address}: {other:?}")));
                }
                Attempt::Again(error) | Attempt::Unknown(error) => return Attempt::Again(error),
            }
        }
        self.attempt(local, address, ask, by).await
    }

    async fn attempt(&self, local: Option<&Node>, address: &str, ask: &Ask, by: Deadline) -> Attempt {
        let repeatable = ask.is_repeatable();
        let limit = if repeatable { budget(by).min(ATTEMPT) } else { budget(by) };
        let there = limit.saturating_sub(ROUND_TRIP).max(limit / 2);
        let budget_ms = u64::try_from(there.as_millis()).unwrap_or(u64::MAX).max(1);
        let request = Request::Ask { budget_ms, ask: ask.clone() };
        let link = self.link(address);
        let response = tokio::select! {
            response = link.call(request, limit) => response,
            () = deposed(local, address) => Err(CallError::Unanswered("another node leads now".to_owned())),
        };
        match response {
            Ok(Response::Answer(answer)) => {
                let leader = match &answer {
                    Answer::NotLeader { leader } => leader.clone(),
                    Answer::Unavailable(_) => None,
                    _ => Some(address.to_owned()),
                };
                self.lock().leader = leader;
                judge(answer)
            }
            Ok(other) => Attempt::Unknown(StoreError::Protocol(format!("{other:?}"))),
            Err(error) => {
                self.forget_leader(address);
                let known = unavailable(address, &error);
                match error {
                    CallError::Unanswered(_) if !repeatable => Attempt::Unknown(known),
                    _ => Attempt::Again(known),
                }
            }
        }
    }

    /// Asks whoever answers at `address`, by a link of its own kind.
    pub(crate) async fn request(
        &self,
        address: &str,
        request: Request,
        limit: Duration,
    ) -> Result<Response, CallError> {
        self.link(address).call(request, limit).await
    }

    fn link(&self, address: &str) -> Link {
        let mut memory = self.lock();
        let fresh = || Link::new(self.net.clone(), address.to_owned(), None);
        memory.links.entry(address.to_owned()).or_insert_with(fresh).clone()
    }

    fn next_address(&self) -> Option<String> {
        let mut memory = self.lock();
        if let Some(leader) = &memory.leader {
            return Some(leader.clone());
        }
        memory.turn += 1;
        let turn = memory.turn;
        (!self.addresses.is_empty()).then(|| self.addresses[turn % self.addresses.len()].clone())
    }

    fn forget_leader(&self, address: &str) {
        let mut memory = self.lock();
        if memory.leader.as_deref() == Some(address) {
            memory.leader = None;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().expect("no code panics while it holds the links")
    }
}

/// Ends a moment after the local node sees that the node at `address` leads no more: its answer may be under way.
async fn deposed(local: Option<&Node>, address: &str) {
    match local {
        Some(node) => node.leads_no_more(address).await,
        None => std::future::pending().await,
    }
    sleep(LATE_ANSWER).await;
}

fn judge(answer: Answer) -> Attempt {
    match answer {
        Answer::NotLeader { .. } => Attempt::Again(StoreError::NoQuorum("nobody leads the store".to_owned())),
        Answer::Unavailable(why) => Attempt::Again(StoreError::NoQuorum(why)),
        Answer::Unknown(why) => Attempt::Unknown(StoreError::NoQuorum(why)),
        answer => Attempt::Answered(answer),
    }
}

fn unavailable(address: &str, error: &CallError) -> StoreError {
    match error {
        CallError::NotSent(ConnectError::Unauthorized(why)) => {
            StoreError::Unauthorized(format!("{address}: {why}"))
        }
        CallError::NotSent(ConnectError::Refused(refusal @ Refusal::OtherCluster(_))) => {
            StoreError::Unauthorized(format!("{address}: {refusal}"))
        }
        CallError::NotSentInTime => StoreError::TimedOut,
        error => StoreError::Unreachable(format!("{address}: {error}")),
    }
}

impl Ask {
    /// Whether asking twice does no more than asking once.
    fn is_repeatable(&self) -> bool {
        match self {
            Self::ReadIndex
            | Self::Read
            | Self::KeepAlive { .. }
            | Self::Revoke { .. }
            | Self::Watch { .. }
            | Self::Status => true,
            Self::Commit { .. }
            | Self::Grant { .. }
            | Self::Join { .. }
            | Self::AddMember { .. }
            | Self::RemoveMember { .. }
            | Self::TransferLeadership { .. } => false,
        }
    }
}
