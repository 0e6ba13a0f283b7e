//! Stopping on purpose: what happens while a primary is stopped, after it, and when the agent ends.

use std::time::Duration;

use bellwether_types::{Lsn, PostgresState, Role, cluster::Cluster, settings::SyncMode};

use crate::{
    Action, Reason, View,
    action::{DemoteMode, Exit, StartRole, StopMode},
    candidate,
    draft::Draft,
    fence::{self, Fences},
    member,
    memory::{Attempt, Demoting, RewindState},
    recovery, restart, switchover,
    view::{Control, ControlState, Guardian, JobKind, JobOutcome, JobPhase, Process},
};

/// Who gave the lock up on purpose leaves it to others for so long.
pub(crate) const HOLD_OFF: Duration = Duration::from_secs(2);
/// How soon the candidates are asked again whether they have the shutdown checkpoint.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// A stop is under way or has just ended: hand the lock over as early as that is safe, and clean up behind it.
pub(crate) fn hand_over(draft: &mut Draft) -> Option<Reason> {
    let view = draft.view;
    match &view.job {
        Some(job) if matches!(job.kind, JobKind::Demote | JobKind::Stop) => {
            if let JobPhase::ShutdownCheckpoint { checkpoint, end } = job.phase
                && gives_lock_away(draft)
                && let Some(reason) = release_to_peer(draft, checkpoint, end.max(checkpoint))
            {
                return Some(reason);
            }
            if job.phase == JobPhase::Harmless && gives_lock_of_dead_server(draft) {
                release(draft, None);
                return Some(Reason::ReleasedAfterStop);
            }
            match job.phase {
                JobPhase::ShutdownCheckpoint { .. } => fence::rest_watchdog(draft),
                // The guardian could not do more than was done.
                JobPhase::Harmless => fence::take_down(draft),
                JobPhase::Working | JobPhase::PrePromote => {}
            }
            if draft.view.stopping && !draft.view.settings.pause {
                return Some(Reason::ShuttingDown);
            }
            Some(Reason::InProgress { action: job.kind.as_str().to_owned() })
        }
        Some(_) => None,
        None => after_stop(draft),
    }
}

/// The kinds of stop after which somebody else shall lead.
fn gives_lock_away(draft: &Draft) -> bool {
    if draft.view.held().is_none() {
        return false;
    }
    match &draft.memory.demoting {
        // What is still to be archived would not be seen by those who follow the archive, if somebody else led by then.
        Some(Demoting { mode: DemoteMode::DemoteCluster, .. }) => !draft.view.postgres.archives_wal,
        Some(Demoting { mode, .. }) => *mode == DemoteMode::Graceful,
        None => draft.view.stopping,
    }
}

/// Every process was killed, and a disk that hangs keeps some of them from being gone: others need not wait for that. As after the
/// end of such a stop, but in an asynchronous cluster a planned one that came to this leaves it to people.
fn gives_lock_of_dead_server(draft: &Draft) -> bool {
    let view = draft.view;
    let mode = draft.memory.demoting.as_ref().map(|demoting| demoting.mode);
    let cluster = view.store.cluster.as_deref();
    let is_safe = match mode {
        Some(DemoteMode::Immediate) => true,
        Some(DemoteMode::Graceful) => cluster.is_some_and(|cluster| is_synchronous(view, cluster)),
        _ => false,
    };
    is_safe && view.held().is_some() && !view.settings.pause
}

/// What was acknowledged is with others.
fn is_synchronous(view: &View, cluster: &Cluster) -> bool {
    view.settings.sync_mode() != SyncMode::Off && cluster.active_sync().is_some()
}

/// The shutdown checkpoint is on disk. Once somebody who can lead is proven to have it, nothing can be lost any more.
fn release_to_peer(draft: &mut Draft, checkpoint: Lsn, end: Lsn) -> Option<Reason> {
    let cluster = draft.view.store.cluster.as_deref()?;
    let candidates = candidate::successors(draft.view, cluster);
    if candidates.is_empty() {
        return None;
    }
    let Some(peers) = candidate::fresh_answers(draft, &candidates) else {
        return Some(Reason::WaitingForCheckpointAtPeer);
    };
    let heir = candidates.keys().find(|name| {
        candidate::fit_to_lead(draft.view, cluster, name, peers, candidate::Lag::AtLeast(end)).is_ok()
    });
    match heir {
        Some(heir) => {
            let to = heir.clone();
            release(draft, Some(checkpoint));
            Some(Reason::HandedOver { to })
        }
        None => {
            draft.wake_in(ASK_AGAIN);
            Some(Reason::WaitingForCheckpointAtPeer)
        }
    }
}

/// Gives the lock up, and a chance to the others.
pub(crate) fn release(draft: &mut Draft, optime: Option<Lsn>) {
    if draft.attempt(Attempt::ReleaseLease, Action::ReleaseLease { optime }) {
        draft.memory.released_at = Some(draft.now());
    }
    draft.set_role(Role::Demoted);
}

/// Nothing runs here that could lead, and the key bears our name all the same: it was given up, and the store never heard of it. It hangs on
/// a lease that this agent goes on renewing, so everybody would wait for ever.
pub(crate) fn release_again(draft: &mut Draft, cluster: &Cluster) {
    let view = draft.view;
    let is_left = cluster.leader_name().is_some_and(|leader| view.is_me(leader));
    if view.held().is_none()
        && is_left
        && draft.memory.released_at.is_none()
        && view.postgres.process == Process::NotRunning
        && draft.attempt(Attempt::ReleaseLease, Action::ReleaseLease { optime: None })
    {
        draft.memory.released_at = Some(view.now);
    }
}

/// A demotion has ended: what is still to be done before this member recovers like any other.
fn after_stop(draft: &mut Draft) -> Option<Reason> {
    let view = draft.view;
    let demoting = draft.memory.demoting.clone()?;
    if view.is_primary() {
        return still_primary(draft, demoting.mode);
    }
    if may_still_write(draft) {
        // Silence is no proof that it is down: the key stays, and so do the fences.
        let reason = Reason::Demoting { mode: demoting.mode.as_str().to_owned() };
        return Some(fence::stop(draft, demoting.mode, reason));
    }
    if demoting.mode == DemoteMode::Graceful
        && let Some(reason) = without_heir(draft)
    {
        return Some(reason);
    }
    draft.memory.demoting = None;
    draft.memory.start_wanted = true;
    draft.memory.crashed_as_primary_at = None;
    draft.set_role(Role::Demoted);
    if matches!(demoting.mode, DemoteMode::Graceful | DemoteMode::Immediate) && view.held().is_some() {
        let optime = view.postgres.control.as_ref().filter(|control| is_clean(control));
        let optime = optime.filter(|_| demoting.mode == DemoteMode::Graceful);
        release(draft, optime.map(|control| control.checkpoint));
        return Some(Reason::ReleasedAfterStop);
    }
    None
}

/// Its last checkpoint is the end of its WAL.
fn is_clean(control: &Control) -> bool {
    control.state == ControlState::ShutDown
}

/// The stop failed, or a process is there that has not said that it is a standby.
fn may_still_write(draft: &Draft) -> bool {
    let view = draft.view;
    let failed = matches!(draft.outcome(&JobKind::Demote), Some(JobOutcome::Failed { .. }));
    let is_standby = view.server().is_some_and(|server| server.in_recovery);
    failed || (view.postgres.process.exists() && !is_standby)
}

/// A planned stop has ended and the lock is still ours: without synchronous replication nobody may have what was acknowledged last.
/// Nothing forces us to lose that; go on leading. `None`: the lock may go.
fn without_heir(draft: &mut Draft) -> Option<Reason> {
    let view = draft.view;
    let cluster = view.store.usable(view.now, view.patience())?;
    let held = view.held().filter(|_| !view.stopping)?;
    let control = view.postgres.control.as_ref().filter(|control| recovery::was_primary(control))?;
    let request = cluster.failover_request().map(|(request, _)| request);
    let accepts_loss = request.is_some_and(|request| request.leader.is_none() && request.candidate.is_some());
    if accepts_loss || is_synchronous(view, cluster) || view.postgres.process.exists() {
        return None;
    }
    let candidates = candidate::successors(view, cluster);
    // A stop that went over its limit ended like a crash: nothing tells where its WAL ends, so nobody can be shown to have it.
    if !candidates.is_empty() && is_clean(control) {
        let Some(peers) = candidate::fresh_answers(draft, &candidates) else {
            return Some(Reason::WaitingForCheckpointAtPeer);
        };
        let needed = candidate::Lag::AtLeast(control.checkpoint);
        if candidates.keys().any(|name| candidate::fit_to_lead(view, cluster, name, peers, needed).is_ok()) {
            return None;
        }
    }
    match fence::set_up(draft, held.until) {
        Fences::Ready => {}
        Fences::Waiting(reason) => return Some(reason),
        Fences::Unusable => return None,
    }
    switchover::clear(draft, cluster);
    draft.memory.demoting = None;
    draft.memory.rewind = RewindState::Initial;
    draft.memory.crashed_as_primary_at = None;
    draft.memory.start_wanted = true;
    draft.memory.recovering = true;
    draft.set_role(Role::Primary);
    draft.then(Action::Start { role: StartRole::Primary { fence: held.fence() } });
    Some(Reason::NoHeirStartingAgain)
}

/// The stop failed, or something else started the server again.
fn still_primary(draft: &mut Draft, mode: DemoteMode) -> Option<Reason> {
    let view = draft.view;
    let is_forced = !matches!(mode, DemoteMode::Graceful | DemoteMode::DemoteCluster);
    if view.held().is_some() && (!is_forced || matches!(mode, DemoteMode::Offline { .. })) {
        // The lock is ours, so this is no danger: go on leading, key and fences as they are.
        draft.memory.demoting = None;
        return None;
    }
    if view.settings.pause {
        draft.memory.demoting = None;
        return None;
    }
    // A stop that was meant to release the lock must still do so.
    let mode = if mode == DemoteMode::Immediate { mode } else { DemoteMode::ImmediateNoLock };
    Some(fence::stop(draft, mode, Reason::Demoting { mode: mode.as_str().to_owned() }))
}

/// The agent was told to stop.
pub(crate) fn shut_down(draft: &mut Draft) -> Reason {
    let view = draft.view;
    if let Some(kind) = view.job_kind() {
        let kind = kind.clone();
        draft.attempt(Attempt::CancelJob, Action::CancelJob { kind });
        return Reason::ShuttingDown;
    }
    if view.settings.pause {
        if matches!(view.fencing.guardian, Guardian::Armed { .. }) {
            draft.attempt(Attempt::DisarmGuardian, Action::DisarmGuardian);
        }
        if fence::is_watchdog_active(view.fencing.watchdog) {
            draft.attempt(Attempt::Watchdog, Action::DisableWatchdog);
        }
        draft.attempt(Attempt::Exit, Action::Exit { exit: Exit::Stopped });
        return Reason::ShutdownPaused;
    }
    if view.postgres.process != Process::NotRunning && !draft.memory.refused_to_attach {
        return stop_server(draft);
    }
    if view.held().is_some() && is_leader_key_ours(draft) {
        // A standby's last checkpoint says nothing of how far it has got.
        let control = view.postgres.control.as_ref();
        let optime = control.filter(|control| control.state != ControlState::ShutDownInRecovery);
        release(draft, optime.map(|control| control.checkpoint));
    }
    take_down_for_good(draft);
    if view.postgres.state != PostgresState::Stopped && view.postgres.process == Process::NotRunning {
        draft.then(Action::SetState { state: PostgresState::Stopped });
    }
    member::say_farewell(draft);
    draft.attempt(Attempt::Exit, Action::Exit { exit: Exit::Stopped });
    Reason::ShutdownDone
}

fn stop_server(draft: &mut Draft) -> Reason {
    match draft.outcome(&JobKind::Stop) {
        // It may still be writing: the key stays, and so do the fences.
        Some(JobOutcome::Failed { .. }) => {
            draft.attempt(Attempt::Exit, Action::Exit { exit: Exit::Stopped });
            Reason::ShutdownStopFailed
        }
        _ if !restart::released_sync_duty(draft) => Reason::ReleasingSyncDuty,
        _ => {
            draft.stop_postgres(StopMode::Fast);
            Reason::ShuttingDown
        }
    }
}

/// PostgreSQL is gone for good: whatever the lease says, there is nothing to guard.
fn take_down_for_good(draft: &mut Draft) {
    let view = draft.view;
    if matches!(view.fencing.guardian, Guardian::Armed { .. }) && view.postgres.process == Process::NotRunning
    {
        draft.attempt(Attempt::DisarmGuardian, Action::DisarmGuardian);
    }
    if fence::is_watchdog_active(view.fencing.watchdog) && view.postgres.process == Process::NotRunning {
        draft.attempt(Attempt::Watchdog, Action::DisableWatchdog);
    }
}

fn is_leader_key_ours(draft: &Draft) -> bool {
    let cluster: Option<&Cluster> = draft.view.store.cluster.as_deref();
    cluster.is_none_or(|cluster| cluster.leader_name().is_none_or(|leader| draft.view.is_me(leader)))
}
