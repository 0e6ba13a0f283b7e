//! What differs in the store, in the lease, and in what the other members answer.

use std::time::Duration;

use bellwether_types::{
    Lsn, Revision, Term, TimelineId, Timestamp,
    cluster::{FailoverRequest, History, HistoryEntry, Keyed, Leader, SyncState, TimelineClaim},
    settings::SyncMode,
};

use super::{Scene, armed, held_in_term, name};
use crate::{
    memory::Claimed,
    view::{LeaseView, PeerAnswer},
};

/// The keys of the cluster.
impl Scene {
    /// Nobody holds the lock; the key of the old leader is gone too.
    pub fn without_leader(mut self) -> Self {
        if let Some(leader) = self.cluster.leader.take() {
            if leader.name != self.view.me.name {
                self.cluster.members.remove(&leader.name);
            }
            self.cluster.revision = Revision(200);
        }
        self.view.memory.unlocked_since = Some(self.view.now);
        self
    }

    /// The lock is free, and all members are there.
    pub fn unlocked(mut self) -> Self {
        self.cluster.leader = None;
        self.cluster.revision = Revision(200);
        self
    }

    pub fn leader_is(mut self, leader: &str) -> Self {
        self.cluster.leader =
            Some(Leader { name: name(leader), term: Term(150), revision: Revision(150), lease: None });
        self.cluster.revision = Revision(200);
        self
    }

    /// The store has not answered for so long.
    pub fn silent_for(mut self, silence: Duration) -> Self {
        self.view.store.unavailable_since = Some(self.view.now.saturating_sub(silence));
        self.view.store.confirmed_at = self.view.now.saturating_sub(silence);
        if let LeaseView::Held { unavailable_since, .. } = &mut self.view.lease {
            *unavailable_since = Some(self.view.now.saturating_sub(silence));
        }
        self
    }

    pub fn request(mut self, leader: Option<&str>, candidate: Option<&str>) -> Self {
        let request =
            FailoverRequest { leader: leader.map(name), candidate: candidate.map(name), scheduled_at: None };
        self.cluster.failover = Some(Keyed { value: Some(request), revision: Revision(130) });
        self
    }

    pub fn sync(mut self, mode: SyncMode, leader: &str, voters: &[&str], quorum: u32) -> Self {
        self.view.settings.synchronous_mode = mode;
        let voters = voters.iter().map(|voter| name(voter)).collect();
        let value = SyncState { leader: Some(name(leader)), quorum, voters };
        self.cluster.sync = Some(Keyed { value, revision: Revision(120) });
        self
    }

    pub fn history(mut self, timelines: u32) -> Self {
        let entries = (1..timelines)
            .map(|timeline| HistoryEntry {
                timeline: TimelineId(timeline),
                end: Lsn(0x300_0000 + u64::from(timeline)),
                reason: "no recovery target specified".to_owned(),
                promoted_at: Some("2026-01-05T10:00:00+00:00".to_owned()),
                new_leader: Some(name("a")),
            })
            .collect();
        self.cluster.history = Some(Keyed { value: History(entries), revision: Revision(90) });
        self
    }

    /// The number that the last winner of the lock took for its timeline.
    pub fn claimed(mut self, timeline: u32, by: &str) -> Self {
        let claim = TimelineClaim { timeline: TimelineId(timeline), leader: name(by) };
        self.cluster.timeline_claim = Some(Keyed { value: Some(claim), revision: Revision(140) });
        self
    }
}

/// Who holds the lock, as this member knows it.
impl Scene {
    pub fn lease(mut self, lease: LeaseView) -> Self {
        self.view.lease = lease;
        self
    }

    pub fn rejected(self) -> Self {
        let at = self.view.now;
        self.lease(LeaseView::Rejected { at, good_until: Timestamp::ZERO })
    }

    /// This member holds the lock, whatever it is doing.
    pub fn holding(mut self) -> Self {
        let me = self.view.me.name.clone();
        self = self.leader_is(me.as_str());
        self.view.lease = held_in_term(self.view.now, Term(150));
        self.view.fencing.guardian = armed(self.view.now);
        self.view.memory.claimed = Some(Claimed { timeline: TimelineId(2), used: false });
        self.view.memory.mandate = Some(Term(150));
        self
    }
}

/// The other members.
impl Scene {
    /// The members were asked for the decision at hand and have answered so.
    pub fn answers(mut self, answers: &[(&str, PeerAnswer)]) -> Self {
        self.view.memory.need_peers_since = Some(self.view.now);
        self.view.peers.polled_at = Some(self.view.now);
        self.view.peers.answers = answers.iter().map(|(peer, answer)| (name(peer), answer.clone())).collect();
        self
    }
}
