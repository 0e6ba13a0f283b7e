//! PostgreSQL dies on the leader: it comes back in place, on the same timeline, and no acknowledged row is lost.

use std::time::Duration;

use bellwether_acceptance::{Cluster, PATIENCE, eventually, journal::Moment};

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_postgresql_comes_back_in_place() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.whole().await;
    cluster.synchronous(leader).await;
    let before = leader.api.status().await;
    let writer = cluster.writer();
    writer.writes(50).await;
    writer.begin_event();

    let killed_at = Moment::now();
    let old = leader.kill_postmaster();
    eventually("another postmaster runs", PATIENCE, || async {
        leader.postmaster_pid().filter(|pid| *pid != old).ok_or("none yet")
    })
    .await;
    writer.writes(50).await;
    assert!(writer.outage() < Duration::from_secs(10), "writes were away for {:?}", writer.outage());

    let now = cluster.whole().await;
    assert_eq!(now.name, leader.name, "nobody took over");
    assert_eq!(now.api.status().await["timeline"], before["timeline"], "a restart is no promotion");
    let journal = leader.journal().since(killed_at);
    assert!(journal.decision("starting_primary").is_some(), "{:?}", journal.codes());
    let ended: Vec<_> =
        journal.records.iter().filter(|record| record["event"] == "restart_in_place").collect();
    assert_eq!(ended.len(), 1, "the outage has its budget in the journal, once");
    cluster.holds(&writer.stop().await).await;
}
