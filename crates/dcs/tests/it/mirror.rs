use std::{sync::Arc, time::Duration};

use bellwether_dcs::{
    Deadline, MemoryStore, Mirror, MirrorState, Store, Write,
    memory::{Fault, Limits},
    store::now,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::broken::{Broken, Defect};

const LONG: Duration = Duration::from_secs(3600);

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(5))
}

/// A mirror with its task, which ends with the test.
struct Running {
    mirror: Mirror,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    fn start(store: Arc<dyn Store>, poll: Duration) -> Self {
        let (mirror, stop) = (Mirror::new(store, poll), CancellationToken::new());
        let task = tokio::spawn({
            let (mirror, stop) = (mirror.clone(), stop.clone());
            async move { mirror.run(stop).await }
        });
        Self { mirror, stop, task }
    }

    async fn until(&self, case: &str, condition: impl Fn(&MirrorState) -> bool) -> MirrorState {
        let mut states = self.mirror.subscribe();
        let reached = tokio::time::timeout(Duration::from_secs(15), states.wait_for(condition)).await;
        match reached {
            Ok(state) => state.expect("the mirror lives").clone(),
            Err(_) => panic!("{case}: not reached, the mirror is at {:?}", self.mirror.state()),
        }
    }

    async fn end(self) {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(5), self.task).await.expect("it stops").unwrap();
    }
}

fn leader(state: &MirrorState) -> Option<&str> {
    state.cluster.as_ref()?.leader_name().map(|name| name.as_str())
}

async fn put_leader(store: &MemoryStore, name: &str) {
    store.commit(&[], &[Write::put("leader", name)], soon()).await;
}

#[tokio::test]
async fn the_mirror_follows_the_store_and_proves_its_age() {
    let store = MemoryStore::new();
    put_leader(&store, "a").await;
    let before = now();
    let running = Running::start(Arc::new(store.another_client()), LONG);
    let first = running.until("first read", |state| leader(state) == Some("a")).await;
    assert!(first.confirmed_at >= before && first.confirmed_at <= now());
    put_leader(&store, "b").await;
    running.until("a change", |state| leader(state) == Some("b")).await;
    let lease = store.grant_lease(Duration::from_millis(200), soon()).await.unwrap();
    store.commit(&[], &[Write::put_leased("leader", "c", lease)], soon()).await;
    running.until("a leased key", |state| leader(state) == Some("c")).await;
    let expired = running.until("its expiry", |state| leader(state).is_none()).await;
    let later = expired.confirmed_at + Duration::from_secs(1);
    let idle = running.until("proofs of life", |state| state.confirmed_at > later).await;
    assert!(Arc::ptr_eq(&idle.snapshot, &expired.snapshot), "nothing was read anew");
    running.end().await;
}

#[tokio::test]
async fn while_the_store_is_away_the_content_grows_old_and_says_why() {
    let store = MemoryStore::new();
    put_leader(&store, "a").await;
    let link = store.another_client();
    let running = Running::start(Arc::new(link.clone()), LONG);
    running.until("first read", |state| leader(state) == Some("a")).await;
    link.set_fault(Some(Fault::Unreachable));
    let cut_at = now();
    let old = running.until("the cut", |state| state.error.is_some()).await;
    assert_eq!(leader(&old), Some("a"));
    assert!(old.confirmed_at <= cut_at);
    put_leader(&store, "b").await;
    link.set_fault(None);
    let healed = running.until("the healing", |state| leader(state) == Some("b")).await;
    assert!(healed.error.is_none() && healed.confirmed_at > cut_at);
    running.end().await;
}

#[tokio::test]
async fn a_silent_store_confirms_nothing() {
    let store = MemoryStore::new();
    put_leader(&store, "a").await;
    let link = store.another_client();
    let running = Running::start(Arc::new(link.clone()), LONG);
    running.until("first read", |state| leader(state) == Some("a")).await;
    link.set_fault(Some(Fault::Silent));
    let silent_at = now();
    let old = running.until("the silence", |state| state.error.is_some()).await;
    assert!(old.confirmed_at <= silent_at, "confirmed {:?} after the silence", old.confirmed_at - silent_at);
    running.end().await;
}

#[tokio::test]
async fn a_watch_that_lost_changes_is_replaced() {
    let store = MemoryStore::with_limits(Limits { log: 4, watch_queue: 3 });
    let running = Running::start(Arc::new(store.another_client()), LONG);
    running.until("first read", |state| state.cluster.is_some()).await;
    for number in 0..500 {
        put_leader(&store, &format!("m{number}")).await;
    }
    running.until("the last of many changes", |state| leader(state) == Some("m499")).await;
    running.end().await;
}

#[tokio::test]
async fn a_dead_watch_is_noticed_by_its_silence() {
    let store = MemoryStore::new();
    put_leader(&store, "a").await;
    let running = Running::start(Broken::new(store.another_client(), Defect::NeverTells), LONG);
    running.until("first read", |state| leader(state) == Some("a")).await;
    put_leader(&store, "b").await;
    running.until("the change after the silence", |state| leader(state) == Some("b")).await;
    running.end().await;
}

#[tokio::test]
async fn polling_finds_what_a_watch_does_not_tell() {
    let store = MemoryStore::new();
    let running = Running::start(Broken::new(store.another_client(), Defect::NeverTells), LONG);
    running.until("first read", |state| state.cluster.is_some()).await;
    running.mirror.set_poll(Duration::from_millis(50));
    put_leader(&store, "a").await;
    let began = now();
    running.until("the change", |state| leader(state) == Some("a")).await;
    assert!(now() - began < Duration::from_secs(2), "that was the silence limit, not the poll");
    running.end().await;
}

#[tokio::test]
async fn a_refresh_sees_every_confirmed_write_even_without_the_task() {
    let store = MemoryStore::new();
    let link = store.another_client();
    let mirror = Mirror::new(Arc::new(link.clone()), LONG);
    for name in ["a", "b"] {
        put_leader(&store, name).await;
        let before = now();
        let cluster = mirror.refresh(soon()).await.unwrap();
        assert_eq!(cluster.leader_name().unwrap().as_str(), name);
        assert!(mirror.state().confirmed_at >= before);
    }
    link.set_fault(Some(Fault::Unreachable));
    assert!(mirror.refresh(soon()).await.is_err());
    assert_eq!(leader(&mirror.state()), Some("b"));
    assert!(mirror.state().error.is_some());
}
