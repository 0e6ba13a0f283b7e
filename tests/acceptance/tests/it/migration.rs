//! A cluster goes from Patroni to Bellwether and back, node by node, on the same data directories and with the same files. Its clients
//! notice the planned switchover and nothing else.

use bellwether_acceptance::{
    Cluster, Node, Options, PATIENCE, binary,
    cluster::SCOPE,
    eventually,
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

/// Timings that Patroni would raise for itself, and nobody else.
async fn faster(cluster: &Cluster) {
    cluster.configure(json!({"ttl": 5, "retry_timeout": 2})).await;
    for node in &cluster.nodes {
        leased_for(cluster, node, 5).await;
    }
}

async fn leased_for(cluster: &Cluster, node: &Node, seconds: u64) {
    let key = format!("/service/{SCOPE}/members/{}", node.name);
    eventually(format!("the lease of {} lasts {seconds} s", node.name), PATIENCE, || async {
        match cluster.etcd().lease_time(&key).await {
            Ok(granted) if granted == seconds => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

/// Patroni must not join while one member still counts on a shorter lease.
async fn the_way_back_waits_for_everybody(cluster: &Cluster) {
    let asked = &cluster.nodes[0];
    let (frozen, account) = (&cluster.nodes[1], asked.account);
    frozen.freeze_agent();
    let mut command = binary::bellwether(account);
    command.arg("adopt").arg(asked.configuration()).arg("--back").current_dir(&asked.dir);
    let back = tokio::task::spawn_blocking(move || to_the_end(command, PATIENCE));
    cluster.stored("config", "has timings that Patroni takes", |config| config["ttl"] == 20).await;
    leased_for(cluster, asked, 20).await;
    assert!(!back.is_finished(), "one of them has not said so");
    frozen.thaw_agent();
    let ended = back.await.expect("it is run");
    assert!(ended.status.success(), "{}", ended.text);
    ended.says("written: ttl: 20, loop_wait: 1, retry_timeout: 3");
    ended.says("every member uses them");
    for node in &cluster.nodes {
        leased_for(cluster, node, 20).await;
    }
    let mut again = binary::bellwether(account);
    again.arg("adopt").arg(asked.configuration()).arg("--back").current_dir(&asked.dir);
    to_the_end(again, PATIENCE).says("nothing to change");
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
        cluster.nodes[index].hand_to(Program::Bellwether).await;
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
    cluster.nodes[old].hand_to(Program::Bellwether).await;
    assert_eq!(leader(&cluster).await, replicas[0]);
    cluster.synchronous(&cluster.nodes[replicas[0]]).await;
    writer.writes(50).await;
    assert_eq!(looked_at(&cluster.nodes[old])["situation"], "bellwether");
    let failed = writer.ledger().failed;
    assert!(failed.len() <= 1, "one statement may have met the switchover: {failed:?}");

    // Ours can be faster than Patroni may be; the way back begins with that.
    faster(&cluster).await;
    the_way_back_waits_for_everybody(&cluster).await;

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
