//! The first member founds the cluster, the others clone it.

use bellwether_types::{
    Role,
    cluster::{Cluster, ConfigDocument, Initialize, Member},
};

use crate::{
    Action, Reason,
    action::{CallbackEvent, Exit, StopMode},
    draft::Draft,
    facts::spread,
    memory::{Attempt, BootstrapStage, Checkpoint},
    view::{DataDirectory, JobKind, JobOutcome, Process},
};

/// The data directory is empty: found a cluster or join one.
pub(crate) fn begin(draft: &mut Draft, cluster: &Cluster) -> Reason {
    let view = draft.view;
    if cluster.leader.is_some() {
        return clone(draft, cluster);
    }
    match &cluster.initialize {
        None if view.me.may_bootstrap && !view.me.tags.nofailover() => {
            if draft.attempt(Attempt::ClaimInitialize, Action::ClaimInitialize) {
                // Runs only if the claim succeeded.
                draft.then(Action::Bootstrap);
            }
            return Reason::BootstrapStarted;
        }
        Some(key) if key.value == Initialize::InProgress => return Reason::WaitingForLeader,
        _ => {}
    }
    if view.me.clones_without_leader && !draft.backing_off(&JobKind::Clone) {
        draft.memory.start_wanted = true;
        draft.then(Action::Clone { from: None });
        return Reason::CloneWithoutLeader;
    }
    Reason::WaitingForLeader
}

/// Clones from a running member that offers itself, else from the leader.
fn clone(draft: &mut Draft, cluster: &Cluster) -> Reason {
    let view = draft.view;
    if draft.backing_off(&JobKind::Clone) {
        return Reason::WaitingToRetry { action: JobKind::Clone.as_str().to_owned() };
    }
    let Some(source) = clone_source(draft, cluster) else { return Reason::WaitingForLeader };
    let Some(from) = view.upstream_at(source) else { return Reason::WaitingForLeader };
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
pub(crate) fn clone_source<'c>(draft: &Draft, cluster: &'c Cluster) -> Option<&'c Member> {
    let view = draft.view;
    let leader = cluster.leader_name();
    let offers: Vec<&Member> = cluster
        .members
        .values()
        .filter(|member| member.tags.clonefrom() && member.is_running() && member.conn_url.is_some())
        .filter(|member| !view.is_me(&member.name) && Some(&member.name) != leader)
        .collect();
    if offers.is_empty() {
        return cluster
            .leader_member()
            .filter(|member| member.conn_url.is_some() && !view.is_me(&member.name));
    }
    Some(offers[spread(&view.me.name) % offers.len()])
}

/// Carries a bootstrap that this member has won to its end.
pub(crate) fn complete(draft: &mut Draft, cluster: &Cluster) -> Option<Reason> {
    let view = draft.view;
    let stage = match draft.memory.bootstrapping {
        Some(stage) => stage,
        None => {
            let ended = view.last_job.as_ref().is_some_and(|last| last.kind == JobKind::Bootstrap);
            let claimed = cluster.initialize.as_ref().is_some_and(|key| key.value == Initialize::InProgress);
            if !ended || !claimed || view.held().is_some() {
                return None;
            }
            draft.memory.bootstrapping = Some(BootstrapStage::Creating);
            BootstrapStage::Creating
        }
    };
    if cluster.leader_name().is_some_and(|leader| !view.is_me(leader)) {
        // Somebody else has founded the cluster meanwhile; the rules for every member decide what becomes of our data.
        draft.memory.bootstrapping = None;
        return None;
    }
    if stage == BootstrapStage::Failed || has_failed(draft, stage) {
        return Some(give_up(draft, cluster));
    }
    let server = match view.server() {
        Some(server) => server,
        None => return Some(Reason::BootstrapInRecovery),
    };
    if server.in_recovery {
        return Some(Reason::BootstrapInRecovery);
    }
    Some(match stage {
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
        BootstrapStage::Failed => unreachable!("handled above"),
    })
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
    if draft.every(pace, Attempt::Exit, Action::SetDataDirectoryAside) {
        if cluster.initialize.as_ref().is_some_and(|key| key.value == Initialize::InProgress) {
            draft.then(Action::RemoveInitialize);
        }
        draft.then(Action::Exit { exit: Exit::BootstrapFailed });
    }
    Reason::BootstrapFailed
}

/// Writes what makes this a cluster: its identity, its configuration, its leader. Each only if it is missing.
fn publish(draft: &mut Draft, cluster: &Cluster) -> Reason {
    let view = draft.view;
    match (&cluster.initialize, view.postgres.system_id) {
        (Some(key), Some(mine)) if key.value == Initialize::Done(mine) => {}
        (key, _) => {
            let expect = key.as_ref().map(|key| key.revision);
            draft.attempt(Attempt::WriteInitialize, Action::WriteInitialize { expect });
            return Reason::BootstrapPublishing;
        }
    }
    if needs_config(cluster) {
        let expect = cluster.config.as_ref().map(|key| key.revision);
        draft.attempt(Attempt::WriteConfig, Action::WriteConfig { expect });
        return Reason::BootstrapPublishing;
    }
    if view.held().is_none() {
        draft.attempt(
            Attempt::AcquireLease,
            Action::AcquireLease { sync: cluster.sync_revision(), timeline: None },
        );
        return Reason::BootstrapPublishing;
    }
    draft.memory.bootstrapping = None;
    draft.memory.racing = false;
    draft.memory.checkpoint_after_promote = Checkpoint::Done;
    draft.set_role(Role::Primary);
    if !draft.memory.callback_fired {
        draft.memory.callback_fired = true;
        draft.memory.announced_role = Some(Role::Primary);
        draft.then(Action::RunCallback { event: CallbackEvent::OnStart, role: Role::Primary });
    }
    Reason::Initialized
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
