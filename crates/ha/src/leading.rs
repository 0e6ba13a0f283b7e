//! This member holds the lock and PostgreSQL runs.

use std::time::Duration;

use bellwether_types::{
    Role,
    cluster::{Cluster, Initialize, Status},
};

use crate::{
    Action, Reason,
    action::{CallbackEvent, DemoteMode},
    bootstrap, demote,
    draft::Draft,
    facts::Held,
    failsafe,
    fence::{self, Fences},
    gray, history, mandate,
    memory::{Attempt, Checkpoint, RewindState},
    slots, standby_cluster, switchover, sync, timelines,
    view::{JobKind, JobOutcome, Process},
};

/// How soon a promotion is looked at again whose end does not show by itself.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A promotion that failed is tried again after this time.
const PROMOTE_AGAIN: Duration = Duration::from_millis(500);

/// Holds the lock: become primary, or go on as one.
pub(crate) fn lead(draft: &mut Draft, cluster: &Cluster, held: Held) -> Reason {
    let reason = decide_role(draft, cluster, held);
    if !draft.ends_something() && draft.memory.released_at != Some(draft.now()) {
        // After what matters: a write that fails must not keep a promotion from happening.
        keep_books(draft, cluster, held);
        fence::try_watchdog(draft);
    }
    reason
}

fn decide_role(draft: &mut Draft, cluster: &Cluster, held: Held) -> Reason {
    let view = draft.view;
    switchover::clear_after_winning(draft, cluster);
    if view.is_standby_cluster() {
        return standby_cluster::lead(draft, cluster);
    }
    if view.settings.pause
        && !view.is_primary()
        && let Some(reason) = in_pause(draft, cluster)
    {
        return reason;
    }
    if view.is_primary()
        && let Some(reason) = switchover::at_leader(draft, cluster)
    {
        return reason;
    }
    if let Some(reason) = gray::hand_over(draft, cluster) {
        return reason;
    }
    match fence::set_up(draft, held.until) {
        Fences::Ready => {}
        // Adopted as it runs; the lease is held, so it may go on while the fences come up.
        Fences::Waiting(reason) if view.is_primary() => draft.note(reason),
        Fences::Waiting(reason) => return reason,
        Fences::Unusable if view.is_primary() => {
            return fence::stop(draft, DemoteMode::Immediate, Reason::WatchdogDemote);
        }
        Fences::Unusable => {
            demote::release(draft, None);
            return Reason::WatchdogNoPromotion;
        }
    }
    if view.is_primary() { be_primary(draft, cluster, held) } else { promote(draft, cluster, held) }
}

/// In pause only the requested candidate is promoted; any other standby gives the lock back.
fn in_pause(draft: &mut Draft, cluster: &Cluster) -> Option<Reason> {
    let view = draft.view;
    let request = switchover::due_request(view, cluster);
    if request.is_some_and(|request| request.candidate.as_ref() == Some(&view.me.name)) {
        return None;
    }
    if view.postgres.role == Role::Promoted || view.is_promoted_unseen() {
        return Some(Reason::WaitingToBecomePrimary);
    }
    if cluster.leader_name() != Some(&view.me.name) {
        // The view is older than the lock; what was requested may not be in it yet.
        return Some(Reason::Paused);
    }
    demote::release(draft, None);
    Some(Reason::PausedReleasedNotPrimary)
}

fn be_primary(draft: &mut Draft, cluster: &Cluster, held: Held) -> Reason {
    let view = draft.view;
    mandate::given(draft, held);
    draft.set_role(Role::Primary);
    announce(draft, Role::Primary);
    draft.memory.promoting_since = None;
    draft.memory.pre_promote_failed_at = None;
    draft.memory.followed = None;
    draft.memory.start_wanted = false;
    draft.memory.claimed = None;
    draft.memory.claiming = None;
    let acquired = std::mem::take(&mut draft.memory.racing);
    let Some(server) = view.server() else { return Reason::PostgresSilent };
    sync::process(view, cluster, draft);
    checkpoint_after_promotion(draft, server.timeline);
    history::process(draft, cluster);
    if acquired { Reason::AcquiredAsLeader } else { Reason::LeaderWithTheLock { me: view.me.name.clone() } }
}

fn promote(draft: &mut Draft, cluster: &Cluster, held: Held) -> Reason {
    let view = draft.view;
    if let Some(reason) = promotion_limit(draft, cluster) {
        return reason;
    }
    if view.server().is_none() {
        return match view.postgres.process {
            Process::Running { .. } => Reason::PostgresSilent,
            _ => Reason::LeaderNotDoneStarting,
        };
    }
    if view.is_promoted_unseen() {
        // What the server is now it will say itself.
        draft.wake_in(LOOK_AGAIN);
        return Reason::PromotionUnderWay;
    }
    if view.postgres.role == Role::Promoted
        && let Some(&asked_at) = draft.memory.jobs.get(&JobKind::Promote)
        && view.now.since(asked_at) < view.settings.loop_wait
    {
        draft.wake_in(LOOK_AGAIN);
        return Reason::PromotionUnderWay;
    }
    if has_pre_promote_failed(draft) {
        draft.memory.pre_promote_failed_at = Some(view.now);
        // Told once: the next lock that this member is given is good for another attempt.
        draft.memory.jobs.remove(&JobKind::Promote);
    }
    if draft.memory.pre_promote_failed_at.is_some_and(|at| view.now.since(at) < view.settings.ttl) {
        draft.memory.checkpoint_after_promote = Checkpoint::None;
        timelines::promotion_did_not_begin(draft);
        demote::release(draft, None);
        return Reason::PrePromoteFailed;
    }
    if draft.push_aside(&[JobKind::CheckDivergence, JobKind::Checkpoint]) {
        return Reason::PromotionUnderWay;
    }
    if let Some(last) = view.last_job.as_ref().filter(|last| last.kind == JobKind::Promote)
        && matches!(last.outcome, JobOutcome::Failed { .. })
        && view.now.since(last.ended_at) < PROMOTE_AGAIN
    {
        draft.wake_by(last.ended_at + PROMOTE_AGAIN);
        return Reason::WaitingToRetry { action: "promote".to_owned() };
    }
    if let Some(reason) = mandate::is_missing(draft, cluster, held) {
        return reason;
    }
    if !timelines::has_number(draft, cluster) {
        return Reason::TakingTimeline;
    }
    if let Err(reason) = sync::prepare_promotion(view, cluster, draft) {
        return reason;
    }
    draft.memory.checkpoint_after_promote = Checkpoint::Wanted;
    draft.memory.rewind = RewindState::Initial;
    draft.memory.crashed_as_primary_at = None;
    slots::before_promotion(draft, cluster);
    let acquired = std::mem::take(&mut draft.memory.racing);
    let taken = timelines::taken(draft, cluster);
    draft.then(Action::Promote { fence: held.fence(), taken });
    timelines::promotion_may_begin(draft);
    if view.failsafe.accepted.is_some() {
        draft.attempt(Attempt::ClearFailsafe, Action::ClearFailsafe);
    }
    if acquired { Reason::PromotedByAcquiringLock } else { Reason::PromotedHavingLock }
}

/// A member that was given the lock and does not become primary in time leaves it to somebody who can. Stopped first: a server that
/// hangs may end its promotion whenever it wakes up.
pub(crate) fn promotion_limit(draft: &mut Draft, cluster: &Cluster) -> Option<Reason> {
    let view = draft.view;
    if view.settings.pause {
        draft.memory.promoting_since = None;
        return None;
    }
    let since = *draft.memory.promoting_since.get_or_insert(view.now);
    // Less than a `ttl` is not worth a failover, which takes as long.
    let limit = view.settings.primary_start_timeout.max(view.settings.ttl);
    if view.now.since(since) < limit {
        draft.wake_by(since + limit);
        return None;
    }
    match switchover::is_failover_possible(draft, cluster) {
        None => Some(Reason::PollingPeers),
        Some(true) => Some(fence::stop(draft, DemoteMode::Immediate, Reason::PromotionTimedOut)),
        Some(false) => {
            draft.note(Reason::StartTimeoutNoFailover);
            None
        }
    }
}

/// The last promotion failed before the server was touched: only `pre_promote` does that. A server that was promoted before, and has not
/// answered since, is a primary.
fn has_pre_promote_failed(draft: &Draft) -> bool {
    let failed = matches!(draft.outcome(&JobKind::Promote), Some(JobOutcome::Failed { .. }));
    let is_untouched = !matches!(draft.view.postgres.role, Role::Promoted | Role::Primary);
    failed && draft.view.me.has_pre_promote && is_untouched
}

/// The keys that only the leader writes. Each when it is missing or differs, and no more often than needed.
pub(crate) fn keep_books(draft: &mut Draft, cluster: &Cluster, _: Held) {
    let view = draft.view;
    if cluster.leader_name() != Some(&view.me.name) {
        // The view is older than the lock.
        return;
    }
    let is_valid = cluster.initialize.as_ref().is_some_and(|key| matches!(key.value, Initialize::Done(_)));
    if !is_valid && (view.is_primary() || view.is_standby_cluster()) && view.postgres.system_id.is_some() {
        let expect = cluster.initialize.as_ref().map(|key| key.revision);
        draft.attempt(Attempt::WriteInitialize, Action::WriteInitialize { expect });
        draft.note(Reason::WritingInitialize);
    }
    if bootstrap::needs_config(cluster) {
        let expect = cluster.config.as_ref().map(|key| key.revision);
        draft.attempt(Attempt::WriteConfig, Action::WriteConfig { expect });
    }
    write_status(draft, cluster);
    failsafe::keep_map(draft, cluster);
}

fn write_status(draft: &mut Draft, cluster: &Cluster) {
    let view = draft.view;
    let Some(server) = view.server() else { return };
    let known = cluster.status.as_ref().map(|key| &key.value);
    let is_due = draft
        .memory
        .attempts
        .get(&Attempt::WriteStatus)
        .is_none_or(|&at| view.now.since(at) >= view.settings.loop_wait);
    if !is_due {
        return;
    }
    slots::remember(draft, cluster);
    let retain_slots = slots::retained(draft, server);
    let status = Status { optime: server.position, slots: slots::published(view), retain_slots };
    // What is not told leaves the stored value as it is.
    let differs = |known: &Status| {
        known.optime != status.optime
            || status.slots.as_ref().is_some_and(|slots| known.slots.as_ref() != Some(slots))
            || status.retain_slots.as_ref().is_some_and(|slots| known.retain_slots.as_ref() != Some(slots))
    };
    if known.is_none_or(differs) {
        draft.every(view.settings.loop_wait, Attempt::WriteStatus, Action::WriteStatus { status });
    }
}

/// Others may rewind from this member only once its control file shows the new timeline.
fn checkpoint_after_promotion(draft: &mut Draft, timeline: Option<bellwether_types::TimelineId>) {
    let view = draft.view;
    if draft.memory.checkpoint_after_promote == Checkpoint::None {
        let on_disk = view.postgres.control.as_ref().map(|control| control.timeline);
        let is_behind = on_disk.is_some() && timeline.is_some() && on_disk < timeline;
        draft.memory.checkpoint_after_promote = if is_behind { Checkpoint::Wanted } else { Checkpoint::Done };
    }
    if draft.memory.checkpoint_after_promote == Checkpoint::Running
        && view.job_kind() != Some(&JobKind::Checkpoint)
    {
        draft.memory.checkpoint_after_promote = match draft.outcome(&JobKind::Checkpoint) {
            Some(JobOutcome::Succeeded) => Checkpoint::Done,
            _ => Checkpoint::Wanted,
        };
    }
    if draft.memory.checkpoint_after_promote == Checkpoint::Wanted
        && !draft.is_busy()
        && !draft.backing_off(&JobKind::Checkpoint)
    {
        draft.memory.checkpoint_after_promote = Checkpoint::Running;
        draft.then(Action::Checkpoint);
    }
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
