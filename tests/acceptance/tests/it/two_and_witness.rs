//! Two servers and a witness: either server may be lost, the other one goes on, and who was lost comes back as a replica. When the witness
//! and a server are lost for good, an operator lets the other one go on by hand.

use std::time::Duration;

use bellwether_acceptance::{
    Cluster, Node, Options, PATIENCE, binary, patroni::Program, run::to_the_end, wait::until,
};

/// On a machine that is busy with other tests.
const REPLACED_WITHIN: Duration = Duration::from_secs(15);
const ENDED_WITHIN: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn either_of_two_servers_may_be_lost_and_comes_back() {
    let mut cluster = Cluster::prepare(&Options::nodes(3)).await;
    let mut witness = cluster.nodes.pop().expect("three nodes");
    witness.start_as(Program::Witness);
    cluster.nodes.iter_mut().for_each(Node::start);
    let first = cluster.whole().await;
    let writer = cluster.writer();
    cluster.synchronous(first).await;
    writer.writes(20).await;
    writer.begin_event();
    first.kill_tree();
    let leader = cluster.successor_of(first).await;
    writer.writes(20).await;
    assert!(writer.outage() < REPLACED_WITHIN, "writes were away for {:?}", writer.outage());
    first.power_on();
    assert_eq!(cluster.whole().await.name, leader.name, "{} came back as a replica", first.name);
    assert!(!witness.postgres_runs(), "a witness runs no PostgreSQL");

    // The other one, and the witness with it, for good: one vote of three is no majority, so it needs an operator.
    // (That nobody is promoted meanwhile is held by the simulator's tests of sites.)
    cluster.synchronous(leader).await;
    writer.writes(20).await;
    leader.kill_tree();
    witness.kill_tree();
    first.stop().await;
    let lost = [leader, &witness].map(|node| format!("127.0.0.1:{}", node.store_port));
    dcs(first, &["recover", "--force-quorum", "--lost", &lost[0], "--lost", &lost[1]]);
    first.power_on();
    assert_eq!(cluster.successor_of(leader).await.name, first.name);
    writer.writes(20).await;

    // What comes back brings no vote of the old store along.
    std::fs::remove_dir_all(leader.dir.join("store")).expect("its store can be removed");
    leader.power_on();
    // The store that was recovered does not know it, and its log names the command.
    until("it says how to let it in", PATIENCE, || leader.log_text().contains("bellwether dcs add")).await;
    dcs(first, &["add", &lost[0]]);
    assert_eq!(cluster.whole().await.name, first.name, "the lost server came back as a replica");
    cluster.holds(&writer.stop().await).await;
}

/// `bellwether dcs`, with the configuration of this node.
fn dcs(node: &Node, arguments: &[&str]) {
    let mut command = binary::bellwether(node.account);
    command.args(["dcs", "-c"]).arg(node.configuration()).args(arguments);
    let ended = to_the_end(command, ENDED_WITHIN);
    assert!(ended.status.success(), "{arguments:?}: {}", ended.text);
}
