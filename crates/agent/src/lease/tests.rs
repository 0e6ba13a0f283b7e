//! The keeper against the store in memory.

use bellwether_config::sections::watchdog::Watchdog as Section;
use bellwether_dcs::{
    Write, codec,
    memory::{Fault, MemoryStore},
};
use bellwether_ha::action::NextTimeline;
use bellwether_types::{LeaseId, TimelineId, settings::Settings};

use super::*;
use crate::{
    fencing::GuardianUse,
    watchdog::{Watchdog, tests::Hanging},
};

const TTL: Duration = Duration::from_secs(2);

struct Node {
    lease: LeaseHandle,
    link: MemoryStore,
    stop: CancellationToken,
    /// Cancelled: the loop hangs, the keeper does not.
    beating: CancellationToken,
    _ttl: watch::Sender<Duration>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn node(name: &str, store: &MemoryStore) -> Node {
    guarded_node(name, store, Watchdog::new(&Section::default(), &Settings::default()))
}

fn guarded_node(name: &str, store: &MemoryStore, watchdog: Watchdog) -> Node {
    let link = store.another_client();
    let fencing = Fencing::new(GuardianUse::Off, "/nonexistent".into(), "/nonexistent".into(), watchdog);
    let (ttl, ttl_changes) = watch::channel(TTL);
    let shared: Arc<dyn Store> = Arc::new(link.clone());
    let (keeper, lease) = LeaseKeeper::new(shared, MemberName::new(name).unwrap(), ttl_changes, fencing);
    let stop = CancellationToken::new();
    tokio::spawn(keeper.run(stop.clone()));
    // A loop that is alive, for as long as the test runs.
    let (heart, beating) = (lease.clone(), stop.child_token());
    let stopped = beating.clone();
    tokio::spawn(async move {
        while stopped.run_until_cancelled(tokio::time::sleep(TTL / 10)).await.is_some() {
            heart.beat(clock::now());
        }
    });
    Node { lease, link, stop, beating, _ttl: ttl }
}

/// Waits until the lease looks as wanted; the store's and the keeper's timers decide when.
async fn wait_for(node: &Node, what: &str, wanted: impl Fn(&LeaseView) -> bool) -> LeaseView {
    let mut changes = node.lease.subscribe();
    let seen = async {
        loop {
            let view = changes.borrow_and_update().view.clone();
            if wanted(&view) {
                return view;
            }
            changes.changed().await.unwrap();
        }
    };
    tokio::time::timeout(10 * TTL, seen)
        .await
        .unwrap_or_else(|_| panic!("never {what}: {:?}", node.lease.state()))
}

fn is_held(view: &LeaseView) -> bool {
    matches!(view, LeaseView::Held { .. })
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_one_of_two_gets_the_lock_and_keeps_it() {
    let store = MemoryStore::new();
    let (a, b) = (node("a", &store), node("b", &store));
    assert!(matches!(a.lease.acquire(Wanted::default()).await, Acquired::Yes { .. }));
    assert!(matches!(b.lease.acquire(Wanted::default()).await, Acquired::No));
    let LeaseView::Held { until, .. } = a.lease.state().view else { panic!("held") };
    wait_for(
        &a,
        "extended",
        |view| matches!(view, LeaseView::Held { until: later, .. } if *later > until + TTL / 2),
    )
    .await;
    assert_eq!(b.lease.state().view, LeaseView::NotHeld);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watchdog_device_that_hangs_costs_no_lease_and_hears_nothing_after_its_loss() {
    let store = MemoryStore::new();
    let (watchdog, device) = Hanging::active().await;
    let a = guarded_node("a", &store, watchdog.clone());
    assert!(matches!(a.lease.acquire(Wanted::default()).await, Acquired::Yes { .. }));
    device.wait_for_ping();
    let before = until(&a.lease.state().view);
    wait_for(&a, "extended", |view| is_held(view) && until(view) > before + TTL).await;
    store.commit(&[], &[Write::delete(keys::LEADER)], Deadline::after(TTL)).await;
    wait_for(&a, "rejected", |view| matches!(view, LeaseView::Rejected { .. })).await;
    assert_eq!(device.recover(&watchdog).await, 0, "a ping was left over from the lost lease");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_somebody_removed_is_a_rejection() {
    let store = MemoryStore::new();
    let a = node("a", &store);
    assert!(matches!(a.lease.acquire(Wanted::default()).await, Acquired::Yes { .. }));
    store.commit(&[], &[Write::delete(keys::LEADER)], Deadline::after(TTL)).await;
    wait_for(&a, "rejected", |view| matches!(view, LeaseView::Rejected { .. })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_no_rejection_and_does_not_extend() {
    let store = MemoryStore::new();
    let a = node("a", &store);
    assert!(matches!(a.lease.acquire(Wanted::default()).await, Acquired::Yes { .. }));
    a.link.set_fault(Some(Fault::Silent));
    let unanswered = |view: &LeaseView| matches!(view, LeaseView::Held { unavailable_since: Some(_), .. });
    let LeaseView::Held { until: before, .. } = wait_for(&a, "unanswered", unanswered).await else {
        unreachable!()
    };
    assert!(before < clock::now() + TTL, "belief is shorter than the lease");
    a.link.set_fault(None);
    // The store drops a lease that was not renewed; whichever came first, the keeper must not invent one.
    wait_for(&a, "answered or rejected", |view| {
        matches!(view, LeaseView::Rejected { .. } | LeaseView::Held { unavailable_since: None, .. })
    })
    .await;
}

fn until(view: &LeaseView) -> Timestamp {
    let LeaseView::Held { until, .. } = view else { panic!("{view:?}") };
    *until
}

/// Less than the fifth of `ttl` in which a lease would be renewed otherwise.
const SHORT: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_guarantees_less_than_ttl_is_asked_more_often() {
    let a = node("a", &MemoryStore::new());
    a.link.guarantee_at_most(SHORT);
    assert!(matches!(a.lease.acquire(Wanted::default()).await, Acquired::Yes { .. }));
    let mut seen = until(&a.lease.state().view);
    let mut steps = Vec::new();
    while steps.len() < 10 {
        let later = wait_for(&a, "renewed", |view| is_held(view) && until(view) > seen).await;
        steps.push(until(&later) - seen);
        seen = until(&later);
    }
    assert!(steps.iter().any(|step| *step < SHORT / 2), "a fifth each, and some may be late: {steps:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn promises_of_the_members_count_no_longer_than_a_renewal() {
    let a = node("a", &MemoryStore::new());
    a.link.guarantee_at_most(SHORT);
    assert!(matches!(a.lease.acquire(Wanted::default()).await, Acquired::Yes { .. }));
    a.link.set_fault(Some(Fault::Silent));
    wait_for(&a, "unanswered", |view| matches!(view, LeaseView::Held { unavailable_since: Some(_), .. }))
        .await;
    let (before, began_at) = (until(&a.lease.state().view), clock::now());
    a.lease.extend(began_at, TTL).await;
    let extended = wait_for(&a, "extended", |view| until(view) > before).await;
    assert_eq!(until(&extended), lease::limits(began_at, SHORT).until);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_agent_takes_over_the_key_of_the_one_before() {
    let store = MemoryStore::new();
    let before = node("a", &store);
    let Acquired::Yes { term } = before.lease.acquire(Wanted::default()).await else { panic!("free lock") };
    let LeaseView::Held { revision, .. } = before.lease.state().view else { panic!("held") };
    drop(before);
    let next = node("a", &store);
    assert!(
        matches!(next.lease.acquire(Wanted::default()).await, Acquired::No),
        "a plain race must not win it"
    );
    let resumed = next.lease.acquire(Wanted { present: Some(revision), ..Wanted::default() }).await;
    assert!(matches!(resumed, Acquired::Yes { .. }), "{resumed:?} after {term:?}");
    // The key hangs on the new lease now and so survives the old one.
    let LeaseView::Held { until, .. } = next.lease.state().view else { panic!("held") };
    wait_for(
        &next,
        "kept",
        |view| matches!(view, LeaseView::Held { until: later, .. } if *later > until + TTL),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_race_that_rests_on_an_old_sync_state_is_lost() {
    let store = MemoryStore::new();
    let a = node("a", &store);
    store.commit(&[], &[Write::put(keys::SYNC, "{}")], Deadline::after(TTL)).await;
    assert!(
        matches!(a.lease.acquire(Wanted::default()).await, Acquired::No),
        "`sync` was absent when it was decided"
    );
    assert_eq!(a.lease.state().view, LeaseView::NotHeld);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_a_timeline_goes_with_the_lock_or_not_at_all() {
    let store = MemoryStore::new();
    let (a, b) = (node("a", &store), node("b", &store));
    let wanted = |timeline, expect| Wanted {
        timeline: Some(NextTimeline { timeline: TimelineId(timeline), expect }),
        ..Wanted::default()
    };
    let claim = async || {
        let snapshot = store.snapshot(Deadline::after(TTL)).await.unwrap();
        let claim = codec::decode(&snapshot).timeline_claim.expect("a number was taken");
        (claim.value.unwrap(), claim.revision)
    };
    assert!(matches!(a.lease.acquire(wanted(2, None)).await, Acquired::Yes { .. }));
    let (taken, revision) = claim().await;
    assert_eq!((taken.timeline, taken.leader.as_str()), (TimelineId(2), "a"));
    assert!(matches!(b.lease.acquire(wanted(3, Some(revision))).await, Acquired::No), "a holds the lock");
    assert_eq!(claim().await.1, revision, "who does not get the lock takes no number");
    a.lease.release(None).await;
    assert!(matches!(b.lease.acquire(wanted(2, None)).await, Acquired::No), "b has not seen that a took 2");
    assert!(matches!(b.lease.acquire(wanted(3, Some(revision))).await, Acquired::Yes { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn release_stops_belief_before_the_key_is_gone() {
    let store = MemoryStore::new();
    let (a, b) = (node("a", &store), node("b", &store));
    assert!(matches!(a.lease.acquire(Wanted::default()).await, Acquired::Yes { .. }));
    // The store does not answer, so the key stays; nobody here may believe in it from the first moment on.
    a.link.set_fault(Some(Fault::Silent));
    let belief_ends = async {
        while is_held(&a.lease.state().view) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        biased;
        () = belief_ends => {}
        _ = a.lease.release(None) => panic!("it was believed in until the store had its say"),
    }
    a.link.set_fault(None);
    assert!(matches!(a.lease.release(Some(br#"{"optime":7}"#.to_vec())).await, Released::Yes));
    assert_eq!(a.lease.state().view, LeaseView::NotHeld);
    let snapshot = store.snapshot(Deadline::after(TTL)).await.unwrap();
    assert!(!snapshot.entries.contains_key(&Key::from(keys::LEADER)));
    assert_eq!(snapshot.entries[&Key::from(keys::STATUS)].value, br#"{"optime":7}"#);
    assert!(matches!(b.lease.acquire(Wanted::default()).await, Acquired::Yes { .. }));
    assert!(matches!(a.lease.release(None).await, Released::No), "it is somebody else's now");
    assert!(is_held(&b.lease.state().view));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_steps_to_the_lock_share_one_deadline() {
    let a = node("a", &MemoryStore::new());
    drop(a.lease.subscribe().wait_for(|state| state.lease.is_some()).await.expect("the keeper runs"));
    // The lock and its proof would each be in time for a renewal, and together they are not.
    let step = TTL * 7 / 40;
    a.link.set_fault(Some(Fault::Delayed(step)));
    let began = clock::now();
    let acquired = a.lease.acquire(Wanted::default()).await;
    let took = clock::now().since(began);
    assert!(matches!(acquired, Acquired::Unknown(_)), "{acquired:?} after {took:?}");
    assert_eq!(a.lease.state().view, LeaseView::NotHeld, "a lock without a proof is none");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_kept_by_who_does_not_lead_and_replaced_when_it_is_gone() {
    let store = MemoryStore::new();
    let a = node("a", &store);
    let granted = async |other: Option<LeaseId>| {
        let mut changes = a.lease.subscribe();
        let seen = changes.wait_for(|state| state.lease.is_some() && state.lease != other);
        let state = tokio::time::timeout(10 * TTL, seen).await.expect("a lease").unwrap().lease;
        state.unwrap()
    };
    let first = granted(None).await;
    let key = Key::new("members/a");
    let soon = || Deadline::after(TTL);
    store.commit(&[], &[Write::put_leased(key.clone(), "{}", first)], soon()).await;
    let end = clock::now() + 2 * TTL;
    while clock::now() < end {
        assert!(store.snapshot(soon()).await.unwrap().entries.contains_key(&key), "nobody renewed it");
        tokio::time::sleep(TTL / 20).await;
    }
    store.revoke_lease(first, soon()).await.unwrap();
    let second = granted(Some(first)).await;
    assert!(matches!(store.keep_alive(second, None, soon()).await, Renewal::Valid { .. }));
    assert!(matches!(a.lease.acquire(Wanted::default()).await, Acquired::Yes { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_that_hangs_loses_the_lock() {
    let store = MemoryStore::new();
    let a = node("a", &store);
    assert!(matches!(a.lease.acquire(Wanted::default()).await, Acquired::Yes { .. }));
    a.beating.cancel();
    let b = node("b", &store);
    let taken = async {
        while !matches!(b.lease.acquire(Wanted::default()).await, Acquired::Yes { .. }) {
            tokio::time::sleep(TTL / 20).await;
        }
    };
    tokio::time::timeout(10 * TTL, taken).await.expect("the lease of a hung agent runs out");
}
