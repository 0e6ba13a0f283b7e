//! Clients of a pool live through a planned change of the leader without any error, and through the loss of its host with the loss of
//! what was in flight; their sessions stay as they were.

use std::{path::Path, process::Stdio, time::Duration};

use bellwether_acceptance::{
    Cluster, Node, Options, PATIENCE, binary, eventually,
    sql::{PASSWORD, SUPERUSER, Session},
};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_postgres::{NoTls, error::SqlState};

const CLIENTS: u32 = 200;
const ROWS: u32 = 1000;
/// On an idle machine it is a fraction of a second.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What pgbench did.
#[derive(Debug)]
struct Load {
    transactions: i64,
    slowest: Duration,
}

/// Transactions of several statements by many clients, for so many seconds.
async fn load(port: u16, dir: &Path, seconds: u32) -> Load {
    let script = dir.join("count.sql");
    let text = format!(
        "\\set id random(1, {ROWS})\nBEGIN;\nUPDATE counters SET n = n + 1 WHERE id = :id;\n\
         SELECT n FROM counters WHERE id = :id;\nEND;\n"
    );
    std::fs::write(&script, text).expect("a script");
    let logs = dir.join("pgbench");
    std::fs::create_dir_all(&logs).expect("a folder");
    let output = tokio::process::Command::new(binary::postgres_bin_dir().join("pgbench"))
        .args(["-n", "-h", "127.0.0.1", "-U", SUPERUSER, "-j", "2", "-l"])
        .args(["-p", &port.to_string(), "-c", &CLIENTS.to_string(), "-T", &seconds.to_string()])
        .arg("-f")
        .arg(&script)
        .arg("--log-prefix")
        .arg(logs.join("log"))
        .arg("postgres")
        .env("PGPASSWORD", PASSWORD)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .expect("pgbench can be run");
    let (told, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "a client was sent away:\n{told}\n{errors}");
    let processed = told.lines().find(|line| line.contains("actually processed")).expect("a count");
    let transactions =
        processed.split(": ").nth(1).and_then(|count| count.trim().parse().ok()).expect("a number");
    let mut slowest = 0;
    for entry in std::fs::read_dir(&logs).expect("logs") {
        let log = std::fs::read_to_string(entry.expect("a log").path()).expect("a log");
        let latencies = log.lines().filter_map(|line| line.split(' ').nth(2)?.parse::<u64>().ok());
        slowest = latencies.fold(slowest, u64::max);
    }
    Load { transactions, slowest: Duration::from_micros(slowest) }
}

async fn counted(node: &Node) -> i64 {
    let sum = node.sql().await.text("SELECT sum(n) FROM counters").await.expect("a sum").expect("a number");
    sum.parse().expect("a number")
}

/// A client of a pool that has set something, prepared something, and does nothing.
async fn settled_session(port: u16) -> Session {
    let session = Session::at(port).await.expect("a session");
    session.client.batch_execute("SET work_mem = '77MB'").await.expect("it can be set");
    assert_eq!(
        session.text("current_setting('work_mem')").await.expect("a setting").as_deref(),
        Some("77MB")
    );
    session
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_pools_live_through_a_change_of_the_leader() {
    let cluster = Cluster::start_with(Options::nodes(3).with_routers()).await;
    let first = cluster.whole().await;
    let setup = format!("CREATE TABLE counters AS SELECT id, 0 AS n FROM generate_series(1, {ROWS}) id");
    first.sql().await.client.batch_execute(&setup).await.expect("a table");
    let beside = cluster.others(first)[0];
    let idle = settled_session(beside.router.pooled).await;

    // Planned, in the middle of the load.
    let dir = cluster.dir();
    let switching = async {
        eventually("the load has begun", PATIENCE, || async {
            if counted(first).await > 100 { Ok(()) } else { Err("nothing is counted") }
        })
        .await;
        first.api.post("/switchover", json!({"leader": first.name})).await
    };
    let (load, reply) = tokio::join!(load(beside.router.pooled, &dir, 8), switching);
    assert_eq!(reply.status, 200, "{reply:?}");
    let second = cluster.whole().await;
    assert_ne!(second.name, first.name);
    assert_eq!(counted(second).await, load.transactions, "each was done once");
    assert!(load.slowest < LONGEST_PAUSE, "{load:?}");
    let kept = idle.text("current_setting('work_mem')").await.expect("the session goes on");
    assert_eq!(kept.as_deref(), Some("77MB"));
    let reached = idle.text("inet_server_port()").await.expect("a server").expect("a port");
    assert_eq!(reached, second.postgres_port.to_string(), "at the new primary");

    // A request to cancel finds the server that works for the client, though a load balancer has led it to another node.
    let elsewhere = cluster.others(beside)[0].router.pooled;
    let token = idle.client.cancel_token();
    let sleep = idle.rows("SELECT pg_sleep(60)", &[]);
    let cancel = async {
        let watcher = second.sql().await;
        eventually("the query runs", PATIENCE, || async {
            let running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'";
            match watcher.text(running).await {
                Ok(Some(count)) if count != "0" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        let astray = TcpStream::connect(("127.0.0.1", elsewhere)).await.expect("a connection");
        token.cancel_query_raw(astray, NoTls).await.expect("the request is taken");
    };
    assert_ne!(elsewhere, beside.router.pooled);
    let (slept, ()) =
        tokio::time::timeout(PATIENCE, async { tokio::join!(sleep, cancel) }).await.expect("it ends");
    assert_eq!(slept.expect_err("it was cancelled").code(), Some(&SqlState::QUERY_CANCELED));

    // The host is lost with a transaction in flight.
    let survivor = cluster.others(second)[0];
    let waiting = settled_session(survivor.router.pooled).await;
    let busy = Session::at(survivor.router.pooled).await.expect("a session");
    busy.client.batch_execute("BEGIN; UPDATE counters SET n = n WHERE id = 1").await.expect("a transaction");
    second.kill_tree();
    let third = cluster.successor_of(second).await;
    let error = busy.client.batch_execute("COMMIT").await.expect_err("the transaction is lost");
    let code = error.code().map(|code| code.code().to_owned());
    assert!(error.is_closed() || matches!(code.as_deref(), Some("08006" | "57P01")), "{error}: {code:?}");
    let reached = waiting.text("inet_server_port()").await.expect("an idle session goes on").expect("a port");
    assert_eq!(reached, third.postgres_port.to_string());
    let kept = waiting.text("current_setting('work_mem')").await.expect("a setting");
    assert_eq!(kept.as_deref(), Some("77MB"), "with what it had set");
}
