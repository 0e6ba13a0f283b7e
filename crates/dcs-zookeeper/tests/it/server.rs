//! ZooKeeper servers that a test starts and ends.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use bellwether_dcs::{Deadline, Store};
use bellwether_dcs_zookeeper::{Config, ZooKeeperStore};
use tempfile::TempDir;

/// Short sessions need short ticks.
pub(crate) const TICK: Duration = Duration::from_millis(200);
/// Long enough for a machine with other work.
pub(crate) const SOON: Duration = Duration::from_secs(60);
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(20);
const JAR: &str = "/usr/share/java/zookeeper.jar";
/// What encrypted connections need besides; Debian's `zookeeper.jar` does not name all of it.
const NETTY: &str = "/usr/share/java/netty-codec.jar:/usr/share/java/netty-resolver.jar";

pub(crate) struct Ensemble {
    pub(crate) servers: Vec<Server>,
    folder: TempDir,
}

pub(crate) struct Server {
    pub(crate) address: String,
    child: Option<Child>,
}

impl Ensemble {
    /// So many servers, which answer.
    pub(crate) async fn start(count: usize) -> Self {
        let ensemble = Self::begin(count, &str::to_owned);
        for index in 0..count {
            ensemble.until_answers(index).await;
        }
        ensemble
    }

    /// So many servers, each with what `change` makes of its configuration. They may not answer yet.
    pub(crate) fn begin(count: usize, change: &dyn Fn(&str) -> String) -> Self {
        assert!(Path::new(JAR).exists(), "no ZooKeeper here: run scripts/prerequisites");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let ports = free_ports(3 * count);
        let peers: String = (0..count)
            .map(|index| {
                let (quorum, election) = (ports[3 * index + 1], ports[3 * index + 2]);
                format!("server.{}=127.0.0.1:{quorum}:{election}\n", index + 1)
            })
            .collect();
        let peers = if count > 1 { peers } else { String::new() };
        let mut servers = Vec::new();
        for index in 0..count {
            let port = ports[3 * index];
            configure(&folder.path().join(index.to_string()), index, port, &peers, change);
            servers.push(Server { address: format!("127.0.0.1:{port}"), child: None });
        }
        let mut ensemble = Self { servers, folder };
        for index in 0..count {
            ensemble.run(index);
        }
        ensemble
    }

    /// Starts one that does not run.
    pub(crate) fn run(&mut self, index: usize) {
        let data = self.folder.path().join(index.to_string());
        let log = fs::File::create(data.join("log")).expect("a log file");
        // The server ends with the thread that started it, however that ends.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "java", "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .args(["-Dzookeeper.forceSync=no", "-Dzookeeper.admin.enableServer=false"])
            .args(["-cp", &format!("{JAR}:{NETTY}"), "org.apache.zookeeper.server.quorum.QuorumPeerMain"])
            .arg(data.join("zoo.cfg"))
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .expect("java starts");
        self.servers[index].child = Some(child);
    }

    async fn until_answers(&self, index: usize) {
        let store = store(&[self.servers[index].address.clone()], "/probe/");
        let limit = Instant::now() + SOON;
        while let Err(error) = store.snapshot(Deadline::after(Duration::from_secs(2))).await {
            assert!(Instant::now() < limit, "server {index} does not answer: {error}");
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    pub(crate) fn addresses(&self) -> Vec<String> {
        self.servers.iter().map(|server| server.address.clone()).collect()
    }
}

impl Server {
    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a child can be killed");
            child.wait().expect("a child can be waited for");
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

fn configure(data: &Path, index: usize, port: u16, peers: &str, change: &dyn Fn(&str) -> String) {
    fs::create_dir(data).expect("a data directory");
    fs::write(data.join("myid"), format!("{}\n", index + 1)).expect("an identity");
    let text = format!(
        "tickTime={}\ninitLimit=50\nsyncLimit=10\nmaxClientCnxns=0\ndataDir={}\nclientPort={port}\n\
         clientPortAddress=127.0.0.1\n{peers}",
        TICK.as_millis(),
        data.display()
    );
    fs::write(data.join("zoo.cfg"), change(&text)).expect("a configuration");
}

fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    listeners.iter().map(|listener| listener.local_addr().expect("it is bound").port()).collect()
}

pub(crate) fn config(addresses: &[String], prefix: &str) -> Config {
    let mut config = Config::new(addresses.to_vec(), prefix);
    config.tick_time = TICK;
    config
}

pub(crate) fn store(addresses: &[String], prefix: &str) -> ZooKeeperStore {
    ZooKeeperStore::new(config(addresses, prefix)).expect("the settings work")
}
