//! A cluster whose store is etcd: it bootstraps with Patroni's keys, the loss of the leader's host ends in a failover, no
//! acknowledged row is lost, and the old leader comes back.

use std::time::Duration;

use bellwether_acceptance::{Cluster, Options, cluster::SCOPE};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn with_etcd_the_loss_of_the_leaders_host_loses_no_row() {
    // Patroni's defaults would make this take minutes; a store outside of the members changes them only when asked to.
    let timings = json!({"ttl": 5, "loop_wait": 1, "retry_timeout": 2, "synchronous_mode": "quorum"});
    let cluster =
        Cluster::start_with(Options::nodes(3).on_etcd().with(json!({"bootstrap": {"dcs": timings}}))).await;
    let old = cluster.whole().await;
    cluster.synchronous(old).await;

    let keys = cluster.etcd().keys().await;
    let entry = |key: &str| {
        let key = format!("/service/{SCOPE}/{key}");
        keys.iter().find(|(found, ..)| *found == key).unwrap_or_else(|| panic!("no {key} in {keys:?}"))
    };
    let (_, leader, leader_lease) = entry("leader");
    assert_eq!(*leader, old.name);
    let (_, _, member_lease) = entry(&format!("members/{}", old.name));
    assert_ne!(leader_lease, "0");
    assert_eq!(leader_lease, member_lease, "lock and member vanish together");
    let (.., lease) = entry("config");
    assert_eq!(lease, "0");

    let writer = cluster.writer();
    writer.writes(50).await;
    writer.begin_event();
    old.kill_tree();
    let new = cluster.successor_of(old).await;
    writer.writes(50).await;
    assert!(writer.outage() < Duration::from_secs(20), "writes were away for {:?}", writer.outage());

    old.power_on();
    let leader = cluster.whole().await;
    assert_eq!(leader.name, new.name, "the old leader came back as a replica");
    cluster.holds(&writer.stop().await).await;
}
