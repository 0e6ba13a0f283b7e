//! Synchronous replication: who counts is what the leader waits for, what the store says, and what the checks answer; and only such a member
//! takes over.

use std::time::Duration;

use bellwether_acceptance::{Cluster, Node, Options, PATIENCE, Store, eventually, on_stores};
use serde_json::{Value, json};
use tokio::time::timeout;

/// For a commit that nobody acknowledges.
const WAITS_FOR: Duration = Duration::from_secs(1);

on_stores!(commits_wait_for_whom_the_store_names: etcd, zookeeper);

async fn commits_wait_for_whom_the_store_names(store: Store) {
    let mut cluster = Cluster::start_with(
        Options::nodes(3).on(store).with(json!({"bootstrap": {"dcs": {"synchronous_mode": true}}})),
    )
    .await;
    let leader = position(&cluster, cluster.whole().await);

    // One of the two counts, and everybody says so.
    let sync = voters(&cluster, leader, 1).await;
    let (first, second) = (position(&cluster, cluster.node(&sync[0])), other(&cluster, leader, &sync[0]));
    cluster.nodes[leader].sets("synchronous_standby_names", &sync[0]).await;
    for (node, path, status) in [
        (first, "/sync", 200),
        (first, "/synchronous", 200),
        (first, "/async", 503),
        (first, "/quorum", 503),
        (first, "/read-only-sync", 200),
        (second, "/sync", 503),
        (second, "/async", 200),
        (second, "/asynchronous", 200),
        (second, "/read-only-sync", 503),
        (second, "/replica", 200),
        (leader, "/sync", 503),
        (leader, "/async", 503),
        (leader, "/read-only-sync", 200),
    ] {
        cluster.nodes[node].answers(path, status).await;
    }
    has_role(&cluster, first, "sync_standby").await;
    has_role(&cluster, second, "replica").await;
    let body = json!({"leader": cluster.nodes[leader].name.as_str(), "candidate": cluster.nodes[second].name.as_str()});
    let reply = cluster.nodes[leader].api.post("/switchover", body).await;
    assert_eq!(
        (reply.status, reply.text.as_str()),
        (412, "candidate name does not match with sync_standby"),
        "an asynchronous one is no candidate"
    );

    // By its tags a member leaves, and comes first.
    cluster.nodes[first].retag(json!({"nosync": true}));
    until_voter(&cluster, leader, second).await;
    cluster.nodes[first].retag(json!({"sync_priority": 2}));
    until_voter(&cluster, leader, first).await;

    // Both of them, which a loss shrinks to one; strict: the last one is never given up.
    cluster.configure(json!({"synchronous_node_count": 2})).await;
    voters(&cluster, leader, 2).await;
    cluster.nodes[leader].sets("synchronous_standby_names", &both(&cluster, leader, "2 (", ")")).await;
    cluster.nodes[second].kill_tree();
    until_voter(&cluster, leader, first).await;
    cluster.configure(json!({"synchronous_mode_strict": true})).await;
    cluster.nodes[first].kill_tree();
    cluster.nodes[leader]
        .tells(
            "No active replication connections from Patroni members and synchronous_mode_strict is requested",
        )
        .await;
    let session = cluster.nodes[leader].sql().await;
    let commit = session.client.batch_execute("CREATE TABLE waits ()");
    tokio::pin!(commit);
    timeout(WAITS_FOR, &mut commit).await.expect_err("nobody is left to wait for");
    cluster.nodes[first].power_on();
    cluster.nodes[second].power_on();
    timeout(PATIENCE, commit).await.expect("it goes on").expect("it was never in doubt");
    voters(&cluster, leader, 2).await;

    // Quorum mode: any one of two.
    let quorum =
        json!({"synchronous_mode": "quorum", "synchronous_mode_strict": null, "synchronous_node_count": 1});
    cluster.configure(quorum).await;
    cluster.nodes[leader].sets("synchronous_standby_names", &both(&cluster, leader, "ANY 1 (", ")")).await;
    cluster.stored("sync", "one vote is needed", |sync| sync["quorum"] == 1).await;
    for node in [first, second] {
        cluster.nodes[node].answers("/quorum", 200).await;
        cluster.nodes[node].answers("/read-only-quorum", 200).await;
        cluster.nodes[node].answers("/sync", 503).await;
        has_role(&cluster, node, "quorum_standby").await;
    }
    cluster.nodes[second].kill_tree();
    cluster.nodes[leader]
        .sets("synchronous_standby_names", &format!("ANY 1 ({})", cluster.nodes[first].name))
        .await;
    let sync = cluster.stored("sync", "none is needed", |sync| sync["quorum"] == 0).await;
    assert_eq!(sync["sync_standby"], cluster.nodes[first].name.as_str(), "{sync}");
    cluster.nodes[second].power_on();
    voters(&cluster, leader, 2).await;

    // A host is lost: any of the two may lead, and has everything.
    let writer = cluster.writer();
    writer.writes(30).await;
    cluster.nodes[leader].kill_tree();
    let heir = position(&cluster, cluster.successor_of(&cluster.nodes[leader]).await);
    writer.writes(30).await;
    cluster.nodes[leader].power_on();
    voters(&cluster, heir, 2).await;
    cluster.holds(&writer.stop().await).await;

    // Switched off: nobody is waited for, and nothing is left in the store.
    cluster.configure(json!({"synchronous_mode": null})).await;
    cluster
        .stored("sync", "is empty", |sync| sync.is_null() || sync["leader"].is_null() || *sync == json!({}))
        .await;
    cluster.nodes[heir].sets("synchronous_standby_names", "").await;
    has_role(&cluster, leader, "replica").await;
}

fn position(cluster: &Cluster, node: &Node) -> usize {
    cluster.nodes.iter().position(|found| found.name == node.name).expect("it is one of them")
}

/// The third one.
fn other(cluster: &Cluster, leader: usize, sync: &str) -> usize {
    (0..cluster.nodes.len()).find(|at| *at != leader && cluster.nodes[*at].name != sync).expect("three nodes")
}

/// Both replicas between two words.
fn both(cluster: &Cluster, leader: usize, before: &str, after: &str) -> String {
    let names: Vec<&str> =
        cluster.others(&cluster.nodes[leader]).iter().map(|node| node.name.as_str()).collect();
    format!("{before}{}{after}", names.join(","))
}

/// Waits until `/sync` names this leader and so many members.
async fn voters(cluster: &Cluster, leader: usize, count: usize) -> Vec<String> {
    let names = |sync: &Value| -> Vec<String> {
        let names = sync["sync_standby"].as_str().unwrap_or_default();
        names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
    };
    let leader = cluster.nodes[leader].name.as_str();
    let what = format!("names {leader} and {count} more");
    let sync =
        cluster.stored("sync", &what, |sync| sync["leader"] == leader && names(sync).len() == count).await;
    names(&sync)
}

async fn until_voter(cluster: &Cluster, leader: usize, node: usize) {
    let (leader, name) = (cluster.nodes[leader].name.as_str(), cluster.nodes[node].name.as_str());
    cluster
        .stored("sync", "names the preferred one", |sync| {
            sync["leader"] == leader && sync["sync_standby"] == name
        })
        .await;
}

async fn has_role(cluster: &Cluster, node: usize, role: &str) {
    let name = cluster.nodes[node].name.as_str();
    eventually(format!("/cluster calls {name} a {role}"), PATIENCE, || async {
        let document = cluster.nodes[node].api.get("/cluster").await?.json();
        let members = document["members"].as_array().cloned().unwrap_or_default();
        let is = members.iter().any(|member| member["name"] == name && member["role"] == role);
        if is { Ok(()) } else { Err(document) }
    })
    .await;
}
