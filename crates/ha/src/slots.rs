//! Replication slots: which belong on this member, and what is done about those that differ.
//!
//! Every member that may lead keeps a slot for every other, so that nobody loses WAL when the leader changes, and the permanent slots of
//! the configuration. What nobody is known to need is dropped: it would fill the disk. Slots that are in use, temporary, matched by
//! `ignore_slots` or looked after by the server itself (failover slots) are never touched, and in pause none is dropped.
//!
//! [`wanted`] says which slots belong here, [`dropping`] which do not, [`logical`] carries logical slots over to standbys ([`turn`]: one
//! after the other), and [`topology`] answers who streams from whom.

mod dropping;
mod logical;
mod topology;
mod turn;
mod wanted;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bellwether_types::{Lsn, Role, cluster::Cluster, slots::SlotKind};

use crate::{
    Action, Reason, View,
    draft::Draft,
    memory::{Attempt, SlotCopies},
    view::{Server, Slot},
};

use wanted::{Origin, Wanted};

/// Versions from which on slots can be advanced, and so kept on standbys.
const CAN_ADVANCE: u32 = 110_000;
/// Versions whose servers synchronise failover slots.
const HAS_FAILOVER_SLOTS: u32 = 170_000;

/// How soon it is tried again to make a slot for which there is no room, say.
const CREATE_AGAIN: Duration = Duration::from_secs(1);

/// Creates, drops, advances and copies what differs from what is wanted. A reason: PostgreSQL is restarted for it.
pub(crate) fn process(draft: &mut Draft, cluster: &Cluster) -> Option<Reason> {
    let view = draft.view;
    if draft.memory.bootstrapping.is_some() {
        draft.memory.slot_copies = SlotCopies::default();
        return None;
    }
    let server = view.server()?;
    force_feedback(draft, cluster, server);
    let wanted = wanted::wanted(draft, cluster, server);
    complain(draft, cluster, &wanted);
    note(draft, &wanted);
    dropping::process(draft, cluster, server, &wanted);
    create(draft, server, &wanted);
    advance(draft, server, &wanted);
    logical::process(draft, cluster, server, &wanted)
}

fn can_advance(view: &View) -> bool {
    view.postgres.server_version == 0 || view.postgres.server_version >= CAN_ADVANCE
}

/// Slots are kept on all members and for absent ones.
fn keeps_slots(view: &View) -> bool {
    view.settings.use_slots && can_advance(view) && !view.settings.member_slots_ttl.is_zero()
}

/// Position per slot, as the leader publishes it: for logical slots what the consumer confirmed, for physical ones the start of the WAL
/// that they keep, and the leader's own name with its own position. With `member_slots_ttl: 0` only permanent ones. `None`: nothing to
/// tell.
pub fn published(view: &View) -> Option<BTreeMap<String, Lsn>> {
    let server = view.server()?;
    if !can_advance(view) {
        return None;
    }
    let own = (view.me.name.slot_name(), server.position);
    let positions = server.slots.iter().filter(|slot| !slot.temporary).filter_map(|slot| {
        let position = if slot.physical { slot.restart_lsn } else { slot.confirmed_flush_lsn };
        Some((slot.name.clone(), position?))
    });
    let mut published: BTreeMap<String, Lsn> = positions.chain([own]).collect();
    if !keeps_slots(view) {
        published.retain(|name, _| view.settings.slots.contains_key(name));
    }
    Some(published).filter(|published| !published.is_empty())
}

/// Notes which slots are wanted, for those who publish it before [`process`] has its turn.
pub(crate) fn remember(draft: &mut Draft, cluster: &Cluster) {
    if let Some(server) = draft.view.server() {
        let wanted = wanted::wanted(draft, cluster, server);
        note(draft, &wanted);
    }
}

/// Notes when the slot of each member was last wanted for it while it was present.
fn note(draft: &mut Draft, wanted: &BTreeMap<String, Wanted>) {
    let now = draft.now();
    for (name, wanted) in wanted {
        match wanted.origin {
            Origin::Member => drop(draft.memory.retained_slots.insert(name.clone(), now)),
            // A name that is only retained is not seen again by that.
            Origin::Retained => drop(draft.memory.retained_slots.entry(name.clone()).or_insert(now)),
            Origin::Permanent => drop(draft.memory.retained_slots.remove(name)),
        }
    }
}

/// This member is about to be promoted: whoever is absent now has the full time to come back.
pub(crate) fn before_promotion(draft: &mut Draft, cluster: &Cluster) {
    let now = draft.now();
    for seen in draft.memory.retained_slots.values_mut() {
        *seen = now;
    }
    let retained = cluster.status.as_ref().and_then(|key| key.value.retain_slots.as_ref());
    for name in retained.into_iter().flatten() {
        draft.memory.retained_slots.insert(name.clone(), now);
    }
    logical::tell_unready(draft, cluster);
}

/// The names that the leader publishes: slots of members that were here within `member_slots_ttl`, its own included. Permanent ones are
/// kept anyhow.
pub(crate) fn retained(draft: &Draft, server: &Server) -> Option<BTreeSet<String>> {
    let view = draft.view;
    if !keeps_slots(view) {
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
    names.retain(|name| !view.settings.slots.contains_key(name));
    Some(names)
}

/// What a person should put right.
fn complain(draft: &mut Draft, cluster: &Cluster, wanted: &BTreeMap<String, Wanted>) {
    let mut by_slot: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for member in cluster.members.values().filter(|member| !member.tags.nostream()) {
        by_slot.entry(member.name.slot_name()).or_default().push(member.name.as_str());
    }
    for (slot, members) in by_slot.into_iter().filter(|(_, members)| members.len() > 1) {
        draft.note(Reason::SlotNameShared { slot, members: members.join(", ") });
    }
    let my_slot = draft.view.me.name.slot_name();
    for (name, permanent) in &draft.view.settings.slots {
        let is_taken =
            *name == my_slot || wanted.get(name).is_some_and(|wanted| wanted.origin == Origin::Member);
        if matches!(permanent.kind, SlotKind::Logical(_)) && is_taken {
            draft.note(Reason::SlotNameTaken { slot: name.clone() });
        }
    }
}

/// Without feedback the primary removes the rows of catalogs that a copied slot needs to decode its WAL.
fn force_feedback(draft: &mut Draft, cluster: &Cluster, server: &Server) {
    let view = draft.view;
    let on = can_advance(view) && topology::needs_feedback(view, cluster);
    // The files are written for the role; in the middle of a change of it they would be the wrong ones.
    let is_settled = match view.postgres.role {
        Role::Primary => !server.in_recovery,
        Role::Replica | Role::StandbyLeader => server.in_recovery,
        _ => false,
    };
    if is_settled && on != view.postgres.feedback_forced {
        draft.every(view.settings.loop_wait, Attempt::ForceFeedback, Action::ForceFeedback { on });
    }
}

fn create(draft: &mut Draft, server: &Server, wanted: &BTreeMap<String, Wanted>) {
    let is_missing = |name: &String| server.slots.iter().all(|slot| slot.name != *name);
    let names: BTreeSet<String> = wanted
        .iter()
        .filter(|(name, wanted)| wanted.kind == SlotKind::Physical && is_missing(name))
        .map(|(name, _)| name.clone())
        .collect();
    // A member that has just joined wants to stream now.
    let is_news = names.iter().any(|name| !draft.memory.slots_asked.contains(name));
    let pace = if is_news { Duration::ZERO } else { CREATE_AGAIN };
    let action = Action::CreateSlots { names: names.clone() };
    if names.is_empty() || draft.every(pace, Attempt::CreateSlots, action) {
        draft.memory.slots_asked = names;
    }
}

/// Physical slots whose consumers stream from elsewhere follow what the leader publishes, and never pass what is replayed here.
fn advance(draft: &mut Draft, server: &Server, wanted: &BTreeMap<String, Wanted>) {
    if !can_advance(draft.view) {
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
            let target = wanted.target.filter(|_| wanted.kind == SlotKind::Physical)?.min(limit);
            (target > slot.restart_lsn?).then(|| (slot.name.clone(), target))
        })
        .collect();
    if !to.is_empty() {
        draft.every(draft.view.settings.loop_wait, Attempt::AdvanceSlots, Action::AdvanceSlots { to });
    }
}
