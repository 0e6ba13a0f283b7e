//! Which slots are dropped, and why.

use std::collections::BTreeMap;

use bellwether_types::{
    Alarm,
    cluster::{Cluster, ConfigDocument},
    settings::WalDiskMode,
    slots::SlotKind,
};

use super::{HAS_FAILOVER_SLOTS, Origin, Wanted, keeps_slots};
use crate::{
    Action,
    action::DropWhy,
    draft::Draft,
    memory::Attempt,
    view::{Server, Slot},
};

/// Two segments of WAL.
const WORTH_IT: u64 = 2 * 16 * 1024 * 1024;

pub(super) fn process(
    draft: &mut Draft,
    cluster: &Cluster,
    server: &Server,
    wanted: &BTreeMap<String, Wanted>,
) {
    let view = draft.view;
    // What was wanted when the store was heard last may not be all that is wanted now.
    if view.settings.pause || view.store.usable(view.now, view.patience()).is_none() {
        return;
    }
    let evicted = evicted(draft, server, wanted);
    let slots: BTreeMap<String, DropWhy> = server
        .slots
        .iter()
        .filter(|slot| !slot.temporary && !slot.active && !is_ignored(draft, slot))
        .filter(|slot| server.in_recovery || !is_of_citus(draft, slot))
        .filter_map(|slot| {
            let is_evicted = evicted.as_ref() == Some(&slot.name);
            let why =
                is_evicted.then_some(DropWhy::DiskFull).or_else(|| why(draft, cluster, server, slot, wanted));
            Some((slot.name.clone(), why?))
        })
        .collect();
    if slots.is_empty() {
        draft.memory.retained_slots.retain(|name, _| {
            wanted.contains_key(name) || server.slots.iter().any(|slot| slot.name == *name)
        });
        return;
    }
    let is_done = draft.every(view.settings.loop_wait, Attempt::DropSlots, Action::DropSlots { slots });
    // Only a checkpoint removes what nobody needs any more, and the next one may be minutes away.
    if is_done && evicted.is_some() && !draft.is_busy() {
        draft.then(Action::Checkpoint);
    }
}

/// The one that holds back most of those that this program made for members that are away. Their members have to be copied anew, so
/// this is done only where `wal_disk_guard` says so, on the primary, one per `loop_wait`, and only while the disk is nearly full.
fn evicted(draft: &Draft, server: &Server, wanted: &BTreeMap<String, Wanted>) -> Option<String> {
    let is_asked_for = draft.view.settings.wal_disk_guard.mode == WalDiskMode::EvictSlots;
    let is_full = draft.memory.gray.alarms.contains_key(&Alarm::WalDiskFull);
    if !is_asked_for || !is_full || server.in_recovery {
        return None;
    }
    let is_ours = |slot: &&Slot| {
        let origin = wanted.get(&slot.name).map(|wanted| wanted.origin);
        matches!(origin, Some(Origin::Member | Origin::Retained))
            || draft.memory.retained_slots.contains_key(&slot.name)
    };
    let away = server.slots.iter().filter(|slot| slot.physical && !slot.active && !slot.temporary);
    let holding = away.filter(is_ours).filter_map(|slot| Some((slot.restart_lsn?, &slot.name)));
    // A slot that was made anew holds back nothing worth the copy, nor does one whose WAL is kept without it.
    let worth = WORTH_IT + server.kept_wal;
    let (_, name) = holding.filter(|(at, _)| server.position - *at >= worth).min()?;
    Some(name.clone())
}

fn is_ignored(draft: &Draft, slot: &Slot) -> bool {
    let (database, plugin) = (slot.database.as_deref(), slot.plugin.as_deref());
    draft.view.settings.ignore_slots.iter().any(|matcher| matcher.matches(&slot.name, database, plugin))
}

/// Made on a primary by Citus, to move or to split a shard, and dropped by it when that is done.
fn is_of_citus(draft: &Draft, slot: &Slot) -> bool {
    let database = draft.view.settings.citus_database.as_deref();
    let of_task = |task: &str, plugin: &str| {
        let numbers = slot.name.strip_prefix(&format!("citus_shard_{task}_slot_")).unwrap_or_default();
        let is_number = |text: &str| !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
        let count = numbers.split('_').filter(|text| !text.is_empty() && is_number(text)).count();
        slot.plugin.as_deref() == Some(plugin)
            && matches!(count, 2 | 3)
            && count == numbers.split('_').count()
    };
    database.is_some()
        && slot.database.as_deref() == database
        && (of_task("move", "pgoutput") || of_task("split", "citus"))
}

fn why(
    draft: &Draft,
    cluster: &Cluster,
    server: &Server,
    slot: &Slot,
    wanted: &BTreeMap<String, Wanted>,
) -> Option<DropWhy> {
    if slot.failover || slot.synced {
        return is_stale_original(draft, cluster, server, slot).then_some(DropWhy::NotSynced);
    }
    let Some(wanted) = wanted.get(&slot.name) else { return why_unwanted(draft, cluster, slot) };
    if slot.wal_status_lost {
        return Some(DropWhy::Lost);
    }
    if !is_as_wanted(slot, &wanted.kind) {
        return Some(DropWhy::Changed);
    }
    if !slot.physical || wanted.is_active {
        return None;
    }
    // An xmin that nobody moves freezes vacuum everywhere; but who streams from whom is settled only once a leader leads.
    let is_settled = cluster.leader.is_some() && (draft.view.held().is_none() || !server.in_recovery);
    match slot {
        // The slot of a member that is away keeps what the member will need; `member_slots_ttl` bounds how long.
        Slot { has_xmin: true, .. } if wanted.origin == Origin::Retained => None,
        Slot { has_xmin: true, .. } => is_settled.then_some(DropWhy::HasXmin),
        Slot { restart_lsn: None, .. } => Some(DropWhy::NoRestartLsn),
        _ => None,
    }
}

/// A slot of which nobody here knows. As long as it is not known what is wanted, all are kept; and without a leader those who
/// need one may just not be registered.
fn why_unwanted(draft: &Draft, cluster: &Cluster, slot: &Slot) -> Option<DropWhy> {
    let config = cluster.config.as_ref().map(|key| &key.value);
    let is_known = matches!(config, Some(ConfigDocument::Valid(_))) && cluster.status.is_some();
    if !is_known || cluster.is_unlocked() {
        return None;
    }
    let ttl = draft.view.settings.member_slots_ttl;
    match draft.memory.retained_slots.get(&slot.name).filter(|_| slot.physical) {
        None => Some(DropWhy::Unknown),
        Some(_) if !keeps_slots(draft.view) => Some(DropWhy::Unknown),
        Some(&seen) if draft.now().since(seen) >= ttl => Some(DropWhy::Expired { ttl }),
        Some(_) => None,
    }
}

fn is_as_wanted(slot: &Slot, wanted: &SlotKind) -> bool {
    match wanted {
        SlotKind::Physical => slot.physical,
        SlotKind::Logical(wanted) => {
            slot.database.as_ref() == Some(&wanted.database) && slot.plugin.as_ref() == Some(&wanted.plugin)
        }
    }
}

/// A failover slot of the time when this member was the primary: the server refuses to synchronise over it.
fn is_stale_original(draft: &Draft, cluster: &Cluster, server: &Server, slot: &Slot) -> bool {
    let view = draft.view;
    let somebody_else_leads = cluster.leader_name().is_some_and(|leader| !view.is_me(leader));
    view.postgres.server_version >= HAS_FAILOVER_SLOTS
        && server.in_recovery
        && somebody_else_leads
        && !slot.physical
        && slot.failover
        && !slot.synced
}
