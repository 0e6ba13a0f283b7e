//! Two servers and a witness: either server may be lost, the other one goes on, and who was lost comes back as a replica. When the witness
//! and a server are lost for good, an operator lets the other one go on by hand.

use std::time::Duration;

use bellwether_acceptance::{Cluster, Node, Options, binary, patroni::Program, run::to_the_end};

/// On a machine that is busy with other tests.
const REPLACED_WITHIN: Duration = Duration::from_secs(15);
const ENDED_WITHIN: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn either_of_two_servers_may_be_lost_and_comes_back() {
    let mut cluster = Cluster::prepare(&Options::nodes(3)).await;
    let mut witness = cluster.nodes.pop().expect("three nodes");
    witness.start_as(Program::Witness);
    cluster.nodes.iter_mut().for_each(Node::start);
    let mut leader = cluster.whole().await;
    let writer = cluster.writer();
    for _ in 0..2 {
        cluster.synchronous(leader).await;
        writer.writes(20).await;
        writer.begin_event();
        leader.kill_tree();
        let heir = cluster.successor_of(leader).await;
        writer.writes(20).await;
        assert!(writer.outage() < REPLACED_WITHIN, "writes were away for {:?}", writer.outage());
        leader.power_on();
        let now = cluster.whole().await;
        assert_eq!(now.name, heir.name, "{} came back as a replica", leader.name);
        leader = now;
    }
    assert!(!witness.postgres_runs(), "a witness runs no PostgreSQL");

    // The witness and the leader are lost for good: one vote of three is no majority, and nobody is promoted by it.
    cluster.synchronous(leader).await;
    writer.writes(20).await;
    let [left] = cluster.others(leader)[..] else { panic!("two nodes") };
    leader.kill_tree();
    witness.kill_tree();
    left.stop().await;
    let mut recover = binary::bellwether(left.account);
    recover.args(["dcs", "-c"]).arg(left.configuration()).args(["recover", "--force-quorum"]);
    for lost in [leader, &witness] {
        recover.arg("--lost").arg(format!("127.0.0.1:{}", lost.store_port));
    }
    let ended = to_the_end(recover, ENDED_WITHIN);
    assert!(ended.status.success(), "{}", ended.text);
    left.power_on();
    assert_eq!(cluster.successor_of(leader).await.name, left.name);
    writer.writes(20).await;

    // What comes back brings no vote of the old store along.
    std::fs::remove_dir_all(leader.dir.join("store")).expect("its store can be removed");
    leader.power_on();
    assert_eq!(cluster.whole().await.name, left.name, "the lost server came back as a replica");
    cluster.holds(&writer.stop().await).await;
}
