//! The leader's host is lost (agent, guardian and PostgreSQL die at once): another node leads, at the latest when its lease
//! has ended, no acknowledged row is lost, and the old leader comes back as a replica by itself.

use std::time::Duration;

use bellwether_acceptance::{Cluster, journal::Moment};

#[tokio::test(flavor = "multi_thread")]
async fn the_loss_of_the_leaders_host_ends_in_a_failover_and_a_rejoin() {
    let cluster = Cluster::start(3).await;
    let old = cluster.whole().await;
    cluster.synchronous(old).await;
    let before = old.api.status().await["timeline"].as_u64().expect("a timeline");
    let writer = cluster.writer();
    writer.writes(50).await;
    writer.begin_event();

    let lost_at = Moment::now();
    old.kill_tree();
    let new = cluster.successor_of(old).await;
    writer.writes(50).await;
    assert!(writer.outage() < Duration::from_secs(20), "writes were away for {:?}", writer.outage());
    let timeline = new.api.status().await["timeline"].as_u64().expect("a timeline");
    assert_eq!(timeline, before + 1, "one promotion, and no more");
    let journal = new.journal().since(lost_at);
    // By a quorum of promises while the lease still runs, or by the lock that its end set free.
    let takes = ["taking_over", "acquiring_lock"].iter().any(|code| journal.decision(code).is_some());
    assert!(takes, "{:?}", journal.codes());
    assert!(journal.decision("promoted_by_acquiring_lock").is_some(), "{:?}", journal.codes());
    let budget = journal.records.iter().find(|record| record["event"] == "takeover");
    let budget = budget.expect("the failover has its budget in the journal");
    assert_eq!(budget["old_leader"], old.name.as_str());

    old.power_on();
    let leader = cluster.whole().await;
    assert_eq!(leader.name, new.name, "the old leader came back as a replica");
    cluster.holds(&writer.stop().await).await;
}
