//! A cluster goes from Patroni to Bellwether and back, node by node, on the same data directories and with the same files. Its clients
//! notice the planned switchover and nothing else.

use bellwether_acceptance::{
    Cluster, Node, Options, PATIENCE, binary, eventually,
    patroni::{self, Program, steer},
    run::to_the_end,
};
use serde_json::{Value, json};

/// What `bellwether adopt` says of this node.
fn looked_at(node: &Node) -> Value {
    let mut command = binary::bellwether(node.account);
    command.arg("adopt").arg(node.configuration()).args(["-f", "json"]).current_dir(&node.dir);
    let ended = to_the_end(command, PATIENCE);
    assert!(ended.status.success(), "{}", ended.text);
    serde_json::from_str(&ended.text).unwrap_or_else(|error| panic!("{error}: {}", ended.text))
}

/// By the index of a node, since handing over changes it.
async fn leader(cluster: &Cluster) -> usize {
    let name = &cluster.whole().await.name;
    cluster.nodes.iter().position(|node| node.name == *name).expect("it is one of them")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_moves_to_bellwether_and_back() {
    let mut dcs = patroni::shortest_timings();
    dcs["synchronous_mode"] = json!("quorum");
    let options = Options::nodes(3).on_etcd().with(json!({"bootstrap": {"dcs": dcs}}));
    let mut cluster = patroni::cluster_run_by(options, &[Program::Patroni; 3]).await;
    let old = leader(&cluster).await;
    cluster.synchronous(&cluster.nodes[old]).await;
    let plan = looked_at(&cluster.nodes[old]);
    assert_eq!((&plan["situation"], &plan["leader"]), (&json!("patroni"), &json!(true)), "{plan}");
    assert_eq!(plan["obstacles"], json!([]));
    let writer = cluster.writer();
    writer.writes(50).await;

    // Replicas first, then a switchover, then the old leader.
    let replicas: Vec<usize> = (0..3).filter(|index| *index != old).collect();
    for &index in &replicas {
        cluster.nodes[index].hand_to(Program::AsPatroni).await;
        assert_eq!(leader(&cluster).await, old);
        cluster.synchronous(&cluster.nodes[old]).await;
    }
    assert_eq!(writer.ledger().failed, Vec::<String>::new(), "nobody noticed the replicas");
    let (from, to) = (cluster.nodes[old].name.clone(), cluster.nodes[replicas[0]].name.clone());
    steer(
        &cluster.nodes[old],
        &["switchover", "acceptance", "--leader", &from, "--candidate", &to, "--force"],
    );
    assert_eq!(leader(&cluster).await, replicas[0]);
    cluster.nodes[old].hand_to(Program::AsPatroni).await;
    assert_eq!(leader(&cluster).await, replicas[0]);
    cluster.synchronous(&cluster.nodes[replicas[0]]).await;
    writer.writes(50).await;
    assert_eq!(looked_at(&cluster.nodes[old])["situation"], "bellwether");
    let failed = writer.ledger().failed;
    assert!(failed.len() <= 1, "one statement may have met the switchover: {failed:?}");

    // Back in a pause, which leaves every PostgreSQL running.
    let postmasters: Vec<_> = cluster.nodes.iter().map(|node| node.postmaster_pid()).collect();
    steer(&cluster.nodes[old], &["pause", "acceptance", "--wait"]);
    for index in 0..3 {
        cluster.nodes[index].hand_to(Program::Patroni).await;
        let node = &cluster.nodes[index];
        eventually(format!("{} is run by Patroni", node.name), PATIENCE, || async {
            let status = node.api.status().await;
            if status["state"] == "running" && status["pause"] == true { Ok(()) } else { Err(status) }
        })
        .await;
    }
    steer(&cluster.nodes[old], &["resume", "acceptance", "--wait"]);
    assert_eq!(leader(&cluster).await, replicas[0]);
    let now: Vec<_> = cluster.nodes.iter().map(|node| node.postmaster_pid()).collect();
    assert_eq!(now, postmasters, "no PostgreSQL was restarted");
    for node in &cluster.nodes {
        assert!(node.guardian_pids().is_empty(), "{} has a guardian left", node.name);
    }
    writer.writes(50).await;
    let ledger = writer.stop().await;
    assert_eq!(ledger.failed, failed, "nobody noticed the way back");
    cluster.holds(&ledger).await;
}
