//! What comes after a take-over.

use super::{Protocol, Step};
use crate::{
    Guard,
    overlap::{bit, size},
    state::State,
};

impl Protocol {
    /// The successor leads, and somebody after it.
    pub(super) fn go_on(&self, state: &mut State, step: Step) -> bool {
        let Some(successor) = state.store.taken else { return false };
        let leads = state.store.leader == Some(successor);
        match step {
            Step::LaterCommit if leads => self.later_commit(state, successor),
            Step::SuccessorFails if leads => {
                // It stops, and gives the lock up.
                state.member_mut(successor).is_primary = false;
                state.store.leader = None;
                state.store.leader_revision += 1;
                true
            }
            Step::Retake(member) if state.store.leader.is_none() => {
                let is_allowed = !self.has(Guard::ReplacedStops) || member == successor;
                let runs = state.member(member).is_primary;
                self.finish(state, member, runs && is_allowed)
            }
            Step::Race(member) if state.store.leader.is_none() => {
                let mine = state.member(member).wal;
                let electorate = state.store.sync.voters | bit(state.store.sync.leader);
                let votes = (0..self.bounds.members).filter(|&other| {
                    let theirs = state.member(other);
                    let later = theirs.wal.timeline > mine.timeline;
                    other != member
                        && electorate & bit(other) != 0
                        && !theirs.is_primary
                        && !later
                        && theirs.wal.lsn <= mine.lsn
                });
                let enough = votes.count() >= usize::from(state.store.sync.quorum);
                let may = !state.member(member).is_primary && electorate & bit(member) != 0 && enough;
                self.finish(state, member, may)
            }
            _ => false,
        }
    }

    fn finish(&self, state: &mut State, leader: u8, may: bool) -> bool {
        if may {
            state.store.leader = Some(leader);
            state.finished = true;
        }
        may
    }

    /// Promotes the successor first. Its names are those of the old electorate, so many that any who could elect have one in common.
    fn later_commit(&self, state: &mut State, successor: u8) -> bool {
        if !state.member(successor).is_primary {
            let this = state.member_mut(successor);
            this.is_primary = true;
            this.wal.timeline = 2;
            let branch = this.wal.lsn;
            state.branch = Some(branch);
            return true;
        }
        let branch = state.branch.unwrap_or(0);
        if state.member(successor).wal.lsn == branch {
            state.member_mut(successor).wal.lsn += 1;
            return true;
        }
        let sync = state.store.sync;
        let all = sync.voters | bit(sync.leader);
        let needed = size(all).saturating_sub(sync.quorum + 1) + u8::from(all & bit(successor) == 0);
        let have = (0..self.bounds.members).filter(|&other| {
            let theirs = state.member(other);
            other != successor
                && all & bit(other) != 0
                && theirs.receiver == Some(successor)
                && theirs.wal == state.member(successor).wal
        });
        let is_acknowledged = have.count() >= usize::from(needed) && state.acknowledged_later == 0;
        if is_acknowledged {
            state.acknowledged_later = state.member(successor).wal.lsn;
        }
        is_acknowledged
    }
}
