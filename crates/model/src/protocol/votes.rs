//! Epochs, promises and take-overs; and crashes in the middle.

use super::{Protocol, Step, covers};
use crate::{
    Guard,
    overlap::bit,
    state::{Epoch, OLD, Pos, Promise, State, Taking},
};

impl Protocol {
    pub(super) fn vote(&self, state: &mut State, step: Step) -> bool {
        match step {
            Step::Open(member) => self.open(state, member),
            Step::Detach(member) => {
                let may = state.case(member).is_some() && state.member(member).promise.is_none();
                may && state.member_mut(member).upstream.take().is_some()
            }
            Step::Promise(member) => self.promise(state, member),
            Step::Collect { by, from } => {
                let Some(mine) = state.member(by).promise else { return false };
                let Some(theirs) = state.member(from).promise.filter(|_| by != from) else { return false };
                let same = mine.epoch == theirs.epoch;
                if same {
                    state.member_mut(by).collected[usize::from(from)] = Some(theirs.position);
                }
                same
            }
            Step::SendTaking(member) => self.send_taking(state, member),
            Step::TakingArrives(member) => self.taking_arrives(state, member),
            Step::Close(member) => {
                let Some(promise) = state.member(member).promise else { return false };
                let is_open = matches!(state.store.epoch, Epoch::Open { .. });
                if !is_open || state.store.epoch_revision != promise.epoch {
                    return false;
                }
                state.store.epoch = Epoch::Closed;
                state.store.epoch_revision += 1;
                true
            }
            Step::Forget(member) => {
                let may = state.is_over(member) || !self.has(Guard::SeenToBeOver);
                let this = state.member_mut(member);
                this.collected.fill(None);
                may && this.promise.take().is_some()
            }
            Step::Attach(member) => {
                let this = state.member(member);
                let is_known = !this.is_view_older || !self.has(Guard::ReadsAfterLock);
                let leader = this.view.and_then(|view| view.leader).filter(|leader| *leader != member);
                let may = this.promise.is_none() && !this.is_primary && is_known;
                let Some(leader) = leader.filter(|_| may) else {
                    return false;
                };
                if !state.member(leader).is_primary || state.member(member).upstream == Some(leader) {
                    return false;
                }
                if !state.can_stream(member, leader) {
                    // Rewound: what parted from the leader's history is gone.
                    let common = state.branch.unwrap_or(0).min(state.member(member).wal.lsn);
                    state.member_mut(member).wal = Pos { timeline: 1, lsn: common };
                    if !state.can_stream(member, leader) {
                        return false;
                    }
                }
                state.member_mut(member).upstream = Some(leader);
                true
            }
            _ => false,
        }
    }

    fn open(&self, state: &mut State, member: u8) -> bool {
        let Some(view) = state.member(member).view else { return false };
        let Some(leader) = view.leader.filter(|leader| *leader != member) else { return false };
        let is_same = view.epoch_revision == state.store.epoch_revision
            && view.leader_revision == state.store.leader_revision
            && view.sync_revision == state.store.sync_revision;
        let elects = view.sync.without(leader) & bit(member) != 0;
        let may = elects && is_same && view.live_epoch().is_none();
        if !may || view.epoch_revision >= 2 * self.bounds.writes || state.store.taken.is_some() {
            return false;
        }
        let (leader_revision, sync_revision) = (view.leader_revision, view.sync_revision);
        state.store.epoch = Epoch::Open { leader_revision, sync_revision };
        state.store.epoch_revision += 1;
        true
    }

    fn promise(&self, state: &mut State, member: u8) -> bool {
        let Some((_, epoch)) = state.case(member) else { return false };
        let this = state.member_mut(member);
        let is_detached = this.receiver.is_none() || !self.has(Guard::DetachFirst);
        if this.promise.is_some() || this.upstream.is_some() || this.is_primary || !is_detached {
            return false;
        }
        this.collected.fill(None);
        let mut position = this.wal;
        if !self.has(Guard::PositionLast) {
            // Looked at before the last record came.
            position.lsn = position.lsn.saturating_sub(1);
        }
        this.promise = Some(Promise { epoch, position });
        true
    }

    fn send_taking(&self, state: &mut State, member: u8) -> bool {
        let this = state.member(member);
        let Some((view, epoch)) = state.case(member) else { return false };
        let Some(mine) = this.promise.filter(|promise| promise.epoch == epoch) else { return false };
        let leader = view.leader.expect("a live epoch has one");
        let electorate = view.sync.without(leader);
        let told =
            this.collected.iter().enumerate().filter_map(|(from, position)| {
                Some((u8::try_from(from).expect("few members"), (*position)?))
            });
        let counts = told.filter(|(from, theirs)| {
            electorate & bit(*from) != 0 && (covers(mine.position, *theirs) || !self.has(Guard::Covered))
        });
        let votes = u8::try_from(counts.count()).expect("few") + 1;
        let needed = view.sync.quorum + u8::from(self.has(Guard::QuorumAndOne));
        let has_promised = covers(this.wal, mine.position);
        if this.taking.is_some() || votes < needed || !has_promised || this.wal.timeline != 1 {
            return false;
        }
        let taking =
            Taking { epoch, leader_revision: view.leader_revision, sync_revision: view.sync_revision };
        state.member_mut(member).taking = Some(taking);
        true
    }

    fn taking_arrives(&self, state: &mut State, member: u8) -> bool {
        let Some(taking) = state.member_mut(member).taking.take() else { return false };
        let store = &mut state.store;
        let epoch = taking.epoch == store.epoch_revision || !self.has(Guard::ComparesTakeover);
        let sync = taking.sync_revision == store.sync_revision || !self.has(Guard::ComparesSync);
        if epoch && sync && taking.leader_revision == store.leader_revision && store.leader.is_some() {
            store.leader = Some(member);
            store.leader_revision += 1;
            store.sync_revision += 1;
            store.epoch = Epoch::Taken;
            store.epoch_revision += 1;
            store.taken = Some(member);
            state.member_mut(member).is_view_older = true;
        }
        true
    }

    pub(super) fn crash(&self, state: &mut State, member: u8) -> bool {
        if state.crashes >= self.bounds.crashes {
            return false;
        }
        state.crashes += 1;
        if member == OLD && state.member(OLD).is_primary {
            // Its PostgreSQL comes back as the primary that it was, or not at all: the walsenders are gone.
            state.old.senders.fill(None);
        }
        let is_durable = self.has(Guard::DurablePromise);
        let this = state.member_mut(member);
        (this.receiver, this.view, this.is_view_older) = (None, None, false);
        this.collected.fill(None);
        if !is_durable {
            this.promise = None;
        }
        true
    }
}
