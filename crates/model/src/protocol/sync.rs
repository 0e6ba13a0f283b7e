//! The old primary commits, and its agent changes `/sync` and the names.

use super::{Protocol, Step};
use crate::{
    overlap::{self, Electorate, bit},
    state::{OLD, State},
};

impl Protocol {
    pub(super) fn commit(&self, state: &mut State) -> bool {
        let free = state.old.shown.count == 0;
        let old = state.member_mut(OLD);
        if old.wal.lsn >= self.bounds.commits {
            return false;
        }
        old.wal.lsn += 1;
        let end = old.wal.lsn;
        if free {
            // Nobody waits.
            state.old.acknowledge(Some(end));
        }
        true
    }

    /// The old leader's agent, by the rules of `ha::sync`.
    pub(super) fn change_sync(&self, state: &mut State, step: Step) -> bool {
        if let Step::SyncArrives = step {
            let Some((on, wanted)) = state.old.pending.filter(|_| state.old.in_flight) else { return false };
            state.old.in_flight = false;
            if state.store.sync_revision == on && state.store.leader == Some(OLD) {
                state.store.sync = wanted;
                state.store.sync_revision += 1;
            }
            return true;
        }
        let Some(view) = state.member(OLD).view else { return false };
        let pending = state.old.pending.filter(|(on, _)| *on == view.sync_revision).map(|(_, wanted)| wanted);
        match step {
            Step::SetNames(names) => {
                let mixed = state.old.mixed_with(names);
                let electorates: Vec<Electorate> = [Some(view.sync), pending].into_iter().flatten().collect();
                if names == state.old.shown || !overlap::may_set_names(&electorates, mixed, OLD) {
                    return false;
                }
                state.old.shown = names;
                if names.count == 0 {
                    let end = state.member(OLD).wal.lsn;
                    state.old.acknowledge(Some(end));
                }
                true
            }
            Step::SendSync(wanted) => {
                if state.old.in_flight
                    || pending.is_some()
                    || wanted == view.sync
                    || view.sync_revision >= self.bounds.writes
                {
                    return false;
                }
                let acknowledged = state.old.acknowledged;
                let complete =
                    state.old.senders.iter().enumerate().filter(|(_, sender)| {
                        sender.as_ref().is_some_and(|sender| sender.known >= acknowledged)
                    });
                let complete = complete
                    .fold(0, |set, (member, _)| set | bit(u8::try_from(member).expect("few members")));
                let proof = (state.old.is_spent(), complete);
                if !overlap::may_write(&view.sync, &wanted, state.old.shown, proof, OLD) {
                    return false;
                }
                (state.old.pending, state.old.in_flight) = (Some((view.sync_revision, wanted)), true);
                true
            }
            _ => false,
        }
    }
}
