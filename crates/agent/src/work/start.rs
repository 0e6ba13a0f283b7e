//! A server that is to run: started, restarted, promoted.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bellwether_ha::{
    action::TakenTimelines,
    view::{JobOutcome, JobPhase},
};
use bellwether_postgres::{
    config::ConfigPlan,
    monitor,
    postmaster::Postmaster,
    server::{Readiness, Server},
    settings::PgSettings,
    slots,
};

use super::{
    chain, failed,
    stop::{restart_request, stop_quietly, stop_with_notice},
};
use crate::{
    citus::Notice,
    job::{JobContext, JobNews},
};

/// How long a killed process tree may take to be gone.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// Starts the server and waits until it accepts connections. A server that still recovers at the limit is no failure.
///
/// `still_allowed` is asked when the process is there: writing the files may have taken long, and a primary that comes up after
/// its lease is a second one. It has accepted nobody by then.
pub(crate) async fn start<F>(
    job: JobContext,
    server: Server,
    plan: ConfigPlan,
    limit: Duration,
    still_allowed: F,
) -> JobOutcome
where
    F: Fn() -> bool + Send,
{
    if job.cancel.is_cancelled() {
        return JobOutcome::Cancelled;
    }
    let started = match server.start(&plan).await {
        Ok(started) => started,
        Err(error) => return failed(&error),
    };
    if !still_allowed() {
        let _ = started.postmaster.kill_tree(KILL_LIMIT).await;
        let why = "the lease ended while PostgreSQL was being started as primary: it was killed".to_owned();
        return JobOutcome::Failed { why, source_unreachable: false };
    }
    job.tell(JobNews::Started(started.postmaster.clone())).await;
    tokio::select! {
        ready = server.wait_ready(&started.postmaster, limit) => match ready {
            Ok(Readiness::Ready) => {
                if let Err(error) = server.back_up_config().await {
                    tracing::warn!(error = chain(&error), "the configuration files were not backed up");
                }
                JobOutcome::Succeeded
            }
            Ok(Readiness::Rejecting | Readiness::NoResponse) => JobOutcome::Succeeded,
            Err(error) => failed(&error),
        },
        () = job.cancel.cancelled() => {
            let _ = started.postmaster.kill_tree(KILL_LIMIT).await;
            JobOutcome::Cancelled
        }
    }
}

/// Stops within the first limit, and starts within the second. `still_allowed` is asked between the two: the stop may have outlasted
/// the lease.
pub(crate) async fn restart<F>(
    job: JobContext,
    server: Server,
    running: Option<Postmaster>,
    plan: ConfigPlan,
    (stop_limit, limit): (Duration, Duration),
    notice: Notice,
    still_allowed: F,
) -> JobOutcome
where
    F: Fn() -> bool + Send,
{
    let request = restart_request(stop_limit);
    match stop_with_notice(&job, &server, running, &request, notice).await {
        Ok(()) if !still_allowed() => JobOutcome::Failed {
            why: "the lease ended while PostgreSQL was being stopped: not starting it again as primary"
                .into(),
            source_unreachable: false,
        },
        Ok(()) => start(job, server, plan, limit, still_allowed).await,
        Err(outcome) => outcome,
    }
}

/// Stops a standby, puts the state files of slots into place, and starts it again.
pub(crate) async fn copy_slots(
    job: JobContext,
    server: Server,
    running: Option<Postmaster>,
    plan: ConfigPlan,
    (stop_limit, limit): (Duration, Duration),
    states: BTreeMap<String, Vec<u8>>,
) -> JobOutcome {
    let request = restart_request(stop_limit);
    if let Err(outcome) = stop_quietly(&job, &server, running, &request).await {
        return outcome;
    }
    let dir = server.settings().data_dir.clone();
    let put = tokio::task::spawn_blocking(move || slots::put_states(&dir, &states)).await;
    match put.expect("writing files does not panic") {
        Ok(()) => {}
        // The server is better off without the copies than stopped.
        Err(error) => tracing::warn!(error = chain(&error), "the state files of slots could not be written"),
    }
    start(job, server, plan, limit, || true).await
}

/// `pre_promote`, then the promotion itself. `still_allowed` is asked at the last moment.
pub(crate) async fn promote<F>(
    job: JobContext,
    server: Server,
    postmaster: Postmaster,
    taken: Option<TakenTimelines>,
    still_allowed: F,
) -> JobOutcome
where
    F: Fn() -> bool + Send,
{
    job.tell(JobNews::Phase(JobPhase::PrePromote)).await;
    match server.run_pre_promote(&job.cancel).await {
        Ok(true) => {}
        Ok(false) if job.cancel.is_cancelled() => return JobOutcome::Cancelled,
        Ok(false) => {
            return JobOutcome::Failed { why: "pre_promote refused".into(), source_unreachable: false };
        }
        Err(error) => return failed(&error),
    }
    job.tell(JobNews::Phase(JobPhase::Working)).await;
    if let Some(taken) = taken
        && let Err(error) = server.skip_timelines(taken.after, taken.through).await
    {
        return failed(&error);
    }
    // After everything that may take its time.
    let outcome = if job.cancel.is_cancelled() || !still_allowed() {
        JobOutcome::Cancelled
    } else {
        match server.promote(&postmaster).await {
            Ok(()) => return JobOutcome::Succeeded,
            Err(error) => failed(&error),
        }
    };
    // It has not been told, and goes on as a standby.
    if let Err(error) = server.forget_skipped().await {
        tracing::warn!(error = chain(&error), "the marks of skipped timelines could not be removed");
    }
    outcome
}

pub(crate) async fn checkpoint(job: JobContext, settings: Arc<PgSettings>) -> JobOutcome {
    tokio::select! {
        end = monitor::checkpoint(&settings) => match end {
            Ok(()) => JobOutcome::Succeeded,
            Err(error) => failed(&error),
        },
        () = job.cancel.cancelled() => JobOutcome::Cancelled,
    }
}
