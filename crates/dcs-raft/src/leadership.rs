//! What the store leader does besides the log: it ends leases, and it makes way.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bellwether_dcs::Deadline;
use bellwether_types::Timestamp;
use openraft::{Instant as _, ServerState, async_runtime::watch::WatchReceiver as _};
use tokio::time::{sleep, timeout};

use crate::{
    clock::now,
    command::Command,
    consensus::{LeaderTag, NodeId},
    leases::Overdue,
    node::Node,
};

/// The longest sleep of the lease keeper: tokio's timers stand still while the machine sleeps, leases do not.
const LEASE_CHECK: Duration = Duration::from_millis(500);
/// The pause before an expiry without effect is proposed again.
const PROPOSE_AGAIN: Duration = Duration::from_millis(100);
const PROPOSAL_LIMIT: Duration = Duration::from_secs(2);

/// Pauses between two attempts to make way, doubling, so that the leadership never flaps.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(250);
const HAND_OVER_LIMIT: Duration = Duration::from_secs(1);

/// The leadership this node holds, as far as it knows.
///
/// From the same channel that wakes on changes of it: another one may be a moment behind, and the wake is lost.
pub(crate) fn held(node: &Node) -> Option<LeaderTag> {
    let roles = node.raft.server_metrics();
    let roles = roles.borrow_watched();
    let led = roles.state == ServerState::Leader && roles.vote.committed;
    led.then(|| LeaderTag::of(&roles.vote.leader_id))
}

/// Proposes the end of every lease that was not renewed, while this node leads.
pub(crate) async fn end_leases(node: Arc<Node>) {
    let mut progress = node.machine.progress();
    let mut roles = node.raft.server_metrics();
    loop {
        let pause = match held(&node) {
            None => LEASE_CHECK,
            Some(leadership) => {
                let at = now();
                let overdue = {
                    let mut timers = node.timers.lock().expect("no code panics while it holds the timers");
                    node.machine.read(|state| timers.align(leadership, state.leases(), at));
                    if let Some(sent) = acknowledged(&node) {
                        timers.acknowledge(leadership, sent);
                    }
                    timers.overdue(at)
                };
                for lease in &overdue {
                    propose_end(&node, leadership, *lease).await;
                }
                let next = node.timers.lock().expect("no code panics while it holds the timers").next(at);
                let until_next = next.map_or(LEASE_CHECK, |next| now().until(next));
                let again = if overdue.is_empty() { LEASE_CHECK } else { PROPOSE_AGAIN };
                until_next.min(again).max(Duration::from_millis(1))
            }
        };
        tokio::select! {
            () = sleep(pause) => {}
            changed = progress.changed() => if changed.is_err() { return },
            changed = roles.changed() => if changed.is_err() { return },
        }
    }
}

/// When what a majority has acknowledged last was sent. A node that is alone with its vote is its own majority.
fn acknowledged(node: &Node) -> Option<Timestamp> {
    let metrics = node.metrics();
    if metrics.membership_config.voter_ids().count() <= 1 {
        return Some(now());
    }
    metrics.last_quorum_acked.map(|sent| now().saturating_sub(sent.into_inner().elapsed()))
}

async fn propose_end(node: &Node, by: LeaderTag, overdue: Overdue) {
    let Overdue { lease, granted } = overdue;
    tracing::info!(lease, term = by.term, "a lease was not renewed and ends");
    let (responder, done) = openraft::impls::ProgressResponder::complete_only();
    // Only under the leadership that saw the time pass: any other has started the lease anew.
    let proposed = node
        .raft
        .write(Command::Expire { lease, granted, by })
        .with_leader(by.to_leader_id())
        .responder(responder)
        .await;
    if proposed.is_ok() {
        let _ = timeout(PROPOSAL_LIMIT, done).await;
    }
}

/// Moves the leadership off this node while its member leads PostgreSQL, or while it is a witness, if somebody better
/// is healthy. Otherwise one lost host would cost both.
pub(crate) async fn step_aside(node: Arc<Node>) {
    let mut leads = node.member_leads.subscribe();
    let mut roles = node.raft.server_metrics();
    let mut patience = Patience::default();
    loop {
        let wants = *leads.borrow_and_update() || node.config.witness;
        roles.borrow_and_update();
        let may_leave = wants && held(&node).is_some();
        if may_leave
            && patience.allows(Instant::now())
            && let Some(successor) = better_leader(&node)
        {
            patience.begin(Instant::now());
            let moved = hand_over(&node, successor, Deadline::after(HAND_OVER_LIMIT)).await;
            tracing::info!(to = format_args!("{successor:x}"), moved, "made way as leader of the store");
        }
        // While there is a reason to leave, look again now and then for somebody healthy; without one, wait for it.
        let look_again = async {
            if may_leave {
                sleep(LOOK_AGAIN).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = look_again => {}
            changed = leads.changed() => if changed.is_err() { return },
            changed = roles.changed() => if changed.is_err() { return },
        }
    }
}

/// Rests between two attempts to make way, longer each time: two nodes that both want to leave must not toss the
/// leadership to and fro.
#[derive(Debug, Default)]
struct Patience {
    last: Option<Instant>,
    pause: Duration,
}

impl Patience {
    fn allows(&self, now: Instant) -> bool {
        self.last.is_none_or(|last| now.duration_since(last) >= self.pause)
    }

    fn begin(&mut self, now: Instant) {
        let recently = self.last.is_some_and(|last| now.duration_since(last) < 2 * LONGEST_PAUSE);
        self.pause = if recently { (2 * self.pause).min(LONGEST_PAUSE) } else { FIRST_PAUSE };
        self.last = Some(now);
    }
}

/// Who should lead rather than this node: no witness, and from a witness only to a full member.
fn better_leader(node: &Node) -> Option<NodeId> {
    let candidate = successor(node)?;
    let metrics = node.metrics();
    let witness = metrics.membership_config.get_node(&candidate).is_some_and(|peer| peer.witness);
    (!witness || !node.config.witness).then_some(candidate)
}

/// The healthiest other voter: heard lately, with the most log, no witness if there is another.
pub(crate) fn successor(node: &Node) -> Option<NodeId> {
    let metrics = node.metrics();
    let lately = node.config.timing.election_max;
    let (heard, matched) = (metrics.heartbeat.as_ref()?, metrics.replication.as_ref()?);
    metrics
        .membership_config
        .voter_ids()
        .filter(|id| *id != node.id)
        .filter(|id| {
            heard.get(id).copied().flatten().is_some_and(|heard| heard.into_inner().elapsed() < lately)
        })
        .max_by_key(|id| {
            let witness = metrics.membership_config.get_node(id).is_some_and(|peer| peer.witness);
            (!witness, matched.get(id).copied().flatten(), std::cmp::Reverse(*id))
        })
}

/// Asks `to` to take the leadership, and waits until somebody else has it. Says whether that happened.
pub(crate) async fn hand_over(node: &Node, to: NodeId, by: Deadline) -> bool {
    let mut roles = node.raft.server_metrics();
    if node.raft.trigger().transfer_leader(to).await.is_err() {
        return false;
    }
    let gone = async {
        loop {
            let leader = roles.borrow_and_update().current_leader;
            if leader.is_some_and(|leader| leader != node.id) {
                return true;
            }
            if roles.changed().await.is_err() {
                return false;
            }
        }
    };
    timeout(by.remaining(), gone).await.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_makes_way_rests_longer_each_time_and_forgets_it_in_the_end() {
        let start = Instant::now();
        let mut patience = Patience::default();
        assert!(patience.allows(start), "the first time at once");
        let mut now = start;
        for expected in [2, 4, 8, 16, 32, 60, 60] {
            patience.begin(now);
            let rest = Duration::from_secs(expected);
            assert!(!patience.allows(now + rest - Duration::from_millis(1)), "after {expected} s");
            now += rest;
            assert!(patience.allows(now), "after {expected} s");
        }
        patience.begin(now + 3 * LONGEST_PAUSE);
        assert_eq!(patience.pause, FIRST_PAUSE);
    }
}
