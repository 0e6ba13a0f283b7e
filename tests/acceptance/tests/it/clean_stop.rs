//! The leader is told to stop: it hands over at once instead of letting its lease run out.

use std::time::Duration;

use bellwether_acceptance::{Cluster, journal::Moment};

/// The lease alone takes five seconds; everything here takes about one.
const HANDED_OVER_WITHIN: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_told_to_stop_hands_over() {
    let cluster = Cluster::start(3).await;
    let old = cluster.whole().await;
    cluster.synchronous(old).await;
    let writer = cluster.writer();
    writer.writes(50).await;
    writer.begin_event();

    let stopped_at = Moment::now();
    let status = old.stop().await;
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(!old.postgres_runs(), "an agent that stops in order stops PostgreSQL");
    assert!(old.guardian_pids().is_empty(), "and leaves no guardian behind");
    let new = cluster.successor_of(old).await;
    writer.writes(50).await;
    assert!(writer.outage() < HANDED_OVER_WITHIN, "writes were away for {:?}", writer.outage());
    let journal = old.journal().since(stopped_at);
    assert!(journal.decision("shutting_down").is_some(), "{:?}", journal.codes());
    assert!(journal.action("ReleaseLease").is_some(), "the lock did not just expire: {:?}", journal.codes());

    old.power_on();
    assert_eq!(cluster.whole().await.name, new.name);
    let journal = old.journal().since(stopped_at);
    assert!(
        journal.decision("rewind").is_none(),
        "nothing to rewind after a clean stop: {:?}",
        journal.codes()
    );
    cluster.holds(&writer.stop().await).await;
}
