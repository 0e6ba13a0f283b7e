//! The groups of a Citus cluster: the coordinator's leader keeps `pg_dist_node`, whoever leads, and who goes by it never meets a
//! worker that does not take writes while its leader changes as planned.
//!
//! Against a stand-in schema: see [`bellwether_acceptance::citus`].

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bellwether_acceptance::{
    Cluster, Node, Options, PATIENCE, citus,
    cluster::{SCOPE, is_primary, merge},
    eventually,
    ledger::Ledger,
    patroni::{Program, shortest_timings},
    sql::{self, Session},
};
use serde_json::{Value, json};

/// Another one than the agent's own connections use.
const DATABASE: &str = "sharded";
const UP_WITHIN: Duration = Duration::from_secs(120);
const PRIMARY: &str =
    "SELECT nodename, nodeport FROM pg_dist_node WHERE groupid = 1 AND noderole = 'primary'";

/// Whether the expensive variations run too.
fn is_matrix() -> bool {
    std::env::var_os("BELLWETHER_MATRIX").is_some()
}

/// Two nodes of the coordinator and two of a worker, each group run by one program.
async fn started(timings: Value, coordinator: Program, worker: Program) -> Cluster {
    let patch =
        json!({"bootstrap": {"dcs": timings}, "postgresql": {"parameters": {"log_statement": "all"}}});
    let mut cluster = Cluster::prepare(&Options::nodes(4).on_etcd().with(patch)).await;
    let programs = citus::install(&cluster.dir().join("citus"));
    let groups = [(0, coordinator), (0, coordinator), (1, worker), (1, worker)];
    for (node, (group, program)) in cluster.nodes.iter_mut().zip(groups) {
        let part =
            json!({"citus": {"group": group, "database": DATABASE}, "postgresql": {"bin_dir": programs}});
        merge(&mut node.document, part);
        node.rewrite(&node.document);
        node.start_as(program);
    }
    for group in [0, 1] {
        leader(&cluster, group, UP_WITHIN).await;
    }
    cluster
}

fn members(cluster: &Cluster, group: usize) -> &[Node] {
    &cluster.nodes[2 * group..2 * group + 2]
}

/// Waits until one member of the group leads and the other streams.
async fn leader(cluster: &Cluster, group: usize, limit: Duration) -> &Node {
    eventually(format!("group {group} is whole"), limit, || async {
        let (mut leader, mut streaming) = (None, 0);
        for node in members(cluster, group) {
            let status = node.api.status().await;
            if is_primary(&status) {
                leader = Some(node);
            }
            streaming += i32::from(status["replication_state"] == "streaming");
        }
        leader.filter(|_| streaming == 1).ok_or(format!("{} lead, {streaming} stream", leader.is_some()))
    })
    .await
}

fn other(cluster: &Cluster, group: usize, than: &Node) -> usize {
    let at = members(cluster, group).iter().position(|node| node.name != than.name);
    2 * group + at.expect("there are two")
}

async fn session(node: &Node) -> Result<Session, tokio_postgres::Error> {
    Session::open(sql::writable(&[node.postgres_port], 0).dbname(DATABASE)).await
}

/// The table as the group's leader has it: number, group, port and role of each row.
async fn registered(coordinator: &Node) -> Result<Vec<(i32, i32, u16, String)>, tokio_postgres::Error> {
    let query = "SELECT nodeid, groupid, nodeport, noderole::text FROM pg_dist_node ORDER BY 2, 4, 1";
    let rows = session(coordinator).await?.rows(query, &[]).await?;
    let row = |row: &tokio_postgres::Row| {
        let port: i32 = row.get(2);
        (row.get(0), row.get(1), u16::try_from(port).expect("a port"), row.get(3))
    };
    Ok(rows.iter().map(row).collect())
}

/// Waits until the table has exactly the members that there are, with their roles; the number of the worker's primary.
async fn in_order(cluster: &Cluster, coordinator: &Node, worker: &Node) -> i32 {
    let port = |group: i32, role: &str| {
        let (leader, group) = if group == 0 { (coordinator, 0) } else { (worker, 1) };
        if role == "primary" {
            leader.postgres_port
        } else {
            cluster.nodes[other(cluster, group, leader)].postgres_port
        }
    };
    let expected: Vec<(i32, u16, String)> =
        [(0, "primary"), (0, "secondary"), (1, "primary"), (1, "secondary")]
            .map(|(group, role)| (group, port(group, role), role.to_owned()))
            .to_vec();
    eventually("every node is registered as what it is", PATIENCE, || async {
        let rows = registered(coordinator).await.map_err(|error| error.to_string())?;
        let shown: Vec<_> = rows.iter().map(|row| (row.1, row.2, row.3.clone())).collect();
        if shown == expected { Ok(rows[2].0) } else { Err(format!("{rows:?} instead of {expected:?}")) }
    })
    .await
}

/// A client of the coordinator that writes to the worker where the metadata says that it is, as a query of Citus would: it holds a
/// lock on the metadata while it does.
struct Client {
    ledger: Arc<Mutex<Ledger>>,
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Client {
    async fn start(coordinator: &Node) -> Self {
        let (ledger, stop) = (Arc::<Mutex<Ledger>>::default(), Arc::<AtomicBool>::default());
        let metadata = session(coordinator).await.expect("a session with the coordinator");
        let (known, stopped) = (ledger.clone(), stop.clone());
        let task = tokio::spawn(async move {
            for row in 1_i64.. {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let end = write(&metadata, row).await;
                {
                    let mut known = known.lock().expect("nobody panics");
                    match end {
                        Ok(()) => known.acknowledge(row, Instant::now()),
                        Err(error) => known.failed.push(error),
                    }
                }
                // A closed session fails at once, and nobody could end a task that never waits.
                tokio::task::yield_now().await;
            }
        });
        let client = Self { ledger, stop, task };
        client.writes(20).await;
        client
    }

    async fn writes(&self, rows: usize) {
        let count = || self.ledger.lock().expect("nobody panics").acknowledged.len();
        let enough = count() + rows;
        eventually(format!("{rows} more rows"), PATIENCE, || async {
            let ledger = self.ledger.lock().expect("nobody panics").clone();
            if count() >= enough { Ok(()) } else { Err(format!("{:?}", ledger.failed.last())) }
        })
        .await;
    }

    async fn end(self) -> Ledger {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("it does not panic");
        self.ledger.lock().expect("nobody panics").clone()
    }
}

async fn write(metadata: &Session, row: i64) -> Result<(), String> {
    let text = |error: tokio_postgres::Error| format!("{error:?}");
    metadata.client.batch_execute("BEGIN").await.map_err(text)?;
    let end = async {
        let found = metadata.client.query_one(&format!("{PRIMARY} FOR SHARE"), &[]).await.map_err(text)?;
        let (host, port): (String, i32) = (found.get(0), found.get(1));
        if host != "127.0.0.1" {
            return Err(format!("sent to {host}"));
        }
        let port = u16::try_from(port).expect("a port");
        let worker = Session::open(sql::writable(&[port], 0).dbname(DATABASE)).await.map_err(text)?;
        worker.client.execute("INSERT INTO written VALUES ($1)", &[&row]).await.map_err(text)?;
        Ok(())
    };
    let end = end.await;
    metadata.client.batch_execute("COMMIT").await.map_err(text)?;
    end
}

async fn written(worker: &Node) -> BTreeSet<i64> {
    session(worker).await.expect("a session").written_rows().await.expect("rows")
}

/// A planned change of the worker's leader that no client of the coordinator notices but by waiting.
async fn switched_over(cluster: &Cluster, coordinator: &Node, worker: &Node) -> usize {
    let create = "CREATE TABLE written (id bigint PRIMARY KEY)";
    session(worker).await.expect("a session").client.batch_execute(create).await.expect("a table");
    let number = in_order(cluster, coordinator, worker).await;
    let client = Client::start(coordinator).await;
    // Patroni refuses as long as the other one is not a synchronous standby yet.
    eventually("the switchover is done", PATIENCE, || async {
        let reply = worker.api.post("/switchover", json!({"leader": worker.name})).await;
        if reply.status == 200 { Ok(()) } else { Err(format!("{reply:?}")) }
    })
    .await;
    client.writes(20).await;
    let ledger = client.end().await;
    assert_eq!(ledger.failed, Vec::<String>::new());
    let new = other(cluster, 1, worker);
    let new_leader = leader(cluster, 1, PATIENCE).await;
    assert_eq!(new_leader.name, cluster.nodes[new].name);
    assert_eq!(in_order(cluster, coordinator, new_leader).await, number, "the primary keeps its number");
    assert_eq!(ledger.missing_from(&written(new_leader).await), Vec::<i64>::new());
    new
}

/// What a new cluster gets, in its parameters and in its database.
async fn is_made_for_citus(node: &Node) {
    let session = session(node).await.expect("a session");
    for (name, value) in [
        ("shared_preload_libraries", "citus"),
        ("wal_level", "logical"),
        ("max_prepared_transactions", "200"),
        ("citus.local_hostname", "localhost"),
    ] {
        let shown = session.text(&format!("current_setting('{name}')")).await.expect("a setting");
        assert_eq!(shown.as_deref(), Some(value), "{name}");
    }
    let login = session.text("(SELECT authinfo FROM pg_dist_authinfo)").await.expect("one row");
    assert_eq!(login.as_deref(), Some("password=super-secret"));
}

/// P22: who announces the end of a primary and then nothing more blocks the others until its time is over.
async fn a_report_without_an_end_is_let_go(coordinator: &Node, worker: &Node) {
    let body = json!({
        "type": "before_demote", "group": 1, "leader": worker.name, "timeout": 2, "cooldown": 1,
    });
    for path in ["/citus", "/mpp"] {
        assert_eq!(coordinator.api.post_as_stranger(path, &body).await.status, 401, "{path}");
    }
    let reader = session(coordinator).await.expect("a session");
    let is_locked = || async {
        let locking = format!("{PRIMARY} FOR SHARE NOWAIT");
        reader.client.query_one(&locking, &[]).await.map(|row| row.get::<_, String>(0))
    };
    assert_eq!(is_locked().await.expect("nobody holds it").as_str(), "127.0.0.1");
    assert_eq!(coordinator.api.post("/citus", body).await.status, 200);
    let error = is_locked().await.expect_err("it was dealt with when the answer came");
    assert_eq!(error.code(), Some(&tokio_postgres::error::SqlState::LOCK_NOT_AVAILABLE));
    let host = eventually("it is let go", PATIENCE, is_locked).await;
    assert_eq!(host, "127.0.0.1", "as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_coordinators_leader_keeps_the_metadata() {
    let timings = json!({"ttl": 5, "loop_wait": 1, "retry_timeout": 2});
    let cluster = started(timings, Program::Bellwether, Program::Bellwether).await;
    let coordinator = leader(&cluster, 0, PATIENCE).await;
    let worker = leader(&cluster, 1, PATIENCE).await;
    is_made_for_citus(coordinator).await;
    is_made_for_citus(worker).await;
    let keys = cluster.etcd().keys().await;
    for group in [0, 1] {
        let prefix = format!("/service/{SCOPE}/{group}/leader");
        assert!(keys.iter().any(|(key, ..)| *key == prefix), "{prefix} is no key");
    }
    let own = worker.api.get("/cluster").await.expect("an answer").json();
    assert_eq!(own["members"].as_array().map(Vec::len), Some(2), "only the group's own: {own}");

    let worker = &cluster.nodes[switched_over(&cluster, coordinator, worker).await];
    a_report_without_an_end_is_let_go(coordinator, worker).await;

    // The leader of the coordinator dies, and its successor takes the metadata over.
    coordinator.kill_tree();
    let successor = &cluster.nodes[other(&cluster, 0, coordinator)];
    eventually("the other one leads", PATIENCE, || async {
        is_primary(&successor.api.status().await).then_some(()).ok_or("not yet")
    })
    .await;
    coordinator.power_on();
    let number = in_order(&cluster, successor, worker).await;

    // And then that of the worker, which can say nothing more.
    worker.kill_tree();
    let heir = &cluster.nodes[other(&cluster, 1, worker)];
    eventually("the heir is registered", PATIENCE, || async {
        let rows = registered(successor).await.map_err(|error| error.to_string())?;
        let is_there = |row: &&(i32, i32, u16, String)| row.0 == number && row.2 == heir.postgres_port;
        rows.iter().find(is_there).map(|_| ()).ok_or(format!("{rows:?}"))
    })
    .await;
    worker.power_on();
    in_order(&cluster, successor, heir).await;
}

/// One group after the other can be moved from Patroni: they talk to each other.
#[tokio::test(flavor = "multi_thread")]
async fn a_patroni_coordinator_and_our_worker_understand_each_other() {
    if !is_matrix() {
        return;
    }
    let cluster = started(shortest_timings(), Program::Patroni, Program::Bellwether).await;
    let (coordinator, worker) = (leader(&cluster, 0, PATIENCE).await, leader(&cluster, 1, PATIENCE).await);
    switched_over(&cluster, coordinator, worker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_coordinator_and_a_patroni_worker_understand_each_other() {
    if !is_matrix() {
        return;
    }
    let cluster = started(shortest_timings(), Program::Bellwether, Program::Patroni).await;
    let (coordinator, worker) = (leader(&cluster, 0, PATIENCE).await, leader(&cluster, 1, PATIENCE).await);
    switched_over(&cluster, coordinator, worker).await;
}

/// The stand-in is as good as this: what Patroni does with it is what we do.
#[tokio::test(flavor = "multi_thread")]
async fn two_groups_of_patroni_do_the_same() {
    if !is_matrix() {
        return;
    }
    let cluster = started(shortest_timings(), Program::Patroni, Program::Patroni).await;
    let (coordinator, worker) = (leader(&cluster, 0, PATIENCE).await, leader(&cluster, 1, PATIENCE).await);
    is_made_for_citus(coordinator).await;
    switched_over(&cluster, coordinator, worker).await;
}
