//! Several nodes of one store in this process.

use std::{
    net::TcpListener,
    path::PathBuf,
    sync::{Arc, Once},
    time::{Duration, Instant},
};

use bellwether_dcs::{CommitOutcome, Deadline, Snapshot, Store, Write};
use bellwether_dcs_raft::{
    ClientConfig, Config, MemberRole, RaftClient, RaftStore, Secret, StartError, StoreStatus,
};
use bellwether_types::Revision;
use tempfile::TempDir;
use tokio::time::sleep;

/// Long enough for a machine with other work.
pub(crate) const SOON: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

pub(crate) struct Node {
    pub(crate) config: Config,
    store: Option<Arc<RaftStore>>,
}

impl Node {
    pub(crate) fn store(&self) -> &Arc<RaftStore> {
        self.store.as_ref().expect("the node runs")
    }

    pub(crate) fn is_up(&self) -> bool {
        self.store.is_some()
    }

    /// Starts it, also right after a kill, when its files are perhaps not closed yet.
    pub(crate) async fn start(&mut self) {
        self.store = Some(Arc::new(start(&self.config).await.expect("the node starts")));
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        let store = self.store.take().expect("the node runs");
        drop(Arc::try_unwrap(store).expect("nobody else holds the node"));
    }

    pub(crate) async fn shut_down(&mut self) {
        let store = self.store.take().expect("the node runs");
        Arc::try_unwrap(store).expect("nobody else holds the node").shutdown().await;
    }

    pub(crate) fn wipe(&self) {
        std::fs::remove_dir_all(&self.config.data_dir).expect("the directory can be removed");
    }
}

/// Starts a node; waits while a killed one still holds its files or its port.
pub(crate) async fn start(config: &Config) -> Result<RaftStore, StartError> {
    let deadline = Instant::now() + SOON;
    loop {
        match RaftStore::start(config.clone()).await {
            Err(
                StartError::Storage(bellwether_dcs_raft::StorageError::InUse { .. })
                | StartError::Bind { .. },
            ) if Instant::now() < deadline => {
                sleep(LOOK_AGAIN).await;
            }
            result => return result,
        }
    }
}

pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    folder: TempDir,
}

impl Cluster {
    /// A founded store of so many nodes.
    pub(crate) async fn start(count: usize) -> Self {
        let cluster = Self::begin(count).await;
        cluster.until_founded().await;
        cluster
    }

    /// So many nodes that have just been started.
    pub(crate) async fn begin(count: usize) -> Self {
        let mut cluster = Self::laid_out(count);
        for node in &mut cluster.nodes {
            node.start().await;
        }
        cluster
    }

    /// So many nodes that have not been started.
    pub(crate) fn laid_out(count: usize) -> Self {
        show_logs();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let addresses = free_addresses(count);
        let nodes = addresses
            .iter()
            .enumerate()
            .map(|(index, address)| {
                let mut config = Config::new("demo", address, folder.path().join(format!("node{index}")));
                config.partner_addrs = addresses.iter().filter(|other| *other != address).cloned().collect();
                config.password = Some(Secret::new("correct horse"));
                Node { config, store: None }
            })
            .collect();
        Self { nodes, folder }
    }

    /// One more node, with the present ones as partners. Not started.
    pub(crate) fn lay_out_another(&mut self) -> usize {
        let index = self.nodes.len();
        let mut config = self.nodes[0].config.clone();
        config.self_addr = free_addresses(1).remove(0);
        config.partner_addrs = self.addresses();
        config.data_dir = self.path(&format!("node{index}"));
        self.nodes.push(Node { config, store: None });
        index
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.config.self_addr.clone()).collect()
    }

    pub(crate) fn client_config(&self) -> ClientConfig {
        ClientConfig {
            cluster: "demo".to_owned(),
            addresses: self.addresses(),
            password: Some(Secret::new("correct horse")),
            tls: None,
            insecure: false,
        }
    }

    pub(crate) async fn client(&self) -> RaftClient {
        RaftClient::new(self.client_config()).await.expect("a client")
    }

    /// The running node that leads, once all running nodes that are not cut off agree on it.
    pub(crate) async fn leader(&self) -> usize {
        let mut found = None;
        until("the running nodes agree on a leader", || {
            let leaders: Vec<_> = self.running().map(|status| status.leader.clone()).collect();
            let leads: Vec<usize> = self
                .nodes
                .iter()
                .enumerate()
                .filter(|(_, node)| node.is_up() && node.store().status().state == "leader")
                .map(|(index, _)| index)
                .collect();
            let agreed = leaders.windows(2).all(|pair| pair[0] == pair[1]);
            found = (agreed && leads.len() == 1).then(|| leads[0]);
            found.is_some()
        })
        .await;
        found.expect("it was found")
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = StoreStatus> {
        self.nodes.iter().filter(|node| node.is_up()).map(|node| node.store().status())
    }

    /// A running node that does not lead.
    pub(crate) async fn follower(&self) -> usize {
        let leader = self.leader().await;
        (0..self.nodes.len())
            .find(|index| *index != leader && self.nodes[*index].is_up())
            .expect("more than one node runs")
    }

    pub(crate) async fn until_founded(&self) {
        let count = self.nodes.len();
        until("all nodes have a vote and know the leader", || {
            self.running().all(|status| {
                let voters = status.members.iter().filter(|member| member.role == MemberRole::Voter);
                voters.count() == count && status.leader.is_some()
            })
        })
        .await;
    }
}

/// Polls a condition.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {SOON:?}: {what}");
        sleep(LOOK_AGAIN).await;
    }
}

pub(crate) fn soon() -> Deadline {
    Deadline::after(SOON)
}

pub(crate) async fn put(store: &dyn Store, key: &str, value: &str) -> Revision {
    match store.commit(&[], &[Write::put(key, value)], soon()).await {
        CommitOutcome::Applied(revision) => revision,
        other => panic!("put {key}: {other:?}"),
    }
}

pub(crate) fn value(snapshot: &Snapshot, key: &str) -> Option<String> {
    let entry = snapshot.entries.get(&key.into())?;
    Some(String::from_utf8(entry.value.clone()).expect("the tests write text"))
}

/// Writes although the leader was just lost: repeats what ended unknown.
pub(crate) async fn put_in_the_end(store: &dyn Store, key: &str, value: &str) {
    let deadline = Instant::now() + SOON;
    loop {
        let by = Deadline::after(Duration::from_secs(2));
        match store.commit(&[], &[Write::put(key, value)], by).await {
            CommitOutcome::Applied(_) => return,
            CommitOutcome::Unknown(_) if Instant::now() < deadline => sleep(LOOK_AGAIN).await,
            other => panic!("put {key}: {other:?}"),
        }
    }
}

pub(crate) async fn get(store: &dyn Store, key: &str) -> Option<String> {
    value(&store.snapshot(soon()).await.expect("a snapshot"), key)
}

/// Ports that nothing listens on, outside the range that outgoing connections use: nobody takes them in between.
pub(crate) fn free_addresses(count: usize) -> Vec<String> {
    let mut addresses = Vec::new();
    for _ in 0..1000 {
        let port = 10_000 + rand_u16() % 20_000;
        let address = format!("127.0.0.1:{port}");
        if TcpListener::bind(&address).is_ok() && !addresses.contains(&address) {
            addresses.push(address);
        }
        if addresses.len() == count {
            return addresses;
        }
    }
    panic!("no free ports");
}

fn rand_u16() -> u16 {
    use std::hash::{BuildHasher as _, Hasher as _};
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    u16::try_from(random & 0xffff).expect("it is cut to 16 bits")
}

/// `RUST_LOG=bellwether_dcs_raft=debug` shows what the nodes do.
fn show_logs() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
    });
}
