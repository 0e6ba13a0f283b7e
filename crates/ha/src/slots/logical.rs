//! Logical slots on standbys: copied from the primary, moved along with it, and known to be safe or not.
//!
//! A copy decodes WAL by the catalogs of this server, whose old rows the primary removes unless it is told not to. So after a copy was
//! made the primary must be seen to keep, by this standby's physical slot, what the original kept at that moment: only then may a
//! consumer go on with the copy after a promotion.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bellwether_types::{
    Role, Timestamp,
    cluster::Cluster,
    slots::{LogicalSlot, SlotKind},
};

use super::{HAS_FAILOVER_SLOTS, topology, turn, wanted, wanted::Wanted};
use crate::{
    Action, Reason,
    action::LogicalAdvance,
    draft::Draft,
    failsafe,
    memory::{Attempt, SlotCopies},
    restart,
    view::{JobKind, JobOutcome, LeaderSlot, LeaderSlots, Server, Slot},
};

/// The same slot is not copied again earlier: each time costs a restart of the server.
const COPY_AGAIN: Duration = Duration::from_secs(300);

pub(super) fn process(
    draft: &mut Draft,
    cluster: &Cluster,
    server: &Server,
    wanted: &BTreeMap<String, Wanted>,
) -> Option<Reason> {
    let logical: BTreeMap<&String, &LogicalSlot> = wanted
        .iter()
        .filter_map(|(name, wanted)| match &wanted.kind {
            SlotKind::Logical(slot) => Some((name, slot)),
            SlotKind::Physical => None,
        })
        .collect();
    if !server.in_recovery {
        draft.memory.slot_copies = SlotCopies::default();
        create(draft, server, &logical);
        return None;
    }
    if logical.is_empty() {
        draft.memory.slot_copies = SlotCopies::default();
        return None;
    }
    advance(draft, cluster, server, &logical);
    draft.memory.slot_copies.waiting = false;
    let leader = cluster.leader_name().filter(|leader| !draft.view.is_me(leader))?;
    if draft.memory.slot_copies.leader.as_ref() != Some(leader) {
        draft.memory.slot_copies = SlotCopies { leader: Some(leader.clone()), ..SlotCopies::default() };
    }
    take_in_readiness(draft, cluster, server, &logical);
    let needed = to_copy(draft, cluster, server, &logical);
    ask_leader(draft, cluster, server, &logical, &needed);
    copy(draft, server, &logical, needed)
}

fn here<'s>(server: &'s Server, name: &str) -> Option<&'s Slot> {
    server.slots.iter().find(|slot| slot.name == name)
}

fn create(draft: &mut Draft, server: &Server, logical: &BTreeMap<&String, &LogicalSlot>) {
    let slots: BTreeMap<String, LogicalSlot> = logical
        .iter()
        .filter(|(name, _)| here(server, name).is_none())
        .map(|(name, slot)| ((*name).clone(), (*slot).clone()))
        .collect();
    if !slots.is_empty() {
        let period = draft.view.settings.loop_wait;
        draft.every(period, Attempt::CreateLogicalSlots, Action::CreateLogicalSlots { slots });
    }
}

/// Copies follow what the consumer has confirmed to the leader, and never pass what is replayed here.
fn advance(draft: &mut Draft, cluster: &Cluster, server: &Server, logical: &BTreeMap<&String, &LogicalSlot>) {
    let Some(published) = wanted::published(draft, cluster) else { return };
    let unusable = &draft.view.postgres.unusable_slots;
    let to: BTreeMap<String, LogicalAdvance> = logical
        .iter()
        .filter_map(|(name, wanted)| {
            let slot = here(server, name).filter(|slot| !slot.physical && !slot.active && !slot.synced)?;
            if unusable.contains(*name) || slot.database.as_ref() != Some(&wanted.database) {
                return None;
            }
            let to = (*published.get(*name)?).min(server.replayed);
            let advance = LogicalAdvance { database: wanted.database.clone(), to };
            (to > slot.confirmed_flush_lsn?).then(|| ((*name).clone(), advance))
        })
        .collect();
    if !to.is_empty() {
        let period = draft.view.settings.loop_wait;
        draft.every(period, Attempt::AdvanceLogicalSlots, Action::AdvanceLogicalSlots { to });
    }
}

/// An answer of the present leader that is new enough to act on.
fn fresh_answer<'v>(draft: &Draft<'v>, cluster: &Cluster) -> Option<&'v LeaderSlots> {
    let view = draft.view;
    let limit = view.settings.loop_wait * 2;
    view.postgres.leader_slots.as_ref().filter(|answer| {
        cluster.leader_name() == Some(&answer.leader) && view.now.since(answer.asked_at) <= limit
    })
}

fn take_in_readiness(
    draft: &mut Draft,
    cluster: &Cluster,
    server: &Server,
    logical: &BTreeMap<&String, &LogicalSlot>,
) {
    let view = draft.view;
    let copies = &mut draft.memory.slot_copies;
    // A copy that is not there any more must be waited for anew.
    copies.ready.retain(|name| logical.contains_key(name) && here(server, name).is_some());
    copies.recorded.retain(|name, _| logical.contains_key(name) && here(server, name).is_some());
    let Some(answer) = fresh_answer(draft, cluster) else { return };
    let copies = &mut draft.memory.slot_copies;
    // What the server says of its own slots must not be older than the primary's answer.
    if answer.asked_at <= copies.seen_at || server.answered_at < answer.asked_at {
        return;
    }
    copies.seen_at = answer.asked_at;
    let my_slot = topology::slot_on_primary(cluster, &view.me.name, &view.me.tags);
    let on_primary = my_slot.as_ref().and_then(|slot| answer.slots.get(slot));
    let Some(kept) = on_primary.and_then(|slot| slot.catalog_xmin) else {
        copies.recorded.clear();
        if !server.hot_standby_feedback {
            draft.note(Reason::FeedbackIsOff);
        } else if let Some(slot) = my_slot.filter(|_| on_primary.is_none()) {
            draft.note(Reason::SlotMissingOnPrimary { slot });
        }
        return;
    };
    let unready: Vec<&String> =
        logical.keys().copied().filter(|name| is_unready(copies, server, name)).collect();
    let mut now_ready = Vec::new();
    for name in unready {
        let (Some(original), Some(copy)) = (answer.slots.get(name), here(server, name)) else { continue };
        let Some(xmin) = original.catalog_xmin else { continue };
        let recorded = *copies.recorded.entry(name.clone()).or_insert(xmin);
        let is_kept_for_copy = copy.catalog_xmin.is_some_and(|copy| !precedes(copy, kept));
        if !precedes(kept, recorded) && is_kept_for_copy {
            now_ready.push(name.clone());
        }
    }
    for slot in now_ready {
        draft.memory.slot_copies.recorded.remove(&slot);
        draft.memory.slot_copies.ready.insert(slot.clone());
        draft.note(Reason::LogicalSlotReady { slot });
    }
}

/// A copy of which it is not known that it is safe. What the server synchronises is its own affair.
fn is_unready(copies: &SlotCopies, server: &Server, name: &str) -> bool {
    here(server, name).is_some_and(|slot| !slot.synced) && !copies.ready.contains(name)
}

/// Transaction numbers wrap around.
fn precedes(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) > u32::MAX / 2
}

/// Copies that are missing here or of no use any more, and whose originals exist.
fn to_copy(
    draft: &Draft,
    cluster: &Cluster,
    server: &Server,
    logical: &BTreeMap<&String, &LogicalSlot>,
) -> BTreeSet<String> {
    let view = draft.view;
    let Some(published) = wanted::published(draft, cluster) else { return BTreeSet::new() };
    let was_cancelled = draft.outcome(&JobKind::CopySlots) == Some(&JobOutcome::Cancelled);
    let copied_at = &draft.memory.slot_copies.copied_at;
    let has_failover_slots = view.postgres.server_version >= HAS_FAILOVER_SLOTS;
    let is_synced_by_server = |slot: &LogicalSlot| slot.failover && has_failover_slots;
    let is_time =
        |at: Option<&Timestamp>| was_cancelled || at.is_none_or(|&at| view.now.since(at) >= COPY_AGAIN);
    logical
        .iter()
        .filter(|(name, slot)| {
            let is_of_no_use = match here(server, name) {
                None => true,
                Some(slot) => !slot.active && view.postgres.unusable_slots.contains(**name),
            };
            // The servers do it by themselves.
            is_of_no_use
                && !is_synced_by_server(slot)
                && published.contains_key(**name)
                && is_time(copied_at.get(**name))
        })
        .map(|(name, _)| (*name).clone())
        .collect()
}

fn ask_leader(
    draft: &mut Draft,
    cluster: &Cluster,
    server: &Server,
    logical: &BTreeMap<&String, &LogicalSlot>,
    needed: &BTreeSet<String>,
) {
    let view = draft.view;
    let copies = &draft.memory.slot_copies;
    if needed.is_empty() && !logical.keys().any(|name| is_unready(copies, server, name)) {
        return;
    }
    let Some(leader) = view.leader_upstream(cluster) else { return };
    let mine = topology::slot_on_primary(cluster, &view.me.name, &view.me.tags);
    let names = logical.keys().map(|name| (*name).clone()).chain(mine).collect();
    let states_of = needed.clone();
    let ask = Action::AskLeaderSlots { leader, names, states_of };
    draft.every(view.settings.loop_wait, Attempt::AskLeaderSlots, ask);
}

/// Copies all that can be copied: one restart for all.
fn copy(
    draft: &mut Draft,
    server: &Server,
    logical: &BTreeMap<&String, &LogicalSlot>,
    needed: BTreeSet<String>,
) -> Option<Reason> {
    let view = draft.view;
    let may_restart = view.postgres.role == Role::Replica
        && view.held().is_none()
        && !view.settings.pause
        && failsafe::living_leader(draft).is_none();
    if needed.is_empty() || !may_restart {
        forget_turn(draft);
        return None;
    }
    let cluster = view.store.usable(view.now, view.patience())?;
    let answer = fresh_answer(draft, cluster)?;
    let mut names = BTreeSet::new();
    for name in needed {
        let Some(original) = answer.slots.get(&name) else { continue };
        let is_there = here(server, &name).is_some();
        let copied_xmin = draft.memory.slot_copies.copied_xmin.get(&name);
        if is_there && copied_xmin.is_some() && copied_xmin == original.catalog_xmin.as_ref() {
            // A transaction holds it where it was: another copy would be of no more use than the one that is here.
            draft.note(Reason::LogicalSlotHeldBack { slot: name });
            continue;
        }
        match is_same(original, logical[&name]) {
            true if original.has_state && !original.failover => drop(names.insert(name)),
            true => {}
            false => draft.note(Reason::LogicalSlotMismatch { slot: name }),
        }
    }
    if names.is_empty() {
        forget_turn(draft);
        return None;
    }
    if !has_room(server, &names) {
        draft.note(Reason::LogicalSlotsHaveNoRoom { names: listed(&names) });
        return None;
    }
    if draft.is_busy() || draft.backing_off(&JobKind::CopySlots) {
        return None;
    }
    if !turn::has_come(draft, cluster) {
        draft.note(Reason::LogicalSlotsTakeTurns { names: listed(&names) });
        return None;
    }
    if !restart::released_sync_duty(draft) {
        draft.memory.slot_copies.waiting = true;
        return None;
    }
    for name in &names {
        draft.memory.slot_copies.copied_at.insert(name.clone(), view.now);
        match answer.slots.get(name).and_then(|original| original.catalog_xmin) {
            Some(xmin) => drop(draft.memory.slot_copies.copied_xmin.insert(name.clone(), xmin)),
            None => drop(draft.memory.slot_copies.copied_xmin.remove(name)),
        }
        draft.memory.slot_copies.ready.remove(name);
        draft.memory.slot_copies.recorded.remove(name);
    }
    forget_turn(draft);
    draft.memory.recovering = true;
    draft.memory.start_wanted = true;
    let reason = Reason::CopyingLogicalSlots { names: listed(&names) };
    let stop_limit = restart::stop_limit(view, None);
    draft.then(Action::CopySlots { names, stop_limit });
    Some(reason)
}

fn forget_turn(draft: &mut Draft) {
    let copies = &mut draft.memory.slot_copies;
    (copies.wanted_since, copies.all_up_since) = (None, None);
}

fn is_same(original: &LeaderSlot, wanted: &LogicalSlot) -> bool {
    original.database.as_ref() == Some(&wanted.database) && original.plugin.as_ref() == Some(&wanted.plugin)
}

/// A server does not start with more slots than it may have, nor with a logical one below `wal_level=logical`.
fn has_room(server: &Server, copies: &BTreeSet<String>) -> bool {
    let others = server.slots.iter().filter(|slot| !copies.contains(&slot.name)).count();
    server.wal_level == "logical" && others + copies.len() <= server.max_replication_slots as usize
}

fn listed(names: &BTreeSet<String>) -> String {
    names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ")
}

/// Before a promotion: the copies that may not have what they need.
pub(super) fn tell_unready(draft: &mut Draft, cluster: &Cluster) {
    let view = draft.view;
    let Some(server) = view.server().filter(|server| server.in_recovery) else { return };
    if !topology::has_logical_slots(view, cluster, &view.me.name, &view.me.tags) {
        return;
    }
    let ready = &draft.memory.slot_copies.ready;
    let names: BTreeSet<String> = server
        .slots
        .iter()
        .filter(|slot| !slot.physical && !slot.synced && !slot.temporary)
        .filter(|slot| view.settings.slots.contains_key(&slot.name) && !ready.contains(&slot.name))
        .map(|slot| slot.name.clone())
        .collect();
    if !names.is_empty() {
        draft.note(Reason::LogicalSlotsNotReady { names: listed(&names) });
    }
}
