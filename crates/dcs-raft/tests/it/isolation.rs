//! A node that is cut off knows nothing and says so.

use std::time::{Duration, Instant};

use bellwether_dcs::{CommitOutcome, Deadline, Renewal, Store, StoreError, Watch, WatchEvent, Write};
use bellwether_types::Revision;
use tokio::time::timeout;

use crate::cluster::{Cluster, SOON, get, put, put_in_the_end, soon, until, value};

/// Waits for an event that satisfies the condition.
async fn event(watch: &mut Watch, wanted: impl Fn(&WatchEvent) -> bool) -> WatchEvent {
    let look = async {
        loop {
            let event = watch.events.recv().await.expect("the watch goes on");
            if wanted(&event) {
                return event;
            }
        }
    };
    timeout(SOON, look).await.expect("the event comes")
}

fn is_alive(event: &WatchEvent) -> bool {
    matches!(event, WatchEvent::Alive { .. })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_is_cut_off_falls_silent_and_reads_nothing_stale() {
    let cluster = Cluster::start(3).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    let cut = cluster.nodes[follower].store().clone();
    put(&*cut, "a", "1").await;
    let mut watch = cut.watch(Revision(1)).await.expect("a watch");
    event(&mut watch, is_alive).await;

    cut.set_isolated(true);
    put(&**cluster.nodes[leader].store(), "a", "2").await;
    // What was under way at the cut may still arrive.
    let settled = Instant::now() + Duration::from_millis(500);
    while timeout(settled.saturating_duration_since(Instant::now()), watch.events.recv()).await.is_ok() {}
    let heard = timeout(Duration::from_millis(2500), watch.events.recv()).await;
    assert!(heard.is_err(), "a watch on a node that is cut off pretends to know something: {heard:?}");
    let read = cut.snapshot(Deadline::after(Duration::from_millis(500))).await;
    assert!(matches!(read, Err(StoreError::NoQuorum(_) | StoreError::TimedOut)), "{read:?}");

    cut.set_isolated(false);
    let event = event(&mut watch, |event| !is_alive(event)).await;
    assert!(matches!(event, WatchEvent::Changed { revision: Revision(2), .. }), "no gap: {event:?}");
    assert_eq!(get(&*cut, "a").await.as_deref(), Some("2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_confirms_nothing() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let cut = cluster.nodes[leader].store().clone();
    let lease = cut.grant_lease(Duration::from_secs(30), soon()).await.expect("a lease");
    cut.set_isolated(true);
    let by = || Deadline::after(Duration::from_millis(600));
    let renewal = cut.keep_alive(lease, None, by()).await;
    assert!(matches!(renewal, Renewal::Unavailable(_)), "{renewal:?}");
    let outcome = cut.commit(&[], &[Write::put("a", "cut off")], by()).await;
    assert!(matches!(outcome, CommitOutcome::Unknown(_)), "{outcome:?}");
    assert!(cut.snapshot(by()).await.is_err());

    let other = cluster.nodes[(leader + 1) % 3].store();
    put_in_the_end(&**other, "a", "majority").await;
    cut.set_isolated(false);
    assert_eq!(get(&*cut, "a").await.as_deref(), Some("majority"), "what was not confirmed is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_cut_off_for_long_does_not_disturb_the_leader() {
    let cluster = Cluster::start(3).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    let term = cluster.nodes[leader].store().status().term;
    cluster.nodes[follower].store().set_isolated(true);
    tokio::time::sleep(Duration::from_secs(2)).await;
    cluster.nodes[follower].store().set_isolated(false);
    put(&**cluster.nodes[leader].store(), "a", "1").await;
    assert_eq!(get(&**cluster.nodes[follower].store(), "a").await.as_deref(), Some("1"));
    assert_eq!(cluster.nodes[leader].store().status().term, term, "pre-vote keeps the term");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_a_vote_follows_the_leader() {
    let mut cluster = Cluster::start(3).await;
    let client = cluster.client().await;
    put(&client, "a", "1").await;
    let mut watch = client.watch(Revision(0)).await.expect("a watch");
    event(&mut watch, |event| matches!(event, WatchEvent::Changed { revision: Revision(1), .. })).await;
    let leader = cluster.leader().await;
    cluster.nodes[leader].kill();
    until("another leads", || cluster.running().any(|status| status.state == "leader")).await;
    put_in_the_end(&client, "a", "2").await;
    event(&mut watch, |event| matches!(event, WatchEvent::Changed { revision, .. } if revision.0 >= 2)).await;
    event(&mut watch, is_alive).await;
    assert_eq!(value(&client.snapshot(soon()).await.expect("a snapshot"), "a").as_deref(), Some("2"));
    let status = client.status(None, soon()).await.expect("a status");
    assert_eq!(status.members.len(), 3);
    let addresses = cluster.addresses();
    let dead = client.status(Some(&addresses[leader]), soon()).await;
    assert!(dead.is_err(), "nobody speaks for a dead node: {dead:?}");
    let other = &addresses[(leader + 1) % 3];
    assert_eq!(client.status(Some(other), soon()).await.expect("it is up").addr, *other);
}
