//! A cluster whose store is ZooKeeper: it bootstraps with Patroni's znodes, the loss of the leader's host ends in a failover, no
//! acknowledged row is lost, and the old leader comes back.

use std::time::Duration;

use bellwether_acceptance::{Cluster, Options, cluster::SCOPE};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn with_zookeeper_the_loss_of_the_leaders_host_loses_no_row() {
    // Patroni's defaults would make this take minutes; a store outside of the members changes them only when asked to.
    let timings = json!({"ttl": 5, "loop_wait": 1, "retry_timeout": 2, "synchronous_mode": "quorum"});
    let options = Options::nodes(3).on_zookeeper().with(json!({"bootstrap": {"dcs": timings}}));
    let cluster = Cluster::start_with(options).await;
    let old = cluster.whole().await;
    cluster.synchronous(old).await;

    let path = |key: &str| format!("/service/{SCOPE}/{key}");
    let (lock, member) = (path("leader"), path(&format!("members/{}", old.name)));
    let sessions = cluster.zookeeper().ephemerals().await;
    let holder = sessions.iter().find(|session| session.contains(&lock));
    let holder = holder.unwrap_or_else(|| panic!("nobody holds {lock}: {sessions:?}"));
    assert!(holder.contains(&member), "lock and member vanish together: {sessions:?}");

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
