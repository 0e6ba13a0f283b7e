//! Sessions, servers that die, and znodes that others made.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bellwether_dcs::{
    Check, CommitOutcome, Deadline, Key, Renewal, Snapshot, Store, StoreError, WatchEvent, Write,
    conformance::link::{Flow, Link},
    store::now,
};
use bellwether_dcs_zookeeper::{AclRule, ZooKeeperStore};
use bellwether_types::LeaseId;
use zookeeper_client::{Acls, Client, CreateMode};

use crate::server::{Ensemble, LOOK_AGAIN, SOON, TICK, config, store};

const TTL: Duration = Duration::from_secs(3);
const PREFIX: &str = "/service/batman/";

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(5))
}

fn leader() -> Key {
    Key::from("leader")
}

async fn snapshot(store: &ZooKeeperStore) -> Snapshot {
    let limit = Instant::now() + SOON;
    loop {
        match store.snapshot(soon()).await {
            Ok(snapshot) => return snapshot,
            Err(error) => assert!(Instant::now() < limit, "the store does not answer: {error}"),
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// A lease that the leader key hangs on.
async fn lead(store: &ZooKeeperStore, name: &str) -> LeaseId {
    let lease = store.grant_lease(TTL, soon()).await.expect("a lease");
    let write = Write::put_leased("leader", name, lease);
    let written = store.commit(&[Check::absent("leader")], &[write], soon()).await;
    assert!(matches!(written, CommitOutcome::Applied(_)), "{written:?}");
    lease
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_survives_the_death_of_its_server_and_is_never_believed_in_for_too_long() {
    let mut ensemble = Ensemble::start(3).await;
    let addresses = ensemble.addresses();
    let observer = store(&addresses, PREFIX);
    let holders: Vec<ZooKeeperStore> = (0..3).map(|_| store(&addresses, PREFIX)).collect();
    let mut leases = Vec::new();
    for (index, holder) in holders.iter().enumerate() {
        let lease = holder.grant_lease(TTL, soon()).await.expect("a lease");
        let key = Key::new(format!("members/{index}"));
        let written = holder.commit(&[], &[Write::put_leased(key.clone(), "{}", lease)], soon()).await;
        assert!(matches!(written, CommitOutcome::Applied(_)), "{written:?}");
        leases.push((holder, lease, key, now()));
    }
    // One that is a follower or the leader: whichever, every third lease or so is held through it.
    ensemble.servers[0].kill();
    let mut renewed = [false; 3];
    let limit = Instant::now() + SOON;
    while renewed != [true; 3] {
        assert!(Instant::now() < limit, "not every lease could be renewed: {renewed:?}");
        for (index, (holder, lease, key, believed)) in leases.iter_mut().enumerate() {
            let sent = now();
            match holder.keep_alive(*lease, Some(key), Deadline::after(TTL / 5)).await {
                Renewal::Valid { guaranteed } => {
                    *believed = sent + guaranteed;
                    renewed[index] = true;
                }
                Renewal::Unavailable(_) => {}
                lost => panic!("{key}: {lost:?}, with a majority alive"),
            }
        }
        let seen = snapshot(&observer).await;
        let at = now();
        for (_, _, key, believed) in &leases {
            assert!(
                seen.entries.contains_key(key) || at >= *believed,
                "{key} was gone while it was believed in"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_ensemble_is_frozen_a_lease_is_unavailable_and_not_gone() {
    let ensemble = Ensemble::start(1).await;
    let holder = store(&ensemble.addresses(), PREFIX);
    let lease = lead(&holder, "a").await;
    ensemble.servers[0].signal("STOP");
    // Long after the library itself has given the session up.
    let thawed_at = Instant::now() + 2 * TTL;
    while Instant::now() < thawed_at {
        let renewal = holder.keep_alive(lease, Some(&leader()), Deadline::after(TTL / 10)).await;
        assert!(matches!(renewal, Renewal::Unavailable(_)), "{renewal:?} of a frozen server");
        let began = Instant::now();
        let written = holder.commit(&[], &[Write::put("x", "1")], Deadline::after(TTL / 10)).await;
        assert!(matches!(written, CommitOutcome::Unknown(_)), "{written:?}");
        assert!(began.elapsed() < TTL / 10 + Duration::from_secs(1), "a deadline was missed");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    ensemble.servers[0].signal("CONT");
    let limit = Instant::now() + SOON;
    loop {
        assert!(Instant::now() < limit, "the lease is neither alive nor gone");
        match holder.keep_alive(lease, Some(&leader()), soon()).await {
            Renewal::Unavailable(_) => tokio::time::sleep(LOOK_AGAIN).await,
            Renewal::Valid { .. } => {
                assert!(snapshot(&holder).await.entries.contains_key(&leader()));
                break;
            }
            Renewal::Gone => {
                assert!(!snapshot(&holder).await.entries.contains_key(&leader()));
                break;
            }
            Renewal::NotHolding => panic!("nobody touched the key"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_server_knows_the_lease() {
    let mut ensemble = Ensemble::start(1).await;
    let holder = store(&ensemble.addresses(), PREFIX);
    let lease = lead(&holder, "a").await;
    ensemble.servers[0].kill();
    let renewal = holder.keep_alive(lease, Some(&leader()), Deadline::after(TTL / 10)).await;
    assert!(matches!(renewal, Renewal::Unavailable(_)), "{renewal:?} of a dead server");
    ensemble.run(0);
    let limit = Instant::now() + SOON;
    // A server counts the sessions that it finds in its log from its start on.
    loop {
        match holder.keep_alive(lease, Some(&leader()), Deadline::after(TTL / 5)).await {
            Renewal::Valid { .. } => break,
            Renewal::Unavailable(_) if Instant::now() < limit => tokio::time::sleep(LOOK_AGAIN).await,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(snapshot(&holder).await.entries[&leader()].lease, Some(lease));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_while_cut_off_fails_at_once_and_ends_the_watch() {
    let ensemble = Ensemble::start(1).await;
    let proxy = Link::to(&ensemble.servers[0].address).await;
    let cut_off = store(std::slice::from_ref(&proxy.address), PREFIX);
    let lease = lead(&cut_off, "a").await;
    let mut watch = cut_off.watch(snapshot(&cut_off).await.revision).await.expect("a watch");
    proxy.set(Flow::Cut);
    while !matches!(watch.events.recv().await, Some(WatchEvent::Lost)) {}
    assert!(watch.events.recv().await.is_none(), "`Lost` is the last event");
    let began = Instant::now();
    let ends = [
        cut_off.snapshot(soon()).await.expect_err("cut off"),
        match cut_off.commit(&[], &[Write::put("x", "1")], soon()).await {
            CommitOutcome::Unknown(error) => error,
            other => panic!("{other:?}"),
        },
        match cut_off.keep_alive(lease, None, soon()).await {
            Renewal::Unavailable(error) => error,
            other => panic!("{other:?}"),
        },
    ];
    assert!(began.elapsed() < Duration::from_secs(2), "waited {:?} for a connection", began.elapsed());
    assert!(ends.iter().all(|end| matches!(end, StoreError::Unreachable(_))), "{ends:?}");
    proxy.set(Flow::Open);
    assert!(!snapshot(&cut_off).await.entries.contains_key(&Key::from("x")), "it was written later");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_client_leaves_its_keys_to_their_time_and_the_next_may_take_them() {
    let ensemble = Ensemble::start(1).await;
    let before = store(&ensemble.addresses(), PREFIX);
    lead(&before, "a").await;
    drop(before);
    let next = store(&ensemble.addresses(), PREFIX);
    let left = snapshot(&next).await.entries.remove(&leader()).expect("the key is still there");
    let lease = next.grant_lease(TTL, soon()).await.expect("a lease");
    let write = Write::put_leased("leader", "a", lease);
    let taken = next.commit(&[Check::at("leader", left.modified)], &[write], soon()).await;
    let CommitOutcome::Applied(revision) = taken else { panic!("{taken:?}") };
    // The old session ends, the key stays.
    let limit = Instant::now() + TTL + 10 * TICK;
    while Instant::now() < limit {
        let renewal = next.keep_alive(lease, Some(&leader()), soon()).await;
        assert!(matches!(renewal, Renewal::Valid { .. }), "{renewal:?}");
        tokio::time::sleep(TTL / 10).await;
    }
    assert_eq!(snapshot(&next).await.entries[&leader()].modified, revision);
}

#[tokio::test(flavor = "multi_thread")]
async fn znodes_of_patroni_are_read_and_ours_look_as_it_expects() {
    let ensemble = Ensemble::start(1).await;
    let patroni = Client::connect(&ensemble.servers[0].address).await.expect("a session");
    let anyone = Acls::anyone_all();
    patroni.mkdir("/service/batman/members", &CreateMode::Persistent.with_acls(anyone)).await.unwrap();
    let own = CreateMode::Ephemeral.with_acls(anyone);
    patroni.create("/service/batman/leader", b"patroni", &own).await.unwrap();
    patroni.create("/service/batman/members/patroni", b"{}", &own).await.unwrap();
    let empty = CreateMode::Persistent.with_acls(anyone);
    patroni.create("/service/batman/initialize", b"", &empty).await.unwrap();
    let store = store(&ensemble.addresses(), PREFIX);
    let seen = snapshot(&store).await;
    let keys: Vec<&str> = seen.entries.keys().map(Key::as_str).collect();
    assert_eq!(keys, ["initialize", "leader", "members/patroni"]);
    let owner = LeaseId(patroni.session_id().0.cast_unsigned());
    assert_eq!(seen.entries[&leader()].lease, Some(owner));
    let refused = store.revoke_lease(owner, soon()).await;
    assert!(matches!(refused, Err(StoreError::Protocol(_))), "{refused:?}");
    patroni.delete("/service/batman/leader", None).await.unwrap();
    let lease = lead(&store, "bellwether").await;
    let (name, stat) = patroni.get_data("/service/batman/leader").await.unwrap();
    assert_eq!((name.as_slice(), stat.ephemeral_owner), (&b"bellwether"[..], lease.0.cast_signed()));
    assert_eq!(stat.version, 1, "it could be taken for one that Patroni created");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_came_back_with_the_same_version_is_not_taken_for_the_old_one() {
    let ensemble = Ensemble::start(1).await;
    let address = &ensemble.servers[0].address;
    let proxy = Link::to(address).await;
    let (other, patroni) = (store(&ensemble.addresses(), PREFIX), Client::connect(address).await.unwrap());
    let ours = Arc::new(store(std::slice::from_ref(&proxy.address), PREFIX));
    for by_patroni in [false, true] {
        // A new znode each time, whose version has not been counted up by writing to it.
        for write in [Write::delete("leader"), Write::put("leader", "a")] {
            let first = other.commit(&[], &[write], soon()).await;
            assert!(matches!(first, CommitOutcome::Applied(_)), "{first:?}");
        }
        snapshot(&ours).await;
        // What it reads is answered only when the key has been replaced.
        proxy.set(Flow::AnswersLost);
        let committing = ours.clone();
        let checked = tokio::spawn(async move {
            let check = Check::has_value("leader", "a");
            committing.commit(&[check], &[Write::put("sync", "{}")], soon()).await
        });
        // The request is on its way now. If it should be slower, it is refused for another reason.
        tokio::time::sleep(5 * LOOK_AGAIN).await;
        if by_patroni {
            patroni.delete("/service/batman/leader", None).await.unwrap();
            let mode = CreateMode::Persistent.with_acls(Acls::anyone_all());
            patroni.create("/service/batman/leader", b"b", &mode).await.unwrap();
        } else {
            for write in [Write::delete("leader"), Write::put("leader", "b")] {
                let replaced = other.commit(&[], &[write], soon()).await;
                assert!(matches!(replaced, CommitOutcome::Applied(_)), "{replaced:?}");
            }
        }
        proxy.set(Flow::Open);
        let checked = checked.await.expect("it does not panic");
        assert!(matches!(checked, CommitOutcome::Refused { found: Some(_) }), "{checked:?}, {by_patroni}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn acls_keep_strangers_out_and_credentials_let_us_in() {
    let ensemble = Ensemble::start(1).await;
    let mut settings = config(&ensemble.addresses(), PREFIX);
    // `user:secret` as ZooKeeper's digest scheme stores it: base64 of SHA-1.
    settings.acls = vec![AclRule::parse("digest:user:5w9W4eL3797Y4Wq8AcKUPPk8ha4=", ["ALL"]).unwrap()];
    settings.auth_data = vec![("digest".to_owned(), "user:secret".to_owned().into())];
    let member = ZooKeeperStore::new(settings).unwrap();
    lead(&member, "a").await;
    assert_eq!(snapshot(&member).await.entries.len(), 1);
    let stranger = store(&ensemble.addresses(), PREFIX);
    let read = stranger.snapshot(soon()).await;
    assert!(matches!(read, Err(StoreError::Unauthorized(_))), "{read:?}");
    let written = stranger.commit(&[], &[Write::put("leader", "b")], soon()).await;
    assert!(matches!(written, CommitOutcome::Unknown(StoreError::Unauthorized(_))), "{written:?}");
}
