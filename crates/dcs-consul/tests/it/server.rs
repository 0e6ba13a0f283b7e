//! A Consul server that a test starts and ends.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Once,
    time::{Duration, Instant},
};

use bellwether_dcs::{Check, CommitOutcome, Deadline, Key, Snapshot, Store, Write};
use bellwether_dcs_consul::{Config, ConsulStore};
use bellwether_types::LeaseId;
use serde_json::json;
use tempfile::TempDir;

/// Long enough for a machine with other work.
pub(crate) const SOON: Duration = Duration::from_secs(60);
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// What the server is told to allow.
const SHORTEST_SESSION: Duration = Duration::from_millis(500);

pub(crate) struct Server {
    /// `127.0.0.1:port` of the HTTP interface.
    pub(crate) address: String,
    /// `127.0.0.1:port` of the same by TLS, if it has a certificate.
    pub(crate) by_tls: Option<String>,
    child: Option<Child>,
    folder: TempDir,
}

impl Server {
    /// One that answers.
    pub(crate) async fn start() -> Self {
        Self::start_with(None).await
    }

    /// One that shows a certificate: both files in PEM.
    pub(crate) async fn start_with(certificate: Option<(&Path, &Path)>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let [http, serf, server, https] = free_ports();
        let mut settings = json!({
            "server": true,
            "bootstrap_expect": 1,
            "data_dir": folder.path().join("data"),
            "bind_addr": "127.0.0.1",
            "client_addr": "127.0.0.1",
            "node_name": "test",
            "ports": {
                "http": http, "dns": -1, "grpc": -1, "https": -1, "serf_lan": serf, "serf_wan": -1, "server": server,
            },
            "session_ttl_min": format!("{}ms", SHORTEST_SESSION.as_millis()),
            "performance": { "raft_multiplier": 1 },
            "limits": { "http_max_conns_per_client": 2000 },
            "disable_update_check": true,
        });
        if let Some((cert, key)) = certificate {
            settings["ports"]["https"] = https.into();
            (settings["cert_file"], settings["key_file"]) = (json!(cert), json!(key));
        }
        let by_tls = certificate.map(|_| format!("127.0.0.1:{https}"));
        fs::write(folder.path().join("config.json"), settings.to_string()).expect("a configuration");
        let mut server = Self { address: format!("127.0.0.1:{http}"), by_tls, child: None, folder };
        server.run();
        server.until_answers().await;
        server
    }

    /// Starts it again.
    pub(crate) fn run(&mut self) {
        let path = |name: &str| -> PathBuf { self.folder.path().join(name) };
        let log = fs::File::create(path("log")).expect("a log file");
        // The server ends with the thread that started it, however that ends.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "consul", "agent", "-config-file"])
            .arg(path("config.json"))
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .expect("setpriv starts");
        self.child = Some(child);
    }

    /// It can write.
    pub(crate) async fn until_answers(&self) {
        let store = store(&self.address, "probe/");
        let limit = Instant::now() + SOON;
        loop {
            let by = Deadline::after(Duration::from_secs(2));
            match store.commit(&[], &[Write::put("probe", "1")], by).await {
                CommitOutcome::Applied(_) => return,
                other => assert!(
                    Instant::now() < limit,
                    "Consul does not answer ({other:?}); is it installed (scripts/prerequisites)? It says: {}",
                    fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
                ),
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a child can be killed");
            child.wait().expect("a child can be waited for");
        }
    }

    /// Stops it, and returns once none of its threads can answer any more: on a busy machine that is a moment after the signal.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
        let pid = self.child.as_ref().expect("the server runs").id();
        let is_stopped = |thread: std::path::PathBuf| {
            let status = std::fs::read_to_string(thread.join("stat")).expect("a thread of the server");
            status.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
        };
        let limit = Instant::now() + SOON;
        loop {
            let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the server runs");
            if threads.map(|thread| thread.expect("a thread").path()).all(is_stopped) {
                return;
            }
            assert!(Instant::now() < limit, "the server did not stop");
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// `STOP` or `CONT`.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().expect("the server runs").id();
        let status = Command::new("kill").args(["-s", signal, &pid.to_string()]).status();
        assert!(status.expect("kill runs").success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_ports() -> [u16; 4] {
    let listeners = [(); 4].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("it is bound").port())
}

pub(crate) fn config(address: &str, prefix: &str) -> Config {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    let mut config = Config::new(format!("http://{address}"), prefix, "batman-test");
    config.session_ttl_min = SHORTEST_SESSION;
    config
}

pub(crate) fn store(address: &str, prefix: &str) -> ConsulStore {
    ConsulStore::new(config(address, prefix)).expect("the settings work")
}

pub(crate) fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(5))
}

pub(crate) async fn snapshot(store: &ConsulStore) -> Snapshot {
    let limit = Instant::now() + SOON;
    loop {
        match store.snapshot(soon()).await {
            Ok(snapshot) => return snapshot,
            Err(error) => assert!(Instant::now() < limit, "the store does not answer: {error}"),
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// A lease that the leader key hangs on.
pub(crate) async fn lead(store: &ConsulStore, ttl: Duration) -> LeaseId {
    let lease = store.grant_lease(ttl, soon()).await.expect("a lease");
    let write = Write::put_leased(Key::from("leader"), "a", lease);
    let written = store.commit(&[Check::absent("leader")], &[write], soon()).await;
    assert!(matches!(written, CommitOutcome::Applied(_)), "{written:?}");
    lease
}
