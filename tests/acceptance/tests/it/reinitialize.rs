//! A replica is rebuilt because an operator wants it; the leader never is.

use bellwether_acceptance::{Cluster, PATIENCE, journal::Moment, wait::until};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_rebuilt_on_request() {
    let cluster = Cluster::start(2).await;
    let leader = cluster.whole().await;
    let replica = cluster.others(leader)[0];
    let writer = cluster.writer();
    writer.writes(50).await;
    let mark = replica.data_dir().join("mark");
    std::fs::write(&mark, "of the old data directory").expect("the data directory can be written to");

    let asked_at = Moment::now();
    let reply = replica.api.post("/reinitialize", json!({})).await;
    assert_eq!((reply.status, reply.text.as_str()), (200, "reinitialize started"));
    until("the old data directory is gone", PATIENCE, || !mark.exists()).await;
    let now = cluster.whole().await;
    assert_eq!(now.name, leader.name);
    let journal = replica.journal().since(asked_at);
    assert!(journal.decision("reinitialize_started").is_some(), "{:?}", journal.codes());

    let reply = leader.api.post("/reinitialize", json!({"force": true})).await;
    assert_eq!((reply.status, reply.text.as_str()), (503, "I am the leader, can not reinitialize"));
    let ledger = writer.stop().await;
    assert_eq!(ledger.failed, Vec::<String>::new(), "no client of the leader noticed");
    cluster.holds(&ledger).await;
}
