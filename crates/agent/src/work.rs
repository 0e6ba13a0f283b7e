//! The long jobs: each a function from what it needs to how it ended. No policy: what is done and how was decided.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bellwether_api_client::ApiClient;
use bellwether_ha::{
    action::{CopyBy, DemoteMode, TakenTimelines},
    view::{Divergence, JobOutcome, JobPhase, Upstream},
};
use bellwether_postgres::{
    bootstrap, clone,
    config::{ConfigPlan, Upstream as PgUpstream},
    custom_bootstrap, monitor,
    postmaster::{Postmaster, StopMode},
    replication::{self, Target},
    rewind::{self, RewindError},
    server::{Readiness, Server},
    settings::{Credentials, HostPort, PgSettings, ReplicaMethod},
    slots,
    stop::{StopRequest, StopStage},
};
use bellwether_types::{Lsn, TimelineHistory, TimelineId, TimelineSwitch, Timestamp, WalPosition};
use tokio::sync::watch;

use crate::{
    clock,
    job::{JobContext, JobNews, Predecessor},
};

/// How long a killed process tree may take to be gone.
const KILL_LIMIT: Duration = Duration::from_secs(10);

fn failed(error: &dyn std::error::Error) -> JobOutcome {
    JobOutcome::Failed { why: chain(error), source_unreachable: false }
}

/// An error with its causes, for people.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// `host` and `port` of a `postgres://host:port/database` URL; the first of several.
pub(crate) fn address_of(conn_url: &str) -> Option<HostPort> {
    addresses_of(conn_url)?.into_iter().next()
}

/// The same of `postgres://host:port,host:port/database`.
fn addresses_of(conn_url: &str) -> Option<Vec<HostPort>> {
    let rest = conn_url.split_once("://")?.1;
    let authority = rest.split(['/', '?']).next()?;
    let authority = authority.rsplit_once('@').map_or(authority, |(_, address)| address);
    authority.split(',').map(address).collect()
}

fn address(authority: &str) -> Option<HostPort> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (authority, 5432),
    };
    Some(HostPort { host: host.trim_start_matches('[').trim_end_matches(']').to_owned(), port })
}

/// The database of a connection URL.
pub(crate) fn database_of(conn_url: &str) -> Option<String> {
    let path = conn_url.split_once("://")?.1.split_once('/')?.1;
    let database = path.split('?').next()?;
    (!database.is_empty()).then(|| database.to_owned())
}

/// A decided upstream in the terms of the configuration files.
pub(crate) fn pg_upstream(upstream: &Upstream) -> Option<PgUpstream> {
    let mut addresses = addresses_of(&upstream.conn_url)?.into_iter();
    Some(PgUpstream {
        address: addresses.next()?,
        alternatives: addresses.collect(),
        slot: upstream.slot.clone(),
        credentials: None,
        database: database_of(&upstream.conn_url),
    })
}

pub(crate) fn target(upstream: &Upstream, credentials: &Credentials) -> Option<Target> {
    Some(Target { address: address_of(&upstream.conn_url)?, credentials: credentials.clone() })
}

/// Of several servers of a cluster elsewhere the one that may be written to, else the first that answers.
async fn one_of_several(upstream: Upstream, settings: &PgSettings) -> Upstream {
    let addresses = addresses_of(&upstream.conn_url).unwrap_or_default();
    if addresses.len() < 2 {
        return upstream;
    }
    let mut answering = None;
    for address in &addresses {
        let target = Target { address: address.clone(), credentials: settings.replication.clone() };
        match replication::is_writable(&target).await {
            Ok(true) => {
                answering = Some(address);
                break;
            }
            Ok(false) => answering = answering.or(Some(address)),
            Err(error) => tracing::info!(%address, error = chain(&error), "no answer"),
        }
    }
    let address = answering.unwrap_or(&addresses[0]);
    Upstream { conn_url: format!("postgres://{address}"), ..upstream }
}

/// What a standby cluster says about the other cluster's archive, in the terms of the configuration files.
pub(crate) fn archive_settings(upstream: &Upstream) -> BTreeMap<String, String> {
    let archive = &upstream.archive;
    let given = [
        ("restore_command", &archive.restore_command),
        ("archive_cleanup_command", &archive.archive_cleanup_command),
        ("recovery_min_apply_delay", &archive.min_apply_delay),
    ];
    given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?))).collect()
}

fn no_address(upstream: &Upstream) -> JobOutcome {
    JobOutcome::Failed {
        why: format!("member {} publishes no usable address: `{}`", upstream.member, upstream.conn_url),
        source_unreachable: true,
    }
}

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
    let source = one_of_several(source, server.settings()).await;
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
        return JobOutcome::Succeeded;
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

/// A replica by the methods of the settings; without a source by those that need none.
pub(crate) async fn clone(
    job: JobContext,
    settings: Arc<PgSettings>,
    source: Option<Upstream>,
) -> JobOutcome {
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
    match result {
        Ok(()) => JobOutcome::Succeeded,
        Err(error) if error.is_cancelled() => JobOutcome::Cancelled,
        Err(error) => JobOutcome::Failed { why: chain(&error), source_unreachable: true },
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

/// Stops the server on the way to something else. `Err`: the outcome of the job that this was a part of.
async fn stop_quietly(
    job: &JobContext,
    server: &Server,
    running: Option<Postmaster>,
    request: &StopRequest,
) -> Result<(), JobOutcome> {
    let postmaster = match running {
        Some(postmaster) => Some(postmaster),
        None => server.attach().await.map_err(|error| failed(&error))?,
    };
    let Some(postmaster) = postmaster else { return Ok(()) };
    let (stage, _) = watch::channel(StopStage::Preparing);
    tokio::select! {
        end = server.stop(&postmaster, request, &stage) => end.map(drop).map_err(|error| failed(&error)),
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
    let outcome = stop(job, server, running, request, before).await;
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
        immediate_after: stop_limit,
        kill_after: stop_limit.map(|limit| limit * 2),
    };
    let at_once = StopRequest {
        mode: StopMode::Immediate,
        checkpoint: false,
        hook: false,
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
) -> JobOutcome {
    let first = stop_once(&job, &server, running, &request).await;
    // The job before may be about to start a postmaster that nobody has seen yet; it ends only when it has killed that.
    before.ended().await;
    match first {
        JobOutcome::Succeeded => stop_once(&job, &server, None, &request).await,
        other => other,
    }
}

async fn stop_once(
    job: &JobContext,
    server: &Server,
    running: Option<Postmaster>,
    request: &StopRequest,
) -> JobOutcome {
    let postmaster = match server.attach().await {
        Ok(found) => found.or(running),
        Err(_) => running,
    };
    let Some(postmaster) = postmaster.filter(Postmaster::is_alive) else { return JobOutcome::Succeeded };
    let (stage, mut stages) = watch::channel(StopStage::Preparing);
    let stopping = server.stop(&postmaster, request, &stage);
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
                if let StopStage::ShutDown(found) = seen {
                    let phase = JobPhase::ShutdownCheckpoint { checkpoint: found.checkpoint, end: found.optime };
                    job.tell(JobNews::Phase(phase)).await;
                }
            }
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
    still_allowed: F,
) -> JobOutcome
where
    F: Fn() -> bool + Send,
{
    let request = restart_request(stop_limit);
    match stop_quietly(&job, &server, running, &request).await {
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

/// How a restart stops the server.
fn restart_request(stop_limit: Duration) -> StopRequest {
    StopRequest {
        mode: StopMode::Fast,
        checkpoint: true,
        hook: true,
        immediate_after: Some(stop_limit),
        kill_after: Some(2 * stop_limit),
    }
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

/// Stops a running standby, saves WAL that waits to be archived, and rewinds.
pub(crate) async fn rewind(
    job: JobContext,
    server: Server,
    running: Option<Postmaster>,
    source: Upstream,
) -> JobOutcome {
    let settings = server.settings().clone();
    let source = one_of_several(source, &settings).await;
    let Some(target) = target(&source, settings.rewind_credentials()) else { return no_address(&source) };
    let request = StopRequest {
        mode: StopMode::Fast,
        checkpoint: false,
        hook: false,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_out_of_connection_urls() {
        for (url, host, port) in [
            ("postgres://10.0.0.1:5433/postgres", "10.0.0.1", 5433),
            ("postgres://u:p@db.example/x?y=z", "db.example", 5432),
            ("postgres://[::1]:5434/postgres", "::1", 5434),
            ("postgres://[::1]/postgres", "::1", 5432),
            ("postgres://:5433", "", 5433),
        ] {
            assert_eq!(address_of(url), Some(HostPort { host: host.into(), port }), "{url}");
        }
        let several = addresses_of("postgres://a:1,[::1]:2").unwrap();
        assert_eq!(several.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a:1", "[::1]:2"]);
        assert_eq!(addresses_of(""), None, "the other cluster is reached through its archive alone");
        assert_eq!(database_of("postgres://h:1/db?x=1").as_deref(), Some("db"));
    }

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
