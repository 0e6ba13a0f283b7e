//! A PostgreSQL of a test: its directory, settings and how to get one that runs.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use bellwether_postgres::{
    bootstrap,
    clone::{self, CloneProgress},
    config::{ConfigPlan, Upstream},
    monitor::Monitor,
    observation::Observation,
    postmaster::{Postmaster, StopMode},
    replication::Target,
    server::{Readiness, Server},
    settings::{Credentials, HostPort, PgSettings},
    stop::{StopRequest, StopStage},
};
use bellwether_types::{ClusterName, MemberName};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Generous: the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A server with its own directory; stopped and removed when dropped.
pub(crate) struct TestServer {
    pub(crate) server: Server,
    pub(crate) monitor: Monitor,
    pub(crate) postmaster: Option<Postmaster>,
}

/// PostgreSQL refuses root. Each test is a process of its own under nextest, so it may give root away for good.
fn become_postgres() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    let line = passwd.lines().find(|line| line.starts_with("postgres:")).expect("there is a user `postgres`");
    let ids: Vec<u32> = line.split(':').skip(2).take(2).map(|id| id.parse().unwrap()).collect();
    let (uid, gid) = (rustix::process::Uid::from_raw(ids[0]), rustix::process::Gid::from_raw(ids[1]));
    // Only the calling thread changes, which is why every test starts with this, before its runtime has threads.
    rustix::thread::set_thread_groups(&[gid]).unwrap();
    rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
    rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
}

/// Runs a test body as an unprivileged user on a small runtime.
pub(crate) fn run<F: Future<Output = ()>>(body: impl FnOnce(PathBuf) -> F) {
    become_postgres();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let root = tempfile::Builder::new().prefix("bw-pg-").tempdir_in("/tmp").unwrap();
    runtime.block_on(body(root.path().to_owned()));
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Settings of member `name` below `root`.
pub(crate) fn settings(root: &Path, name: &str) -> PgSettings {
    let listen = HostPort { host: "127.0.0.1".to_owned(), port: free_port() };
    let mut settings = PgSettings::new(
        MemberName::new(name).unwrap(),
        ClusterName::new("demo").unwrap(),
        root.join(name),
        listen,
    );
    settings.bin_dir = Some(PathBuf::from(
        std::env::var_os("BELLWETHER_TEST_PG_BIN").unwrap_or_else(|| "/usr/lib/postgresql/15/bin".into()),
    ));
    settings.superuser = Credentials::new("admin", "super'geheim");
    settings.replication = Credentials::new("replicator", "repl:geheim");
    settings.rewind = Some(Credentials::new("rewinder", r"rew\geheim"));
    settings.pgpass = root.join(format!("{name}.pgpass"));
    settings.log_file = Some(root.join(format!("{name}.log")));
    settings.use_unix_socket = true;
    settings.parameters.insert("unix_socket_directories".to_owned(), root.to_string_lossy().into_owned());
    settings.parameters.insert("shared_buffers".to_owned(), "16MB".to_owned());
    settings.pg_hba = Some(
        [
            "local all all scram-sha-256",
            "host all all 127.0.0.1/32 scram-sha-256",
            "host replication all 127.0.0.1/32 scram-sha-256",
            "local replication all scram-sha-256",
        ]
        .map(str::to_owned)
        .into(),
    );
    settings.bootstrap.initdb = ["data-checksums", "no-sync", "auth=scram-sha-256"]
        .map(|option| match option.split_once('=') {
            Some((name, value)) => bellwether_types::program::ProgramOption::with_value(name, value),
            None => bellwether_types::program::ProgramOption::flag(option),
        })
        .into();
    settings
}

impl TestServer {
    pub(crate) fn new(settings: PgSettings) -> Self {
        let settings = Arc::new(settings);
        Self { server: Server::new(Arc::clone(&settings)), monitor: Monitor::new(settings), postmaster: None }
    }

    /// A running primary with its roles.
    pub(crate) async fn primary(settings: PgSettings) -> Self {
        let mut this = Self::new(settings);
        let never = CancellationToken::new();
        bootstrap::create(this.server.settings(), &never).await.unwrap();
        this.start(&ConfigPlan::primary()).await;
        bootstrap::create_roles(this.server.settings(), &never).await.unwrap();
        this
    }

    /// A running standby, cloned from `primary`.
    pub(crate) async fn standby(settings: PgSettings, primary: &TestServer) -> Self {
        let mut this = Self::new(settings);
        let (progress, _) = watch::channel(CloneProgress::default());
        clone::create_replica(
            this.server.settings(),
            Some(&primary.target()),
            &progress,
            &CancellationToken::new(),
        )
        .await
        .unwrap();
        this.start(&this.follow(primary)).await;
        this
    }

    pub(crate) fn settings(&self) -> &PgSettings {
        self.server.settings()
    }

    /// Changes the settings, as a reload of the configuration would.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut PgSettings)) {
        let mut settings = self.settings().clone();
        change(&mut settings);
        let settings = Arc::new(settings);
        self.server.set_settings(Arc::clone(&settings));
        self.monitor.set_settings(settings);
    }

    /// Where replicas of this server connect.
    pub(crate) fn target(&self) -> Target {
        Target {
            address: self.settings().connect_address.clone(),
            credentials: self.settings().replication.clone(),
        }
    }

    /// The plan of a standby of `primary`.
    pub(crate) fn follow(&self, primary: &TestServer) -> ConfigPlan {
        ConfigPlan::standby(Some(Upstream::new(primary.settings().connect_address.clone(), None)))
    }

    pub(crate) async fn start(&mut self, plan: &ConfigPlan) {
        let started = self.server.start(plan).await.unwrap();
        let ready = self.server.wait_ready(&started.postmaster, PATIENCE).await.unwrap();
        assert_eq!(ready, Readiness::Ready);
        self.postmaster = Some(started.postmaster);
    }

    pub(crate) fn postmaster(&self) -> &Postmaster {
        self.postmaster.as_ref().expect("the server was started")
    }

    pub(crate) async fn stop(&mut self, mode: StopMode) {
        let (stage, _) = watch::channel(StopStage::Preparing);
        let postmaster = self.postmaster.take().expect("the server was started");
        self.server.stop(&postmaster, &StopRequest::plain(mode), &stage).await.unwrap();
    }

    pub(crate) async fn observe(&mut self) -> Observation {
        let id = self.postmaster().id().clone();
        self.monitor.observe(&id).await.unwrap()
    }

    /// Observes until `condition` holds.
    pub(crate) async fn observe_until(&mut self, condition: impl Fn(&Observation) -> bool) -> Observation {
        let end = Instant::now() + PATIENCE;
        loop {
            let id = self.postmaster().id().clone();
            let last = self.monitor.observe(&id).await;
            match last {
                Ok(seen) if condition(&seen) => return seen,
                last => assert!(Instant::now() < end, "the condition never held: {last:#?}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// A session of a client.
    pub(crate) async fn client(&self) -> tokio_postgres::Client {
        let mut config = tokio_postgres::Config::new();
        config
            .host("127.0.0.1")
            .port(self.settings().port)
            .user("admin")
            .password("super'geheim")
            .dbname("postgres");
        let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    pub(crate) async fn sql(&self, statements: &str) {
        self.client().await.batch_execute(statements).await.unwrap();
    }

    pub(crate) async fn count(&self, table: &str) -> i64 {
        self.client().await.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap().get(0)
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        // Ours by its pid file, its directory and its program; never by name.
        if let Ok(Some(postmaster)) = Postmaster::find(&self.settings().data_dir) {
            let _ = postmaster.signal_stop(StopMode::Immediate);
            let end = Instant::now() + Duration::from_secs(10);
            while postmaster.is_alive() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

/// Polls until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < end, "{what} never happened");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
