//! Routine writes to the store, beside the loop: what a member says about itself, and the keys that a leader keeps up to date.
//!
//! No decision of this member waits for them. A store that is silent takes its whole time for each; if the loop waited, a leader
//! would come too late to ask the other members whether it may go on without the store.
//!
//! The latest value of a key replaces one that still waits. What fails is dropped: the core sees that it is missing and asks again.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bellwether_dcs::{Check, CommitOutcome, Deadline, Key, Store, Write};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// One key to be written.
#[derive(Debug)]
pub(crate) struct Publication {
    pub(crate) key: Key,
    pub(crate) checks: Vec<Check>,
    pub(crate) write: Write,
    /// How long the one attempt may take.
    pub(crate) within: Duration,
}

#[derive(Debug, Default)]
struct Desk {
    waiting: VecDeque<Publication>,
    refused: BTreeSet<Key>,
}

/// Takes publications. Cheap to clone; [`Publisher::run`] is the task that writes them.
#[derive(Clone, Debug)]
pub(crate) struct Publisher {
    desk: Arc<Mutex<Desk>>,
    /// How many are waiting or being written.
    open: watch::Sender<usize>,
}

impl Publisher {
    pub(crate) fn new() -> Self {
        Self { desk: Arc::default(), open: watch::Sender::new(0) }
    }

    /// Writes this as soon as the store lets us, instead of what still waits for the same key.
    pub(crate) fn put(&self, publication: Publication) {
        let mut desk = self.lock();
        if let Some(earlier) = desk.waiting.iter_mut().find(|earlier| earlier.key == publication.key) {
            *earlier = publication;
            return;
        }
        desk.waiting.push_back(publication);
        drop(desk);
        self.open.send_modify(|open| *open += 1);
    }

    /// Whether the store refused the last write of this key; asked once.
    pub(crate) fn take_refusal(&self, key: &Key) -> bool {
        self.lock().refused.remove(key)
    }

    /// Waits until everything is written or dropped, or the time is over.
    pub(crate) async fn settle(&self, within: Duration) {
        let mut open = self.open.subscribe();
        let settled = open.wait_for(|open| *open == 0);
        if tokio::time::timeout(within, settled).await.is_err() {
            debug!("the last publications did not reach the store");
        }
    }

    /// Writes what is put, one after the other, until `stop`. A write that was begun may land after that.
    pub(crate) async fn run(self, store: Arc<dyn Store>, stop: CancellationToken) {
        let mut open = self.open.subscribe();
        while stop.run_until_cancelled(open.wait_for(|open| *open > 0)).await.is_some() {
            let next = self.lock().waiting.pop_front();
            if let Some(publication) = next {
                self.write(&*store, publication).await;
            }
            self.open.send_modify(|open| *open -= 1);
        }
    }

    async fn write(&self, store: &dyn Store, publication: Publication) {
        let Publication { key, checks, write, within } = publication;
        match store.commit(&checks, &[write], Deadline::after(within)).await {
            CommitOutcome::Applied(_) => {}
            CommitOutcome::Refused { .. } => {
                debug!(%key, "the store refused a publication");
                self.lock().refused.insert(key);
            }
            CommitOutcome::Unknown(error) => debug!(%key, %error, "not published"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use bellwether_dcs::memory::{Fault, MemoryStore};

    use super::*;

    const WITHIN: Duration = Duration::from_millis(100);
    const PATIENCE: Duration = Duration::from_secs(20);

    fn put(publisher: &Publisher, key: &str, value: &str, checks: Vec<Check>) {
        let (key, write) = (Key::new(key), Write::put(key, value));
        publisher.put(Publication { key, checks, write, within: WITHIN });
    }

    async fn stored(store: &MemoryStore, key: &str) -> Option<String> {
        let snapshot = store.snapshot(Deadline::after(PATIENCE)).await.unwrap();
        snapshot.entries.get(&Key::new(key)).map(|entry| String::from_utf8(entry.value.clone()).unwrap())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_latest_value_of_a_key_is_written() {
        let (store, publisher, stop) = (MemoryStore::new(), Publisher::new(), CancellationToken::new());
        for value in ["1", "2", "3"] {
            put(&publisher, "status", value, vec![]);
        }
        put(&publisher, "members/a", "here", vec![]);
        let task = tokio::spawn(publisher.clone().run(Arc::new(store.clone()), stop.clone()));
        publisher.settle(PATIENCE).await;
        assert_eq!(stored(&store, "status").await.as_deref(), Some("3"));
        assert_eq!(stored(&store, "members/a").await.as_deref(), Some("here"));
        stop.cancel();
        task.await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_silent_store_holds_up_nobody_and_loses_only_what_was_said_meanwhile() {
        let (store, publisher, stop) = (MemoryStore::new(), Publisher::new(), CancellationToken::new());
        let link = store.another_client();
        link.set_fault(Some(Fault::Silent));
        let task = tokio::spawn(publisher.clone().run(Arc::new(link.clone()), stop.clone()));
        put(&publisher, "status", "lost", vec![]);
        publisher.settle(PATIENCE).await;
        link.set_fault(None);
        put(&publisher, "status", "back", vec![]);
        publisher.settle(PATIENCE).await;
        assert_eq!(stored(&store, "status").await.as_deref(), Some("back"));
        stop.cancel();
        task.await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_refusal_is_told_once() {
        let (store, publisher, stop) = (MemoryStore::new(), Publisher::new(), CancellationToken::new());
        let task = tokio::spawn(publisher.clone().run(Arc::new(store.clone()), stop.clone()));
        put(&publisher, "status", "1", vec![Check::has_value("leader", "somebody else")]);
        publisher.settle(PATIENCE).await;
        assert_eq!(stored(&store, "status").await, None);
        assert!(publisher.take_refusal(&Key::new("status")));
        assert!(!publisher.take_refusal(&Key::new("status")));
        stop.cancel();
        task.await.unwrap();
    }
}
