//! This member holds the lock and PostgreSQL runs.

use bellwether_types::{
    Role,
    cluster::{Cluster, FailsafeMap, History, HistoryEntry, Initialize, Status},
};

use crate::{
    Action, Reason,
    action::{CallbackEvent, DemoteMode},
    bootstrap, demote,
    draft::Draft,
    facts::Held,
    fence::{self, Fences},
    memory::{Attempt, Checkpoint},
    sync,
    view::{JobKind, JobOutcome, Process},
};

/// Holds the lock: become primary, or go on as one.
pub(crate) fn lead(draft: &mut Draft, cluster: &Cluster, held: Held) -> Reason {
    let view = draft.view;
    keep_books(draft, cluster, held);
    if matches!(view.postgres.process, Process::Stopping { .. }) {
        return Reason::InProgress { action: "stop".to_owned() };
    }
    match fence::set_up(draft, held) {
        Fences::Ready => {}
        Fences::Waiting(reason) if view.is_primary() => {
            // Adopted as it runs; the lease is held, so it may go on while the fences come up.
            draft.note(reason);
        }
        Fences::Waiting(reason) => return reason,
        Fences::Unusable if view.is_primary() => {
            return fence::stop(draft, DemoteMode::Immediate, Reason::WatchdogDemote);
        }
        Fences::Unusable => {
            demote::release(draft, None);
            return Reason::WatchdogNoPromotion;
        }
    }
    if view.is_primary() { be_primary(draft, cluster) } else { promote(draft, cluster, held) }
}

fn be_primary(draft: &mut Draft, cluster: &Cluster) -> Reason {
    let view = draft.view;
    draft.set_role(Role::Primary);
    announce(draft, Role::Primary);
    draft.memory.pre_promote_failed_at = None;
    draft.memory.followed = None;
    if view.server().is_none() {
        return Reason::PostgresSilent;
    }
    sync::process(view, cluster, draft);
    checkpoint_after_promotion(draft);
    write_history(draft, cluster);
    Reason::LeaderWithTheLock { me: view.me.name.clone() }
}

fn promote(draft: &mut Draft, cluster: &Cluster, held: Held) -> Reason {
    let view = draft.view;
    if view.server().is_none() {
        return Reason::LeaderNotDoneStarting;
    }
    if let Some(last) = &view.last_job
        && last.kind == JobKind::Promote
        && matches!(last.outcome, JobOutcome::Failed { .. })
        && draft.memory.pre_promote_failed_at.is_none_or(|at| at < last.ended_at)
        && draft.memory.checkpoint_after_promote == Checkpoint::Wanted
    {
        draft.memory.pre_promote_failed_at = Some(last.ended_at);
        draft.memory.checkpoint_after_promote = Checkpoint::None;
        demote::release(draft, None);
        return Reason::PrePromoteFailed;
    }
    if draft.is_busy() {
        let action = view.job_kind().map_or("job", JobKind::as_str).to_owned();
        return Reason::InProgress { action };
    }
    if let Err(reason) = sync::prepare_promotion(view, cluster, draft) {
        return reason;
    }
    draft.memory.checkpoint_after_promote = Checkpoint::Wanted;
    draft.memory.rewind = crate::memory::RewindState::Initial;
    draft.memory.crashed_as_primary_at = None;
    if view.failsafe.accepted.is_some() {
        draft.then(Action::ClearFailsafe);
    }
    draft.then(Action::Promote { fence: held.fence() });
    Reason::PromotedHavingLock
}

/// The keys that only the leader writes.
pub(crate) fn keep_books(draft: &mut Draft, cluster: &Cluster, _held: Held) {
    let view = draft.view;
    if cluster.leader_name() != Some(&view.me.name) {
        // The view is older than the lock.
        return;
    }
    let is_valid = cluster.initialize.as_ref().is_some_and(|key| matches!(key.value, Initialize::Done(_)));
    if !is_valid && view.postgres.system_id.is_some() {
        let expect = cluster.initialize.as_ref().map(|key| key.revision);
        draft.attempt(Attempt::WriteInitialize, Action::WriteInitialize { expect });
        draft.note(Reason::WritingInitialize);
    }
    if bootstrap::needs_config(cluster) {
        let expect = cluster.config.as_ref().map(|key| key.revision);
        draft.attempt(Attempt::WriteConfig, Action::WriteConfig { expect });
    }
    if let Some((request, revision)) = cluster.failover_request()
        && request.leader.as_ref() != Some(&view.me.name)
        && request.candidate.as_ref().is_none_or(|candidate| view.is_me(candidate))
    {
        // It led to us.
        draft.attempt(Attempt::WriteFailover, Action::WriteFailover { expect: revision, request: None });
        draft.note(Reason::CleaningFailoverKeyAfterLock);
    }
    write_status(draft, cluster);
    write_failsafe(draft, cluster);
}

fn write_status(draft: &mut Draft, cluster: &Cluster) {
    let view = draft.view;
    let Some(server) = view.server() else { return };
    let mut slots: std::collections::BTreeMap<_, _> = server
        .slots
        .iter()
        .filter(|slot| !slot.temporary)
        .filter_map(|slot| Some((slot.name.clone(), slot.restart_lsn?)))
        .collect();
    slots.insert(view.me.name.slot_name(), server.position);
    let status = Status { optime: server.position, slots: Some(slots), retain_slots: None };
    if cluster.status.as_ref().is_some_and(|known| known.value == status) {
        return;
    }
    draft.every(view.settings.loop_wait, Attempt::WriteStatus, Action::WriteStatus { status });
}

fn write_failsafe(draft: &mut Draft, cluster: &Cluster) {
    let view = draft.view;
    if !view.settings.failsafe_mode {
        return;
    }
    let mut map: std::collections::BTreeMap<_, _> = cluster
        .members
        .values()
        .filter_map(|member| Some((member.name.clone(), member.api_url.clone()?)))
        .collect();
    map.insert(view.me.name.clone(), view.me.api_url.clone());
    let map = FailsafeMap(map);
    if cluster.failsafe.as_ref().is_none_or(|known| known.value != map) {
        draft.attempt(Attempt::WriteFailsafe, Action::WriteFailsafe { map });
    }
}

/// Others may rewind from this member only once its control file shows the new timeline.
fn checkpoint_after_promotion(draft: &mut Draft) {
    let view = draft.view;
    match draft.memory.checkpoint_after_promote {
        Checkpoint::Wanted => {
            if draft.is_busy() || draft.backing_off(&JobKind::Checkpoint) {
                return;
            }
            draft.memory.checkpoint_after_promote = Checkpoint::Running;
            draft.then(Action::Checkpoint);
        }
        Checkpoint::Running if view.job.is_none() => {
            let done = view.last_job.as_ref().is_some_and(|last| {
                last.kind == JobKind::Checkpoint && last.outcome == JobOutcome::Succeeded
            });
            draft.memory.checkpoint_after_promote = if done { Checkpoint::Done } else { Checkpoint::Wanted };
        }
        _ => {}
    }
}

/// Adds the timelines that ended on this member to `/history`.
fn write_history(draft: &mut Draft, cluster: &Cluster) {
    let view = draft.view;
    let known = cluster.history.as_ref().map(|key| &key.value);
    let Some(timeline) = view.server().and_then(|server| server.timeline) else { return };
    if timeline.0 == 1 {
        if known.is_some_and(|known| !known.0.is_empty()) {
            draft.attempt(Attempt::WriteHistory, Action::WriteHistory { history: History::default() });
        }
        return;
    }
    let last = known.and_then(|known| known.0.last());
    if last.is_some_and(|last| last.timeline.0 + 1 == timeline.0 && last.new_leader.is_some()) {
        return;
    }
    let Some(local) = &view.postgres.local_history else { return };
    let mut entries: Vec<HistoryEntry> = local
        .switches
        .iter()
        .map(|switch| {
            let old = known.and_then(|known| {
                known.0.iter().find(|entry| entry.timeline == switch.timeline && entry.end == switch.end)
            });
            HistoryEntry {
                timeline: switch.timeline,
                end: switch.end,
                reason: switch.reason.clone(),
                promoted_at: old.and_then(|old| old.promoted_at.clone()),
                new_leader: old.and_then(|old| old.new_leader.clone()),
            }
        })
        .collect();
    if let Some(newest) = entries.last_mut().filter(|newest| newest.timeline.0 + 1 == timeline.0) {
        newest.promoted_at.get_or_insert_with(|| local.written_at.clone());
        newest.new_leader.get_or_insert_with(|| view.me.name.clone());
    } else {
        return;
    }
    let keep = view.settings.max_timelines_history;
    if keep > 0 && entries.len() > keep {
        entries.drain(..entries.len() - keep);
    }
    draft.attempt(Attempt::WriteHistory, Action::WriteHistory { history: History(entries) });
}

/// Tells callbacks about a change of role, once.
pub(crate) fn announce(draft: &mut Draft, role: Role) {
    if draft.memory.announced_role == Some(role) {
        return;
    }
    let event =
        if draft.memory.callback_fired { CallbackEvent::OnRoleChange } else { CallbackEvent::OnStart };
    draft.memory.callback_fired = true;
    draft.memory.announced_role = Some(role);
    draft.then(Action::RunCallback { event, role });
}
