//! Answers what nodes and clients ask of this node.

use std::{sync::Arc, time::Duration};

use bellwether_dcs::Deadline;
use openraft::{
    ReadPolicy, Snapshot,
    errors::{ClientWriteError, ForwardToLeader, LinearizableReadError, RaftError},
    storage::SnapshotMeta,
};
use tokio::time::{Instant, sleep_until, timeout};

use crate::{
    clock::now,
    command::{Command, Outcome},
    consensus::{LeaderTag, TypeConfig},
    leases::Renewed,
    net::{
        Net,
        listener::Service,
        message::{Answer, Ask, Hello, PROTOCOL, Probed, Refusal, Request, Response, Welcome},
    },
    node::Node,
    state::Past,
};

/// How long a question after changes waits before it answers that there were none.
const WATCH_WAIT: Duration = Duration::from_millis(500);
/// The longest time a request may ask for.
const LONGEST_BUDGET: Duration = Duration::from_secs(60);
/// Keys and values of one transaction together.
pub(crate) const TRANSACTION_LIMIT: usize = 1 << 20;
/// The shortest lease: below it, one store election would cost it.
pub(crate) const SHORTEST_TTL: Duration = Duration::from_secs(1);

impl Service for Node {
    fn net(&self) -> &Arc<Net> {
        &self.net
    }

    async fn welcome(&self, hello: &Hello) -> Welcome {
        let refusal = self.judge(hello).await;
        Welcome { protocol: PROTOCOL, node: self.id, store: self.net.store(), refusal }
    }

    async fn serve(&self, request: Request) -> Response {
        let failed = |error: &dyn std::fmt::Display| Response::Failed(error.to_string());
        match request {
            Request::Append(request) => match self.raft.append_entries(request).await {
                Ok(response) => Response::Append(response),
                Err(error) => failed(&error),
            },
            Request::Vote(request) => match self.raft.vote(request).await {
                Ok(response) => Response::Vote(response),
                Err(error) => failed(&error),
            },
            Request::PreVote(request) => match self.raft.pre_vote(request).await {
                Ok(response) => Response::Vote(response),
                Err(error) => failed(&error),
            },
            Request::Snapshot { vote, meta, data } => {
                let meta = SnapshotMeta { last_log_id: meta.last, last_membership: meta.membership };
                let snapshot = Snapshot { meta, snapshot: data.0 };
                match self.raft.install_full_snapshot(vote, snapshot).await {
                    Ok(response) => Response::Snapshot(response),
                    Err(error) => failed(&error),
                }
            }
            Request::Transfer(request) => match self.raft.handle_transfer_leader(request).await {
                Ok(response) => Response::Transfer(response),
                Err(error) => failed(&error),
            },
            Request::Probe => Response::Probe(self.probed()),
            Request::Ask { budget_ms, ask } => {
                let budget = Duration::from_millis(budget_ms).min(LONGEST_BUDGET);
                Response::Answer(self.answer(ask, Deadline::after(budget)).await)
            }
        }
    }
}

impl Node {
    /// Why this visitor is not for us. An empty node that is meant by its id learns its store here.
    async fn judge(&self, hello: &Hello) -> Option<Refusal> {
        if hello.cluster != self.config.cluster {
            return Some(Refusal::OtherCluster(self.config.cluster.clone()));
        }
        if hello.to.is_some_and(|to| to != self.id) {
            return Some(Refusal::OtherNode(self.id));
        }
        let (Some(theirs), ours) = (hello.store, self.net.store()) else { return None };
        if ours == Some(theirs) {
            return None;
        }
        // Without a log there is nothing to mix, so the first store that knows our id may have us.
        let may_adopt = hello.to == Some(self.id) && self.is_empty();
        match ours {
            Some(ours) if !may_adopt => Some(Refusal::OtherStore(ours)),
            None if !may_adopt => None,
            _ => match self.adopt_store(theirs).await {
                Ok(()) => None,
                Err(error) => {
                    tracing::error!(error = %error, "could not write down which store this node belongs to");
                    Some(Refusal::OtherStore(0))
                }
            },
        }
    }

    fn probed(&self) -> Probed {
        Probed {
            node: self.id,
            addr: self.config.self_addr.clone(),
            witness: self.config.witness,
            empty: self.is_empty(),
            store: self.net.store(),
        }
    }

    /// Answers one question by the deadline. Only the store leader answers most of them.
    pub(crate) async fn answer(&self, ask: Ask, by: Deadline) -> Answer {
        match ask {
            Ask::ReadIndex => match self.confirm(by).await {
                Ok((_, next)) => Answer::ReadIndex { next },
                Err(answer) => answer,
            },
            Ask::Read => match self.confirm(by).await {
                Ok(_) => self
                    .machine
                    .read(|state| Answer::Read { revision: state.revision(), keys: state.keys().clone() }),
                Err(answer) => answer,
            },
            Ask::Commit { checks, writes } => self.write(Command::Commit { checks, writes }, by).await,
            Ask::Grant { ttl_ms } => {
                let ttl = Duration::from_millis(ttl_ms).max(SHORTEST_TTL);
                let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
                self.write(Command::Grant { ttl_ms }, by).await
            }
            Ask::Revoke { lease } => self.write(Command::Revoke { lease }, by).await,
            Ask::KeepAlive { lease, holding } => self.keep_alive(lease, holding.as_deref(), by).await,
            Ask::Watch { after } => self.changes(after, by).await,
            Ask::Status => Answer::Status(Box::new(self.status())),
            Ask::Join { node, peer } => self.take_in(node, peer, by).await,
            Ask::AddMember { addr } => self.add_member(addr, by).await,
            Ask::RemoveMember { who } => self.remove_member(&who, by).await,
            Ask::TransferLeadership { to } => self.transfer_leadership(to.as_deref(), by).await,
        }
    }

    /// Makes sure, by a heartbeat round that starts now, that this node leads, and waits until everything that was
    /// committed before is applied here. Returns the leadership and the next log index.
    pub(crate) async fn confirm(&self, by: Deadline) -> Result<(LeaderTag, u64), Answer> {
        let confirmed = timeout(by.remaining(), self.raft.get_read_linearizer(ReadPolicy::ReadIndex)).await;
        let read_log_id = match confirmed {
            Ok(Ok(linearizer)) => *linearizer.read_log_id(),
            Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward)))) => {
                return Err(self.not_leader(&forward));
            }
            Ok(Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(error)))) => {
                return Err(Answer::Unavailable(error.to_string()));
            }
            Ok(Err(RaftError::Fatal(fatal))) => return Err(Answer::Unavailable(fatal.to_string())),
            Err(_) => return Err(Answer::Unavailable("no quorum confirmed the leader in time".to_owned())),
        };
        let next = read_log_id.index() + 1;
        if !self.wait_applied(next, by).await {
            return Err(Answer::Unavailable("the state is not up to date in time".to_owned()));
        }
        Ok((LeaderTag::of(read_log_id.committed_leader_id()), next))
    }

    fn not_leader(&self, forward: &ForwardToLeader<TypeConfig>) -> Answer {
        let elsewhere = forward.leader_id.is_some_and(|leader| leader != self.id);
        let leader = forward.leader_node.as_ref().filter(|_| elsewhere).map(|peer| peer.addr.clone());
        Answer::NotLeader { leader }
    }

    async fn write(&self, command: Command, by: Deadline) -> Answer {
        match timeout(by.remaining(), self.raft.client_write(command)).await {
            Ok(Ok(response)) => Answer::Outcome(response.data),
            // Decided before the entry is appended: it has no effect.
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward)))) => {
                self.not_leader(&forward)
            }
            // The entry left our log, but it may have reached a majority before: its fate is not known.
            Ok(Err(error)) => Answer::Unknown(error.to_string()),
            Err(_) => Answer::Unknown("not committed in time".to_owned()),
        }
    }

    async fn keep_alive(&self, lease: u64, holding: Option<&str>, by: Deadline) -> Answer {
        // A lease ends so long after the arrival of its last renewal, and the client counts from before it sent it.
        let arrived = now();
        let (leadership, _) = match self.confirm(by).await {
            Ok(confirmed) => confirmed,
            Err(answer) => return answer,
        };
        let mut timers = self.timers.lock().expect("no code panics while it holds the timers");
        self.machine.read(|state| {
            if !state.leases().contains_key(&lease) {
                return Answer::Gone;
            }
            timers.align(leadership, state.leases(), now());
            let renewed = match timers.renew(leadership, lease, arrived) {
                Renewed::For(ttl) => ttl,
                Renewed::Ending => return Answer::Unavailable("the lease is about to end".to_owned()),
                Renewed::NotLeading => return Answer::NotLeader { leader: None },
            };
            if holding.is_some_and(|key| state.lease_of(key) != Some(lease)) {
                return Answer::NotHolding;
            }
            Answer::Renewed { ttl_ms: u64::try_from(renewed.as_millis()).unwrap_or(u64::MAX) }
        })
    }

    /// The changes after `after` as soon as there are any; otherwise, after a while, the proof that there were none.
    async fn changes(&self, after: u64, by: Deadline) -> Answer {
        let mut progress = self.machine.progress();
        let wait = Instant::now() + WATCH_WAIT.min(by.remaining() / 2);
        loop {
            progress.borrow_and_update();
            match self.machine.read(|state| (state.past(after), state.revision())) {
                (Past::Forgotten, revision) if after > revision => {
                    // Perhaps this node is only behind. A confirmed read tells.
                    return match self.read_here(by).await {
                        Ok(()) if self.machine.read(|state| state.revision()) < after => Answer::Lost,
                        Ok(()) => Answer::Changes { changes: Vec::new(), revision: after },
                        Err(answer) => answer,
                    };
                }
                (Past::Forgotten, _) => return Answer::Lost,
                (Past::Known(changes), revision) if !changes.is_empty() => {
                    return Answer::Changes { changes, revision };
                }
                (Past::Known(_), _) => {}
            }
            tokio::select! {
                changed = progress.changed() => if changed.is_err() {
                    return Answer::Unavailable("the node ends".to_owned());
                },
                () = sleep_until(wait) => break,
            }
        }
        if let Err(answer) = self.read_here(by).await {
            return answer;
        }
        match self.machine.read(|state| (state.past(after), state.revision())) {
            (Past::Known(changes), revision) => Answer::Changes { changes, revision },
            (Past::Forgotten, _) => Answer::Lost,
        }
    }
}

impl From<Outcome> for Answer {
    fn from(outcome: Outcome) -> Self {
        Self::Outcome(outcome)
    }
}
