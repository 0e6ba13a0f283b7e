//! Losing nodes and coming back.

use std::time::{Duration, Instant};

use bellwether_dcs::{CommitOutcome, Deadline, Store, Write};
use tokio::time::sleep;

use crate::cluster::{Cluster, get, put, soon, until};

/// Measured 0.65 s in the median on loopback; the rest is for a busy machine.
const WRITES_AGAIN_WITHIN: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_is_replaced_and_writes_go_on() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    put(&**cluster.nodes[leader].store(), "before", "1").await;
    cluster.nodes[leader].kill();
    let killed = Instant::now();
    let survivor = cluster.nodes.iter().find(|node| node.is_up()).expect("two are up").store().clone();
    let mut attempt = 0;
    loop {
        attempt += 1;
        let write = Write::put("after", attempt.to_string());
        if let CommitOutcome::Applied(_) =
            survivor.commit(&[], &[write], Deadline::after(WRITES_AGAIN_WITHIN)).await
        {
            break;
        }
        assert!(killed.elapsed() < WRITES_AGAIN_WITHIN, "no write within {WRITES_AGAIN_WITHIN:?}");
    }
    assert!(killed.elapsed() < WRITES_AGAIN_WITHIN);
    assert_eq!(get(&*survivor, "before").await.as_deref(), Some("1"));
    drop(survivor);

    cluster.nodes[leader].start().await;
    let returned = cluster.nodes[leader].store().clone();
    assert_eq!(get(&*returned, "after").await, Some(attempt.to_string()), "it catches up");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_restart_with_their_data() {
    let mut cluster = Cluster::start(3).await;
    let first = put(&**cluster.nodes[0].store(), "a", "1").await;
    put(&**cluster.nodes[1].store(), "b", "2").await;
    let members = cluster.nodes[0].store().members();
    for node in &mut cluster.nodes {
        node.kill();
    }
    for node in &mut cluster.nodes {
        node.start().await;
    }
    cluster.leader().await;
    let snapshot = cluster.nodes[2].store().snapshot(soon()).await.expect("a snapshot");
    assert_eq!(snapshot.entries[&"a".into()].modified, first);
    assert_eq!(snapshot.entries.len(), 2);
    let after: Vec<u64> = cluster.nodes[0].store().members().iter().map(|member| member.id).collect();
    assert_eq!(after, members.iter().map(|member| member.id).collect::<Vec<_>>(), "identities are kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_shuts_down_hands_over_without_an_election() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    // A hand-over is to a node that was heard lately.
    until("the leader hears the others", || {
        let heard = cluster.nodes[leader].store().members();
        heard.iter().filter(|member| member.silent_ms.is_some_and(|silent| silent < 300)).count() == 2
    })
    .await;
    cluster.nodes[leader].shut_down().await;
    let gone = Instant::now();
    cluster.leader().await;
    assert!(gone.elapsed() < Duration::from_millis(300), "it took an election: {:?}", gone.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leadership_moves_off_the_member_that_leads_and_stays_away() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    cluster.nodes[leader].store().member_leads(true).await;
    until("another node leads", || cluster.nodes[leader].store().status().state == "follower").await;
    let new_leader = cluster.leader().await;
    let term = cluster.nodes[new_leader].store().status().term;
    // Said again each tick, and by one that does not lead: nothing may move.
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        cluster.nodes[leader].store().member_leads(true).await;
        cluster.nodes[new_leader].store().member_leads(false).await;
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(cluster.nodes[new_leader].store().status().term, term);
    assert_eq!(cluster.leader().await, new_leader);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_a_majority_answers_nothing() {
    let mut cluster = Cluster::start(3).await;
    put(&**cluster.nodes[0].store(), "a", "1").await;
    cluster.nodes[1].kill();
    cluster.nodes[2].kill();
    let alone = cluster.nodes[0].store().clone();
    let by = || Deadline::after(Duration::from_millis(600));
    // Right after the loss the old leader still has its lease; then every call must fail.
    until("reads fail", || {
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async { alone.snapshot(by()).await.is_err() })
        })
    })
    .await;
    let outcome = alone.commit(&[], &[Write::put("b", "1")], by()).await;
    assert!(matches!(outcome, CommitOutcome::Unknown(_)), "{outcome:?}");
}
