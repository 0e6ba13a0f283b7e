//! Three members on Consul, of which two are Patronis and one is ours, and then the other way round. Whoever calls the REST API of
//! another one shows a certificate. Replicas feed each other across the two, and each kind keeps the other as leader when the store is gone.

use bellwether_acceptance::{
    Cluster, Node, Options, Store,
    account::Account,
    cluster::SCOPE,
    patroni::{Program, steer},
    pki::Pki,
    rest::Api,
    writer::Writer,
};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn two_patronis_and_ours_share_a_cluster_and_the_reverse() {
    let pki = Pki::new(Account::of_nodes());
    let options = Options::nodes(3).on(Store::Consul).in_quorum_mode();
    // Registering services is not what this is about.
    let options = options.with(pki.mutual()).with(json!({"consul": {"register_service": false}}));
    let mut cluster = Cluster::prepare(&options).await;
    for node in &mut cluster.nodes {
        node.api = Api::secured(node.api_port, pki.client());
    }
    let cascades = &mut cluster.nodes[2];
    cascades.document["tags"] = json!({"replicatefrom": "node2"});
    cascades.rewrite(&cascades.document);

    // Two of theirs, and ours behind one of them.
    cluster.nodes[0].start_as(Program::Patroni);
    cluster.nodes[0].leads().await;
    cluster.nodes[1].start_as(Program::Patroni);
    cluster.nodes[1].becomes("streams", is_streaming).await;
    cluster.nodes[2].start_as(Program::Bellwether);
    cluster.whole().await;
    let [first, second, third] = &cluster.nodes[..] else { panic!("three nodes") };
    let bare = pki.stranger().get(format!("https://127.0.0.1:{}/primary", third.api_port)).send().await;
    bare.expect_err("without a certificate nobody is heard");
    feeds(first, "node2").await;
    feeds(second, "node3").await;
    first.sets("synchronous_standby_names", "ANY 1 (node2)").await;
    let writer = cluster.writer();
    writer.writes(30).await;
    kept_by_failsafe(&cluster, first, &writer).await;

    // From theirs to theirs: ours is fed by the new leader now, and counts.
    let switchover = ["switchover", SCOPE, "--leader", "node1", "--candidate", "node2", "--force"];
    steer(third, &switchover);
    second.leads().await;
    feeds(second, "node1,node3").await;
    second.sets("synchronous_standby_names", "ANY 1 (node1,node3)").await;
    writer.writes(30).await;

    // One of theirs and two of ours, and theirs behind one of ours.
    cluster.nodes[0].hand_to(Program::AsPatroni).await;
    cluster.whole().await;
    cluster.nodes[2].retag(json!({}));
    cluster.nodes[1].retag(json!({"replicatefrom": "node1"}));
    let [first, second, third] = &cluster.nodes[..] else { panic!("three nodes") };
    second.sets("synchronous_standby_names", "ANY 1 (node1,node3)").await;
    cluster.stored("sync", "names both of ours", |sync| sync["sync_standby"] == "node1,node3").await;
    let reply = second.api.post("/switchover", json!({"leader": "node2", "candidate": "node3"})).await;
    assert_eq!((reply.status, reply.text.as_str()), (200, "Successfully switched over to \"node3\""));
    third.leads().await;
    feeds(third, "node1").await;
    feeds(first, "node2").await;
    third.sets("synchronous_standby_names", "ANY 1 (node1)").await;
    cluster
        .stored("sync", "names the one that counts", |sync| {
            sync["leader"] == "node3" && sync["sync_standby"] == "node1"
        })
        .await;
    writer.writes(30).await;
    kept_by_failsafe(&cluster, third, &writer).await;

    // The host of our leader is lost.
    third.kill_tree();
    cluster.consul().end_session_of(&format!("service/{SCOPE}/leader")).await;
    first.leads().await;
    feeds(first, "node2").await;
    writer.writes(30).await;
    third.power_on();
    assert_eq!(cluster.whole().await.name, "node1");
    let history = cluster.stored("history", "has every switch", |history| {
        history.as_array().is_some_and(|all| all.len() == 3)
    });
    let history = history.await;
    for (node, entry) in ["node2", "node3", "node1"].iter().zip(history.as_array().expect("a list")) {
        assert_eq!(entry[4], *node, "{history}");
    }
    cluster.holds(&writer.stop().await).await;
}

fn is_streaming(status: &Value) -> bool {
    status["replication_state"] == "streaming"
}

/// Who streams from this node.
async fn feeds(node: &Node, names: &str) {
    let found = "SELECT string_agg(application_name, ',' ORDER BY application_name) FROM pg_stat_replication";
    node.comes_to(&format!("({found}) = '{names}'")).await;
}

/// Without the store the leader goes on, because both others let it.
async fn kept_by_failsafe(cluster: &Cluster, leader: &Node, writer: &Writer) {
    let timeline = leader.api.status().await["timeline"].clone();
    cluster
        .stored("failsafe", "names all three", |map| map.as_object().is_some_and(|map| map.len() == 3))
        .await;
    cluster.silence_store();
    for node in &cluster.nodes {
        node.becomes("says that failsafe is active", |status| status["failsafe_mode_is_active"] == true)
            .await;
    }
    writer.writes(20).await;
    cluster.wake_store();
    assert_eq!(cluster.whole().await.name, leader.name);
    assert_eq!(leader.api.status().await["timeline"], timeline, "nobody was promoted");
}
