//! PostgreSQL does not run, is starting, or its data are not what they should be.

use std::time::Duration;

use bellwether_types::{
    PostgresState, Role,
    cluster::{Cluster, Initialize},
    settings::SyncMode,
};

use crate::{
    Action, Reason, View,
    action::{CallbackEvent, DemoteMode, Exit, StartRole, StopMode},
    bootstrap, demote,
    draft::Draft,
    facts::Held,
    fence::{self, Fences},
    following,
    memory::{Attempt, RewindState},
    rewind, standby_cluster, switchover,
    view::{Control, ControlState, DataDirectory, JobKind, Process},
};

/// How much WAL a crashed server replays, for a guess: 64 MB per second, as it is when pages must be read.
const REPLAYED_PER_MS: u64 = 64 * 1024;
/// How long writes are away while another member takes over.
const HANDED_OVER_WITHIN: Duration = Duration::from_secs(1);

/// A start that was decided on has ended, one way or the other.
pub(crate) fn end_of_start(draft: &mut Draft) -> Option<Reason> {
    let view = draft.view;
    if !draft.memory.recovering || view.job.is_some() {
        return None;
    }
    let starts = [JobKind::Start, JobKind::Restart, JobKind::CopySlots];
    let ended = starts.iter().any(|kind| draft.outcome(kind).is_some());
    if view.postgres.process != Process::NotRunning {
        if matches!(view.postgres.process, Process::Running { .. }) {
            draft.memory.recovering = false;
            draft.memory.start_wanted = false;
            draft.memory.start_timeout = None;
            draft.memory.sync_release_since = None;
            draft.memory.crash_recovery_tried = false;
            draft.memory.crashed_as_primary_at = None;
            if matches!(
                draft.memory.rewind,
                RewindState::NotNeed | RewindState::Success | RewindState::Failed
            ) {
                draft.memory.rewind = RewindState::Initial;
            }
            tell_callbacks(draft);
        }
        return None;
    }
    if !ended {
        // It never began; the rules below decide anew.
        return None;
    }
    draft.memory.recovering = false;
    // What was promised to an operator who pauses is one start, not starts without end.
    draft.memory.start_wanted = false;
    draft.memory.start_timeout = None;
    draft.memory.sync_release_since = None;
    if view.held().is_none() {
        return Some(Reason::StartFailed);
    }
    // Callbacks first: a virtual address must not stay on a member whose PostgreSQL does not start.
    if draft.memory.announced_role != Some(Role::Demoted) {
        draft.memory.announced_role = Some(Role::Demoted);
        draft.memory.callback_fired = true;
        draft.then(Action::RunCallback { event: CallbackEvent::OnRoleChange, role: Role::Demoted });
    }
    draft.memory.crashed_as_primary_at = None;
    demote::release(draft, None);
    Some(Reason::ReleasedAfterFailedStart)
}

/// The server came up in the role it had before; a change of role is told by whoever notices it.
fn tell_callbacks(draft: &mut Draft) {
    let role = draft.view.postgres.role;
    if draft.memory.announced_role != Some(role) {
        return;
    }
    let event = match draft.view.last_job.as_ref().map(|last| &last.kind) {
        Some(JobKind::Restart) => CallbackEvent::OnRestart,
        Some(JobKind::Start) => CallbackEvent::OnStart,
        _ => return,
    };
    draft.then(Action::RunCallback { event, role });
}

/// Is there a data directory at all?
pub(crate) fn data_directory(draft: &mut Draft, cluster: &Cluster) -> Option<Reason> {
    let view = draft.view;
    let data = &view.postgres.data;
    if matches!(
        data,
        DataDirectory::Present
            | DataDirectory::Invalid(_)
            | DataDirectory::Interrupted { by: JobKind::Rewind }
    ) {
        return None;
    }
    if bootstrap::is_empty(data) {
        // What was found out about files that are gone.
        draft.memory.rewind = RewindState::Initial;
    }
    let in_the_making = *data == DataDirectory::Interrupted { by: JobKind::Bootstrap };
    if in_the_making && bootstrap::is_founded(view, cluster) {
        draft.attempt(Attempt::FinishBootstrap, Action::FinishBootstrap);
        return Some(Reason::BootstrapPublishing);
    }
    if view.settings.pause && view.postgres.process.exists() {
        return Some(Reason::PausedEmptyDataDir);
    }
    draft.set_role(Role::Uninitialized);
    if view.postgres.process.exists() {
        // It can go on serving from open files.
        if !draft.is_busy() && !draft.backing_off(&JobKind::Stop) {
            draft.stop_postgres(StopMode::Immediate);
        }
        let why = if in_the_making { Reason::BootstrapLeftover } else { Reason::StoppingWithoutDataDir };
        return Some(why);
    }
    if view.held().is_some() {
        if draft.attempt(Attempt::ReleaseLease, Action::ReleaseLease { optime: None }) {
            draft.memory.released_at = Some(view.now);
        }
        return Some(if bootstrap::is_empty(data) {
            Reason::ReleasedDataDirEmpty
        } else {
            Reason::ReleasedDataDirUnreadable
        });
    }
    demote::release_again(draft, cluster);
    fence::take_down(draft);
    if let DataDirectory::Unreadable(error) = data {
        return Some(Reason::DataDirUnreadable { error: error.clone() });
    }
    if view.settings.pause && !draft.memory.start_wanted {
        return Some(Reason::PausedEmptyDataDir);
    }
    if in_the_making {
        return Some(bootstrap::set_leftover_aside(draft));
    }
    Some(bootstrap::begin(draft, cluster))
}

/// Do these data belong to this cluster?
pub(crate) fn identity(draft: &mut Draft, cluster: &Cluster) -> Option<Reason> {
    let view = draft.view;
    let Some(mine) = view.postgres.system_id else { return without_identity(draft, cluster) };
    match cluster.initialize.as_ref().map(|key| &key.value) {
        Some(Initialize::Done(theirs)) if *theirs == mine => None,
        Some(Initialize::Done(theirs)) => {
            let reason = Reason::SystemIdMismatch { me: view.me.name.clone(), mine, theirs: *theirs };
            if view.settings.pause {
                if view.held().is_some() {
                    demote::release(draft, None);
                    return Some(Reason::SystemIdMismatchReleased);
                }
                draft.note(reason);
                return None;
            }
            draft.memory.refused_to_attach = true;
            let exit = Exit::ForeignSystemId { mine: mine.to_string(), theirs: theirs.to_string() };
            draft.attempt(Attempt::Exit, Action::Exit { exit });
            Some(reason)
        }
        _ => first_attach(draft, cluster),
    }
}

/// Neither a mismatch nor a match: stay up, so that the member can be reinitialized.
fn without_identity(draft: &mut Draft, cluster: &Cluster) -> Option<Reason> {
    if draft.view.postgres.process.exists() {
        draft.note(Reason::SystemIdInvalid);
        return None;
    }
    if draft.view.held().is_some() {
        demote::release(draft, None);
    }
    demote::release_again(draft, cluster);
    Some(Reason::SystemIdInvalid)
}

/// A cluster without identity: a running primary may give it one, a standby never. A standby cluster is different: its truth is the
/// remote member's, and who leads it writes nothing that could be wrong.
fn first_attach(draft: &mut Draft, cluster: &Cluster) -> Option<Reason> {
    let view = draft.view;
    if cluster.leader.is_some() || view.held().is_some() || view.settings.pause || draft.memory.callback_fired
    {
        return None;
    }
    // Without an answer nobody can tell yet what runs here.
    view.server()?;
    if !view.is_primary() && !view.is_standby_cluster() {
        draft.memory.refused_to_attach = true;
        draft.attempt(Attempt::Exit, Action::Exit { exit: Exit::ReplicaWithoutCluster });
        return Some(Reason::ReplicaWithoutInitialize);
    }
    let expect = cluster.initialize.as_ref().map(|key| key.revision);
    draft.attempt(Attempt::WriteInitialize, Action::WriteInitialize { expect });
    Some(Reason::WritingInitialize)
}

/// PostgreSQL is stopped and should not be.
pub(crate) fn not_running(draft: &mut Draft, cluster: &Cluster) -> Reason {
    let view = draft.view;
    let held = view.held();
    if view.settings.pause && !draft.memory.start_wanted {
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
    let has_crashed = was_running || view.postgres.state == PostgresState::Crashed;
    if has_crashed && matches!(view.postgres.role, Role::Primary | Role::Promoted) {
        draft.memory.crashed_as_primary_at.get_or_insert(view.now);
    }
    if let Some(job) = view.job_kind() {
        return Reason::InProgress { action: job.as_str().to_owned() };
    }
    if matches!(view.postgres.data, DataDirectory::Interrupted { .. }) {
        return rewind::finish(draft, cluster);
    }
    if draft.backing_off(&JobKind::Start) {
        demote::release_again(draft, cluster);
        return Reason::WaitingToRetry { action: "start".to_owned() };
    }
    match held {
        Some(held) if !view.is_standby_cluster() => with_lock(draft, cluster, held),
        _ => as_standby(draft, cluster),
    }
}

fn with_lock(draft: &mut Draft, cluster: &Cluster, held: Held) -> Reason {
    let view = draft.view;
    let has_crashed = draft.memory.crashed_as_primary_at.is_some();
    if has_crashed && is_heir_faster(view, cluster) {
        match switchover::is_failover_possible(draft, cluster) {
            None => return Reason::PollingPeers,
            Some(true) => return fence::stop(draft, DemoteMode::Immediate, Reason::FailingOverAfterCrash),
            Some(false) => {}
        }
    }
    let is_primary = matches!(view.postgres.role, Role::Primary | Role::Promoted)
        && view.postgres.control.as_ref().is_some_and(was_primary);
    if has_crashed && is_primary {
        match fence::set_up(draft, held.until) {
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
    if let Some(reason) = crash_recovery(draft, cluster) {
        return reason;
    }
    draft.memory.rewind = RewindState::Initial;
    draft.memory.recovering = true;
    draft.set_role(Role::Replica);
    draft.then(Action::Start { role: StartRole::Standby { upstream: None } });
    Reason::StartingReadonly
}

/// Restart or hand over, whichever serves writes again sooner. A crashed primary is back when it has replayed what was written since its
/// last checkpoint; another member leads within a moment. Without voters that one may lack what was acknowledged last: then only
/// `primary_start_timeout` makes somebody else lead.
fn is_heir_faster(view: &View, cluster: &Cluster) -> bool {
    if view.settings.primary_start_timeout.is_zero() {
        return true;
    }
    let votes = view.settings.sync_mode() == SyncMode::Quorum;
    let voters = cluster.active_sync().filter(|sync| votes && !sync.voters.is_empty());
    let (Some(_), Some(control)) = (voters, &view.postgres.control) else { return false };
    let to_replay = cluster.optime() - control.checkpoint;
    Duration::from_millis(to_replay / REPLAYED_PER_MS) > HANDED_OVER_WITHIN
}

/// The control file says that this was a primary a moment ago, so that the timeline may go on.
pub(crate) fn was_primary(control: &Control) -> bool {
    !control.has_recovery_signal
        && matches!(
            control.state,
            ControlState::InProduction
                | ControlState::InCrashRecovery
                | ControlState::ShuttingDown
                | ControlState::ShutDown
        )
}

/// As a standby; with the lock as the leader of a standby cluster.
fn as_standby(draft: &mut Draft, cluster: &Cluster) -> Reason {
    let view = draft.view;
    fence::stand_down(draft);
    if let Some(reason) = crash_recovery(draft, cluster) {
        return reason;
    }
    if matches!(draft.memory.rewind, RewindState::Initial | RewindState::Checkpoint) {
        following::distrust(draft);
    }
    if let Some(reason) = rewind::settle(draft, cluster) {
        return reason;
    }
    draft.memory.recovering = true;
    if view.is_standby_cluster() {
        let (role, reason) = standby_cluster::start_role(draft, cluster);
        draft.then(Action::Start { role });
        return reason;
    }
    draft.set_role(Role::Replica);
    let upstream = following::choose(draft, cluster);
    // Without a leader a standby keeps the upstream that its files name.
    let upstream = upstream.or_else(|| {
        let known = view.postgres.upstream.clone();
        known.filter(|known| cluster.is_unlocked() && !view.is_me(&known.member) && !view.me.tags.nostream())
    });
    draft.then(Action::Start { role: StartRole::Standby { upstream } });
    Reason::StartingSecondary
}

/// A crashed primary must be brought to a clean stop before it can be compared and rewound. Once per episode.
fn crash_recovery(draft: &mut Draft, cluster: &Cluster) -> Option<Reason> {
    let view = draft.view;
    let control = view.postgres.control.as_ref()?;
    let crashed = matches!(
        control.state,
        ControlState::InProduction | ControlState::ShuttingDown | ControlState::InCrashRecovery
    );
    let allowed = cluster.is_unlocked() || view.can_rewind();
    // A copy that was never started is no crashed primary, whatever its control file says.
    if !crashed
        || !allowed
        || control.has_backup_label
        || control.has_recovery_signal
        || draft.memory.crash_recovery_tried
    {
        return None;
    }
    draft.memory.crash_recovery_tried = true;
    draft.then(Action::CrashRecovery);
    Some(Reason::CrashRecoveryRunning)
}

/// PostgreSQL does not accept connections yet. For a standby that is nothing special.
pub(crate) fn starting(draft: &mut Draft, cluster: &Cluster) -> Option<Reason> {
    if !matches!(draft.view.postgres.process, Process::Starting { .. }) {
        return None;
    }
    start_limit(draft, cluster)
}

/// A primary that starts, or recovers, while it holds the lock: until its time is up, or an operator wants somebody else.
pub(crate) fn start_limit(draft: &mut Draft, cluster: &Cluster) -> Option<Reason> {
    let view = draft.view;
    let is_recovering = view.job_kind() == Some(&JobKind::CrashRecovery);
    if view.settings.pause || view.held().is_none() || !(is_recovering || is_primary_to_be(view)) {
        return None;
    }
    let since = match (&view.job, view.postgres.process) {
        // A restart's stop has a limit of its own.
        (Some(job), _) if matches!(job.kind, JobKind::Start | JobKind::CrashRecovery) => job.since,
        (_, Process::Starting { since }) => since,
        _ => return None,
    };
    if let Some(reason) = switchover::at_leader(draft, cluster) {
        return Some(reason);
    }
    let limit = draft.memory.start_timeout.unwrap_or(view.settings.primary_start_timeout);
    let waited = view.now.since(since);
    if waited < limit {
        draft.wake_by(since + limit);
        return (!is_recovering).then(|| Reason::StillStarting { seconds: (limit - waited).as_secs() });
    }
    let reason = if is_recovering { Reason::CrashRecoveryTimedOut } else { Reason::StartTimeoutStopped };
    Some(match switchover::is_failover_possible(draft, cluster) {
        None => Reason::PollingPeers,
        Some(true) => fence::stop(draft, DemoteMode::Immediate, reason),
        Some(false) if is_recovering => return None,
        Some(false) => Reason::StartTimeoutNoFailover,
    })
}

/// PostgreSQL comes up as a primary.
fn is_primary_to_be(view: &View) -> bool {
    matches!(view.postgres.role, Role::Primary | Role::Promoted)
        && view.postgres.server.as_ref().is_none_or(|server| !server.in_recovery)
}
