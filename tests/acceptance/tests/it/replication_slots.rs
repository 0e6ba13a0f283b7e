//! Replication slots outlive the leader: a consumer of a permanent logical slot goes on at the next one exactly where it was, and slots that
//! nobody is known to need are dropped.

use bellwether_acceptance::{
    Cluster, Node, Options, PATIENCE, Store, binary, eventually, on_stores, sql::Session, wait::until,
};
use serde_json::json;

fn options() -> Options {
    Options::nodes(3).with(json!({"bootstrap": {"dcs": {
        "slots": {
            "feed": {"type": "logical", "database": "postgres", "plugin": "test_decoding"},
            "archive": {"type": "physical"},
        },
        "ignore_slots": [
            {"name": "mine", "type": "physical"},
            {"name": "theirs", "type": "logical", "database": "postgres", "plugin": "test_decoding"},
            {"name": "theirs_too", "plugin": "pgoutput"},
        ],
        "postgresql": {"parameters": {"wal_level": "logical", "wal_receiver_status_interval": "1s"}},
    }}}))
}

on_stores!(a_consumer_goes_on_at_the_next_leader_where_it_was: embedded, etcd);

async fn a_consumer_goes_on_at_the_next_leader_where_it_was(store: Store) {
    let cluster = Cluster::start_with(options().on(store).in_quorum_mode()).await;
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
    let all = ["node1", "node2", "node3", "archive", "feed"];
    let status = cluster
        .stored("status", "has every slot", |status| all.iter().all(|slot| status["slots"][*slot].is_u64()))
        .await;
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
        node.comes_to(&there).await;
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
    node.comes_to(&format!("(SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{slot}') = 1"))
        .await;
}

async fn reaches(node: &Node, confirmed: &str) {
    let there = format!(
        "coalesce((SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 'feed') >= '{confirmed}', false)"
    );
    node.comes_to(&there).await;
}

async fn unknown_slots_are_dropped(cluster: &Cluster, leader: &Node) {
    // Everything that a rule names must fit.
    let make = "SELECT pg_create_logical_replication_slot(name, 'test_decoding') \
                FROM unnest('{theirs,theirs_too}'::text[]) name";
    leader.sql().await.rows(make, &[]).await.expect("two slots");
    until("the one with another plugin is dropped", PATIENCE, || {
        leader.log_text().contains("Dropped replication slot 'theirs_too'")
    })
    .await;
    has(leader, "theirs").await;
    let replica = cluster.others(leader)[0];
    for node in [leader, replica] {
        let make = "SELECT pg_create_physical_replication_slot(name, true) FROM unnest('{mine,strange}'::text[]) name";
        node.sql().await.rows(make, &[]).await.expect("two slots");
        node.comes_to("(SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'strange') = 0").await;
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
    first.comes_to(&flag("bool_and(failover AND NOT synced) AND count(*) = 1")).await;
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
        node.comes_to(&format!("pg_last_wal_replay_lsn() >= '{end}'")).await;
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
