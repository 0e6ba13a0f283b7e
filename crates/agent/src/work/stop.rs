//! A server that is to end: at once because the lock is lost, or on the way to something else.

use std::time::Duration;

use bellwether_ha::{
    action::DemoteMode,
    view::{JobOutcome, JobPhase},
};
use bellwether_postgres::{
    postmaster::{Postmaster, StopMode},
    rewind,
    server::Server,
    stop::{StopRequest, StopStage},
};
use bellwether_types::Timestamp;
use tokio::sync::watch;

use super::{chain, failed};
use crate::{
    citus::Notice,
    job::{JobContext, JobNews, Predecessor},
};

/// How long the pid file may take to be read.
const FOUND_WITHIN: Duration = Duration::from_secs(1);

/// Stops the server on the way to something else. `Err`: the outcome of the job that this was a part of.
pub(super) async fn stop_quietly(
    job: &JobContext,
    server: &Server,
    running: Option<Postmaster>,
    request: &StopRequest,
) -> Result<(), JobOutcome> {
    stop_with_notice(job, server, running, request, Notice::default()).await
}

/// The same, said to others first.
pub(super) async fn stop_with_notice(
    job: &JobContext,
    server: &Server,
    running: Option<Postmaster>,
    request: &StopRequest,
    notice: Notice,
) -> Result<(), JobOutcome> {
    let postmaster = match running {
        Some(postmaster) => Some(postmaster),
        None => server.attach().await.map_err(|error| failed(&error))?,
    };
    let Some(postmaster) = postmaster else { return Ok(()) };
    let (stage, _) = watch::channel(StopStage::Preparing);
    tokio::select! {
        end = server.stop_after(&postmaster, request, &stage, notice.given()) => end.map(drop).map_err(|error| failed(&error)),
        // Whoever cancelled this sees to the end of the server.
        () = job.cancel.cancelled() => Err(JobOutcome::Cancelled),
    }
}

/// Stops a primary whose cluster becomes a standby cluster. Whoever follows its archive must find its end there.
pub(crate) async fn demote_cluster(
    job: JobContext,
    server: Server,
    running: Option<Postmaster>,
    request: StopRequest,
    before: Predecessor,
) -> JobOutcome {
    let settings = server.settings().clone();
    let cancel = job.cancel.clone();
    let outcome = stop(job, server, running, request, before, Notice::default()).await;
    if outcome == JobOutcome::Succeeded
        && let Err(error) = rewind::archive_shutdown_checkpoint(&settings, &cancel).await
    {
        tracing::warn!(error = chain(&error), "the shutdown checkpoint is not in the archive");
    }
    outcome
}

/// How a demotion stops the server.
pub(crate) fn demote_request(mode: DemoteMode, stop_limit: Option<Duration>, now: Timestamp) -> StopRequest {
    let graceful = StopRequest {
        mode: StopMode::Fast,
        checkpoint: true,
        hook: true,
        drain: None,
        immediate_after: stop_limit,
        kill_after: stop_limit.map(|limit| limit * 2),
    };
    let at_once = StopRequest {
        mode: StopMode::Immediate,
        checkpoint: false,
        hook: false,
        drain: None,
        immediate_after: None,
        kill_after: Some(Duration::from_secs(1)),
    };
    match mode {
        DemoteMode::Graceful => graceful,
        DemoteMode::DemoteCluster => StopRequest { checkpoint: false, ..graceful },
        DemoteMode::Immediate | DemoteMode::ImmediateNoLock => at_once,
        // Half of what is left for a fast stop, at most half a second; then immediate; the rest belongs to the kill.
        DemoteMode::Offline { stop_by } => {
            let left = now.until(stop_by);
            let fast = (left / 2).min(Duration::from_millis(500));
            StopRequest {
                mode: StopMode::Fast,
                immediate_after: Some(fast),
                kill_after: Some(fast + (left - fast) / 2),
                ..at_once
            }
        }
    }
}

/// Stops the server at once, whatever ran before, and whatever that leaves behind. Tells when the shutdown checkpoint is on
/// disk.
pub(crate) async fn stop(
    job: JobContext,
    server: Server,
    running: Option<Postmaster>,
    request: StopRequest,
    before: Predecessor,
    notice: Notice,
) -> JobOutcome {
    let first = stop_once(&job, &server, running, &request, notice).await;
    // The job before may be about to start a postmaster that nobody has seen yet; it ends only when it has killed that.
    before.ended().await;
    match first {
        JobOutcome::Succeeded => stop_once(&job, &server, None, &request, Notice::default()).await,
        other => other,
    }
}

async fn stop_once(
    job: &JobContext,
    server: &Server,
    running: Option<Postmaster>,
    request: &StopRequest,
    notice: Notice,
) -> JobOutcome {
    // A disk that hangs would keep the answer for ever, and what is known is enough.
    let postmaster = match tokio::time::timeout(FOUND_WITHIN, server.attach()).await {
        Ok(Ok(found)) => found.or(running),
        Ok(Err(_)) | Err(_) => running,
    };
    let Some(postmaster) = postmaster.filter(Postmaster::is_alive) else { return JobOutcome::Succeeded };
    let (stage, mut stages) = watch::channel(StopStage::Preparing);
    let stopping = server.stop_after(&postmaster, request, &stage, notice.given());
    tokio::pin!(stopping);
    loop {
        tokio::select! {
            end = &mut stopping => return match end {
                Ok(_) => JobOutcome::Succeeded,
                Err(error) => failed(&error),
            },
            // Superseded by a more urgent stop, which has a clock of its own.
            () = job.cancel.cancelled() => return JobOutcome::Cancelled,
            Ok(()) = stages.changed() => {
                let seen = *stages.borrow_and_update();
                let phase = match seen {
                    StopStage::ShutDown(found) => {
                        JobPhase::ShutdownCheckpoint { checkpoint: found.checkpoint, end: found.optime }
                    }
                    StopStage::Harmless => JobPhase::Harmless,
                    StopStage::Preparing | StopStage::Signalled | StopStage::BackendsGone | StopStage::Gone => {
                        continue;
                    }
                };
                job.tell(JobNews::Phase(phase)).await;
            }
        }
    }
}

/// How a restart stops the server.
pub(super) fn restart_request(stop_limit: Duration) -> StopRequest {
    StopRequest {
        mode: StopMode::Fast,
        checkpoint: true,
        hook: true,
        drain: None,
        immediate_after: Some(stop_limit),
        kill_after: Some(2 * stop_limit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offline_demotion_kills_before_the_lease_ends() {
        let now = Timestamp::from_millis(10_000);
        for left_ms in [50u64, 300, 1_000, 3_000] {
            let stop_by = now + Duration::from_millis(left_ms);
            let request = demote_request(DemoteMode::Offline { stop_by }, None, now);
            let (immediate, kill) = (request.immediate_after.unwrap(), request.kill_after.unwrap());
            assert!(immediate < kill && kill < Duration::from_millis(left_ms), "{left_ms}: {request:?}");
            assert!(immediate <= Duration::from_millis(500));
        }
    }
}
