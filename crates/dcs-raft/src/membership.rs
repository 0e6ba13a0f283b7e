//! Who has a vote: taking in wiped and new nodes, removing old ones, moving the leadership.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bellwether_dcs::Deadline;
use bellwether_types::Failure;
use openraft::{
    ChangeMembers, ServerState,
    async_runtime::watch::WatchReceiver as _,
    errors::{ClientWriteError, RaftError},
};
use tokio::time::{sleep, timeout};

use crate::{
    clock::{budget, is_over},
    consensus::{NodeId, Peer},
    leadership,
    net::message::{Answer, Probed, Request, Response},
    node::Node,
};

const PROBE_LIMIT: Duration = Duration::from_millis(800);
/// How often to look whether a newcomer has caught up.
const CATCH_UP_CHECK: Duration = Duration::from_millis(20);

/// A step of a change needs a round trip and an fsync.
const CHANGE_LIMIT: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Why the membership was not changed, or perhaps not.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MembershipError {
    #[error("{0}")]
    Refused(String),
    #[error("the store did not answer: {0}")]
    Unavailable(#[source] bellwether_dcs::StoreError),
    #[error("it may have been done or not; look at the members: {0}")]
    Unknown(#[source] bellwether_dcs::StoreError),
}

impl MembershipError {
    /// The code under which the book explains it.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Refused(_) => Failure::MembershipRefused,
            Self::Unavailable(error) => error.failure(),
            Self::Unknown(_) => Failure::MembershipUnknown,
        }
    }
}

impl Node {
    /// Asks whoever listens at `addr` who they are.
    pub(crate) async fn probe(&self, addr: &str) -> Result<Probed, String> {
        match self.router.request(addr, Request::Probe, PROBE_LIMIT).await {
            Ok(Response::Probe(probed)) => Ok(probed),
            Ok(other) => Err(format!("an odd answer: {other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Takes a node with an empty directory in, in the place of the node that had its address before.
    pub(crate) async fn take_in(&self, newcomer: NodeId, peer: Peer, by: Deadline) -> Answer {
        if let Err(answer) = self.confirm(by).await {
            return answer;
        }
        let metrics = self.metrics();
        if metrics.membership_config.voter_ids().any(|id| id == newcomer) {
            return Answer::Done;
        }
        if !metrics.membership_config.nodes().any(|(_, known)| known.addr == peer.addr) {
            return Answer::Refused(format!(
                "{addr} is not a member of the store; to make it one, run `bellwether dcs add {addr}`",
                addr = peer.addr
            ));
        }
        self.make_voter(newcomer, peer, by).await
    }

    /// Makes the empty node that waits at `addr` a member.
    pub(crate) async fn add_member(&self, addr: String, by: Deadline) -> Answer {
        if let Err(answer) = self.confirm(by).await {
            return answer;
        }
        let probed = match self.probe(&addr).await {
            Ok(probed) => probed,
            Err(error) => {
                return Answer::Refused(format!(
                    "no node of this cluster answers at {addr} ({error}); start it first, with the present members \
                     as its partners"
                ));
            }
        };
        if self.metrics().membership_config.voter_ids().any(|id| id == probed.node) {
            return Answer::Done;
        }
        if probed.addr != addr {
            return Answer::Refused(format!(
                "the node at {addr} calls itself {}; add it under that address",
                probed.addr
            ));
        }
        self.make_voter(probed.node, Peer { addr, witness: probed.witness }, by).await
    }

    async fn make_voter(&self, newcomer: NodeId, peer: Peer, by: Deadline) -> Answer {
        let _changing = self.changing.lock().await;
        let addr = peer.addr.clone();
        // Whoever holds the address now must be the newcomer, and must have nothing to forget.
        let known = self.metrics().membership_config.get_node(&newcomer).is_some();
        match self.probe(&addr).await {
            Ok(probed) if probed.node != newcomer => {
                return Answer::Refused(format!("another node answers at {addr} (id {:x})", probed.node));
            }
            Ok(probed) if !probed.empty && !known => {
                return Answer::Refused(format!("the node at {addr} has the data of another store"));
            }
            Ok(_) => {}
            Err(error) => {
                return Answer::Unavailable(format!("the newcomer at {addr} cannot be reached: {error}"));
            }
        }
        if !known {
            let learner = ChangeMembers::AddNodes(BTreeMap::from([(newcomer, peer)]));
            if let Err(answer) = self.change(learner, by).await {
                return answer;
            }
            tracing::info!(peer = %addr, node = format_args!("{newcomer:x}"), "a node joins the store as a learner");
        }
        if !self.caught_up(newcomer, by).await {
            return Answer::Unavailable(format!("{addr} has not caught up with the log yet"));
        }
        let membership = self.metrics().membership_config;
        let replaced: BTreeSet<NodeId> = membership
            .nodes()
            .filter(|(id, known)| **id != newcomer && known.addr == addr)
            .map(|(id, _)| *id)
            .collect();
        let (old_voters, old_learners): (BTreeSet<NodeId>, BTreeSet<NodeId>) =
            replaced.iter().copied().partition(|id| membership.voter_ids().any(|voter| voter == *id));
        // One change: at no time do both the old and the new identity of this address have a vote.
        let change = ChangeMembers::Batch(vec![
            ChangeMembers::AddVoterIds(BTreeSet::from([newcomer])),
            ChangeMembers::RemoveVoters(old_voters),
        ]);
        if let Err(answer) = self.change(change, by).await {
            return answer;
        }
        if !old_learners.is_empty() {
            let forget = ChangeMembers::RemoveNodes(old_learners);
            if let Err(answer) = self.change(forget, by).await {
                return answer;
            }
        }
        tracing::info!(
            peer = %addr, node = format_args!("{newcomer:x}"), replaced = replaced.len(), "a node has a vote now"
        );
        self.keep_links_to_members();
        Answer::Done
    }

    /// Takes the vote and the log from a member, named by address or by id in hexadecimal.
    pub(crate) async fn remove_member(&self, who: &str, by: Deadline) -> Answer {
        if let Err(answer) = self.confirm(by).await {
            return answer;
        }
        let _changing = self.changing.lock().await;
        let membership = self.metrics().membership_config;
        let id = NodeId::from_str_radix(who, 16).ok();
        let found: BTreeSet<NodeId> = membership
            .nodes()
            .filter(|(known, peer)| peer.addr == who || Some(**known) == id)
            .map(|(known, _)| *known)
            .collect();
        if found.is_empty() {
            return Answer::Refused(format!("{who} is not a member of the store"));
        }
        let voters: BTreeSet<NodeId> = membership.voter_ids().collect();
        if voters.is_subset(&found) {
            return Answer::Refused(format!("{who} is the only member with a vote"));
        }
        let (found_voters, learners): (BTreeSet<NodeId>, BTreeSet<NodeId>) =
            found.into_iter().partition(|id| voters.contains(id));
        for change in [ChangeMembers::RemoveVoters(found_voters), ChangeMembers::RemoveNodes(learners)] {
            let nothing = matches!(&change,
                ChangeMembers::RemoveVoters(ids) | ChangeMembers::RemoveNodes(ids) if ids.is_empty());
            if nothing {
                continue;
            }
            if let Err(answer) = self.change(change, by).await {
                return answer;
            }
        }
        tracing::info!(peer = %who, "a node is no longer a member of the store");
        self.keep_links_to_members();
        Answer::Done
    }

    pub(crate) async fn transfer_leadership(&self, to: Option<&str>, by: Deadline) -> Answer {
        if let Err(answer) = self.confirm(by).await {
            return answer;
        }
        let successor = match to {
            None => leadership::successor(self),
            Some(who) => {
                let membership = self.metrics().membership_config;
                let id = NodeId::from_str_radix(who, 16).ok();
                let found = membership
                    .nodes()
                    .find(|(known, peer)| peer.addr == who || Some(**known) == id)
                    .map(|(known, _)| *known);
                found.filter(|id| membership.voter_ids().any(|voter| voter == *id))
            }
        };
        match successor {
            Some(successor) if successor == self.id => Answer::Done,
            Some(successor) if leadership::hand_over(self, successor, by).await => Answer::Done,
            Some(_) => Answer::Refused("the other node did not take the leadership".to_owned()),
            None => Answer::Refused("there is no such healthy member with a vote".to_owned()),
        }
    }

    /// Waits until the log of `id` is as long as ours was when we began.
    async fn caught_up(&self, id: NodeId, by: Deadline) -> bool {
        let target = self.metrics().last_log_index;
        while !is_over(by) {
            let metrics = self.metrics();
            let matched =
                metrics.replication.as_ref().and_then(|matched| matched.get(&id)).copied().flatten();
            if matched.map(|matched| matched.index) >= target {
                return true;
            }
            sleep(CATCH_UP_CHECK).await;
        }
        false
    }

    fn keep_links_to_members(&self) {
        let membership = self.metrics().membership_config;
        self.network.keep_only(|id| membership.get_node(&id).is_some());
    }
}

impl Node {
    /// Changes the membership. In a task of its own: a change has two steps, and must not stay half-way because
    /// somebody stopped waiting for it.
    async fn change(&self, change: ChangeMembers<NodeId, Peer>, by: Deadline) -> Result<(), Answer> {
        let raft = self.raft.clone();
        // Otherwise "retain" would keep removed voters as learners.
        let retain = matches!(change, ChangeMembers::AddNodes(_));
        let task = tokio::spawn(async move { raft.change_membership(change, retain).await });
        match timeout(budget(by), task).await {
            Ok(Ok(Ok(_))) => Ok(()),
            Ok(Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))))) => {
                let elsewhere = self.leader_addr().filter(|leader| *leader != self.config.self_addr);
                Err(Answer::NotLeader { leader: elsewhere })
            }
            Ok(Ok(Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error))))) => {
                Err(Answer::Unavailable(error.to_string()))
            }
            Ok(Ok(Err(error))) => Err(Answer::Unknown(error.to_string())),
            Ok(Err(error)) => Err(Answer::Unknown(error.to_string())),
            Err(_) => Err(Answer::Unknown("not committed in time".to_owned())),
        }
    }
}

/// Ends the changes that a lost leader left half-way: until then both the old and the new members are needed.
pub(crate) async fn finish_changes(node: Arc<Node>) {
    let mut roles = node.raft.server_metrics();
    loop {
        let joint = {
            let roles = roles.borrow_and_update();
            roles.state == ServerState::Leader
                && roles.committed_membership_config.get_joint_config().len() > 1
                && roles.committed_membership_config == roles.membership_config
        };
        if joint && let Ok(_changing) = node.changing.try_lock() {
            let nobody_new = ChangeMembers::AddVoterIds(BTreeSet::new());
            if node.change(nobody_new, Deadline::after(CHANGE_LIMIT)).await.is_ok() {
                tracing::info!("completed a change of the store's members that was left half-way");
            }
        }
        let look_again = async { if joint { sleep(LOOK_AGAIN).await } else { std::future::pending().await } };
        tokio::select! {
            () = look_again => {}
            changed = roles.changed() => if changed.is_err() { return },
        }
    }
}

#[cfg(test)]
mod tests {
    use openraft::{EntryPayload, Membership};

    use super::*;
    use crate::{config::Config, node::Running};

    async fn until(what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = Deadline::after(Duration::from_secs(20));
        while !condition() {
            assert!(!is_over(deadline), "{what}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_change_that_a_lost_leader_left_half_way_is_completed() {
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = Config::new("demo", format!("127.0.0.1:{port}"), folder.path().join("node"));
        let running = Running::start(config).await.unwrap();
        let node = running.node.clone();
        until("it leads", || node.metrics().state == ServerState::Leader).await;
        node.confirm(Deadline::after(Duration::from_secs(10))).await.unwrap();
        // As the first step of replacing a member that is gone: old and new voters overlap in this node.
        let gone = Peer { addr: "127.0.0.1:1".to_owned(), witness: false };
        let changing = node.changing.lock().await;
        node.raft
            .change_membership(ChangeMembers::AddNodes(BTreeMap::from([(77, gone.clone())])), true)
            .await
            .unwrap();
        let nodes = BTreeMap::from([(node.id, node.peer()), (77, gone)]);
        let joint =
            Membership::new(vec![BTreeSet::from([node.id]), BTreeSet::from([node.id])], nodes).unwrap();
        node.raft.append_membership(joint, EntryPayload::Blank, []).await.unwrap();
        assert_eq!(node.metrics().membership_config.get_joint_config().len(), 2);
        drop(changing);
        until("the change is completed", || node.metrics().membership_config.get_joint_config().len() == 1)
            .await;
        drop(node);
        running.stop(Deadline::after(Duration::from_secs(5))).await;
    }
}
