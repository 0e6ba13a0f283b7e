//! Has this member written what the leader's history does not contain? Then it must not follow before that is undone.

use std::time::Duration;

use bellwether_types::{Role, cluster::Cluster};

use crate::{
    Action, Reason, View,
    action::{Earlier, StopMode},
    demote,
    draft::Draft,
    fence,
    memory::{Attempt, RewindState},
    view::{ControlState, DataDirectory, Divergence, JobKind, JobOutcome, Process, Upstream},
};

/// How soon a leader is asked again that gave no verdict.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A directory that could not be renamed is a mount point, or an earlier one is in the way: somebody has to do something.
const SET_ASIDE_PACE: Duration = Duration::from_secs(60);

/// Settles a pending question about divergence. `None`: nothing stands in the way of following.
pub(crate) fn settle(draft: &mut Draft, cluster: &Cluster) -> Option<Reason> {
    let view = draft.view;
    if let RewindState::Check { since } = draft.memory.rewind {
        if !view.may_repair_divergence() {
            draft.memory.rewind = RewindState::Initial;
            return None;
        }
        let leader = view.authority(cluster).filter(|leader| !leader.conn_url.is_empty())?;
        let found = view.postgres.divergence.as_ref();
        let found = found.filter(|found| found.checked_at >= since && found.leader == leader.member);
        match found.and_then(verdict) {
            Some(true) => draft.memory.rewind = RewindState::Need,
            Some(false) => {
                draft.memory.rewind = RewindState::NotNeed;
                return None;
            }
            None => return check(draft, leader),
        }
    }
    match draft.memory.rewind {
        RewindState::Need => act(draft, cluster),
        RewindState::Failed => after_failure(draft),
        _ => None,
    }
}

/// A rewind was interrupted. The files are a mixture: nothing but another rewind, or a new copy, makes them usable again.
pub(crate) fn finish(draft: &mut Draft, cluster: &Cluster) -> Reason {
    fence::take_down(draft);
    if draft.view.held().is_some() {
        demote::release(draft, None);
        return Reason::RewindInterrupted;
    }
    demote::release_again(draft, cluster);
    if draft.memory.rewind != RewindState::Failed {
        draft.memory.rewind = RewindState::Need;
    }
    settle(draft, cluster).unwrap_or(Reason::RewindInterrupted)
}

/// Asks for a comparison; while PostgreSQL runs, following goes on meanwhile.
pub(crate) fn check(draft: &mut Draft, leader: Upstream) -> Option<Reason> {
    let view = draft.view;
    let is_running = view.postgres.process.exists();
    if draft.is_busy() {
        return (!is_running).then_some(Reason::CheckingDivergence { leader: leader.member });
    }
    if let Some(last) = view.last_job.as_ref().filter(|last| last.kind == JobKind::CheckDivergence) {
        // No verdict yet: the leader could not be asked, or is not primary yet.
        // Another cluster may be away for hours; nobody waits for it here.
        let patience = if leader.is_remote { view.settings.loop_wait } else { LOOK_AGAIN };
        let again_at = last.ended_at + view.settings.loop_wait.min(patience);
        if view.now < again_at {
            draft.wake_by(again_at);
            return None;
        }
    }
    let reason = Reason::CheckingDivergence { leader: leader.member.clone() };
    draft.then(Action::CheckDivergence { leader });
    if is_running {
        draft.note(reason);
        return None;
    }
    Some(reason)
}

/// Whether this member must be rewound; `None` if the evidence does not tell.
pub(crate) fn verdict(found: &Divergence) -> Option<bool> {
    if !found.leader_is_primary {
        return None;
    }
    if has_other_past(found) {
        return Some(true);
    }
    if found.local_timeline >= found.leader_timeline {
        return Some(found.local_timeline > found.leader_timeline);
    }
    if found.leader_history.is_empty() {
        return None;
    }
    let fork = found.leader_history.iter().find(|switch| switch.timeline == found.local_timeline);
    let Some(fork) = fork else { return Some(true) };
    if !found.local_was_primary {
        return Some(found.local_lsn > fork.end);
    }
    Some(found.local_lsn >= fork.end || found.shutdown_checkpoint_end != Some(fork.end))
}

/// A timeline that both came by ended at different places: it only has the same number. Two members that were promoted without
/// knowing of each other have made two timelines of one number.
fn has_other_past(found: &Divergence) -> bool {
    let end = |timeline| found.leader_history.iter().find(|switch| switch.timeline == timeline);
    found.local_history.iter().any(|mine| end(mine.timeline).is_some_and(|theirs| theirs.end != mine.end))
}

/// pg_rewind compares numbers of timelines, and does nothing when they are equal.
fn is_beyond_rewind(found: &Divergence) -> bool {
    found.local_timeline == found.leader_timeline && has_other_past(found)
}

fn act(draft: &mut Draft, cluster: &Cluster) -> Option<Reason> {
    let view = draft.view;
    match draft.outcome(&JobKind::Rewind) {
        Some(JobOutcome::Succeeded) => {
            draft.memory.rewind = RewindState::Success;
            draft.memory.jobs.remove(&JobKind::Rewind);
            return None;
        }
        Some(JobOutcome::Failed { source_unreachable: false, .. }) => {
            draft.memory.rewind = RewindState::Failed;
            draft.memory.rewind_failed_at = Some(view.now);
            draft.memory.jobs.remove(&JobKind::Rewind);
            return after_failure(draft);
        }
        _ => {}
    }
    if draft.is_busy() {
        return Some(Reason::InProgress {
            action: view.job_kind().map_or("job", JobKind::as_str).to_owned(),
        });
    }
    let found = view.postgres.divergence.as_ref().filter(|_| view.postgres.data == DataDirectory::Present);
    let source = view.authority(cluster).filter(|source| !source.conn_url.is_empty());
    let is_with_authority = |found: &Divergence| match &source {
        Some(source) => source.member == found.leader,
        // A leader whose address is not known just now is still the one that was compared with.
        None => cluster.leader_name() == Some(&found.leader),
    };
    if found.is_some_and(|found| is_with_authority(found) && is_beyond_rewind(found)) {
        return Some(copy_anew(draft, cluster));
    }
    if !view.can_rewind() {
        // Whom could the leader of a standby cluster be copied from, once its data are gone?
        if !view.settings.remove_data_directory_on_diverged_timelines || view.is_standby_cluster() {
            return None;
        }
        return Some(wipe(draft, Reason::ReinitializingDiverged));
    }
    let source = source?;
    if draft.backing_off(&JobKind::Rewind) {
        return Some(Reason::WaitingToRetry { action: JobKind::Rewind.as_str().to_owned() });
    }
    if !source.is_remote && !has_checkpointed(cluster) {
        return Some(Reason::RewindWaitsForCheckpoint { source: source.member });
    }
    let control = view.postgres.control.as_ref().map(|control| control.state);
    if view.postgres.process == Process::NotRunning
        && view.postgres.data == DataDirectory::Present
        && matches!(control, Some(ControlState::InArchiveRecovery))
        && !draft.memory.crash_recovery_tried
    {
        draft.memory.crash_recovery_tried = true;
        draft.then(Action::CrashRecovery);
        return Some(Reason::CrashRecoveryRunning);
    }
    let name = source.member.clone();
    draft.memory.start_wanted = true;
    draft.then(Action::Rewind { source });
    Some(Reason::RewindRunning { source: name })
}

/// The leader is a primary, and its control file shows its timeline. (The rewind itself sees to that of a remote member.)
fn has_checkpointed(cluster: &Cluster) -> bool {
    cluster.leader_member().is_some_and(|leader| {
        leader.role == Some(Role::Primary) && leader.checkpoint_after_promote != Some(false)
    })
}

/// Nothing but a copy helps. Without the permission to remove what is there this member stays down: as a standby it would take the
/// leader's WAL for a continuation of its own.
fn copy_anew(draft: &mut Draft, cluster: &Cluster) -> Reason {
    if draft.view.settings.remove_data_directory_on_diverged_timelines && has_somebody_to_copy(draft.view) {
        return wipe(draft, Reason::ReinitializingDiverged);
    }
    let view = draft.view;
    if view.postgres.process.exists() {
        if !draft.is_busy() && !draft.backing_off(&JobKind::Stop) {
            draft.stop_postgres(StopMode::Fast);
        }
    } else if view.held().is_some() {
        // It leads nobody anywhere; somebody else may have what is needed.
        demote::release(draft, None);
    } else {
        demote::release_again(draft, cluster);
    }
    if view.is_standby_cluster() { Reason::DivergedFromRemote } else { Reason::DivergedBeyondRewind }
}

fn after_failure(draft: &mut Draft) -> Option<Reason> {
    let settings = &draft.view.settings;
    let may_remove = settings.remove_data_directory_on_rewind_failure
        || settings.remove_data_directory_on_diverged_timelines;
    if may_remove && has_somebody_to_copy(draft.view) {
        return Some(wipe(draft, Reason::ReinitializingFailedRewind));
    }
    let is_free = !draft.view.settings.pause && is_led_by_other(draft.view);
    if is_free && is_mixture(draft.view) && set_aside(draft) {
        return Some(Reason::SettingRewindAside);
    }
    draft.note(Reason::DivergedWithoutRemedy);
    None
}

/// In a standby cluster every member is compared with the same remote member. If that is a wrong one, all would remove their data, and
/// nobody would be left to copy from; so one goes after the other, below a leader.
fn has_somebody_to_copy(view: &View) -> bool {
    !view.is_standby_cluster() || is_led_by_other(view)
}

fn is_led_by_other(view: &View) -> bool {
    let leader = view.store.cluster.as_deref().and_then(Cluster::leader_name);
    leader.is_some_and(|name| !view.is_me(name))
}

/// Blocks of two histories, on which nobody can start anything.
fn is_mixture(view: &View) -> bool {
    view.postgres.data == DataDirectory::Interrupted { by: JobKind::Rewind }
        && view.postgres.process == Process::NotRunning
}

/// Makes room for a copy of the leader without a permission to remove anything: what only this member has written stays readable beside
/// it. An earlier directory that was set aside stays, too. False: that was tried a moment ago, and the data are still here.
fn set_aside(draft: &mut Draft) -> bool {
    if draft.is_busy() {
        return false;
    }
    draft.memory.start_wanted = true;
    draft.every(SET_ASIDE_PACE, Attempt::SetAside, Action::SetDataDirectoryAside { earlier: Earlier::Keep })
}

/// Removes the data directory, with the permission of the configuration; the next tick clones. In pause nothing is removed: people look after
/// the cluster themselves.
fn wipe(draft: &mut Draft, reason: Reason) -> Reason {
    if draft.view.settings.pause {
        draft.note(reason);
        return if draft.view.postgres.process.exists() { Reason::Paused } else { Reason::PausedNotRunning };
    }
    if draft.is_busy() {
        return reason;
    }
    draft.memory.start_wanted = true;
    if draft.view.postgres.process.exists() {
        if !draft.backing_off(&JobKind::Stop) {
            draft.stop_postgres(StopMode::Fast);
        }
        return reason;
    }
    if !draft.backing_off(&JobKind::Wipe) {
        draft.then(Action::WipeDataDirectory { why: reason.sentence() });
        draft.memory.rewind = RewindState::Initial;
    }
    reason
}
