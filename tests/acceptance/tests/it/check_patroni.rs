//! `check_patroni`, the monitoring plugin that Patroni's users have, comes to the right verdicts on our REST interface: on a cluster
//! that is well, behind, about to be changed, paused, and without a leader.

use bellwether_acceptance::{
    Cluster, Node, PATIENCE, eventually,
    patroni::{self, check_patroni},
    processes,
};
use rustix::process::Signal;
use serde_json::json;

const OK: i32 = 0;
const WARNING: i32 = 1;
const CRITICAL: i32 = 2;
const UNKNOWN: i32 = 3;

/// Waits until each of these checks comes to its verdict.
async fn verdicts(what: &str, checks: &[(&Node, &[&str], i32)]) {
    for (node, arguments, verdict) in checks {
        eventually(
            format!("{what}: {arguments:?} at {} ends with {verdict}", node.name),
            PATIENCE,
            || async {
                let ended = check_patroni(node, arguments);
                if ended.code() == Some(*verdict) {
                    Ok(())
                } else {
                    Err(format!("{:?}: {}", ended.code(), ended.text))
                }
            },
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_patroni_sees_what_is_the_matter() {
    let cluster = Cluster::start(2).await;
    let leader = cluster.whole().await;
    let replica = cluster.others(leader)[0];
    let (has_leader, in_maintenance): (&[&str], &[&str]) =
        (&["cluster_has_leader"], &["cluster_is_in_maintenance"]);
    let has_replica: &[&str] = &["cluster_has_replica", "--max-lag", "1MB", "-w", "1:", "-c", "1:"];
    let has_little_lag: &[&str] = &["node_is_replica", "--max-lag", "1MB"];
    let scheduled: &[&str] = &["cluster_has_scheduled_action"];
    let pending_restart: &[&str] = &["node_is_pending_restart"];
    let same_timeline: &[&str] = &["node_tl_has_changed", "--timeline", "1"];
    let version = leader.api.status().await["patroni"]["version"].as_str().expect("a version").to_owned();
    assert!(version.starts_with(patroni::COMPATIBLE), "{version}");
    let node_version: &[&str] = &["node_patroni_version", "--patroni-version", &version];
    verdicts(
        "well",
        &[
            (leader, has_leader, OK),
            (replica, &["cluster_node_count", "-w", "2:", "-c", "1:", "--healthy-warning", "2:"], OK),
            (replica, &["cluster_node_count", "-w", "3:", "-c", "1:"], WARNING),
            (replica, has_replica, OK),
            (replica, &["cluster_has_replica", "-w", "2:", "-c", "1:"], WARNING),
            (replica, &["cluster_has_replica", "-w", "3:", "-c", "2:"], CRITICAL),
            (replica, in_maintenance, OK),
            (leader, scheduled, OK),
            (leader, &["node_is_primary"], OK),
            (replica, &["node_is_primary"], CRITICAL),
            (leader, &["node_is_leader"], OK),
            (replica, &["node_is_leader"], CRITICAL),
            (replica, has_little_lag, OK),
            (leader, has_little_lag, CRITICAL),
            (replica, &["node_is_replica", "--is-sync", "--sync-type", "quorum"], OK),
            (replica, pending_restart, OK),
            (leader, same_timeline, OK),
            (leader, node_version, OK),
            (replica, &["node_is_alive"], OK),
        ],
    )
    .await;

    // Behind (it has received everything, so `cluster_has_replica` does not see that, as with Patroni), about to be switched over and in need of a restart.
    // (A pause of the replay would be ended by the agent.)
    let startup = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'startup'";
    let startup: i32 = replica.sql().await.rows(startup, &[]).await.expect("its processes")[0].get(0);
    assert!(processes::send(startup, Signal::STOP));
    let fill = "CREATE TABLE filler AS SELECT repeat('x', 500) FROM generate_series(1, 8000)";
    leader.sql().await.client.batch_execute(fill).await.expect("rows");
    let tomorrow = "2099-01-01T00:00:00+00:00";
    let reply =
        leader.api.post("/switchover", json!({"leader": leader.name, "scheduled_at": tomorrow})).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    let changed: &[&str] = &["cluster_config_has_changed", "--hash", "0"];
    let parameters = json!({"postgresql": {"parameters": {"max_connections": 90}}});
    assert_eq!(leader.api.patch("/config", parameters).await.status, 200);
    verdicts(
        "behind",
        &[
            (replica, has_little_lag, CRITICAL),
            (replica, scheduled, CRITICAL),
            (leader, pending_restart, CRITICAL),
            (leader, changed, CRITICAL),
        ],
    )
    .await;
    assert!(processes::send(startup, Signal::CONT));
    assert_eq!(leader.api.delete("/switchover").await.status, 200);

    let reply = leader.api.post("/switchover", json!({"leader": leader.name})).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let (old, new) = (leader, replica);
    assert_eq!(cluster.whole().await.name, new.name);
    verdicts(
        "another leader",
        &[
            (old, has_replica, OK),
            (new, &["node_is_primary"], OK),
            (new, same_timeline, CRITICAL),
            (old, scheduled, OK),
        ],
    )
    .await;

    // Paused, and then without a leader: nobody starts or promotes anything.
    assert_eq!(new.api.patch("/config", json!({"pause": true})).await.status, 200);
    verdicts("paused", &[(old, in_maintenance, CRITICAL), (old, has_leader, OK)]).await;
    new.kill_postmaster();
    verdicts(
        "without a leader",
        &[(old, has_leader, CRITICAL), (new, &["node_is_primary"], CRITICAL), (new, &["node_is_alive"], OK)],
    )
    .await;
    old.stop().await;
    verdicts("not there", &[(old, &["node_is_alive"], UNKNOWN), (old, has_leader, UNKNOWN)]).await;
}
