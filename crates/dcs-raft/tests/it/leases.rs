//! Leases across store elections.

use std::time::{Duration, Instant};

use bellwether_dcs::{CommitOutcome, Key, Renewal, Store, Write};
use bellwether_types::LeaseId;
use tokio::time::sleep;

use crate::cluster::{Cluster, SOON, get, soon, until};

const TTL: Duration = Duration::from_secs(3);

async fn hold(store: &dyn Store) -> LeaseId {
    let lease = store.grant_lease(TTL, soon()).await.expect("a lease");
    let outcome = store.commit(&[], &[Write::put_leased("leader", "a", lease)], soon()).await;
    assert!(matches!(outcome, CommitOutcome::Applied(_)), "{outcome:?}");
    lease
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_outlives_the_store_leader_with_its_full_ttl_and_ends_then() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    hold(&**cluster.nodes[leader].store()).await;
    // Most of the lease passes under the first leader.
    sleep(TTL * 3 / 4).await;
    cluster.nodes[leader].kill();
    let killed = Instant::now();
    until("another leads", || cluster.running().any(|status| status.state == "leader")).await;
    let elected = Instant::now();
    let survivor = cluster.nodes.iter().find(|node| node.is_up()).expect("two are up").store().clone();
    loop {
        let seen = Instant::now();
        if get(&*survivor, "leader").await.is_none() {
            let lasted = seen - killed;
            assert!(lasted >= TTL, "a new leader must give the full ttl again; it lasted {lasted:?}");
            break;
        }
        assert!(elected.elapsed() < TTL + Duration::from_secs(2), "nobody renews, so it must end");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_lease_survives_many_store_elections() {
    let cluster = Cluster::start(3).await;
    let store = cluster.nodes[0].store().clone();
    let lease = hold(&*store).await;
    let end = Instant::now() + 2 * TTL;
    let mut valid_until = Instant::now();
    while Instant::now() < end {
        let _ = store.transfer_leadership(None, soon()).await;
        let sent = Instant::now();
        match store.keep_alive(lease, Some(&Key::from("leader")), soon()).await {
            Renewal::Valid { guaranteed } => {
                assert_eq!(guaranteed, TTL);
                valid_until = sent + guaranteed;
            }
            Renewal::Unavailable(_) => {}
            other => {
                panic!("lost after {:?}: {other:?}", valid_until.saturating_duration_since(Instant::now()))
            }
        }
        sleep(Duration::from_millis(100)).await;
    }
    assert!(valid_until > Instant::now());
}

/// Nobody can renew while the members of the store do not hear each other. Whoever leads it afterwards gives the full time again, and the
/// end that the old leader may have proposed meanwhile is not what the majority hears first.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_outlives_the_loss_of_the_majority() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let store = cluster.nodes[leader].store().clone();
    let lease = hold(&*store).await;
    for round in 0..3 {
        for node in &cluster.nodes {
            node.store().set_isolated(true);
        }
        sleep(TTL + Duration::from_secs(1)).await;
        for node in &cluster.nodes {
            node.store().set_isolated(false);
        }
        let renewed = async || store.keep_alive(lease, Some(&Key::from("leader")), soon()).await;
        let by = Instant::now() + SOON;
        loop {
            match renewed().await {
                Renewal::Valid { .. } => break,
                Renewal::Unavailable(why) => assert!(Instant::now() < by, "round {round}: {why}"),
                other => panic!("round {round}: {other:?}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_writes_nothing() {
    let cluster = Cluster::start(3).await;
    let store = cluster.nodes[cluster.leader().await].store().clone();
    let lease = hold(&*store).await;
    let log = store.status().last_log;
    for _ in 0..20 {
        let renewal = store.keep_alive(lease, Some(&Key::from("leader")), soon()).await;
        assert!(matches!(renewal, Renewal::Valid { .. }), "{renewal:?}");
    }
    assert_eq!(store.status().last_log, log);
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_survive_a_restart_of_all_nodes() {
    let mut cluster = Cluster::start(3).await;
    let lease = hold(&**cluster.nodes[0].store()).await;
    for node in &mut cluster.nodes {
        node.kill();
    }
    for node in &mut cluster.nodes {
        node.start().await;
    }
    let store = cluster.nodes[0].store().clone();
    let began = Instant::now();
    loop {
        match store.keep_alive(lease, Some(&Key::from("leader")), soon()).await {
            Renewal::Valid { .. } => break,
            Renewal::Unavailable(_) if began.elapsed() < SOON => {}
            other => panic!("{other:?}"),
        }
    }
}
