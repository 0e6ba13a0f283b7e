//! A cluster: its nodes, and what an operator would see of it.

mod options;

use std::{path::PathBuf, time::Duration};

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

pub use self::options::Options;
use crate::{
    account::Account,
    configuration::{self, Place},
    consul::Consul,
    etcd::Etcd,
    links::Links,
    node::Node,
    patroni::Program,
    ports::Ports,
    rest::Api,
    router::RouterPorts,
    servers::{Servers, Store},
    wait::{PATIENCE, eventually},
    writer::{Ledger, Writer},
    zookeeper::ZooKeeper,
};

/// For a whole cluster to come up: initdb and base backups on a busy machine.
pub(crate) const UP_WITHIN: Duration = Duration::from_secs(120);
/// The name of every test cluster.
pub const SCOPE: &str = "acceptance";
const LOG_LINES: usize = 60;
const JOURNAL_RECORDS: usize = 40;

/// Running nodes. Dropping it kills them all; after a panic their files stay and are told of.
#[derive(Debug)]
pub struct Cluster {
    pub nodes: Vec<Node>,
    pub account: Account,
    ports: Ports,
    links: Option<Links>,
    pub(crate) servers: Servers,
    dir: Option<TempDir>,
}

impl Cluster {
    /// `nodes` nodes, started and whole.
    pub async fn start(nodes: usize) -> Self {
        Self::start_with(Options::nodes(nodes)).await
    }

    pub async fn start_with(options: Options) -> Self {
        let mut cluster = Self::prepare(&options).await;
        for node in &mut cluster.nodes {
            node.start();
        }
        cluster.whole_within(UP_WITHIN).await;
        cluster
    }

    /// Files and ports, but nothing that runs.
    pub async fn prepare(options: &Options) -> Self {
        let account = Account::of_nodes();
        let dir = tempfile::Builder::new().prefix("bw-").tempdir().expect("a temporary directory");
        account.own(dir.path(), 0o711);
        let mut cluster = Self {
            nodes: vec![],
            account,
            ports: Ports::take(),
            links: None,
            servers: Servers::None,
            dir: Some(dir),
        };
        let files = cluster.dir();
        cluster.servers = Servers::start(options.store, &mut cluster.ports, &files).await;
        let stores: Vec<u16> = (0..options.nodes).map(|_| cluster.ports.take_one()).collect();
        let has_links = options.links && options.store == Store::Embedded;
        let mut linked = Vec::new();
        for (index, &store_port) in stores.iter().enumerate() {
            let partners = stores.iter().copied().filter(|port| *port != store_port).collect();
            let mut patch = options.patch.clone();
            if has_links {
                let bound = cluster.ports.take_one();
                merge(&mut patch, json!({"raft": {"bind_addr": format!("127.0.0.1:{bound}")}}));
                linked.push((store_port, bound));
            }
            let name = format!("node{}", index + 1);
            let mut router = RouterPorts::default();
            if options.routers {
                router = RouterPorts::take(&mut cluster.ports);
                merge(&mut patch, router.patch());
            }
            let mut node = cluster.make_node(&name, Some(store_port), partners, patch);
            node.router = router;
            cluster.nodes.push(node);
        }
        if has_links {
            cluster.links = Some(Links::open(&linked).await);
        }
        cluster
    }

    /// A node that is not one of [`Cluster::nodes`] and uses their store without a vote. Nothing of it runs.
    pub fn guest(&mut self, name: &str, patch: Value) -> Node {
        let partners = self.nodes.iter().map(|node| node.store_port).collect();
        self.make_node(name, None, partners, patch)
    }

    fn make_node(&mut self, name: &str, store_port: Option<u16>, partners: Vec<u16>, patch: Value) -> Node {
        let votes = if store_port.is_some() { "" } else { "-guest" };
        let place = Place {
            scope: SCOPE,
            name,
            dir: &self.dir().join(format!("{name}{votes}")),
            address: "127.0.0.1",
            networks: &["127.0.0.1/32"],
            postgres_port: self.ports.take_one(),
            api_port: self.ports.take_one(),
        };
        self.account.make_dir(place.dir);
        let mut document = configuration::document(&place, store_port, &partners);
        merge(&mut document, self.servers.patch());
        merge(&mut document, patch);
        let node = Node {
            name: name.to_owned(),
            dir: place.dir.to_owned(),
            postgres_port: place.postgres_port,
            api_port: place.api_port,
            store_port: store_port.unwrap_or_default(),
            api: Api::on(place.api_port),
            account: self.account,
            router: RouterPorts::default(),
            document,
            program: Program::default(),
            supervisor: None,
        };
        node.rewrite(&node.document);
        node
    }

    /// The links of the store, if the cluster was started with them.
    pub fn links(&self) -> &Links {
        self.links.as_ref().expect("the cluster was started with links")
    }

    /// From now on nobody hears anything from the store, until [`Cluster::wake_store`]. An embedded one needs links for this.
    pub fn silence_store(&self) {
        if !self.servers.signal(Signal::STOP) {
            self.links().cut();
        }
    }

    pub fn wake_store(&self) {
        if !self.servers.signal(Signal::CONT) {
            self.links().mend();
        }
    }

    /// The servers of the store, if it is etcd.
    pub fn etcd(&self) -> &Etcd {
        let Servers::Etcd(etcd) = &self.servers else { panic!("the cluster was not started on etcd") };
        etcd
    }

    /// The server of the store, if it is Consul.
    pub fn consul(&self) -> &Consul {
        let Servers::Consul(consul) = &self.servers else { panic!("the cluster was not started on Consul") };
        consul
    }

    /// The server of the store, if it is ZooKeeper.
    pub fn zookeeper(&self) -> &ZooKeeper {
        let Servers::ZooKeeper(zookeeper) = &self.servers else {
            panic!("the cluster was not started on ZooKeeper")
        };
        zookeeper
    }

    /// A port that nobody uses.
    pub fn free_port(&mut self) -> u16 {
        self.ports.take_one()
    }

    /// The folder that holds everything.
    pub fn dir(&self) -> PathBuf {
        self.dir.as_ref().expect("it lives as long as the cluster").path().to_owned()
    }

    pub fn node(&self, name: &str) -> &Node {
        self.nodes.iter().find(|node| node.name == name).unwrap_or_else(|| panic!("there is no {name}"))
    }

    /// All nodes but this one.
    pub fn others(&self, than: &Node) -> Vec<&Node> {
        self.nodes.iter().filter(|node| node.name != than.name).collect()
    }

    /// What each node says of itself, in order; `null` for one that does not answer.
    pub async fn statuses(&self) -> Vec<Value> {
        let mut statuses = Vec::new();
        for node in &self.nodes {
            statuses.push(node.api.status().await);
        }
        statuses
    }

    /// The only running primary among those that answer now.
    pub async fn primary(&self) -> Result<&Node, String> {
        let statuses = self.statuses().await;
        let mut primaries = self.nodes.iter().zip(&statuses).filter(|(_, status)| is_primary(status));
        match (primaries.next(), primaries.next()) {
            (Some((node, _)), None) => Ok(node),
            (None, _) => Err(format!("no running primary among {}", in_short(&statuses))),
            (Some(_), Some(_)) => Err(format!("more than one primary among {}", in_short(&statuses))),
        }
    }

    /// Waits until another node than `old` is the primary.
    pub async fn successor_of(&self, old: &Node) -> &Node {
        let what = format!("another node than {} leads", old.name);
        eventually(what, PATIENCE, || async {
            for node in self.others(old) {
                if is_primary(&node.api.status().await) {
                    return Ok(node);
                }
            }
            Err("no other running primary")
        })
        .await
    }

    /// Waits until one node is the primary and all others stream from it on its timeline; who that is.
    pub async fn whole(&self) -> &Node {
        self.whole_within(PATIENCE).await
    }

    pub(crate) async fn whole_within(&self, limit: Duration) -> &Node {
        eventually("all nodes are whole", limit, || self.is_whole()).await
    }

    async fn is_whole(&self) -> Result<&Node, String> {
        let statuses = self.statuses().await;
        let mut primary = None;
        for (node, status) in self.nodes.iter().zip(&statuses) {
            if is_primary(status) && primary.replace((node, &status["timeline"])).is_some() {
                return Err(format!("more than one primary: {}", in_short(&statuses)));
            }
        }
        let (primary, timeline) =
            primary.ok_or_else(|| format!("no running primary among {}", in_short(&statuses)))?;
        for (node, status) in self.nodes.iter().zip(&statuses) {
            let streams = status["role"] == "replica" && status["replication_state"] == "streaming";
            if node.name != primary.name && !(streams && status["timeline"] == *timeline) {
                return Err(format!("{} does not stream: {}", node.name, in_short(&statuses)));
            }
        }
        // The store knows it too, so that a switchover or a status page does not see yesterday's picture.
        let document = primary.api.get("/cluster").await?.json();
        let known = document["members"].as_array().map_or(0, |members| {
            let counts = |member: &&Value| member["state"] == "streaming" || member["role"] == "leader";
            members.iter().filter(counts).count()
        });
        if known == self.nodes.len() {
            return Ok(primary);
        }
        Err(format!("/cluster knows of {known} members that run: {document}"))
    }

    /// Waits until every replica counts for commits, so that no acknowledged row can be lost with the primary, and `/sync` names it:
    /// before that no switchover may go to it, since PostgreSQL is told first.
    pub async fn synchronous(&self, primary: &Node) {
        let session = primary.sql().await;
        eventually("all replicas are quorum standbys", PATIENCE, || async {
            let counting = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'quorum'";
            let names = session.text("current_setting('synchronous_standby_names')").await;
            let counted = session.text(counting).await;
            let wanted = self.nodes.len() - 1;
            if !matches!(&counted, Ok(Some(count)) if *count == wanted.to_string()) {
                return Err(format!("{counted:?} count; synchronous_standby_names: {names:?}"));
            }
            let document = primary.api.get("/cluster").await?.json();
            let known = document["members"].as_array().map_or(0, |members| {
                members.iter().filter(|member| member["role"] == "quorum_standby").count()
            });
            if known == wanted { Ok(()) } else { Err(format!("/cluster knows of {known}: {document}")) }
        })
        .await;
    }

    /// A client that writes to whoever is the primary.
    pub fn writer(&self) -> Writer {
        Writer::start(self.nodes.iter().map(|node| node.postgres_port).collect())
    }

    /// Panics unless every acknowledged row is on every node, once all have caught up.
    pub async fn holds(&self, ledger: &Ledger) {
        assert!(!ledger.acknowledged.is_empty(), "a client that never wrote proves nothing");
        let primary = self.whole().await;
        let end = primary.sql().await.text("pg_current_wal_flush_lsn()").await.expect("a position");
        let end = end.expect("a primary has a position");
        for node in &self.nodes {
            let session = node.sql().await;
            let caught_up = format!("NOT pg_is_in_recovery() OR pg_last_wal_replay_lsn() >= '{end}'::pg_lsn");
            eventually(format!("{} has replayed {end}", node.name), PATIENCE, || async {
                match session.text(&caught_up).await {
                    Ok(Some(answer)) if answer == "true" => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            })
            .await;
            let rows = session.written_rows().await.expect("the rows can be read");
            let lost = ledger.missing_from(&rows);
            assert!(lost.is_empty(), "{} lacks acknowledged rows: {lost:?}", node.name);
        }
    }

    #[expect(clippy::print_stderr, reason = "the test runner shows it after a failure")]
    fn tell(&self) {
        for node in &self.nodes {
            let log = node.log_text();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- {}: log", node.name);
            for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
                eprintln!("    {line}");
            }
            eprintln!("--- {}: journal\n{}", node.name, node.journal().tail(JOURNAL_RECORDS));
        }
    }

    #[expect(clippy::print_stderr, reason = "the test runner shows it after a failure")]
    fn keep(&mut self) {
        if let Some(dir) = self.dir.take() {
            eprintln!("--- everything is kept in {}", dir.keep().display());
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell();
        }
        // All at once: a successor of a dead leader would be one more to wait for.
        for node in &self.nodes {
            node.hold();
        }
        self.nodes.clear();
        if std::thread::panicking() {
            self.keep();
        }
    }
}

/// Whether a status document is that of a running primary.
pub fn is_primary(status: &Value) -> bool {
    status["role"] == "primary" && status["state"] == "running"
}

fn in_short(statuses: &[Value]) -> String {
    let each = statuses.iter().map(|status| {
        let name = status["patroni"]["name"].as_str().unwrap_or("?");
        format!(
            "{name}: role {} state {} timeline {} {}",
            status["role"], status["state"], status["timeline"], status["replication_state"]
        )
    });
    each.collect::<Vec<_>>().join("; ")
}

/// JSON merge patch: `null` removes.
pub fn merge(document: &mut Value, patch: Value) {
    match patch {
        Value::Object(patch) => {
            if !document.is_object() {
                *document = json!({});
            }
            let fields = document.as_object_mut().expect("made so above");
            for (key, value) in patch {
                if value.is_null() {
                    fields.remove(&key);
                } else {
                    merge(fields.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        other => *document = other,
    }
}
