//! The first member founds the cluster, the others clone it.

use std::time::Duration;

use bellwether_types::{
    Role,
    cluster::{Cluster, ConfigDocument, Initialize, Member},
};

use crate::{
    Action, Reason, View,
    action::{CallbackEvent, Earlier, Exit, StopMode},
    draft::Draft,
    facts::spread,
    fence::{self, Fences},
    lease,
    memory::{Attempt, BootstrapStage, Checkpoint},
    view::{DataDirectory, Guardian, JobKind, JobOutcome, Process},
    wiped,
};

/// After a bootstrap that failed; doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// The data directory is empty: found a cluster or join one.
pub(crate) fn begin(draft: &mut Draft, cluster: &Cluster) -> Reason {
    let view = draft.view;
    if cluster.leader.is_some() {
        return clone(draft, cluster);
    }
    match &cluster.initialize {
        None if view.me.may_bootstrap && !view.me.tags.nofailover() => {
            if let Some(name) = wiped::has_members_with_data(view, cluster) {
                draft.note(Reason::MembersHaveData { name: name.clone() });
                return waiting(view);
            }
            if let Some(reason) = has_failed_before(draft) {
                return reason;
            }
            let (bootstrap, reason) = found(view);
            if draft.attempt(Attempt::ClaimInitialize, Action::ClaimInitialize) {
                // Runs only if the claim succeeded.
                draft.then(bootstrap);
            }
            return reason;
        }
        // The outcome of our claim was not known when it was made.
        Some(key) if key.value == Initialize::InProgress && view.store.owns_claim => {
            let (bootstrap, reason) = found(view);
            draft.then(bootstrap);
            return reason;
        }
        Some(key) if key.value == Initialize::InProgress => return waiting(view),
        _ => {}
    }
    if let Some(remote) = view.remote().filter(|remote| !remote.conn_url.is_empty())
        && cluster.system_id().is_some()
    {
        // Nobody of this standby cluster can be copied; the other cluster can.
        if draft.backing_off(&JobKind::Clone) {
            return Reason::WaitingToRetry { action: JobKind::Clone.as_str().to_owned() };
        }
        draft.memory.start_wanted = true;
        let name = remote.member.clone();
        draft.then(Action::Clone { from: Some(remote) });
        return Reason::CloneFromLeader { name };
    }
    if view.me.clones_without_leader && !draft.backing_off(&JobKind::Clone) {
        draft.memory.start_wanted = true;
        draft.then(Action::Clone { from: None });
        return Reason::CloneWithoutLeader;
    }
    waiting(view)
}

/// A bootstrap may take an hour, a restore say, and fail at its end: the next agent does not begin it again at once, and each further one
/// later still. If somebody else founds the cluster meanwhile, that one is copied.
fn has_failed_before(draft: &mut Draft) -> Option<Reason> {
    let view = draft.view;
    let failed = view.me.failed_bootstraps?;
    let doublings = failed.times.saturating_sub(1).min(6);
    let again_at = failed.last_at + (FIRST_PAUSE * 2_u32.pow(doublings)).min(LONGEST_PAUSE);
    if view.now >= again_at {
        return None;
    }
    draft.wake_by(again_at);
    let minutes = again_at.since(view.now).as_secs().div_ceil(60);
    Some(Reason::BootstrapHasFailedBefore { times: failed.times, minutes })
}

/// How this member founds the cluster.
fn found(view: &View) -> (Action, Reason) {
    match view.remote() {
        Some(from) => (Action::BootstrapStandby { from }, Reason::BootstrapStandbyLeader),
        None => (Action::Bootstrap, Reason::BootstrapStarted),
    }
}

fn waiting(view: &View) -> Reason {
    if view.is_standby_cluster() { Reason::WaitingForStandbyLeader } else { Reason::WaitingForLeader }
}

/// Clones from a running member that offers itself, else from the leader.
fn clone(draft: &mut Draft, cluster: &Cluster) -> Reason {
    let view = draft.view;
    if draft.backing_off(&JobKind::Clone) {
        return Reason::WaitingToRetry { action: JobKind::Clone.as_str().to_owned() };
    }
    let Some(source) = clone_source(draft, cluster) else { return waiting(view) };
    let Some(from) = view.upstream_at(source) else { return waiting(view) };
    let name = source.name.clone();
    draft.memory.start_wanted = true;
    draft.then(Action::Clone { from: Some(from) });
    if cluster.leader_name() == Some(&name) {
        Reason::CloneFromLeader { name }
    } else {
        Reason::CloneFromReplica { name }
    }
}

/// The member to copy: different members choose different ones.
///
/// A voter of `/sync` is taken to have all that it ever confirmed. If its data are gone, only the leader is sure to have that: a copy of a
/// standby that lags would vote for what lacks it.
pub(crate) fn clone_source<'c>(draft: &Draft, cluster: &'c Cluster) -> Option<&'c Member> {
    let view = draft.view;
    let leader = cluster.leader_name();
    let votes = cluster.active_sync().is_some_and(|sync| sync.includes(&view.me.name));
    let offers: Vec<&Member> = cluster
        .members
        .values()
        .filter(|member| member.tags.clonefrom() && member.is_running() && member.conn_url.is_some())
        .filter(|member| !view.is_me(&member.name) && Some(&member.name) != leader)
        .collect();
    if offers.is_empty() || votes {
        return cluster
            .leader_member()
            .filter(|member| member.conn_url.is_some() && !view.is_me(&member.name));
    }
    Some(offers[spread(&view.me.name) % offers.len()])
}

/// Carries a bootstrap that this member has won to its end.
pub(crate) fn complete(draft: &mut Draft, cluster: &Cluster) -> Option<Reason> {
    let view = draft.view;
    let stage = draft.memory.bootstrapping?;
    if stage == BootstrapStage::Overtaken || is_overtaken(draft, cluster) {
        return step_back(draft);
    }
    if matches!(stage, BootstrapStage::Publishing | BootstrapStage::Failed)
        && is_founded(view, cluster)
        && view.postgres.process == Process::NotRunning
    {
        // It is the cluster's data directory now: PostgreSQL is started again like anybody's, also if that was not known when it failed.
        forget(draft);
        return None;
    }
    if stage == BootstrapStage::Failed || has_failed(draft, stage) {
        return Some(give_up(draft, cluster));
    }
    let Some(server) = view.server() else {
        return Some(match view.postgres.refuses_login.clone() {
            Some(why) => Reason::LoginRefused { why },
            None => Reason::BootstrapInRecovery,
        });
    };
    if server.in_recovery && !view.is_standby_cluster() {
        return Some(Reason::BootstrapInRecovery);
    }
    Some(match stage {
        // A copy has everything but the entries in the store.
        BootstrapStage::Creating if server.in_recovery => {
            draft.memory.bootstrapping = Some(BootstrapStage::Publishing);
            publish(draft, cluster)
        }
        BootstrapStage::Creating => {
            draft.memory.bootstrapping = Some(BootstrapStage::PostBootstrap);
            draft.then(Action::PostBootstrap);
            Reason::PostBootstrapRunning
        }
        BootstrapStage::PostBootstrap => {
            if is_last(draft, JobKind::PostBootstrap) {
                draft.memory.bootstrapping = Some(BootstrapStage::Publishing);
                publish(draft, cluster)
            } else {
                draft.then(Action::PostBootstrap);
                Reason::PostBootstrapRunning
            }
        }
        BootstrapStage::Publishing => publish(draft, cluster),
        BootstrapStage::Failed | BootstrapStage::Overtaken => unreachable!("handled above"),
    })
}

/// Keeps what the steps of a bootstrap need: that one has begun, and by its revision which claim is ours: the lease that it hangs on
/// may have to be replaced before the end.
pub(crate) fn remember(draft: &mut Draft) {
    if draft.memory.bootstrapping.is_none() && draft.outcome(&JobKind::Bootstrap).is_some() {
        draft.memory.bootstrapping = Some(BootstrapStage::Creating);
    }
    let store = &draft.view.store;
    if store.owns_claim
        && let Some(key) = store.cluster.as_ref().and_then(|cluster| cluster.initialize.as_ref())
    {
        draft.memory.claim = Some(key.revision);
    }
}

fn is_claim_ours(draft: &Draft, cluster: &Cluster) -> bool {
    cluster.initialize.as_ref().is_some_and(|key| {
        key.value == Initialize::InProgress
            && (draft.view.store.owns_claim || draft.memory.claim == Some(key.revision))
    })
}

/// Our claim went with its lease, and somebody else has claimed or founded the cluster meanwhile.
fn is_overtaken(draft: &Draft, cluster: &Cluster) -> bool {
    if cluster.leader_name().is_some_and(|leader| !draft.view.is_me(leader)) {
        return true;
    }
    if wiped::has_members_with_data(draft.view, cluster).is_some() && !is_founded(draft.view, cluster) {
        return true;
    }
    match cluster.initialize.as_ref().map(|key| &key.value) {
        Some(Initialize::Done(_)) => !is_founded(draft.view, cluster),
        Some(Initialize::InProgress) => !is_claim_ours(draft, cluster),
        Some(Initialize::Invalid(_)) | None => false,
    }
}

/// Makes room for a copy of the cluster that somebody else has founded. Nobody has been told of what is set aside.
fn step_back(draft: &mut Draft) -> Option<Reason> {
    let view = draft.view;
    draft.memory.bootstrapping = Some(BootstrapStage::Overtaken);
    if view.postgres.process != Process::NotRunning {
        if !view.settings.pause && !draft.backing_off(&JobKind::Stop) {
            draft.stop_postgres(StopMode::Immediate);
        }
        return Some(Reason::BootstrapOvertaken);
    }
    // The data directory is still marked as one in the making, and so is set aside by the rules for those.
    forget(draft);
    draft.note(Reason::BootstrapOvertaken);
    None
}

fn forget(draft: &mut Draft) {
    draft.memory.bootstrapping = None;
    draft.memory.jobs.remove(&JobKind::Bootstrap);
}

/// The new cluster has an identity in the store, and it was written for this very data directory, so its roles exist: nothing is missing
/// that the rules for every member do not add.
///
/// The identifier alone proves nothing: whoever restores the same backup, or copies the same remote member, has the same one, with WAL
/// of its own soon, on a timeline of the same number.
pub(crate) fn is_founded(view: &View, cluster: &Cluster) -> bool {
    let postgres = &view.postgres;
    let same_identity = postgres.system_id.is_some() && cluster.system_id() == postgres.system_id;
    same_identity && postgres.founding.is_some() && cluster.founded_by() == postgres.founding.as_deref()
}

/// A data directory in the making, and nobody who goes on making it: an earlier agent began. What it lacks nobody can tell, the
/// roles perhaps, and nobody has used it: it makes room for another beginning.
pub(crate) fn set_leftover_aside(draft: &mut Draft) -> Reason {
    let pace = draft.view.settings.loop_wait;
    draft.every(pace, Attempt::SetAside, Action::SetDataDirectoryAside { earlier: Earlier::Remove });
    Reason::BootstrapLeftover
}

fn is_last(draft: &Draft, kind: JobKind) -> bool {
    draft.view.last_job.as_ref().is_some_and(|last| last.kind == kind)
}

fn has_failed(draft: &Draft, stage: BootstrapStage) -> bool {
    let view = draft.view;
    let job_failed = view.last_job.as_ref().is_some_and(|last| {
        matches!(last.kind, JobKind::Bootstrap | JobKind::PostBootstrap)
            && last.outcome != JobOutcome::Succeeded
    });
    job_failed || (view.postgres.process == Process::NotRunning && stage != BootstrapStage::Failed)
}

/// Gives `initialize` back, keeps the broken directory for inspection, and ends.
fn give_up(draft: &mut Draft, cluster: &Cluster) -> Reason {
    let view = draft.view;
    draft.memory.bootstrapping = Some(BootstrapStage::Failed);
    if view.postgres.process != Process::NotRunning {
        if !draft.backing_off(&JobKind::Stop) {
            draft.stop_postgres(StopMode::Immediate);
        }
        return Reason::BootstrapFailed;
    }
    let pace = view.settings.loop_wait;
    let is_due = draft.memory.attempts.get(&Attempt::Exit).is_none_or(|&at| view.now.since(at) >= pace);
    if is_due {
        draft.memory.attempts.insert(Attempt::Exit, view.now);
        // The claim first, and nothing after it if that fails: this view may be older than an identity that was filled in, and then these data
        // are the cluster's.
        if let Some(key) = cluster.initialize.as_ref().filter(|_| is_claim_ours(draft, cluster)) {
            draft.then(Action::RemoveInitialize { expect: key.revision });
        }
        draft.then(Action::SetDataDirectoryAside { earlier: Earlier::Remove });
        draft.then(Action::Exit { exit: Exit::BootstrapFailed });
    } else {
        draft.wake_in(pace);
    }
    Reason::BootstrapFailed
}

/// Writes what makes this a cluster: its identity, its configuration, its leader. Each only if it is missing, and the lock only by a
/// member that is fenced already: it accepts writes.
fn publish(draft: &mut Draft, cluster: &Cluster) -> Reason {
    let view = draft.view;
    if !is_founded(view, cluster) {
        // One that somebody else filled in never gets here: we were overtaken.
        let expect = cluster.initialize.as_ref().map(|key| key.revision);
        draft.attempt(Attempt::WriteInitialize, Action::WriteInitialize { expect });
        return Reason::BootstrapPublishing;
    }
    if needs_config(cluster) {
        let expect = cluster.config.as_ref().map(|key| key.revision);
        draft.attempt(Attempt::WriteConfig, Action::WriteConfig { expect });
        return Reason::BootstrapPublishing;
    }
    if view.held().is_none() {
        if view.is_primary()
            && let Some(reason) = fence_ahead(draft)
        {
            return reason;
        }
        draft.attempt(
            Attempt::AcquireLease,
            Action::AcquireLease { sync: cluster.sync_revision(), timeline: None },
        );
        return Reason::BootstrapPublishing;
    }
    forget(draft);
    draft.memory.racing = false;
    let role = if view.is_primary() { Role::Primary } else { Role::StandbyLeader };
    draft.memory.checkpoint_after_promote =
        if role == Role::Primary { Checkpoint::Done } else { Checkpoint::None };
    draft.set_role(role);
    if !draft.memory.callback_fired {
        draft.memory.callback_fired = true;
        draft.memory.announced_role = Some(role);
        draft.then(Action::RunCallback { event: CallbackEvent::OnStart, role });
    }
    draft.then(Action::FinishBootstrap);
    Reason::Initialized
}

/// Sets the fences up for the lease that is about to be asked for: counted from now, as that one will be at the earliest.
fn fence_ahead(draft: &mut Draft) -> Option<Reason> {
    let view = draft.view;
    let until = lease::limits(view.now, view.settings.ttl).until;
    match fence::set_up(draft, until) {
        Fences::Waiting(reason) => return Some(reason),
        Fences::Unusable => {
            draft.memory.bootstrapping = Some(BootstrapStage::Failed);
            return Some(Reason::WatchdogNoPromotion);
        }
        Fences::Ready => {}
    }
    if let Guardian::Armed { until: armed } = view.fencing.guardian {
        // The lock takes its time: nobody else can have it, so that is no reason to be killed.
        let half = view.settings.ttl / 2;
        if view.now.until(armed) < half {
            draft.attempt(Attempt::ArmGuardian, Action::ArmGuardian { until });
        }
        draft.wake_by(armed.saturating_sub(half));
    }
    None
}

pub(crate) fn needs_config(cluster: &Cluster) -> bool {
    !cluster.config.as_ref().is_some_and(|key| matches!(key.value, ConfigDocument::Valid(_)))
}

/// An empty or missing data directory while a bootstrap or clone may begin.
pub(crate) fn is_empty(data: &DataDirectory) -> bool {
    match data {
        DataDirectory::Missing | DataDirectory::Empty => true,
        // What a copy left behind is worth nothing; a rewind can be repeated.
        DataDirectory::Interrupted { by } => *by != JobKind::Rewind,
        _ => false,
    }
}
