//! The right to write, and what enforces it: lease, guardian, watchdog.
//!
//! When in doubt about the lock, the member is not the leader.

use std::time::Duration;

use bellwether_types::{Role, Timestamp};

use crate::{
    Action, Reason, View,
    action::DemoteMode,
    draft::Draft,
    failsafe,
    memory::{Attempt, Checkpoint, Demoting, RewindState},
    view::{Guardian, JobKind, JobOutcome, LeaseView, Watchdog},
    wiped,
};

/// A stop that failed is tried again after this time.
const STOP_AGAIN: Duration = Duration::from_millis(500);
/// A primary without an armed guardian must have one within this time.
const GUARDIAN_GRACE: Duration = Duration::from_secs(1);

/// PostgreSQL may write and the right to do so is gone, or ends now: stop it, whatever else is going on.
pub(crate) fn lost_right(draft: &mut Draft) -> Option<Reason> {
    let view = draft.view;
    if !view.may_write() {
        draft.memory.guardian_dead_since = None;
        return lost_before_promote(draft);
    }
    // A cluster in the making has no lock yet.
    if draft.memory.bootstrapping.is_some() || is_stopping(draft) {
        return None;
    }
    match view.lease {
        LeaseView::Held { .. } if view.settings.pause => None,
        LeaseView::Held { .. } if view.is_usurped() => {
            let leader = view.store.cluster.as_ref()?.leader_name()?.clone();
            Some(stop(draft, DemoteMode::ImmediateNoLock, Reason::LostLeaderLock { held_by: leader }))
        }
        LeaseView::Held { until, demote_at, .. } => {
            if view.now >= demote_at {
                return Some(stop(draft, DemoteMode::Offline { stop_by: until }, Reason::LeaseRunningOut));
            }
            draft.wake_by(demote_at);
            failsafe::keep_asking(draft);
            is_guarded(draft, until)
        }
        _ if view.settings.pause => None,
        LeaseView::Rejected { .. } => {
            if let Some(until) = wiped::may_go_on(draft) {
                draft.wake_by(until);
                return is_guarded(draft, until);
            }
            let reason = lost_during(view).unwrap_or(Reason::RenewalRejected);
            Some(stop(draft, DemoteMode::ImmediateNoLock, reason))
        }
        // A primary that was found running may still get the lock; one that is in the making may not go on without it.
        LeaseView::NotHeld => {
            let reason = lost_during(view).or_else(|| lost_while_starting(view))?;
            Some(stop(draft, DemoteMode::ImmediateNoLock, reason))
        }
    }
}

/// The job that is making, or making again, a primary here.
fn lost_during(view: &View) -> Option<Reason> {
    let kind = view
        .job_kind()
        .filter(|kind| matches!(kind, JobKind::Promote | JobKind::Start | JobKind::Restart))?;
    Some(Reason::LostLockDuring { action: kind.as_str().to_owned() })
}

/// A server that nobody makes a standby starts while somebody else leads.
fn lost_while_starting(view: &View) -> Option<Reason> {
    let leader = view.store.cluster.as_ref()?.leader_name()?;
    (view.comes_up_as_primary() && !view.is_me(leader)).then_some(Reason::StartLostLock)
}

/// A promotion that has not begun must not begin without the lock.
fn lost_before_promote(draft: &mut Draft) -> Option<Reason> {
    let view = draft.view;
    if !view.is_before_promotion() || view.held().is_some() || view.settings.pause {
        return None;
    }
    draft.attempt(Attempt::CancelJob, Action::CancelJob { kind: JobKind::Promote });
    Some(Reason::LostBeforePromote)
}

/// A primary that nothing guards gets its guardian back at once, or is none.
fn is_guarded(draft: &mut Draft, until: Timestamp) -> Option<Reason> {
    let view = draft.view;
    match view.fencing.guardian {
        Guardian::Off => {
            draft.memory.guardian_dead_since = None;
            return None;
        }
        Guardian::Armed { until } if view.now < until => {
            draft.memory.guardian_dead_since = None;
            return None;
        }
        _ => {}
    }
    let since = *draft.memory.guardian_dead_since.get_or_insert(view.now);
    if view.now.since(since) >= GUARDIAN_GRACE {
        return Some(stop(draft, DemoteMode::Immediate, Reason::GuardianStaysDead));
    }
    draft.wake_by(since + GUARDIAN_GRACE);
    if view.fencing.guardian == Guardian::Dead {
        draft.attempt(Attempt::RespawnGuardian, Action::RespawnGuardian);
        draft.note(Reason::RespawningGuardian);
    } else {
        draft.attempt(Attempt::ArmGuardian, Action::ArmGuardian { until });
    }
    None
}

/// Stops a primary: the one place that emits [`Action::Demote`].
pub(crate) fn stop(draft: &mut Draft, mode: DemoteMode, reason: Reason) -> Reason {
    let now = draft.now();
    if matches!(draft.outcome(&JobKind::Demote), Some(JobOutcome::Failed { .. }))
        && let Some(last) = &draft.view.last_job
        && now.since(last.ended_at) < STOP_AGAIN
    {
        draft.wake_by(last.ended_at + STOP_AGAIN);
        return reason;
    }
    draft.memory.demoting = Some(Demoting { mode, since: now });
    draft.memory.rewind = RewindState::Check { since: now };
    draft.memory.checkpoint_after_promote = Checkpoint::None;
    draft.memory.recovering = false;
    draft.memory.racing = false;
    draft.note(Reason::Demoting { mode: mode.as_str().to_owned() });
    draft.then(Action::Demote { mode, stop_limit: stop_limit(draft.view, mode) });
    if draft.view.job_kind() != Some(&JobKind::Demote) {
        // Scripts know a planned demotion of a primary by the role; whoever is thrown out is told to have been the primary.
        let is_planned = matches!(mode, DemoteMode::Graceful | DemoteMode::DemoteCluster);
        let role = match draft.view.postgres.role {
            Role::Primary | Role::Promoted if is_planned => Role::Demoted,
            role => role,
        };
        draft.tell_stop_of(role);
    }
    reason
}

/// A planned stop is not worth a longer outage than a promotion is: a PostgreSQL that hangs would take for ever. It may well take a
/// while to write its shutdown checkpoint, so it is no less than that.
fn stop_limit(view: &View, mode: DemoteMode) -> Option<Duration> {
    let settings = &view.settings;
    let set = Some(settings.primary_stop_timeout).filter(|set| !set.is_zero());
    let limit = set.unwrap_or(settings.primary_start_timeout.max(settings.ttl));
    matches!(mode, DemoteMode::Graceful | DemoteMode::DemoteCluster).then_some(limit)
}

/// A stop that was decided on is under way; its own escalation sees to its end.
fn is_stopping(draft: &Draft) -> bool {
    let view = draft.view;
    match (view.job_kind(), &draft.memory.demoting) {
        // A planned stop gives way to the loss of the right to write.
        (
            Some(JobKind::Demote),
            Some(Demoting { mode: DemoteMode::Graceful | DemoteMode::DemoteCluster, .. }),
        ) => false,
        (Some(JobKind::Demote), _) => true,
        _ => false,
    }
}

/// Everything that fences this member is in force: it may become, or go on as, primary.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fences {
    Ready,
    /// Something was asked for and has not shown yet.
    Waiting(Reason),
    /// The watchdog is required and cannot work.
    Unusable,
}

/// Looks at guardian and watchdog, and sets up what is missing.
///
/// `right_until`: when the right to write ends, the deadline for a guardian that has none. In pause nothing is armed: a lapse of the lease must not stop what an operator works on.
pub(crate) fn set_up(draft: &mut Draft, right_until: Timestamp) -> Fences {
    let view = draft.view;
    if view.settings.pause {
        return Fences::Ready;
    }
    match view.fencing.guardian {
        Guardian::Off => {}
        Guardian::Armed { until } if view.now < until => {}
        Guardian::Ready | Guardian::Armed { .. } => {
            draft.attempt(Attempt::ArmGuardian, Action::ArmGuardian { until: right_until });
            return Fences::Waiting(Reason::ArmingGuardian);
        }
        Guardian::Dead => {
            draft.attempt(Attempt::RespawnGuardian, Action::RespawnGuardian);
            return Fences::Waiting(Reason::RespawningGuardian);
        }
    }
    match view.fencing.watchdog {
        Watchdog::Required { usable: false, .. } => return Fences::Unusable,
        Watchdog::Required { active: false, .. } => {
            draft.attempt(Attempt::Watchdog, Action::ActivateWatchdog);
            return Fences::Waiting(Reason::ActivatingWatchdog);
        }
        _ => {}
    }
    Fences::Ready
}

/// A watchdog that may or may not work on this machine is tried now and then. Nothing waits for it, so this comes last.
pub(crate) fn try_watchdog(draft: &mut Draft) {
    let view = draft.view;
    let may_write = view.settings.standby_cluster.is_none();
    if view.fencing.watchdog == (Watchdog::Optional { active: false }) && !view.settings.pause && may_write {
        draft.every(view.settings.loop_wait, Attempt::Watchdog, Action::ActivateWatchdog);
    }
}

/// PostgreSQL is about to run as a standby without the lock, or not at all: nothing to guard any more.
pub(crate) fn take_down(draft: &mut Draft) {
    let view = draft.view;
    if view.held().is_none() {
        stand_down(draft);
    }
}

/// There is nothing to guard, whoever holds the lock: what runs here is a standby, and will not be anything else by itself.
pub(crate) fn stand_down(draft: &mut Draft) {
    let view = draft.view;
    if matches!(view.fencing.guardian, Guardian::Armed { .. }) {
        draft.attempt(Attempt::DisarmGuardian, Action::DisarmGuardian);
    }
    if is_watchdog_active(view.fencing.watchdog) {
        draft.attempt(Attempt::Watchdog, Action::DisableWatchdog);
    }
}

/// No backend is left that could commit, and the lock is given away: the rest of the stop, perhaps long archiving, is no reason to
/// reset the machine. While the lock is ours, its renewals keep the device quiet.
pub(crate) fn rest_watchdog(draft: &mut Draft) {
    let view = draft.view;
    if view.held().is_none() && is_watchdog_active(view.fencing.watchdog) {
        draft.attempt(Attempt::Watchdog, Action::DisableWatchdog);
    }
}

pub(crate) fn is_watchdog_active(watchdog: Watchdog) -> bool {
    matches!(watchdog, Watchdog::Optional { active: true } | Watchdog::Required { active: true, .. })
}
