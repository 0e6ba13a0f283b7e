//! A healthy day is silent in the log at `warning` and above: founding a cluster and stopping it whole are part of it.

use bellwether_acceptance::{Cluster, Node};

/// Lines of ours (time, level, message), not of PostgreSQL.
fn complaints(node: &Node) -> Vec<String> {
    let loud = |line: &&str| matches!(line.split(' ').nth(2), Some("WARNING:" | "ERROR:"));
    node.log_text().lines().filter(loud).map(|line| format!("{}: {line}", node.name)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_start_and_stop_complain_about_nothing() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.whole().await;
    cluster.synchronous(leader).await;
    let writer = cluster.writer();
    writer.writes(50).await;
    let ledger = writer.stop().await;
    cluster.holds(&ledger).await;
    let [a, b, c] = &cluster.nodes[..] else { panic!("three nodes") };
    let ends = tokio::join!(a.stop(), b.stop(), c.stop());
    assert!([ends.0, ends.1, ends.2].iter().all(|status| status.success()), "{ends:?}");
    for node in &cluster.nodes {
        assert!(node.log_text().contains(" INFO: "), "the log of {} is read", node.name);
    }
    let complaints: Vec<_> = cluster.nodes.iter().flat_map(complaints).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
}
