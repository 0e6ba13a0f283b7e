//! Replication slots of the members: every member that may lead keeps one for every other, so that nobody loses WAL when the
//! leader changes.
//!
//! Only slots that are known to belong to members are ever dropped. Slots of other origin are left to their owners.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_types::{
    Lsn,
    cluster::{Cluster, Member},
};

use crate::{
    Action,
    draft::Draft,
    memory::Attempt,
    view::{Server, Slot},
};

/// Versions from which on physical slots can be advanced, and so kept on standbys.
const CAN_ADVANCE: u32 = 110_000;

/// What a slot is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted {
    /// The member is expected to stream from here, so the slot moves by itself.
    is_active: bool,
    /// Where to move it otherwise.
    target: Option<Lsn>,
}

/// Creates, drops and advances what differs from what is wanted.
pub(crate) fn process(draft: &mut Draft, cluster: &Cluster) {
    let view = draft.view;
    if !view.settings.use_slots || draft.memory.bootstrapping.is_some() {
        return;
    }
    let Some(server) = view.server() else { return };
    let wanted = wanted(draft, cluster);
    note(draft, &wanted);
    create(draft, server, &wanted);
    advance(draft, server, &wanted);
    drop_unwanted(draft, cluster, server, &wanted);
}

fn keeps_slots(draft: &Draft) -> bool {
    let view = draft.view;
    let can_advance = view.postgres.server_version == 0 || view.postgres.server_version >= CAN_ADVANCE;
    can_advance && !view.settings.member_slots_ttl.is_zero()
}

/// The member slots that belong here.
fn wanted(draft: &Draft, cluster: &Cluster) -> BTreeMap<String, Wanted> {
    let view = draft.view;
    let retains = keeps_slots(draft);
    let nofailover = view.me.tags.nofailover();
    let my_slot = view.me.name.slot_name();
    let status = cluster.status.as_ref().map(|key| &key.value);
    let published = view
        .failsafe
        .accepted
        .as_ref()
        .map(|accepted| &accepted.slots)
        .filter(|_| view.settings.failsafe_mode);
    let published = published.or(status.and_then(|status| status.slots.as_ref()));
    let mut slots = BTreeMap::new();
    for member in cluster.members.values() {
        if view.is_me(&member.name) || member.tags.nostream() {
            continue;
        }
        let is_active = streams_from_me(draft, cluster, member);
        if !is_active && (!retains || nofailover) {
            continue;
        }
        let name = member.name.slot_name();
        if name == my_slot {
            continue;
        }
        let target = published.and_then(|published| published.get(&name).copied());
        let own = member.tags.replicatefrom().and(member.xlog_location);
        slots.insert(name, Wanted { is_active, target: target.max(own) });
    }
    if retains
        && !nofailover
        && let Some(retained) = status.and_then(|status| status.retain_slots.as_ref())
    {
        for name in retained.iter().filter(|name| **name != my_slot) {
            slots.entry(name.clone()).or_insert(Wanted { is_active: false, target: None });
        }
    }
    slots
}

/// Whether `member` is expected to stream from this member.
fn streams_from_me(draft: &Draft, cluster: &Cluster, member: &Member) -> bool {
    let view = draft.view;
    let named = member.tags.replicatefrom();
    let is_leader = view.held().is_some() || cluster.leader_name() == Some(&view.me.name);
    match named {
        Some(named) if view.is_me(&named) => cluster.leader_name() != Some(&member.name),
        Some(named) => is_leader && (cluster.member(&named).is_none() || named == member.name),
        None => is_leader,
    }
}

/// Notes which slots are wanted, for those who publish it before [`process`] has its turn.
pub(crate) fn remember(draft: &mut Draft, cluster: &Cluster) {
    let wanted = wanted(draft, cluster);
    note(draft, &wanted);
}

/// Notes when each slot was last wanted for a present member.
fn note(draft: &mut Draft, wanted: &BTreeMap<String, Wanted>) {
    let now = draft.now();
    for (name, wanted) in wanted {
        match draft.memory.retained_slots.get_mut(name) {
            // A name that is only retained is not seen again by that.
            Some(seen) if wanted.is_active || wanted.target.is_some() => *seen = now,
            Some(_) => {}
            None => drop(draft.memory.retained_slots.insert(name.clone(), now)),
        }
    }
}

/// A promotion restarts all clocks: whoever is absent now has the full time to come back.
pub(crate) fn keep_all(draft: &mut Draft, cluster: &Cluster) {
    let now = draft.now();
    for seen in draft.memory.retained_slots.values_mut() {
        *seen = now;
    }
    let retained = cluster.status.as_ref().and_then(|key| key.value.retain_slots.as_ref());
    for name in retained.into_iter().flatten() {
        draft.memory.retained_slots.insert(name.clone(), now);
    }
}

/// The names that the leader publishes: slots of members that were here within `member_slots_ttl`, its own included.
pub(crate) fn retained(draft: &Draft, server: &Server) -> Option<BTreeSet<String>> {
    let view = draft.view;
    if !keeps_slots(draft) {
        return None;
    }
    let ttl = view.settings.member_slots_ttl;
    let mut names: BTreeSet<String> = server
        .slots
        .iter()
        .filter(|slot| slot.physical && !slot.temporary)
        .filter(|slot| {
            draft.memory.retained_slots.get(&slot.name).is_some_and(|&seen| view.now.since(seen) < ttl)
        })
        .map(|slot| slot.name.clone())
        .collect();
    if !view.me.tags.nostream() {
        names.insert(view.me.name.slot_name());
    }
    Some(names)
}

fn create(draft: &mut Draft, server: &Server, wanted: &BTreeMap<String, Wanted>) {
    let is_there = |name: &String| server.slots.iter().any(|slot| slot.name == *name);
    if wanted.keys().all(is_there) {
        return;
    }
    let names = wanted.keys().filter(|name| !is_there(name)).cloned().collect();
    draft.attempt(Attempt::CreateSlots, Action::CreateSlots { names });
}

/// Slots of members that stream from elsewhere follow what the leader publishes, and never pass what is replayed here.
fn advance(draft: &mut Draft, server: &Server, wanted: &BTreeMap<String, Wanted>) {
    if !keeps_slots(draft) {
        return;
    }
    let limit = if server.in_recovery { server.replayed } else { server.position };
    let behind = |slot: &&Slot| slot.physical && !slot.active && !slot.has_xmin;
    let to: BTreeMap<String, Lsn> = server
        .slots
        .iter()
        .filter(behind)
        .filter_map(|slot| {
            let wanted = wanted.get(&slot.name).filter(|wanted| !wanted.is_active)?;
            let target = wanted.target?.min(limit);
            (target > slot.restart_lsn?).then(|| (slot.name.clone(), target))
        })
        .collect();
    if !to.is_empty() {
        draft.every(draft.view.settings.loop_wait, Attempt::AdvanceSlots, Action::AdvanceSlots { to });
    }
}

fn drop_unwanted(draft: &mut Draft, cluster: &Cluster, server: &Server, wanted: &BTreeMap<String, Wanted>) {
    let view = draft.view;
    if view.settings.pause {
        return;
    }
    let names: BTreeSet<String> = server
        .slots
        .iter()
        .filter(|slot| slot.physical && !slot.temporary && !slot.active)
        .filter(|slot| match wanted.get(&slot.name) {
            Some(wanted) => is_broken(draft, cluster, server, slot, *wanted),
            None => has_expired(draft, slot),
        })
        .map(|slot| slot.name.clone())
        .collect();
    if names.is_empty() {
        draft.memory.retained_slots.retain(|name, _| {
            wanted.contains_key(name) || server.slots.iter().any(|slot| slot.name == *name)
        });
        return;
    }
    draft.every(view.settings.loop_wait, Attempt::DropSlots, Action::DropSlots { names });
}

/// The slot of a member that has not been here for `member_slots_ttl`. A slot that was never a member's is not ours to drop.
fn has_expired(draft: &Draft, slot: &Slot) -> bool {
    let seen = draft.memory.retained_slots.get(&slot.name);
    seen.is_some_and(|&seen| {
        !keeps_slots(draft) || draft.now().since(seen) >= draft.view.settings.member_slots_ttl
    })
}

/// A wanted slot that must be made anew.
fn is_broken(draft: &Draft, cluster: &Cluster, server: &Server, slot: &Slot, wanted: Wanted) -> bool {
    if slot.wal_status_lost {
        return true;
    }
    if wanted.is_active {
        return false;
    }
    // An xmin that nobody moves freezes vacuum everywhere; but who streams from whom is settled only once a leader leads.
    let is_settled = cluster.leader.is_some() && (draft.view.held().is_none() || !server.in_recovery);
    (slot.has_xmin && is_settled) || slot.restart_lsn.is_none()
}
