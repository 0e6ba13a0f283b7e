//! PostgreSQL does not run, or its data are not what they should be.

use bellwether_types::{
    PostgresState, Role,
    cluster::{Cluster, Initialize},
};

use crate::{
    Action, Reason,
    action::{CallbackEvent, Exit, StartRole, StopMode},
    bootstrap, demote,
    draft::Draft,
    facts::Held,
    fence::{self, Fences},
    following,
    memory::{Attempt, RewindState},
    rewind,
    view::{Control, ControlState, DataDirectory, JobKind, JobOutcome, Process},
};

/// A start that was decided on has ended, one way or the other.
pub(crate) fn end_of_start(draft: &mut Draft, _cluster: &Cluster) -> Option<Reason> {
    let view = draft.view;
    if !draft.memory.recovering || view.job.is_some() {
        return None;
    }
    if view.postgres.process != Process::NotRunning {
        draft.memory.recovering = false;
        draft.memory.crash_recovery_tried = false;
        draft.memory.crashed_as_primary_at = None;
        if matches!(draft.memory.rewind, RewindState::NotNeed | RewindState::Success | RewindState::Failed) {
            draft.memory.rewind = RewindState::Initial;
        }
        return None;
    }
    let failed = view.last_job.as_ref().is_some_and(|last| {
        matches!(last.kind, JobKind::Start | JobKind::Restart) && last.outcome != JobOutcome::Succeeded
    });
    if !failed {
        return None;
    }
    draft.memory.recovering = false;
    if view.held().is_none() {
        return Some(Reason::StartFailed);
    }
    // Callbacks first: a virtual address must not stay on a member whose PostgreSQL does not start.
    if draft.memory.announced_role != Some(Role::Demoted) {
        draft.memory.announced_role = Some(Role::Demoted);
        draft.then(Action::RunCallback { event: CallbackEvent::OnRoleChange, role: Role::Demoted });
    }
    demote::release(draft, None);
    Some(Reason::ReleasedAfterFailedStart)
}

/// Is there a data directory at all?
pub(crate) fn data_directory(draft: &mut Draft, cluster: &Cluster) -> Option<Reason> {
    let view = draft.view;
    let data = &view.postgres.data;
    if matches!(data, DataDirectory::Present | DataDirectory::Invalid(_)) {
        return None;
    }
    draft.set_role(Role::Uninitialized);
    if view.postgres.process.exists() {
        // It can go on serving from open files.
        if !draft.is_busy() {
            draft.then(Action::Stop { mode: StopMode::Immediate });
        }
        return Some(Reason::StoppingWithoutDataDir);
    }
    if fence::is_watchdog_active(view.fencing.watchdog) {
        draft.attempt(Attempt::Watchdog, Action::DisableWatchdog);
    }
    if view.held().is_some() {
        demote::release(draft, None);
        draft.set_role(Role::Uninitialized);
        return Some(if bootstrap::is_empty(data) {
            Reason::ReleasedDataDirEmpty
        } else {
            Reason::ReleasedDataDirUnreadable
        });
    }
    if let DataDirectory::Unreadable(error) = data {
        return Some(Reason::DataDirUnreadable { error: error.clone() });
    }
    if view.settings.pause {
        return Some(Reason::PausedEmptyDataDir);
    }
    fence::take_down(draft);
    Some(bootstrap::begin(draft, cluster))
}

/// Do these data belong to this cluster?
pub(crate) fn identity(draft: &mut Draft, cluster: &Cluster) -> Option<Reason> {
    let view = draft.view;
    let Some(mine) = view.postgres.system_id else { return Some(Reason::SystemIdInvalid) };
    match cluster.initialize.as_ref().map(|key| &key.value) {
        Some(Initialize::Done(theirs)) if *theirs != mine => {
            let (mine_text, theirs_text) = (mine.to_string(), theirs.to_string());
            if view.settings.pause {
                if view.held().is_some() {
                    demote::release(draft, None);
                    return Some(Reason::SystemIdMismatchReleased);
                }
                draft.note(Reason::SystemIdMismatch { me: view.me.name.clone(), mine, theirs: *theirs });
                return None;
            }
            draft.attempt(
                Attempt::Exit,
                Action::Exit { exit: Exit::ForeignSystemId { mine: mine_text, theirs: theirs_text } },
            );
            Some(Reason::SystemIdMismatch { me: view.me.name.clone(), mine, theirs: *theirs })
        }
        Some(Initialize::Done(_)) => None,
        _ => {
            if cluster.leader.is_some()
                || view.held().is_some()
                || view.settings.pause
                || draft.memory.callback_fired
            {
                return None;
            }
            // Without an answer nobody can tell yet what runs here.
            view.server()?;
            if !view.is_primary() {
                draft.attempt(Attempt::Exit, Action::Exit { exit: Exit::ReplicaWithoutCluster });
                return Some(Reason::ReplicaWithoutInitialize);
            }
            let expect = cluster.initialize.as_ref().map(|key| key.revision);
            draft.attempt(Attempt::WriteInitialize, Action::WriteInitialize { expect });
            Some(Reason::WritingInitialize)
        }
    }
}

/// PostgreSQL is stopped and should not be.
pub(crate) fn not_running(draft: &mut Draft, cluster: &Cluster) -> Reason {
    let view = draft.view;
    let held = view.held();
    if view.settings.pause {
        if view.postgres.state != PostgresState::Stopped {
            draft.attempt(Attempt::SetState, Action::SetState { state: PostgresState::Stopped });
        }
        if held.is_some() {
            demote::release(draft, None);
            return Reason::PausedReleasedNotRunning;
        }
        return Reason::PausedNotRunning;
    }
    let was_running = matches!(view.postgres.state, PostgresState::Running | PostgresState::Starting);
    if was_running {
        draft.attempt(Attempt::SetState, Action::SetState { state: PostgresState::Crashed });
    }
    if was_running && matches!(view.postgres.role, Role::Primary | Role::Promoted) {
        draft.memory.crashed_as_primary_at.get_or_insert(view.now);
    }
    if draft.backing_off(&JobKind::Start) {
        return Reason::WaitingToRetry { action: "start".to_owned() };
    }
    match held {
        Some(held) => with_lock(draft, held),
        None => without_lock(draft, cluster),
    }
}

fn with_lock(draft: &mut Draft, held: Held) -> Reason {
    let view = draft.view;
    let as_primary = draft.memory.crashed_as_primary_at.is_some()
        && view.postgres.control.as_ref().is_some_and(was_primary);
    if as_primary {
        match fence::set_up(draft, held) {
            Fences::Ready => {}
            Fences::Waiting(reason) => return reason,
            Fences::Unusable => {
                demote::release(draft, None);
                return Reason::WatchdogNoPromotion;
            }
        }
        draft.memory.recovering = true;
        draft.then(Action::Start { role: StartRole::Primary { fence: held.fence() } });
        return Reason::StartingPrimary;
    }
    draft.memory.rewind = RewindState::Initial;
    draft.memory.recovering = true;
    draft.then(Action::Start { role: StartRole::Standby { upstream: None } });
    Reason::StartingReadonly
}

/// The control file says that this was a primary a moment ago, so that the timeline may go on.
fn was_primary(control: &Control) -> bool {
    !control.has_recovery_signal
        && matches!(
            control.state,
            ControlState::InProduction
                | ControlState::InCrashRecovery
                | ControlState::ShuttingDown
                | ControlState::ShutDown
        )
}

fn without_lock(draft: &mut Draft, cluster: &Cluster) -> Reason {
    let view = draft.view;
    fence::take_down(draft);
    if let Some(reason) = crash_recovery(draft, cluster) {
        return reason;
    }
    if matches!(draft.memory.rewind, RewindState::Initial | RewindState::Checkpoint) {
        draft.memory.rewind = RewindState::Check { since: view.now };
    }
    if let Some(reason) = rewind::settle(draft, cluster) {
        return reason;
    }
    draft.set_role(Role::Replica);
    draft.memory.recovering = true;
    let upstream = following::choose(draft, cluster);
    draft.then(Action::Start { role: StartRole::Standby { upstream } });
    Reason::StartingSecondary
}

/// A crashed primary must be brought to a clean stop before it can be compared and rewound.
fn crash_recovery(draft: &mut Draft, cluster: &Cluster) -> Option<Reason> {
    let view = draft.view;
    let control = view.postgres.control.as_ref()?;
    let crashed = matches!(
        control.state,
        ControlState::InProduction | ControlState::ShuttingDown | ControlState::InCrashRecovery
    );
    let allowed = cluster.is_unlocked() || view.can_rewind();
    let is_backup = control.has_backup_label && view.postgres.server_version >= 150_000;
    if !crashed || !allowed || is_backup || draft.memory.crash_recovery_tried {
        return None;
    }
    draft.memory.crash_recovery_tried = true;
    draft.then(Action::CrashRecovery);
    Some(Reason::CrashRecoveryRunning)
}
