//! Which slots belong on this member.

use std::collections::BTreeMap;

use bellwether_types::{
    Lsn, MemberName,
    cluster::Cluster,
    slots::{PermanentSlot, SlotClusterType, SlotKind},
};

use super::{can_advance, keeps_slots, topology};
use crate::{draft::Draft, view::Server};

/// What a slot is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) kind: SlotKind,
    pub(super) origin: Origin,
    /// The consumer is expected to be connected here, so the slot moves by itself.
    pub(super) is_active: bool,
    /// Where to move it otherwise.
    pub(super) target: Option<Lsn>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Of a member that is present.
    Member,
    /// Of a member that was here a while ago: kept where it is.
    Retained,
    /// Of the configuration.
    Permanent,
}

/// The slots that belong here. With `use_slots: false` none does: members no longer use theirs, which would hold back WAL for ever.
pub(super) fn wanted(draft: &Draft, cluster: &Cluster, server: &Server) -> BTreeMap<String, Wanted> {
    if !draft.view.settings.use_slots {
        return BTreeMap::new();
    }
    let mut slots = of_members(draft, cluster);
    add_retained(draft, cluster, &mut slots);
    add_permanent(draft, cluster, server, &mut slots);
    slots
}

/// Where slots are on the leader, as it said last: in the store or, while that is silent, by failsafe.
pub(super) fn published<'d>(draft: &'d Draft, cluster: &'d Cluster) -> Option<&'d BTreeMap<String, Lsn>> {
    let view = draft.view;
    let by_failsafe = view.failsafe.accepted.as_ref().filter(|_| view.settings.failsafe_mode);
    by_failsafe
        .map(|accepted| &accepted.slots)
        .or_else(|| cluster.status.as_ref().and_then(|key| key.value.slots.as_ref()))
}

static NOTHING_TOLD: BTreeMap<MemberName, Lsn> = BTreeMap::new();

fn of_members(draft: &Draft, cluster: &Cluster) -> BTreeMap<String, Wanted> {
    let view = draft.view;
    let retains = keeps_slots(view);
    let nofailover = view.me.tags.nofailover();
    let my_slot = view.me.name.slot_name();
    let published = published(draft, cluster);
    // While the store is silent, members tell the leader where they are when they accept that it goes on.
    let told = view.failsafe.round.as_ref().map_or(&NOTHING_TOLD, |round| &round.positions);
    let leader_is_old = leader_publishes_no_member_slots(cluster);
    let mut slots = BTreeMap::new();
    for member in cluster.members.values() {
        if view.is_me(&member.name) || member.tags.nostream() {
            continue;
        }
        let is_active = topology::streams_from_me(draft, cluster, member);
        if !is_active && (!retains || nofailover) {
            continue;
        }
        let name = member.name.slot_name();
        if name == my_slot {
            continue;
        }
        let target = published.and_then(|published| published.get(&name).copied());
        let cascades = member.tags.replicatefrom().is_some();
        let own = told.get(&member.name).copied().max(member.xlog_location);
        let own = own.filter(|_| cascades || leader_is_old);
        slots.insert(
            name,
            Wanted { kind: SlotKind::Physical, origin: Origin::Member, is_active, target: target.max(own) },
        );
    }
    slots
}

/// Patroni before 4.0 publishes permanent slots only.
fn leader_publishes_no_member_slots(cluster: &Cluster) -> bool {
    let version = cluster.leader_member().and_then(|leader| leader.version.as_deref());
    let major = version.and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    major.is_some_and(|major| major < 4)
}

fn add_retained(draft: &Draft, cluster: &Cluster, slots: &mut BTreeMap<String, Wanted>) {
    let view = draft.view;
    if !keeps_slots(view) || view.me.tags.nofailover() {
        return;
    }
    let my_slot = view.me.name.slot_name();
    let retained = cluster.status.as_ref().and_then(|key| key.value.retain_slots.as_ref());
    for name in retained.into_iter().flatten().filter(|name| **name != my_slot) {
        slots.entry(name.clone()).or_insert(Wanted {
            kind: SlotKind::Physical,
            origin: Origin::Retained,
            is_active: false,
            target: None,
        });
    }
}

fn add_permanent(draft: &Draft, cluster: &Cluster, server: &Server, slots: &mut BTreeMap<String, Wanted>) {
    let view = draft.view;
    let is_primary = !server.in_recovery;
    // Who got this tag while it leads goes on: its consumers are here.
    if view.me.tags.nofailover() && !is_primary {
        return;
    }
    let is_standby_cluster = view.settings.standby_cluster.is_some();
    let leads = topology::leads(view, cluster);
    // Without a way to move it, a slot on a standby would keep WAL for ever.
    let consumer_is_here = is_primary || (leads && is_standby_cluster);
    if !consumer_is_here && !can_advance(view) {
        return;
    }
    let way = topology::slot_on_primary(cluster, &view.me.name, &view.me.tags);
    let only_physical = is_standby_cluster || (way.is_none() && !is_primary);
    let my_slot = view.me.name.slot_name();
    let published = published(draft, cluster);
    for (name, permanent) in &view.settings.slots {
        if only_physical && !belongs_in(permanent, is_standby_cluster) {
            continue;
        }
        let is_members = slots.get(name).is_some_and(|wanted| wanted.origin == Origin::Member);
        let is_physical = permanent.kind == SlotKind::Physical;
        if is_members || *name == my_slot || (!is_physical && !can_advance(view)) {
            continue;
        }
        let cascades = cluster
            .members
            .values()
            .any(|member| member.name.slot_name() == *name && member.tags.replicatefrom().is_some());
        let wanted = Wanted {
            kind: permanent.kind.clone(),
            origin: Origin::Permanent,
            is_active: leads && !cascades,
            target: published.and_then(|published| published.get(name).copied()),
        };
        slots.insert(name.clone(), wanted);
    }
}

/// Where there are only physical slots, one may be meant for the other kind of cluster.
fn belongs_in(slot: &PermanentSlot, is_standby_cluster: bool) -> bool {
    let here = if is_standby_cluster { SlotClusterType::Standby } else { SlotClusterType::Primary };
    slot.kind == SlotKind::Physical && slot.cluster_type.is_none_or(|kind| kind == here)
}
