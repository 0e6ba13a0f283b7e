//! Restarting PostgreSQL because an operator wants it, now or at a given time.

use std::time::Duration;

use bellwether_types::{Role, cluster::Cluster, settings::SyncMode};

use crate::{
    Action, Reason, View,
    action::Answer,
    draft::Draft,
    facts::Held,
    memory::ScheduledRestart,
    recovery,
    requests::reply,
    schedule::{self, Due},
    view::{DataDirectory, Guardian, JobKind, Process, RestartConditions},
};

/// Errands that make way for an operator.
pub(crate) const ERRANDS: [JobKind; 2] = [JobKind::Checkpoint, JobKind::CheckDivergence];

/// No fast stop is cut short before that: where no time was given at all, crash recovery would cost more than waiting.
const SHORTEST_STOP: Duration = Duration::from_secs(10);

/// A request of the API.
pub(crate) fn requested(
    draft: &mut Draft,
    id: u64,
    conditions: &RestartConditions,
    timeout: Option<Duration>,
) -> Option<Reason> {
    let view = draft.view;
    if draft.push_aside(&ERRANDS) {
        return Some(Reason::InProgress { action: JobKind::Restart.as_str().to_owned() });
    }
    if let Some(running) = busy_with(draft) {
        reply(draft, id, Answer::Refused { why: format!("{running} already in progress") });
        draft.note(Reason::RequestBusy { action: "restart".to_owned(), running });
        return None;
    }
    if view.postgres.data != DataDirectory::Present {
        reply(draft, id, Answer::Refused { why: "there is no data directory to start from".to_owned() });
        return None;
    }
    if !is_running(draft) && !is_standby_at_rest(draft) {
        reply(draft, id, Answer::Refused { why: "PostgreSQL is not running".to_owned() });
        return None;
    }
    if let Err(why) = satisfied(draft, conditions) {
        reply(draft, id, Answer::Refused { why: "restart conditions are not satisfied".to_owned() });
        draft.note(Reason::RestartConditionsNotMet { why });
        return None;
    }
    if !may_restart(draft) {
        // The next ticks settle who leads; the request is still there then.
        return None;
    }
    if !released_sync_duty(draft) {
        return Some(Reason::ReleasingSyncDuty);
    }
    reply(draft, id, Answer::Started);
    Some(restart(draft, timeout))
}

/// A restart whose time may have come.
pub(crate) fn scheduled(draft: &mut Draft) -> Option<Reason> {
    let view = draft.view;
    let planned: ScheduledRestart = draft.memory.restart_at.clone()?;
    if view.settings.pause {
        return None;
    }
    if view.postgres.postmaster_started_at != planned.postmaster_started_at
        && let Some(at) = &view.postgres.postmaster_started_at
    {
        draft.note(Reason::ScheduledRestartVoid { at: at.clone() });
        draft.memory.restart_at = None;
        return None;
    }
    match schedule::due(draft, "restart", planned.at, &planned.text) {
        Due::Waiting => return None,
        Due::Stale => {
            draft.memory.restart_at = None;
            return None;
        }
        Due::Now => {}
    }
    if draft.is_busy() || !is_running(draft) || !may_restart(draft) {
        draft.push_aside(&ERRANDS);
        return None;
    }
    if let Err(why) = satisfied(draft, &planned.conditions) {
        draft.note(Reason::RestartConditionsNotMet { why });
        draft.memory.restart_at = None;
        return None;
    }
    if !released_sync_duty(draft) {
        return Some(Reason::ReleasingSyncDuty);
    }
    draft.memory.restart_at = None;
    Some(restart(draft, planned.timeout))
}

fn restart(draft: &mut Draft, timeout: Option<Duration>) -> Reason {
    draft.memory.recovering = true;
    draft.memory.start_wanted = true;
    let view = draft.view;
    // With no time for a start at all a crash means a failover, and not that nobody can be restarted.
    let is_impatient = view.settings.primary_start_timeout.is_zero();
    draft.memory.start_timeout = timeout.or(is_impatient.then_some(LONGEST_START));
    let is_fenced = view.may_write() && !view.settings.pause;
    let fence = view.held().filter(|_| is_fenced).map(Held::fence);
    let stop_limit = stop_limit(view, timeout);
    draft.then(Action::Restart { timeout, stop_limit, fence });
    Reason::RestartInitiated
}

/// The time for the start in a restart that somebody asked for, where `primary_start_timeout` allows none: what it is by default.
const LONGEST_START: Duration = Duration::from_secs(300);

/// How long the fast stop of a restart may take: `primary_stop_timeout` if it is set, else as long as the start afterwards.
pub(crate) fn stop_limit(view: &View, timeout: Option<Duration>) -> Duration {
    let settings = &view.settings;
    if !settings.primary_stop_timeout.is_zero() {
        return settings.primary_stop_timeout;
    }
    timeout.unwrap_or(settings.primary_start_timeout).max(SHORTEST_STOP)
}

/// A server that is down, or going down, is for the rules of recovery: they know whether it may come up, and as what.
fn is_running(draft: &Draft) -> bool {
    matches!(draft.view.postgres.process, Process::Starting { .. } | Process::Running { .. })
}

/// In pause nothing but a restart brings a stopped server up again. For a standby that says nothing about who leads; for a former
/// primary it would.
fn is_standby_at_rest(draft: &Draft) -> bool {
    let view = draft.view;
    view.settings.pause
        && view.held().is_none()
        && view.postgres.process == Process::NotRunning
        // Its files are written for the role that it had: a former primary would come up as one.
        && matches!(view.postgres.role, Role::Replica | Role::StandbyLeader)
        && view.postgres.control.as_ref().is_some_and(|control| !recovery::was_primary(control))
}

/// The words for what keeps an operator's request from being begun.
pub(crate) fn busy_with(draft: &Draft) -> Option<String> {
    if draft.memory.bootstrapping.is_some() {
        return Some(JobKind::Bootstrap.as_str().to_owned());
    }
    draft.view.job_kind().map(|kind| kind.as_str().to_owned())
}

/// A primary is restarted as a primary: only with everything that allows it to be one.
fn may_restart(draft: &Draft) -> bool {
    let view = draft.view;
    let is_guarded = match view.fencing.guardian {
        Guardian::Off => true,
        Guardian::Armed { until } => view.now < until,
        Guardian::Ready | Guardian::Dead => false,
    };
    !view.may_write() || view.settings.pause || (view.held().is_some() && is_guarded)
}

fn satisfied(draft: &Draft, conditions: &RestartConditions) -> Result<(), String> {
    let postgres = &draft.view.postgres;
    if conditions.role.is_some_and(|role| role != postgres.role) {
        return Err("host role mismatch".to_owned());
    }
    if conditions.version_below.is_some_and(|version| postgres.server_version >= version) {
        return Err("postgres version mismatch".to_owned());
    }
    if conditions.pending && !postgres.pending_restart {
        return Err("pending restart flag is not set".to_owned());
    }
    Ok(())
}

/// A synchronous standby asks the primary to stop counting on it, and waits a little. A courtesy, not a guarantee.
pub(crate) fn released_sync_duty(draft: &mut Draft) -> bool {
    let view = draft.view;
    let cluster = view.store.usable(view.now, view.patience());
    let sync = cluster.and_then(Cluster::active_sync);
    let is_needed = view.settings.sync_mode() != SyncMode::Off
        && view.held().is_none()
        && view.postgres.process != Process::NotRunning
        && !view.me.tags.nosync()
        && sync.is_some_and(|sync| {
            sync.has_voter(&view.me.name)
                && cluster.and_then(Cluster::leader_name).is_some_and(|leader| sync.is_leader(leader))
        });
    if !is_needed {
        return true;
    }
    let since = *draft.memory.sync_release_since.get_or_insert(view.now);
    let limit = since + view.settings.loop_wait * 2;
    draft.wake_by(limit);
    view.now >= limit
}
