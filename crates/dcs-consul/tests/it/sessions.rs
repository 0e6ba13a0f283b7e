//! Sessions, a server that dies, and keys that others made.

use std::time::{Duration, Instant};

use bellwether_dcs::{
    CommitOutcome, Deadline, Key, Renewal, Store, StoreError, WatchEvent, Write,
    conformance::link::{Flow, Link},
    store::now,
};
use bellwether_dcs_consul::ConsulStore;
use bellwether_types::LeaseId;

use crate::server::{LOOK_AGAIN, SOON, Server, config, lead, snapshot, soon, store};

const TTL: Duration = Duration::from_secs(4);
const PREFIX: &str = "service/batman/";

fn leader() -> Key {
    Key::from("leader")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_guaranteed_for_half_its_ttl_and_not_more() {
    let server = Server::start().await;
    let holder = store(&server.address, PREFIX);
    let lease = lead(&holder, TTL).await;
    let renewal = holder.keep_alive(lease, Some(&leader()), soon()).await;
    let Renewal::Valid { guaranteed } = renewal else { panic!("{renewal:?}") };
    assert_eq!(guaranteed, TTL / 2);
    // Less than the server allows, so the server's own minimum.
    let mut settings = config(&server.address, PREFIX);
    settings.session_ttl_min = Duration::from_millis(1);
    let hasty = ConsulStore::new(settings).unwrap();
    let lease = hasty.grant_lease(Duration::from_millis(100), soon()).await.expect("a lease");
    let renewal = hasty.keep_alive(lease, None, soon()).await;
    let Renewal::Valid { guaranteed } = renewal else { panic!("{renewal:?}") };
    assert_eq!(guaranteed, Duration::from_millis(500));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_server_is_frozen_a_lease_is_unavailable_and_not_gone() {
    let server = Server::start().await;
    let holder = store(&server.address, PREFIX);
    let lease = lead(&holder, TTL).await;
    server.freeze();
    let thawed_at = Instant::now() + TTL;
    while Instant::now() < thawed_at {
        let began = Instant::now();
        let renewal = holder.keep_alive(lease, Some(&leader()), Deadline::after(TTL / 10)).await;
        assert!(matches!(renewal, Renewal::Unavailable(_)), "{renewal:?} of a frozen server");
        let written = holder.commit(&[], &[Write::put("x", "1")], Deadline::after(TTL / 10)).await;
        assert!(matches!(written, CommitOutcome::Unknown(_)), "{written:?}");
        assert!(began.elapsed() < TTL / 5 + Duration::from_secs(1), "a deadline was missed");
    }
    server.signal("CONT");
    let limit = Instant::now() + SOON;
    loop {
        assert!(Instant::now() < limit, "the lease is neither alive nor gone");
        let renewal = holder.keep_alive(lease, Some(&leader()), soon()).await;
        let there = snapshot(&holder).await.entries.contains_key(&leader());
        match renewal {
            Renewal::Unavailable(_) => tokio::time::sleep(LOOK_AGAIN).await,
            Renewal::Valid { .. } => return assert!(there, "the lease is valid, its key gone"),
            Renewal::Gone | Renewal::NotHolding => {
                return assert!(!there, "the lease is gone, its key there");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_server_knows_the_lease_and_belief_ends_before_it_does() {
    let mut server = Server::start().await;
    let holder = store(&server.address, PREFIX);
    let lease = lead(&holder, 2 * TTL).await;
    let sent = now();
    let renewal = holder.keep_alive(lease, Some(&leader()), soon()).await;
    let Renewal::Valid { guaranteed } = renewal else { panic!("{renewal:?}") };
    server.kill();
    let renewal = holder.keep_alive(lease, Some(&leader()), soon()).await;
    assert!(matches!(renewal, Renewal::Unavailable(StoreError::Unreachable(_))), "{renewal:?}");
    server.run();
    server.until_answers().await;
    let there = snapshot(&holder).await.entries.contains_key(&leader());
    assert!(there || now() >= sent + guaranteed, "the key was gone while it was believed in");
    let limit = Instant::now() + SOON;
    loop {
        match holder.keep_alive(lease, Some(&leader()), soon()).await {
            Renewal::Valid { .. } => return,
            Renewal::Unavailable(_) if Instant::now() < limit => tokio::time::sleep(LOOK_AGAIN).await,
            other => panic!("{other:?}: a server counts the sessions that it finds from its start on"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn being_cut_off_fails_at_once_and_ends_the_watch() {
    let server = Server::start().await;
    let proxy = Link::to(&server.address).await;
    let cut_off = store(&proxy.address, PREFIX);
    let lease = lead(&cut_off, TTL).await;
    let mut watch = cut_off.watch(snapshot(&cut_off).await.revision).await.expect("a watch");
    proxy.set(Flow::Cut);
    while !matches!(watch.events.recv().await, Some(WatchEvent::Lost)) {}
    assert!(watch.events.recv().await.is_none(), "`Lost` is the last event");
    let began = Instant::now();
    let written = cut_off.commit(&[], &[Write::put("x", "1")], soon()).await;
    assert!(matches!(written, CommitOutcome::Unknown(StoreError::Unreachable(_))), "{written:?}");
    let renewal = cut_off.keep_alive(lease, None, soon()).await;
    assert!(matches!(renewal, Renewal::Unavailable(StoreError::Unreachable(_))), "{renewal:?}");
    assert!(began.elapsed() < Duration::from_secs(2), "waited {:?} for a connection", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keys_of_a_vanished_client_can_be_taken_over_and_its_session_ended() {
    let server = Server::start().await;
    let before = store(&server.address, PREFIX);
    let old = lead(&before, TTL).await;
    drop(before);
    let next = store(&server.address, PREFIX);
    let left = snapshot(&next).await.entries.remove(&leader()).expect("the key is still there");
    assert_eq!(left.lease, Some(old));
    let lease = next.grant_lease(TTL, soon()).await.expect("a lease");
    let check = bellwether_dcs::Check::at("leader", left.modified);
    let taken = next.commit(&[check], &[Write::put_leased("leader", "a", lease)], soon()).await;
    assert!(matches!(taken, CommitOutcome::Applied(_)), "{taken:?}");
    assert_eq!(snapshot(&next).await.entries[&leader()].created, left.created);
    next.revoke_lease(lease, soon()).await.expect("it is our own");
    assert!(snapshot(&next).await.entries.is_empty());
    next.revoke_lease(LeaseId(1), soon()).await.expect("one that never was");
}

#[tokio::test(flavor = "multi_thread")]
async fn writing_the_same_again_is_a_new_revision() {
    let server = Server::start().await;
    let store = store(&server.address, PREFIX);
    let mut revisions = Vec::new();
    for _ in 0..3 {
        let written = store.commit(&[], &[Write::put("status", "{}")], soon()).await;
        let CommitOutcome::Applied(revision) = written else { panic!("{written:?}") };
        assert_eq!(snapshot(&store).await.entries[&Key::from("status")].modified, revision);
        revisions.push(revision);
    }
    assert!(revisions.is_sorted_by(|a, b| a < b), "{revisions:?}");
}
