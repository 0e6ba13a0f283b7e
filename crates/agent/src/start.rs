//! Bringing an agent to life: the store first, then the guard against a second agent of the same name, then everything else.

mod premises;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bellwether_api_client::ApiClient;
use bellwether_config::{
    Config, Dynamic, Effective, Floors, effective, initial_document, sections::watchdog::WatchdogDriver,
};
use bellwether_dcs::{Store, mirror::Mirror};
use bellwether_ha::{
    Memory,
    view::{JobKind, Peers},
};
use bellwether_postgres::{callbacks::CallbackRunner, server::Server, settings::PgSettings};
use bellwether_types::{Failure, cluster::Cluster, topology::Topology};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

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
    premises::make_private_dir(&runtime_dir)
        .map_err(|cause| StartError::RuntimeDirectory { path: runtime_dir.clone(), cause })?;
    let journal = Journal::open(&runtime_dir, config.scope.clone(), config.name.clone())
        .map_err(|cause| StartError::RuntimeDirectory { path: runtime_dir.clone(), cause })?;

    let mirror = Mirror::new(store.clone(), Duration::from_secs(1));
    let cluster = premises::wait_for_store(&mirror, config.store.word(), stop).await?;
    level::refuse_too_old(&mirror.state().snapshot)?;
    premises::refuse_duplicate(&config, &cluster, &client).await?;

    let children = CancellationToken::new();
    let Founded { floors, floors_in_force, dynamic, effective, settings } =
        first_settings(&config, &cluster, store.as_ref(), started_as_patroni, &runtime_dir);
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
    premises::end_leftovers(&config, by_command).await?;
    premises::tell_earlier_firing(&runtime_dir, &journal);
    let (ttl, ttl_changes) = watch::channel(effective.settings.ttl);
    let measures = Measures::default();
    let (mut keeper, lease) =
        LeaseKeeper::new(store.clone(), config.name.clone(), ttl_changes, fencing.clone());
    keeper.measures = measures.clone();
    let (monitor, asking) = MonitorHandle::spawn(settings.clone(), children.clone());
    let mut services = JoinSet::new();
    // A panic there ends this task, too.
    let asking = async { asking.await.expect("the connection's task does not panic") };
    serve(&mut services, "the connection to PostgreSQL", asking);
    serve(&mut services, "the lease keeper", keeper.run(children.clone()));
    let publisher = Publisher::new();
    serve(
        &mut services,
        "the writer of routine keys",
        publisher.clone().run(store.clone(), children.clone()),
    );
    let (following, following_stop) = (mirror.clone(), children.clone());
    serve(&mut services, "the mirror of the store", async move { following.run(following_stop).await });

    let (events_in, events) = mpsc::channel(EVENT_QUEUE);
    let config = Arc::new(config);
    let (status, status_seen) = watch::channel(Arc::new(first_status(&config, &effective.settings)));
    let notes = Notes::new(&config.name, store.clone(), mirror.clone(), &journal, status_seen.clone());
    serve(&mut services, "the notes in the store", notes.run(children.clone()));
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

/// What is in force at first.
struct Founded {
    floors: Floors,
    floors_in_force: Floors,
    dynamic: Dynamic,
    effective: Effective,
    settings: Arc<PgSettings>,
}

/// Takes the settings of the cluster, or those that a new one begins with, and says what is odd about them.
fn first_settings(
    config: &Config,
    cluster: &Cluster,
    store: &dyn Store,
    started_as_patroni: bool,
    runtime_dir: &Path,
) -> Founded {
    let minimum_ttl = store.capabilities().minimum_ttl;
    let floors = if started_as_patroni { Floors::patroni() } else { Floors::bellwether(minimum_ttl) };
    let new_cluster = initial_document(config, started_as_patroni, config.store.is_embedded());
    let stored = cluster.config.as_ref().map(|keyed| &keyed.value);
    let floors_in_force = level::floors(cluster, &config.name, floors);
    let dynamic = first_dynamic(config, stored, &new_cluster, floors_in_force);
    let effective = effective(config, &dynamic);
    for message in dynamic.messages.iter().chain(&effective.messages) {
        warn!("{message}");
    }
    let (settings, warnings) = pg_settings(config, &effective, runtime_dir);
    for warning in warnings {
        warn!(warning, "parameters of PostgreSQL");
    }
    Founded { floors, floors_in_force, dynamic, effective, settings: Arc::new(settings) }
}

/// Adds a task that the agent cannot do without.
fn serve(
    services: &mut JoinSet<&'static str>,
    name: &'static str,
    work: impl Future<Output = ()> + Send + 'static,
) {
    services.spawn(async move {
        work.await;
        name
    });
}

fn guardian_use(config: &Config) -> GuardianUse {
    let rehearsal = config.watchdog.driver == WatchdogDriver::Testing;
    match (config.watchdog.guardian_enabled(), rehearsal) {
        (true, _) => GuardianUse::On,
        (false, true) => GuardianUse::Rehearsal,
        (false, false) => GuardianUse::Off,
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
