//! A proxy, and what it is told.

use std::{net::TcpListener, pin::Pin, sync::Arc, time::Duration};

use bellwether_pgwire::auth::secret::Secret;
use bellwether_proxy::{
    Answer, Peers, Proxy, ProxyHandle, Secrets,
    routes::Target,
    settings::{self, Limits, ListenerSettings, Mode, PoolerSettings, RoutingSettings, Settings},
};
use bellwether_types::{
    PostgresState, Role, Tags, TimelineId, Timestamp,
    topology::{Topology, TopologyMember},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::watch,
    task::JoinHandle,
};
use tokio_postgres::{Client, NoTls, config::SslMode};
use tokio_util::sync::CancellationToken;

use crate::server_under_test::TestServer;

pub(crate) const USER: &str = "app";
pub(crate) const PASSWORD: &str = "app's";

/// A proxy that serves; it ends with the test.
pub(crate) struct Front {
    pub(crate) tcp: u16,
    pub(crate) pooled: u16,
    statistics: u16,
    pub(crate) topology: watch::Sender<Arc<Topology>>,
    pub(crate) settings: watch::Sender<Arc<Settings>>,
    pub(crate) handle: ProxyHandle,
    _task: JoinHandle<()>,
}

/// Where secrets come from: a superuser's look at the server.
#[derive(Debug)]
struct Authid(Arc<Client>);

impl Secrets for Authid {
    fn secret_of(&self, user: String) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
        let client = self.0.clone();
        Box::pin(async move {
            let query = "SELECT rolpassword FROM pg_authid WHERE rolname = $1";
            let rows = client.query(query, &[&user]).await.map_err(|error| error.to_string())?;
            let Some(text) = rows.first().and_then(|row| row.get::<_, Option<String>>(0)) else {
                return Ok(None);
            };
            Secret::parse(&text).map(Some).map_err(|error| error.to_string())
        })
    }
}

/// Nobody answers.
#[derive(Debug)]
struct Alone;

impl Peers for Alone {
    fn holds_lease(&self, _: String) -> Pin<Box<dyn Future<Output = bool> + Send>> {
        Box::pin(async { false })
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(crate) fn now() -> Timestamp {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Timestamp::from_nanos(u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).unwrap())
}

/// A member that is what `role` says.
pub(crate) fn member(name: &str, server: &TestServer, role: Role, timeline: u32) -> TopologyMember {
    TopologyMember {
        name: name.parse().unwrap(),
        role: Some(role),
        state: Some(PostgresState::Running),
        timeline: Some(TimelineId(timeline)),
        lsn: None,
        lag_bytes: Some(0),
        conn_url: Some(format!("postgres://{}/postgres", server.settings().connect_address)),
        api_url: None,
        is_leader: false,
        is_sync: false,
        is_quorum: false,
        tags: Tags::default(),
        duty: Default::default(),
    }
}

/// A picture that the store has just confirmed, for `lease`.
pub(crate) fn picture(leader: Option<&str>, members: Vec<TopologyMember>, lease: Duration) -> Topology {
    Topology {
        cluster: "shop".parse().unwrap(),
        me: "elsewhere".parse().unwrap(),
        leader: leader.map(|name| name.parse().unwrap()),
        term: None,
        lease_until: None,
        members,
        paused: false,
        taken_at: now(),
        confirmed_at: now(),
        believable_until: now() + lease,
    }
}

/// Long enough for a test.
pub(crate) const LEASE: Duration = Duration::from_secs(600);

impl Front {
    /// A proxy whose pools have `pool_size` servers. Secrets are read at `server`.
    pub(crate) async fn start(topology: Topology, server: &TestServer, pooler: PoolerSettings) -> Self {
        Self::beside(Arc::new(Alone), topology, server, pooler).await
    }

    /// The same with other members that answer.
    pub(crate) async fn beside(
        peers: Arc<dyn Peers>,
        topology: Topology,
        server: &TestServer,
        pooler: PoolerSettings,
    ) -> Self {
        let (tcp, pooled, statistics) = (free_port(), free_port(), free_port());
        let listener = |name: &str, port: u16, mode| ListenerSettings {
            name: name.into(),
            addresses: vec![([127, 0, 0, 1], port).into()],
            target: Target::Primary,
            mode,
            split: None,
            front: settings::Front::default(),
        };
        let settings = Settings {
            listeners: vec![listener("tcp", tcp, Mode::Tcp), listener("pooled", pooled, Mode::Transaction)],
            threads: 2,
            routing: RoutingSettings::default(),
            limits: Limits { queue_timeout: Duration::from_millis(500), ..Limits::default() },
            pooler,
            statistics: vec![([127, 0, 0, 1], statistics).into()],
        };
        let (settings, told) = watch::channel(Arc::new(settings));
        let (topology, seen) = watch::channel(Arc::new(topology));
        let secrets = Arc::new(Authid(Arc::new(server.client().await)));
        let (proxy, handle) = Proxy::start(told, seen, secrets, peers).unwrap();
        let task = tokio::spawn(proxy.run(CancellationToken::new()));
        let front = Self { tcp, pooled, statistics, topology, settings, handle, _task: task };
        for port in [tcp, pooled, statistics] {
            while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        front
    }

    pub(crate) fn show(&self, topology: Topology) {
        self.topology.send_replace(Arc::new(topology));
    }
}

impl Front {
    /// The value of a metric, with its labels.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let address = ("127.0.0.1", self.statistics);
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).await.unwrap();
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} in {page}")).parse().unwrap()
    }

    /// Other settings of the pools from now on; they are in force a moment later.
    pub(crate) fn pool(&self, change: impl FnOnce(&mut PoolerSettings)) {
        let mut settings = Settings::clone(&self.settings.borrow());
        change(&mut settings.pooler);
        self.settings.send_replace(Arc::new(settings));
    }
}

/// Creates the role of the application.
pub(crate) async fn create_user(server: &TestServer) {
    let sql = format!(
        "CREATE ROLE {USER} LOGIN PASSWORD '{}'; GRANT ALL ON SCHEMA public TO {USER}",
        PASSWORD.replace('\'', "''")
    );
    server.client().await.batch_execute(&sql).await.unwrap();
}

/// A client of the application.
pub(crate) async fn client(port: u16) -> Result<Client, tokio_postgres::Error> {
    client_as(port, USER).await
}

/// A client with the same password.
pub(crate) async fn client_as(port: u16, user: &str) -> Result<Client, tokio_postgres::Error> {
    Ok(client_and_end(port, user).await?.0)
}

/// A client, and what its connection ends with.
pub(crate) async fn client_and_end(
    port: u16,
    user: &str,
) -> Result<(Client, JoinHandle<Result<(), tokio_postgres::Error>>), tokio_postgres::Error> {
    let mut config = tokio_postgres::Config::new();
    config
        .host("127.0.0.1")
        .port(port)
        .user(user)
        .password(PASSWORD)
        .dbname("postgres")
        .ssl_mode(SslMode::Disable);
    let (client, connection) = config.connect(NoTls).await?;
    Ok((client, tokio::spawn(connection)))
}

/// The only value of the only row.
pub(crate) async fn ask(client: &Client, sql: &str) -> Result<String, tokio_postgres::Error> {
    Ok(client.query_one(&format!("SELECT ({sql})::text"), &[]).await?.get(0))
}
