//! A member whose agent publishes what a test wants, and the manager of its names.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, Once},
    time::Duration,
};

use bellwether_api_client::{ApiClient, ClientConfig, Verify};
use bellwether_config::sections::{dns::Dns, vip::Vip};
use bellwether_entrypoint::{
    Agent, Tell,
    board::{Board, Entry},
    dns::manager::{Manager, Settings},
    provider,
};
use bellwether_types::{
    ClusterName, MemberName, PostgresState, Role, Tags, Term, Timestamp, settings,
    status::NodeStatus,
    topology::{Topology, TopologyMember},
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_EACH: Duration = Duration::from_millis(20);

/// Dropping it ends its manager.
pub(crate) struct Member {
    name: MemberName,
    zone: String,
    status: watch::Sender<Arc<NodeStatus>>,
    topology: watch::Sender<Arc<Topology>>,
    _config: watch::Sender<Arc<Settings>>,
    pub(crate) board: Board,
    pub(crate) told: Arc<Mutex<Vec<Value>>>,
    pub(crate) runtime_dir: TempDir,
    task: JoinHandle<()>,
}

fn now() -> Timestamp {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Timestamp::from_millis(u64::try_from(time.tv_sec * 1000 + time.tv_nsec / 1_000_000).unwrap())
}

impl Member {
    /// A replica, with this address and these names to keep once it leads.
    pub(crate) fn start(name: &str, address: IpAddr, dns: Dns) -> Self {
        Self::start_with(name, address, Some(dns), Vip::default())
    }

    /// A replica with addresses that a provider leads somewhere.
    pub(crate) fn start_with(name: &str, address: IpAddr, dns: Option<Dns>, vip: Vip) -> Self {
        Self::start_in("", name, address, dns, vip)
    }

    /// The same at a site; empty for none.
    pub(crate) fn start_in(zone: &str, name: &str, address: IpAddr, dns: Option<Dns>, vip: Vip) -> Self {
        static TLS: Once = Once::new();
        TLS.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        let name: MemberName = name.parse().unwrap();
        let zone = zone.to_owned();
        let (status, statuses) = watch::channel(Arc::new(status(&name, &zone, None)));
        let (topology, topologies) = watch::channel(Arc::new(picture(&name, None, vec![])));
        let settings = Settings { dns, vip: vip.clone(), own_host: address.to_string() };
        let (config, configs) = watch::channel(Arc::new(settings));
        let told: Arc<Mutex<Vec<Value>>> = Arc::default();
        let hears = Arc::clone(&told);
        let no_tls =
            ClientConfig { authentication: None, cacert: None, certificate: None, verify: Verify::Full };
        let agent = Agent {
            status: statuses,
            topology: topologies,
            now,
            client: ApiClient::new(no_tls).unwrap(),
            tell: Tell(Arc::new(move |_, record| hears.lock().unwrap().push(record))),
        };
        let (vips, for_provider) = watch::channel(Arc::new(vip));
        let (board, runtime_dir) = (Board::default(), tempfile::tempdir().unwrap());
        let provider = provider::Manager::new(agent.clone(), for_provider, board.clone());
        let manager = Manager::new(agent, configs, board.clone(), runtime_dir.path().to_owned());
        let task = tokio::spawn(async move {
            tokio::join!(manager.run(CancellationToken::new()), provider.run(CancellationToken::new()));
            drop(vips);
        });
        Self { name, zone, status, topology, _config: config, board, told, runtime_dir, task }
    }

    /// From now on it leads, by a leadership with this number.
    pub(crate) fn leads(&self, term: u64, members: Vec<TopologyMember>) {
        self.status.send_replace(Arc::new(status(
            &self.name,
            &self.zone,
            Some(now() + Duration::from_secs(600)),
        )));
        self.topology.send_replace(Arc::new(picture(&self.name, Some(Term(term)), members)));
    }

    /// From now on somebody else does.
    pub(crate) fn follows(&self) {
        self.status.send_replace(Arc::new(status(&self.name, &self.zone, None)));
        self.topology.send_replace(Arc::new(picture(&self.name, None, vec![])));
    }

    pub(crate) fn entry(&self) -> Entry {
        self.board.entries().pop().unwrap_or_default()
    }

    /// Waits until its last error has this in it.
    pub(crate) async fn fails_with(&self, part: &str) {
        until(&format!("it fails with {part}: {:?}", self.entry()), || {
            self.entry().last_error.is_some_and(|error| error.contains(part))
        })
        .await;
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits until it is so.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let by = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < by, "{what}");
        tokio::time::sleep(LOOK_EACH).await;
    }
}

/// A replica that runs at this address.
pub(crate) fn replica(name: &str, address: &str) -> TopologyMember {
    TopologyMember {
        name: name.parse().unwrap(),
        role: Some(Role::Replica),
        state: Some(PostgresState::Running),
        timeline: None,
        lsn: None,
        lag_bytes: Some(0),
        conn_url: Some(format!("postgres://{address}:5432/postgres")),
        api_url: None,
        is_leader: false,
        is_sync: false,
        is_quorum: false,
        duty: Default::default(),
        tags: Tags::default(),
    }
}

fn picture(me: &MemberName, term: Option<Term>, members: Vec<TopologyMember>) -> Topology {
    Topology {
        cluster: ClusterName::new("main").unwrap(),
        me: me.clone(),
        leader: Some(term.map_or_else(|| "another".parse().unwrap(), |_| me.clone())),
        term,
        lease_until: None,
        members,
        paused: false,
        taken_at: now(),
        confirmed_at: now(),
        believable_until: now() + Duration::from_secs(600),
    }
}

fn status(me: &MemberName, zone: &str, lease_until: Option<Timestamp>) -> NodeStatus {
    NodeStatus {
        cluster: ClusterName::new("main").unwrap(),
        me: me.clone(),
        version: String::new(),
        taken_at: now(),
        state: PostgresState::Running,
        role: if lease_until.is_some() { Role::Primary } else { Role::Replica },
        server: None,
        system_id: None,
        pending_restart: false,
        pending_restart_reason: Value::Null,
        tags: Tags([("zone".to_owned(), zone.into())].into()),
        scheduled_restart: None,
        watchdog_failed: false,
        at_rest: false,
        alarms: Default::default(),
        measured: Default::default(),
        lease_until,
        store: None,
        store_last_seen: None,
        settings: settings::Settings::default(),
        config: Value::Null,
        failsafe_until: None,
        failsafe: None,
        takeover: Default::default(),
        next_tick_by: Timestamp::ZERO,
        reason: String::new(),
        reason_code: "leading".into(),
    }
}
