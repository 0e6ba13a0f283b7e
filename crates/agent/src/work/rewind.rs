//! What a member has written that its leader has not: found by comparing histories, and undone.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bellwether_api_client::ApiClient;
use bellwether_ha::view::{Divergence, JobOutcome, Upstream};
use bellwether_postgres::{
    postmaster::{Postmaster, StopMode},
    replication::{self, Target},
    rewind::{self, RewindError},
    server::Server,
    settings::PgSettings,
    stop::StopRequest,
};
use bellwether_types::{Lsn, TimelineHistory, TimelineId, TimelineSwitch, WalPosition};

use super::{
    chain, failed,
    stop::stop_quietly,
    upstream::{no_address, one_of_several, target},
};
use crate::{
    clock,
    job::{JobContext, JobNews},
    rewind_source::{self, CannotTake, RewindSource},
};

/// Where the local WAL ends and what the leader's history says. A leader that does not answer must not hold up what comes next.
pub(crate) async fn check_divergence(
    job: JobContext,
    settings: Arc<PgSettings>,
    replayed: Option<Lsn>,
    leader: Upstream,
    asked: Option<(ApiClient, String)>,
) -> JobOutcome {
    tokio::select! {
        outcome = compare_histories(&job, settings, replayed, leader, asked) => outcome,
        () = job.cancel.cancelled() => JobOutcome::Cancelled,
    }
}

/// Histories of two database systems have nothing to do with each other, and no rewind makes one of the other.
async fn is_same_system(source: &Target, settings: &PgSettings) -> Result<(), String> {
    let there = replication::identify_system(source).await.map_err(|error| chain(&error))?.system_id;
    let here = bellwether_postgres::control::read(settings).await.map_err(|error| chain(&error))?.system_id;
    if there == here {
        return Ok(());
    }
    Err(format!(
        "{} belongs to another database system ({there}, here {here}): check `standby_cluster`",
        source.address
    ))
}

async fn compare_histories(
    job: &JobContext,
    settings: Arc<PgSettings>,
    replayed: Option<Lsn>,
    leader: Upstream,
    asked: Option<(ApiClient, String)>,
) -> JobOutcome {
    let leader = one_of_several(leader, &settings).await;
    let Some(source) = target(&leader, &settings.replication) else { return no_address(&leader) };
    let is_remote = leader.is_remote;
    let local = match local_end(&settings, replayed).await {
        Ok(Some(local)) => local,
        Ok(None) => {
            return JobOutcome::Failed {
                why: "the local position cannot be told yet".into(),
                source_unreachable: false,
            };
        }
        Err(error) => return JobOutcome::Failed { why: error, source_unreachable: false },
    };
    tracing::info!("Local timeline={} lsn={}", local.position.timeline.0, local.position.lsn);
    if is_remote && let Err(why) = is_same_system(&source, &settings).await {
        return JobOutcome::Failed { why, source_unreachable: false };
    }
    match replication::timeline_history(&source).await {
        Ok(history) => {
            tracing::info!("primary_timeline={}", history.tip.timeline.0);
            if history.tip.timeline != local.position.timeline {
                for switch in &history.switches {
                    tracing::info!(
                        "primary: history={}\t{}\t{}",
                        switch.timeline.0,
                        switch.end,
                        switch.reason
                    );
                }
            }
            job.tell(JobNews::Compared(Divergence {
                checked_at: clock::now(),
                leader: leader.member,
                leader_is_primary: match is_remote {
                    true => replication::is_writable(&source).await.unwrap_or(false),
                    false => is_primary(asked).await,
                },
                leader_timeline: history.tip.timeline,
                leader_history: history.switches,
                local_timeline: local.position.timeline,
                local_history: local_history(&settings, local.position.timeline),
                local_lsn: local.position.lsn,
                local_was_primary: !local.was_standby,
                shutdown_checkpoint_end: local.shutdown_checkpoint_end,
            }))
            .await;
            JobOutcome::Succeeded
        }
        Err(error) => JobOutcome::Failed { why: chain(&error), source_unreachable: error.is_unreachable() },
    }
}

/// The switches that led to `timeline`, as the local history file has them; none if there is no such file.
fn local_history(settings: &PgSettings, timeline: TimelineId) -> Vec<TimelineSwitch> {
    let path = settings.data_dir.join(format!("pg_wal/{:08X}.history", timeline.0));
    let Ok(text) = std::fs::read_to_string(&path) else { return Vec::new() };
    let tip = WalPosition { timeline, lsn: Lsn::ZERO };
    TimelineHistory::parse(tip, &text).map_or_else(|_| Vec::new(), |history| history.switches)
}

/// Whether the member behind the URL says that it runs as a primary now.
async fn is_primary(asked: Option<(ApiClient, String)>) -> bool {
    let Some((client, url)) = asked else { return false };
    client.get_status(&url, Duration::from_secs(2)).await.is_ok_and(|status| status.is_running_primary())
}

/// A running standby says its timeline itself (never the WAL receiver); a stopped server by its control file.
async fn local_end(
    settings: &PgSettings,
    replayed: Option<Lsn>,
) -> Result<Option<rewind::LocalWalEnd>, String> {
    let Some(lsn) = replayed else {
        return rewind::local_end_of_stopped(settings).await.map_err(|error| chain(&error));
    };
    let own = settings.local_replication_target().await;
    let identity = replication::identify_system(&own).await.map_err(|error| chain(&error))?;
    let position = WalPosition { timeline: identity.position.timeline, lsn };
    Ok(Some(rewind::LocalWalEnd { position, was_standby: true, shutdown_checkpoint_end: None }))
}

pub(crate) async fn crash_recovery(job: JobContext, settings: Arc<PgSettings>) -> JobOutcome {
    rewind_end(rewind::crash_recover(&settings, &job.cancel).await)
}

/// What is known of a rewind of the same files that did not end.
pub(crate) struct EarlierRewind {
    pub(crate) is_interrupted: bool,
    /// Where it has written down whose blocks it takes.
    pub(crate) source_file: PathBuf,
}

impl EarlierRewind {
    /// Notes whose blocks come among the files now, unless there are some already that do not go with them.
    async fn begin(self, settings: &PgSettings, source: &Upstream) -> Result<(), JobOutcome> {
        let not_begun = |why, source_unreachable| JobOutcome::Failed { why, source_unreachable };
        let target = target(source, &settings.replication).ok_or_else(|| no_address(source))?;
        let identity = replication::identify_system(&target).await;
        let identity = identity.map_err(|error| not_begun(chain(&error), true))?;
        let wanted = RewindSource { member: source.member.clone(), timeline: identity.position.timeline };
        let begun = tokio::task::spawn_blocking(move || {
            rewind_source::begin(&self.source_file, &wanted, self.is_interrupted)
        });
        let Ok(begun) = begun.await else { return Err(JobOutcome::Cancelled) };
        begun.map_err(|error| {
            tracing::warn!(error = chain(&error), "not running pg_rewind");
            // A disk that is full may have room again.
            not_begun(chain(&error), matches!(error, CannotTake::NoNote { .. }))
        })
    }
}

/// Stops a running standby, saves WAL that waits to be archived, and rewinds.
pub(crate) async fn rewind(
    job: JobContext,
    server: Server,
    running: Option<Postmaster>,
    source: Upstream,
    earlier: EarlierRewind,
) -> JobOutcome {
    let settings = server.settings().clone();
    let source = one_of_several(source, &settings).await;
    let Some(target) = target(&source, settings.rewind_credentials()) else { return no_address(&source) };
    let request = StopRequest {
        mode: StopMode::Fast,
        checkpoint: false,
        hook: false,
        drain: None,
        immediate_after: None,
        kill_after: None,
    };
    if let Err(outcome) = stop_quietly(&job, &server, running, &request).await {
        return outcome;
    }
    if let Err(error) = rewind::archive_ready_wal(&settings, &job.cancel).await {
        tracing::warn!(error = chain(&error), "WAL segments could not be archived before the rewind");
    }
    if source.is_remote
        && let Err(error) = rewind::prepare_source(&settings, &target).await
    {
        return rewind_end(Err(error));
    }
    if let Err(outcome) = earlier.begin(&settings, &source).await {
        return outcome;
    }
    job.tell(JobNews::Changing).await;
    rewind_end(rewind::run(&settings, &target, &job.cancel).await)
}

fn rewind_end(result: Result<(), RewindError>) -> JobOutcome {
    match result {
        Ok(()) => JobOutcome::Succeeded,
        Err(RewindError::Cancelled) => JobOutcome::Cancelled,
        Err(error @ RewindError::SourceUnreachable { .. }) => {
            JobOutcome::Failed { why: chain(&error), source_unreachable: true }
        }
        Err(error) => failed(&error),
    }
}
