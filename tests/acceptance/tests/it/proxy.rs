//! The proxy of every node leads writers to the primary and readers to the replicas, through a switchover and the loss of the
//! leader's host, and tells a client whose session ends why.

use std::{collections::BTreeSet, time::Duration};

use bellwether_acceptance::{
    Cluster, Node, Options, PATIENCE, eventually,
    patroni::Program,
    sql::{PASSWORD, SUPERUSER, Session},
    wait::until,
};
use serde_json::json;
use tokio_postgres::{NoTls, error::SqlState};

/// The PostgreSQL behind a port, by its own port, and whether it takes no writes.
async fn behind(port: u16) -> Result<(u16, bool), String> {
    let ask = async {
        let session = Session::at(port).await?;
        session.rows("SELECT inet_server_port(), pg_is_in_recovery()", &[]).await
    };
    let rows = ask.await.map_err(|error| error.to_string())?;
    let server: i32 = rows[0].get(0);
    Ok((u16::try_from(server).expect("a port"), rows[0].get(1)))
}

/// The proxies of the members that run, and the one on a host of its own, lead to the right one.
async fn each_leads_to(cluster: &Cluster, running: &[&Node], alone: &Node, primary: &Node) {
    let replicas: BTreeSet<(u16, bool)> = running
        .iter()
        .filter(|node| node.name != primary.name)
        .map(|node| (node.postgres_port, true))
        .collect();
    for node in running.iter().copied().chain([alone]) {
        eventually(format!("the proxy of {} leads to {}", node.name, primary.name), PATIENCE, || async {
            let found = behind(node.router.primary).await?;
            if found != (primary.postgres_port, false) {
                return Err(format!("writers reach {found:?}"));
            }
            let mut readers = BTreeSet::new();
            for _ in 0..4 {
                readers.insert(behind(node.router.replicas).await?);
            }
            if readers == replicas { Ok(()) } else { Err(format!("readers reach {readers:?}")) }
        })
        .await;
    }
    let leads = cluster.primary().await.expect("one primary");
    assert_eq!(leads.name, primary.name, "and nothing has changed meanwhile");
}

/// A query that was sent through a listener with several servers behind it is found and cancelled.
async fn cancels_through(port: u16) {
    for _ in 0..2 {
        let session = Session::at(port).await.expect("a session");
        let token = session.client.cancel_token();
        let sleep = session.rows("SELECT pg_sleep(60)", &[]);
        let cancel = async {
            eventually("the query runs", PATIENCE, || async {
                let probe = Session::at(port).await.map_err(|error| error.to_string())?;
                let running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'";
                let other = Session::at(port).await.map_err(|error| error.to_string())?;
                let mut count = 0_i64;
                for session in [probe, other] {
                    let rows = session.rows(running, &[]).await.map_err(|error| error.to_string())?;
                    count += rows[0].get::<_, i64>(0);
                }
                if count > 0 { Ok(()) } else { Err("nothing runs".to_owned()) }
            })
            .await;
            token.cancel_query(NoTls).await.expect("the request is taken");
        };
        let (slept, ()) = tokio::time::timeout(PATIENCE, async { tokio::join!(sleep, cancel) })
            .await
            .expect("it does not sleep to the end");
        let error = slept.expect_err("it was cancelled");
        assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED), "{error}");
    }
}

/// A proxy on a host without a member, as applications have one. It knows a password from a file, and no superuser's.
fn alone(cluster: &mut Cluster) -> Node {
    let [primary, replicas, pooled] = [(); 3].map(|()| cluster.free_port());
    let file = cluster.dir().join("userlist.txt");
    let patch = json!({
        "router": {
            "bind": "127.0.0.1",
            "stats": {"enabled": false},
            "listeners": {
                "primary": {"port": primary},
                "replicas": {"port": replicas},
                "sync": {"enabled": false},
                "async": {"enabled": false},
            },
        },
        "pooler": {"listen_addr": "127.0.0.1", "listen_port": pooled, "auth_file": file, "admin_users": SUPERUSER},
    });
    let mut node = cluster.guest("application", patch);
    node.account.write(&file, &format!("\"{SUPERUSER}\" \"{PASSWORD}\"\n"));
    (node.router.primary, node.router.replicas, node.router.pooled) = (primary, replicas, pooled);
    node.start_as(Program::Proxy);
    node
}

/// The console of a proxy's pools.
async fn console(port: u16) -> Session {
    let mut config = bellwether_acceptance::sql::server("127.0.0.1", port);
    config.dbname("pgbouncer");
    Session::open(&config).await.expect("the console")
}

/// The proxy without an agent asks the leader's to take a member out for all proxies, and a member's own brings it back.
async fn taken_out_on_the_console(cluster: &Cluster, alone: &Node, leader: &Node) {
    let [out, stays] = cluster.others(leader)[..] else { panic!("three members") };
    let from_afar = console(alone.router.pooled).await;
    let error = from_afar.client.batch_execute("DRAIN nobody").await.expect_err("there is no such member");
    let told = error.as_db_error().expect("it is told").message().to_owned();
    assert!(told.contains("nobody"), "{told}");

    let said = format!("DRAIN \"{}\"", out.name);
    from_afar.client.batch_execute(&said).await.expect("it is done");
    for proxy in [leader, out, stays, alone] {
        eventually(
            format!("the proxy of {} leads to {} alone", proxy.name, stays.name),
            PATIENCE,
            || async {
                let mut readers = BTreeSet::new();
                for _ in 0..4 {
                    readers.insert(behind(proxy.router.replicas).await?);
                }
                let wanted = BTreeSet::from([(stays.postgres_port, true)]);
                if readers == wanted { Ok(()) } else { Err(format!("readers reach {readers:?}")) }
            },
        )
        .await;
    }
    let said = format!("READY \"{}\"", out.name);
    console(stays.router.pooled).await.client.batch_execute(&said).await.expect("it is done");
}

/// On the console, what cannot be used is told to who asks, and what can is in force.
async fn changes_by_reload(alone: &Node) {
    let console = console(alone.router.pooled).await;
    let with = |size: serde_json::Value| {
        let mut document = alone.document.clone();
        document["pooler"]["default_pool_size"] = size;
        document
    };
    alone.rewrite(&with(json!("many")));
    let error = console.client.batch_execute("RELOAD").await.expect_err("it cannot be used");
    assert!(error.to_string().contains("db error"), "{error}");
    let told = error.as_db_error().expect("it is told").message().to_owned();
    assert!(told.contains("pooler.default_pool_size"), "{told}");
    alone.rewrite(&with(json!(7)));
    console.client.batch_execute("RELOAD").await.expect("it is read");
    eventually("the new size is in force", PATIENCE, || async {
        let rows = console.client.simple_query("SHOW CONFIG").await.map_err(|error| error.to_string())?;
        let is_seven = |message: &tokio_postgres::SimpleQueryMessage| {
            matches!(message, tokio_postgres::SimpleQueryMessage::Row(row)
                if row.get(0) == Some("default_pool_size") && row.get(1) == Some("7"))
        };
        if rows.iter().any(is_seven) { Ok(()) } else { Err("it is as before".to_owned()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_of_each_node_follows_the_leader() {
    let mut cluster = Cluster::start_with(Options::nodes(3).with_routers()).await;
    let alone = alone(&mut cluster);
    let first = cluster.whole().await;
    let all: Vec<&Node> = cluster.nodes.iter().collect();
    each_leads_to(&cluster, &all, &alone, first).await;
    taken_out_on_the_console(&cluster, &alone, first).await;
    each_leads_to(&cluster, &all, &alone, first).await;
    let pooled = Session::at(alone.router.pooled).await.expect("a session of a pool");
    cancels_through(first.router.replicas).await;

    // A session that was with the old primary is ended, and not left with a server that takes no writes.
    let session = Session::at(cluster.others(first)[0].router.primary).await.expect("a session");
    let reply = first.api.post("/switchover", json!({"leader": first.name})).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    until("the old session is closed", PATIENCE, || session.client.is_closed()).await;
    let second = cluster.whole().await;
    assert_ne!(second.name, first.name);
    each_leads_to(&cluster, &all, &alone, second).await;
    let reached = pooled.text("inet_server_port()").await.expect("it goes on").expect("a port");
    assert_eq!(reached, second.postgres_port.to_string(), "at the new primary, without an error");

    // Whoever comes while nobody leads waits for the successor, and is not refused.
    second.kill_tree();
    let survivor = cluster.others(second)[0];
    let waits = async {
        let mut config = bellwether_acceptance::sql::server("127.0.0.1", survivor.router.primary);
        config.connect_timeout(Duration::from_secs(20));
        eventually("the proxy no longer leads to the lost host", PATIENCE, || async {
            let session = Session::open(&config).await.map_err(|error| error.to_string())?;
            session.text("inet_server_port()").await.map_err(|error| error.to_string())
        })
        .await
    };
    let reached = waits.await.expect("a port");
    let third = cluster.successor_of(second).await;
    assert_eq!(reached, third.postgres_port.to_string());
    let left: Vec<&Node> = all.iter().copied().filter(|node| node.name != second.name).collect();
    each_leads_to(&cluster, &left, &alone, third).await;
    changes_by_reload(&alone).await;
    assert!(alone.stop().await.success(), "it ends in order");
}
