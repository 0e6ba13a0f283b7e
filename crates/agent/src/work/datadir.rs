//! A data directory where there is none, or none that is of use: founding a cluster, and copying another member.

use std::{sync::Arc, time::Duration};

use bellwether_ha::{
    action::CopyBy,
    view::{JobOutcome, Upstream},
};
use bellwether_postgres::{
    bootstrap, citus, clone,
    config::ConfigPlan,
    custom_bootstrap,
    datadir::Wiped,
    postmaster::{Postmaster, StopMode},
    server::Server,
    settings::PgSettings,
    stop::StopRequest,
};
use bellwether_types::program::ReplicaMethod;
use tokio::sync::watch;

use super::{
    chain, failed,
    start::start,
    stop::{restart_request, stop_quietly},
    upstream::{no_address, one_of_several, target},
};
use crate::job::{JobContext, JobNews};

/// How soon a copy is tried again that did not fit on the disk.
const NO_SPACE_PAUSE: Duration = Duration::from_secs(10);

/// The first data directory, then the first start: as primary, or as what becomes one when it has recovered.
pub(crate) async fn bootstrap(
    job: JobContext,
    server: Server,
    plan: ConfigPlan,
    limit: Duration,
) -> JobOutcome {
    if let Err(error) = bootstrap::create(server.settings(), &job.cancel).await {
        return failed(&error);
    }
    let plan = custom_bootstrap::first_plan(server.settings(), plan);
    job.tell(JobNews::Created).await;
    // Nobody leads a cluster that does not exist yet.
    start(job, server, plan, limit, || true).await
}

/// A copy of the remote member, then its first start as a standby leader.
pub(crate) async fn bootstrap_standby(
    job: JobContext,
    server: Server,
    source: Upstream,
    plan: ConfigPlan,
    limit: Duration,
) -> JobOutcome {
    // Where only its archive is known, a method that needs no server has to do.
    let source = (!source.conn_url.is_empty()).then_some(source);
    match clone(job.clone(), server.settings().clone(), source).await {
        JobOutcome::Succeeded => start(job, server, plan, limit, || true).await,
        other => other,
    }
}

/// Roles and the user's script. A server that a user's command has made is then started again, as configured.
pub(crate) async fn post_bootstrap(
    job: JobContext,
    server: Server,
    running: Option<Postmaster>,
    made_by_command: bool,
    plan: ConfigPlan,
    limit: Duration,
) -> JobOutcome {
    let settings = server.settings().clone();
    if let Err(error) = bootstrap::create_roles(&settings, &job.cancel).await {
        return failed(&error);
    }
    if !made_by_command {
        return prepare_citus(&settings).await;
    }
    let request = StopRequest { hook: false, ..restart_request(limit) };
    if let Err(outcome) = stop_quietly(&job, &server, running, &request).await {
        return outcome;
    }
    let outcome = start(job, server, plan, limit, || true).await;
    if let Err(error) = custom_bootstrap::forget_access(&settings).await {
        tracing::warn!(%error, "the access file of the bootstrap could not be removed; nothing refers to it");
    }
    outcome
}

/// A server that a user's command has made has, or has not, what Citus needs.
async fn prepare_citus(settings: &PgSettings) -> JobOutcome {
    let Some(citus) = &settings.citus else { return JobOutcome::Succeeded };
    match citus::prepare(settings, citus).await {
        Ok(()) => JobOutcome::Succeeded,
        Err(error) => failed(&error),
    }
}

/// A replica by the methods of the settings; without a source by those that need none.
pub(crate) async fn clone(
    job: JobContext,
    settings: Arc<PgSettings>,
    source: Option<Upstream>,
) -> JobOutcome {
    let source = match source {
        Some(source) if source.is_remote => Some(one_of_several(source, &settings).await),
        source => source,
    };
    let from = match &source {
        Some(source) => match target(source, &settings.replication) {
            Some(target) => Some(target),
            None => return no_address(source),
        },
        None => None,
    };
    let (progress, mut told) = watch::channel(clone::CloneProgress::default());
    let name = source.map(|source| source.member);
    let narrate = tokio::spawn(async move {
        while told.changed().await.is_ok() {
            let seen = *told.borrow_and_update();
            tracing::debug!(source = ?name, done = seen.bytes_done, total = seen.bytes_total, "cloning");
        }
    });
    let result = clone::create_replica(&settings, from.as_ref(), &progress, &job.cancel).await;
    narrate.abort();
    if matches!(result, Err(clone::CloneError::NoSpace { .. } | clone::CloneError::DiskFull { .. })) {
        // Each try costs the source a checkpoint.
        let _ = job.cancel.run_until_cancelled(tokio::time::sleep(NO_SPACE_PAUSE)).await;
    }
    match result {
        Ok(()) => JobOutcome::Succeeded,
        Err(error) if error.is_cancelled() => JobOutcome::Cancelled,
        Err(error) => JobOutcome::Failed { why: chain(&error), source_unreachable: true },
    }
}

/// Empties the data directory. It cannot be cancelled: the removal would go on in its thread, under whatever is written there next.
pub(crate) async fn wipe(server: Server) -> JobOutcome {
    match server.wipe().await {
        Ok(Wiped::Removed) => JobOutcome::Succeeded,
        Ok(Wiped::SetAside(path)) => {
            tracing::warn!(path = %path.display(), "the data directory could not be removed and was renamed");
            JobOutcome::Succeeded
        }
        Err(error) => failed(&error),
    }
}

/// Stop at once, empty, clone.
pub(crate) async fn reinitialize(
    job: JobContext,
    server: Server,
    running: Option<Postmaster>,
    source: Upstream,
    by: CopyBy,
) -> JobOutcome {
    let request = StopRequest {
        mode: StopMode::Immediate,
        checkpoint: false,
        hook: true,
        drain: None,
        immediate_after: None,
        kill_after: Some(Duration::from_secs(10)),
    };
    if let Err(outcome) = stop_quietly(&job, &server, running, &request).await {
        return outcome;
    }
    let mut settings = server.settings().clone();
    if by == CopyBy::Basebackup {
        Arc::make_mut(&mut settings).replica_methods = vec![ReplicaMethod::Basebackup];
    }
    clone(job, settings, Some(source)).await
}
