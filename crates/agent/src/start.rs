//! Bringing an agent to life: the store first, then the guard against a second agent of the same name, then everything else.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bellwether_api_client::{ApiClient, Method};
use bellwether_config::{Config, Floors, effective, initial_document, sections::watchdog::WatchdogDriver};
use bellwether_dcs::{Deadline, Store, mirror::Mirror};
use bellwether_ha::{
    Memory,
    view::{JobKind, Peers},
};
use bellwether_postgres::{
    callbacks::CallbackRunner,
    leftover::{kill_commands, kill_leftovers},
    server::Server,
};
use bellwether_types::{Failure, cluster::Cluster, topology::Topology};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    agent::Agent,
    budget::FailoverClock,
    citus::{CitusPart, Groups, Surroundings},
    clock,
    cycle::Cycle,
    execute::{Errands, MemberWrite},
    failed_bootstraps::FailedBootstraps,
    failsafe::FailsafeBook,
    fencing::{Fencing, GuardianUse},
    handle::AgentHandle,
    health::HealthKeeper,
    hearing::Ear,
    interrupted::Mark,
    job::Jobs,
    journal::Journal,
    kept_configuration::KeptConfiguration,
    lease::LeaseKeeper,
    level,
    local::Local,
    look::Looks,
    measures::Measures,
    monitor::MonitorHandle,
    notes::Notes,
    pace,
    peers::PollQueue,
    pg_settings::pg_settings,
    promise::PromiseBook,
    publications::Publisher,
    publish::first_status,
    reloads::{ReloadSource, Reloads},
    requests::Requests,
    service_manager::ServiceManager,
    settings::first_dynamic,
    slot_keeper::SlotKeeper,
    watchdog::Watchdog,
};

/// How long one attempt to read the store takes before it is said that we wait.
const STORE_ATTEMPT: Duration = Duration::from_secs(5);
/// How long a member of our name has to answer.
const NAME_GUARD: Duration = Duration::from_secs(3);
/// The whole loop hears through this queue; jobs and peers send a few events each.
const EVENT_QUEUE: usize = 256;

/// What an agent is made from.
#[derive(Debug)]
pub struct AgentOptions {
    pub config: Config,
    pub reload: ReloadSource,
    pub store: Arc<dyn Store>,
    /// In a Citus cluster.
    pub groups: Option<Groups>,
    pub client: ApiClient,
    /// Under that name Patroni's defaults apply to a new cluster.
    pub started_as_patroni: bool,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    #[error("could not use the directory `{}`", path.display())]
    RuntimeDirectory {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("Can't start; there is already a node named '{name}' running")]
    DuplicateName { name: String },
    #[error("a program that an earlier agent left running on `{}` could not be ended", data_dir.display())]
    Leftover {
        data_dir: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error(
        "this program understands feature level {ours}, and the cluster has reached {cluster}: install the version that the \
         other members run, or the one before"
    )]
    TooOld { cluster: u32, ours: u32 },
    #[error(
        "cannot read `{}`, by which this member promised to receive nothing while a lost primary is replaced; when the cluster has \
         a leader that is not this member, remove the file and start again",
        path.display()
    )]
    Promise {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("told to stop before the store answered")]
    Stopped,
}

impl StartError {
    /// The code under which the book explains it; `None` if it was asked for.
    pub fn failure(&self) -> Option<Failure> {
        match self {
            Self::RuntimeDirectory { .. } | Self::Promise { .. } => Some(Failure::RuntimeDirectory),
            Self::DuplicateName { .. } => Some(Failure::DuplicateName),
            Self::Leftover { .. } => Some(Failure::Leftover),
            Self::TooOld { .. } => Some(Failure::ProgramTooOld),
            Self::Stopped => None,
        }
    }
}

/// Where an agent keeps what must survive it: beside the data directory, so that it survives that too.
pub fn runtime_dir(config: &Config) -> PathBuf {
    let data_dir = &config.postgresql.data_dir;
    let mut name = data_dir.file_name().unwrap_or_default().to_owned();
    name.push(".bellwether");
    data_dir.with_file_name(name)
}

/// Waits for the store (for ever, until `stop`), refuses a duplicate name, and makes the agent with its tasks.
/// Nothing has been done to PostgreSQL when this returns.
pub async fn start(
    options: AgentOptions,
    stop: &CancellationToken,
) -> Result<(Agent, AgentHandle), StartError> {
    let AgentOptions { config, reload, store, groups, client, started_as_patroni } = options;
    let runtime_dir = runtime_dir(&config);
    make_private_dir(&runtime_dir)
        .map_err(|cause| StartError::RuntimeDirectory { path: runtime_dir.clone(), cause })?;
    let journal = Journal::open(&runtime_dir, config.scope.clone(), config.name.clone())
        .map_err(|cause| StartError::RuntimeDirectory { path: runtime_dir.clone(), cause })?;

    let mirror = Mirror::new(store.clone(), Duration::from_secs(1));
    let cluster = wait_for_store(&mirror, config.store.word(), stop).await?;
    level::refuse_too_old(&mirror.state().snapshot)?;
    refuse_duplicate(&config, &cluster, &client).await?;

    let children = CancellationToken::new();
    let minimum_ttl = store.capabilities().minimum_ttl;
    let floors = if started_as_patroni { Floors::patroni() } else { Floors::bellwether(minimum_ttl) };
    let new_cluster = initial_document(&config, started_as_patroni, config.store.is_embedded());
    let stored = cluster.config.as_ref().map(|keyed| &keyed.value);
    let floors_in_force = level::floors(&cluster, &config.name, floors);
    let dynamic = first_dynamic(&config, stored, &new_cluster, floors_in_force);
    let effective = effective(&config, &dynamic);
    for message in dynamic.messages.iter().chain(&effective.messages) {
        warn!("{message}");
    }
    let (settings, warnings) = pg_settings(&config, &effective, &runtime_dir);
    for warning in warnings {
        warn!(warning, "parameters of PostgreSQL");
    }
    let settings = Arc::new(settings);
    mirror.set_poll(pace::between_reads(&effective.settings));

    let watchdog = Watchdog::new(&config.watchdog, &effective.settings);
    let data_dir = config.postgresql.data_dir.clone();
    let fencing = Fencing::new(guardian_use(&config), data_dir, runtime_dir.clone(), watchdog);
    let mark = Mark::open(&runtime_dir);
    let failed_bootstraps = FailedBootstraps::open(&runtime_dir, started_as_patroni);
    let mut local = Local::new();
    if let Some(state) = failed_bootstraps.state() {
        local.state = state;
    }
    // Users' commands belong to these only; what a successful one left running is its own business.
    let by_command = matches!(mark.job(), Some(JobKind::Bootstrap | JobKind::Clone | JobKind::Reinitialize));
    end_leftovers(&config, by_command).await?;
    tell_earlier_firing(&runtime_dir, &journal);
    let (ttl, ttl_changes) = watch::channel(effective.settings.ttl);
    let measures = Measures::default();
    let (mut keeper, lease) =
        LeaseKeeper::new(store.clone(), config.name.clone(), ttl_changes, fencing.clone());
    keeper.measures = measures.clone();
    let (monitor, asking) = MonitorHandle::spawn(settings.clone(), children.clone());
    let mut services = JoinSet::new();
    services.spawn(async move {
        // A panic there ends this task, too.
        asking.await.expect("the connection's task does not panic");
        "the connection to PostgreSQL"
    });
    let keeper_stop = children.clone();
    services.spawn(async move {
        keeper.run(keeper_stop).await;
        "the lease keeper"
    });
    let publisher = Publisher::new();
    let publishing = publisher.clone().run(store.clone(), children.clone());
    services.spawn(async move {
        publishing.await;
        "the writer of routine keys"
    });
    let following = mirror.clone();
    let mirror_stop = children.clone();
    services.spawn(async move {
        following.run(mirror_stop).await;
        "the mirror of the store"
    });

    let (events_in, events) = mpsc::channel(EVENT_QUEUE);
    let config = Arc::new(config);
    let (status, status_seen) = watch::channel(Arc::new(first_status(&config, &effective.settings)));
    let notes = Notes::new(&config.name, store.clone(), mirror.clone(), &journal, status_seen.clone());
    let notes_stop = children.clone();
    services.spawn(async move {
        notes.run(notes_stop).await;
        "the notes in the store"
    });
    let citus = match (&config.citus, groups) {
        (Some(citus), Some(groups)) => {
            let around = Surroundings {
                me: config.name.clone(),
                groups,
                client: client.clone(),
                status: status_seen.clone(),
                settings: settings.clone(),
                journal: journal.clone(),
            };
            CitusPart::start(citus, around, &mut services, children.clone())
        }
        _ => CitusPart::None,
    };
    let (topology, topology_seen) = watch::channel(Arc::new(first_topology(&config)));
    let failsafe = FailsafeBook::open(&runtime_dir);
    let promise = PromiseBook::open(&runtime_dir)
        .map_err(|cause| StartError::Promise { path: PromiseBook::path(&runtime_dir), cause })?;
    let looks = Looks::new(events_in.clone());
    let handle = AgentHandle::new(
        config.name.clone(),
        store.clone(),
        mirror.clone(),
        client.clone(),
        journal.clone(),
        failsafe.clone(),
        promise.clone(),
        status_seen,
        topology_seen,
        looks.clone(),
        events_in.clone(),
        citus.clone(),
    );
    let health = HealthKeeper::new(
        config.postgresql.data_dir.clone(),
        events_in.clone(),
        measures.clone(),
        children.clone(),
    );
    journal.record(
        "start",
        serde_json::json!({"version": env!("CARGO_PKG_VERSION"), "pid": std::process::id()}),
    );
    let agent = Agent {
        config,
        reload,
        reloads: Reloads::default(),
        store,
        mirror,
        lease,
        ttl,
        fencing,
        server: Server::new(settings.clone()),
        monitor,
        callbacks: CallbackRunner::new(settings.clone()),
        service_manager: ServiceManager::of_environment(),
        slots: SlotKeeper::new(events_in.clone()),
        health,
        measures,
        floors,
        floors_in_force,
        dynamic,
        effective,
        settings,
        citus,
        local,
        mark,
        failed_bootstraps,
        earlier_guardians_gone: false,
        services,
        jobs: Jobs::new(events_in.clone()),
        client,
        peers: Peers::default(),
        polls: PollQueue::default(),
        errands: Errands::default(),
        failsafe,
        ear: Ear::default(),
        promise,
        failsafe_round: None,
        failsafe_confirmed_until: None,
        requests: Requests::default(),
        memory: Memory::default(),
        journal,
        clock: FailoverClock::default(),
        publisher,
        member_write: MemberWrite::default(),
        applied_config: None,
        kept_config: KeptConfiguration::default(),
        store_silent_since: None,
        last_reason: None,
        routine: false,
        cycle: Cycle::new(started_as_patroni),
        stopping: false,
        wake_at: clock::now(),
        looks,
        events_in,
        events,
        status,
        topology,
        children,
    };
    Ok((agent, handle))
}

/// A rewind or copy that outlived its agent would go on writing under the next one's feet.
async fn end_leftovers(config: &Config, is_interrupted: bool) -> Result<(), StartError> {
    let data_dir = config.postgresql.data_dir.clone();
    let looked_at = data_dir.clone();
    let work = move || {
        let mut killed = kill_leftovers(&looked_at)?;
        if is_interrupted {
            killed.extend(kill_commands(&looked_at)?);
        }
        Ok(killed)
    };
    let killed = tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
        .map_err(|cause| StartError::Leftover { data_dir, cause })?;
    if !killed.is_empty() {
        warn!(?killed, "programs that an earlier agent left running on the data directory were killed");
    }
    Ok(())
}

async fn wait_for_store(
    mirror: &Mirror,
    word: &'static str,
    stop: &CancellationToken,
) -> Result<Arc<Cluster>, StartError> {
    let mut told_at = None;
    loop {
        let attempt = mirror.refresh(Deadline::after(STORE_ATTEMPT));
        let Some(read) = stop.run_until_cancelled(attempt).await else { return Err(StartError::Stopped) };
        match read {
            Ok(cluster) => return Ok(cluster),
            // The embedded store needs a moment to find itself.
            Err(error) if told_at.is_none_or(|at| clock::now().since(at) >= STORE_ATTEMPT) => {
                told_at = Some(clock::now());
                info!(%error, "waiting on {word}");
            }
            Err(_) => {}
        }
        let pause = tokio::time::sleep(Duration::from_millis(200));
        if stop.run_until_cancelled(pause).await.is_none() {
            return Err(StartError::Stopped);
        }
    }
}

/// A member key alone proves nothing: it outlives its agent. Only a real HTTP answer does.
async fn refuse_duplicate(config: &Config, cluster: &Cluster, client: &ApiClient) -> Result<(), StartError> {
    let Some(url) = cluster.member(&config.name).and_then(|member| member.api_url.as_deref()) else {
        return Ok(());
    };
    if client.call(Method::GET, url, "liveness", None, NAME_GUARD).await.is_ok() {
        return Err(StartError::DuplicateName { name: config.name.to_string() });
    }
    Ok(())
}

fn guardian_use(config: &Config) -> GuardianUse {
    let rehearsal = config.watchdog.driver == WatchdogDriver::Testing;
    match (config.watchdog.guardian_enabled(), rehearsal) {
        (true, _) => GuardianUse::On,
        (false, true) => GuardianUse::Rehearsal,
        (false, false) => GuardianUse::Off,
    }
}

/// A guardian that killed PostgreSQL could tell nobody but its own file.
fn tell_earlier_firing(runtime_dir: &std::path::Path, journal: &Journal) {
    match bellwether_guardian::last_firing(runtime_dir) {
        Ok(Some(firing)) => {
            let record = format!("{firing:?}");
            warn!(record, "a guardian has fired here before");
            journal.record("guardian_fired", serde_json::json!({"record": record}));
        }
        Ok(None) => {}
        Err(error) => warn!(%error, "the record of an earlier guardian could not be read"),
    }
}

fn make_private_dir(path: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

pub(crate) fn first_topology(config: &Config) -> Topology {
    Topology {
        cluster: config.scope.clone(),
        me: config.name.clone(),
        leader: None,
        term: None,
        lease_until: None,
        members: Vec::new(),
        paused: false,
        taken_at: clock::now(),
        confirmed_at: bellwether_types::Timestamp::ZERO,
        believable_until: bellwether_types::Timestamp::ZERO,
    }
}
