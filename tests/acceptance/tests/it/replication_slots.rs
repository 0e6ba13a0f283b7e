//! Replication slots outlive the leader: a consumer of a permanent logical slot goes on at the next one exactly where it was, and slots that
//! nobody is known to need are dropped.

use bellwether_acceptance::{
    Cluster, Node, Options, PATIENCE, binary, eventually, run::to_the_end, sql::Session, wait::until,
};
use serde_json::{Value, json};

fn options() -> Options {
    Options::nodes(3).with(json!({"bootstrap": {"dcs": {
        "slots": {
            "feed": {"type": "logical", "database": "postgres", "plugin": "test_decoding"},
            "archive": {"type": "physical"},
        },
        "ignore_slots": [{"name": "mine", "type": "physical"}],
        "postgresql": {"parameters": {"wal_level": "logical", "wal_receiver_status_interval": "1s"}},
    }}}))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_goes_on_at_the_next_leader_where_it_was() {
    let cluster = Cluster::start_with(options()).await;
    let first = cluster.whole().await;
    for node in &cluster.nodes {
        has(node, "archive").await;
        has(node, "feed").await;
    }
    let session = first.sql().await;
    session.client.batch_execute("CREATE TABLE news (id int PRIMARY KEY)").await.expect("a primary");
    insert(&session, 1..=20).await;
    assert_eq!(consumed(&session).await, (1..=20).collect::<Vec<i32>>());

    // What the consumer has confirmed reaches the copies, and they are known to be safe.
    let confirmed = confirmed(&session).await;
    for node in cluster.others(first) {
        reaches(node, &confirmed).await;
        until(format!("the copy on {} is safe", node.name), PATIENCE, || {
            node.log_text().contains("Logical slot feed is safe to be used after a failover")
        })
        .await;
    }
    let status = stored(first, "status");
    for slot in [first.name.as_str(), "node1", "node2", "node3", "archive", "feed"] {
        assert!(status["slots"][slot].is_u64(), "{slot}: {status}");
    }
    assert_eq!(
        status["retain_slots"],
        json!(["node1", "node2", "node3"]),
        "permanent ones need no retention"
    );
    unknown_slots_are_dropped(&cluster, first).await;

    // These it has not read when its server dies.
    insert(&session, 21..=30).await;
    let end = session.text("pg_current_wal_lsn()").await.expect("a position").expect("a primary has one");
    for node in cluster.others(first) {
        let there = format!("pg_last_wal_replay_lsn() >= '{end}'");
        holds(node, &there).await;
    }
    drop(session);
    first.kill_tree();
    let second = cluster.successor_of(first).await;
    let session = second.sql().await;
    assert_eq!(consumed(&session).await, (21..=30).collect::<Vec<i32>>(), "nothing lost, nothing twice");
    assert!(!second.log_text().contains("might be unsafe to use after promote"), "it was known to be safe");
    insert(&session, 31..=33).await;
    assert_eq!(consumed(&session).await, [31, 32, 33]);

    // The former leader has the slot as a copy now, or again.
    first.power_on();
    let second = cluster.whole().await;
    let confirmed = self::confirmed(&second.sql().await).await;
    reaches(first, &confirmed).await;
}

/// A key of the cluster as it stands in the store.
fn stored(node: &Node, key: &str) -> Value {
    let mut command = binary::bellwether(node.account);
    command.arg("-c").arg(node.configuration()).args(["dcs", "get", key]).current_dir(&node.dir);
    let ended = to_the_end(command, PATIENCE);
    serde_json::from_str(ended.text.trim()).unwrap_or_else(|error| panic!("{error}: {}", ended.text))
}

async fn insert(session: &Session, ids: std::ops::RangeInclusive<i32>) {
    for id in ids {
        session.client.execute("INSERT INTO news VALUES ($1)", &[&id]).await.expect("a primary");
    }
}

/// Reads and confirms what there is; the rows in order.
async fn consumed(session: &Session) -> Vec<i32> {
    let statement = "SELECT data FROM pg_logical_slot_get_changes('feed', NULL, NULL)";
    let rows = session.rows(statement, &[]).await.expect("the slot can be read");
    let id = |line: &str| line.strip_prefix("table public.news: INSERT: id[integer]:")?.parse().ok();
    rows.iter().filter_map(|row| id(row.get(0))).collect()
}

async fn confirmed(session: &Session) -> String {
    let query = "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 'feed'";
    session.text(query).await.expect("a slot").expect("a position")
}

async fn has(node: &Node, slot: &str) {
    holds(node, &format!("(SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{slot}') = 1")).await;
}

async fn reaches(node: &Node, confirmed: &str) {
    let there = format!(
        "coalesce((SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 'feed') >= '{confirmed}', false)"
    );
    holds(node, &there).await;
}

/// Asked anew each time: the server may be restarted meanwhile.
async fn holds(node: &Node, condition: &str) {
    eventually(format!("{}: {condition}", node.name), PATIENCE, || async {
        let session = Session::with(node).await.map_err(|error| error.to_string())?;
        match session.text(condition).await {
            Ok(Some(answer)) if answer == "true" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

async fn unknown_slots_are_dropped(cluster: &Cluster, leader: &Node) {
    let replica = cluster.others(leader)[0];
    for node in [leader, replica] {
        let make = "SELECT pg_create_physical_replication_slot(name, true) FROM unnest('{mine,strange}'::text[]) name";
        node.sql().await.rows(make, &[]).await.expect("two slots");
        holds(node, "(SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'strange') = 0").await;
        until(format!("{} tells of it", node.name), PATIENCE, || {
            node.log_text().contains("Dropped replication slot 'strange'")
        })
        .await;
        has(node, "mine").await;
        assert!(!node.log_text().contains("replication slot 'mine'"), "{}", node.name);
    }
}

/// PostgreSQL 17 and later carry failover slots to standbys by themselves: theirs are left to them, and a stale one makes way.
#[tokio::test(flavor = "multi_thread")]
async fn failover_slots_are_left_to_the_servers_that_synchronise_them() {
    if binary::postgres_major() < 17 {
        // `scripts/test-matrix` runs this with the versions that have them.
        return;
    }
    let slot =
        json!({"type": "logical", "database": "postgres", "plugin": "test_decoding", "failover": true});
    let cluster = Cluster::start_with(Options::nodes(3).with(json!({"bootstrap": {"dcs": {
        "slots": {"feed": slot},
        "postgresql": {"parameters": {
            "wal_level": "logical",
            "sync_replication_slots": "on",
            "wal_receiver_status_interval": "1s",
        }},
    }}})))
    .await;
    let first = cluster.whole().await;
    let flag = |flag: &str| {
        format!("(SELECT {flag} FROM pg_replication_slots WHERE slot_name IN ('feed', 'theirs'))")
    };
    holds(first, &flag("bool_and(failover AND NOT synced) AND count(*) = 1")).await;
    // One of somebody else is no "unknown" slot either.
    let make = "SELECT pg_create_logical_replication_slot('theirs', 'test_decoding', false, false, true)";
    first.sql().await.rows(make, &[]).await.expect("a slot");
    first
        .sql()
        .await
        .client
        .batch_execute("CREATE TABLE news (id int PRIMARY KEY)")
        .await
        .expect("a primary");
    for node in cluster.others(first) {
        are_synced(node, first).await;
        assert!(!node.log_text().contains("Copying logical slots"), "{}", node.name);
    }
    insert(&first.sql().await, 1..=10).await;
    let end = first.sql().await.text("pg_current_wal_lsn()").await.expect("a position").expect("one");
    for node in cluster.others(first) {
        holds(node, &format!("pg_last_wal_replay_lsn() >= '{end}'")).await;
    }
    first.kill_tree();
    let second = cluster.successor_of(first).await;
    assert_eq!(consumed(&second.sql().await).await, (1..=10).collect::<Vec<i32>>());
    first.power_on();
    cluster.whole().await;
    are_synced(first, second).await;

    // And after a planned change.
    let body = json!({"leader": second.name, "candidate": first.name});
    assert_eq!(second.api.post("/switchover", body).await.status, 200);
    are_synced(second, first).await;
}

/// Both slots of the primary are on the standby, and last. A server keeps a slot only once its consumer has come past where the standby
/// began, so the consumers go on meanwhile.
async fn are_synced(standby: &Node, primary: &Node) {
    let condition = "(SELECT count(*) FILTER (WHERE failover AND synced AND NOT temporary) = 2
        FROM pg_replication_slots WHERE slot_name IN ('feed', 'theirs'))";
    let go_on = "SELECT pg_replication_slot_advance(slot_name, pg_current_wal_flush_lsn())
        FROM pg_replication_slots WHERE slot_name IN ('feed', 'theirs')";
    eventually(format!("{} has both slots of {}", standby.name, primary.name), PATIENCE, || async {
        let consumer = Session::with(primary).await.map_err(|error| error.to_string())?;
        consumer.text("pg_log_standby_snapshot()").await.map_err(|error| error.to_string())?;
        consumer.rows(go_on, &[]).await.map_err(|error| error.to_string())?;
        let session = Session::with(standby).await.map_err(|error| error.to_string())?;
        match session.text(condition).await {
            Ok(Some(answer)) if answer == "true" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}
