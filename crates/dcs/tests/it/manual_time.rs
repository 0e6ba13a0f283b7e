use std::time::Duration;

use bellwether_dcs::{
    CommitOutcome, Deadline, MemoryStore, Renewal, Store, StoreError, WatchEvent, Write,
    memory::{Fault, ManualClock},
};
use bellwether_types::Timestamp;

const TTL: Duration = Duration::from_secs(5);

/// Ignored by a store whose time stands still.
const BY: Deadline = Deadline(Timestamp::ZERO);

fn store() -> (ManualClock, MemoryStore) {
    let clock = ManualClock::new(Timestamp::from_millis(1_000));
    (clock.clone(), MemoryStore::with_clock(clock))
}

#[tokio::test]
async fn a_lease_lives_exactly_as_long_as_the_clock_says() {
    let (clock, store) = store();
    let lease = store.grant_lease(TTL, BY).await.unwrap();
    store.commit(&[], &[Write::put_leased("leader", "a", lease)], BY).await;
    clock.advance(TTL - Duration::from_nanos(1));
    assert!(matches!(store.keep_alive(lease, None, BY).await, Renewal::Valid { guaranteed: TTL }));
    clock.advance(TTL - Duration::from_nanos(1));
    assert_eq!(store.snapshot(BY).await.unwrap().entries.len(), 1);
    clock.advance(Duration::from_nanos(1));
    assert!(store.snapshot(BY).await.unwrap().entries.is_empty());
    assert!(matches!(store.keep_alive(lease, None, BY).await, Renewal::Gone));
}

#[tokio::test]
async fn watches_are_told_of_expiries_and_of_life_when_the_clock_ticks() {
    let (clock, store) = store();
    let lease = store.grant_lease(TTL, BY).await.unwrap();
    store.commit(&[], &[Write::put_leased("leader", "a", lease)], BY).await;
    let mut watch = store.watch(store.snapshot(BY).await.unwrap().revision).await.unwrap();
    clock.advance(Duration::from_secs(1));
    assert!(watch.events.try_recv().is_err(), "nothing happens before the tick");
    store.tick();
    assert!(matches!(watch.events.try_recv(), Ok(WatchEvent::Alive { .. })));
    clock.advance(TTL);
    store.tick();
    let Ok(WatchEvent::Changed { changes, .. }) = watch.events.try_recv() else { panic!("no expiry") };
    assert_eq!(changes, [("leader".into(), None)]);
}

#[tokio::test]
async fn a_delayed_write_lands_after_its_sender_gave_up() {
    let (clock, store) = store();
    let other = store.another_client();
    store.set_fault(Some(Fault::Delayed(Duration::from_secs(2))));
    let outcome = store.commit(&[], &[Write::put("k", "late")], BY).await;
    assert!(matches!(outcome, CommitOutcome::Unknown(StoreError::TimedOut)));
    assert!(other.snapshot(BY).await.unwrap().entries.is_empty());
    clock.advance(Duration::from_secs(2));
    assert_eq!(other.snapshot(BY).await.unwrap().entries.len(), 1);
}

#[tokio::test]
async fn each_link_breaks_alone() {
    let (_, store) = store();
    let other = store.another_client();
    let mut watch = store.watch(store.snapshot(BY).await.unwrap().revision).await.unwrap();
    store.set_fault(Some(Fault::Silent));
    assert!(matches!(store.snapshot(BY).await, Err(StoreError::TimedOut)));
    other.commit(&[], &[Write::put("k", "1")], BY).await;
    assert!(watch.events.try_recv().is_err(), "a silent link tells nothing");
    store.set_fault(None);
    assert!(matches!(watch.events.try_recv(), Ok(WatchEvent::Changed { .. })), "it goes on without a gap");
    store.set_fault(Some(Fault::Unreachable));
    assert_eq!(watch.events.try_recv(), Ok(WatchEvent::Lost));
    assert!(matches!(store.snapshot(BY).await, Err(StoreError::Unreachable(_))));
    store.set_fault(Some(Fault::AnswersLost));
    let outcome = store.commit(&[], &[Write::put("k", "2")], BY).await;
    assert!(matches!(outcome, CommitOutcome::Unknown(_)));
    assert_eq!(other.snapshot(BY).await.unwrap().entries[&"k".into()].value, b"2");
}
