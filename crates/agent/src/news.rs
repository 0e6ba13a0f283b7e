//! What wakes the loop: not every extension of the lease, and not every proof that the store is alive.

use std::sync::Arc;

use bellwether_dcs::{
    Snapshot,
    mirror::{Mirror, MirrorState},
};
use bellwether_ha::view::LeaseView;
use tokio::sync::watch;

use crate::lease::{LeaseHandle, LeaseState};

/// Watches lease and store for the loop.
#[derive(Debug)]
pub(crate) struct News {
    lease: watch::Receiver<LeaseState>,
    lease_kind: LeaseKind,
    store: watch::Receiver<MirrorState>,
    known: StoreContent,
}

impl News {
    pub(crate) fn of(lease: &LeaseHandle, mirror: &Mirror) -> Self {
        let (lease, store) = (lease.subscribe(), mirror.subscribe());
        let lease_kind = LeaseKind::of(&lease.borrow().view);
        let known = StoreContent::of(&store.borrow());
        Self { lease, lease_kind, store, known }
    }

    /// Waits for a change that a decision may depend on. `routine`: the last decision found everything in order, so that a mere
    /// confirmation of it is no news.
    pub(crate) async fn arrives(&mut self, routine: bool) {
        loop {
            tokio::select! {
                Ok(()) = self.lease.changed() => {
                    let kind = LeaseKind::of(&self.lease.borrow_and_update().view);
                    if std::mem::replace(&mut self.lease_kind, kind) != kind {
                        return;
                    }
                }
                Ok(()) = self.store.changed() => {
                    let state = self.store.borrow_and_update();
                    let content = StoreContent::of(&state);
                    let locked = state.cluster.as_ref().is_some_and(|cluster| !cluster.is_unlocked());
                    let may_wait = routine && locked && self.lease_kind != LeaseKind::Rejected;
                    let changed = std::mem::replace(&mut self.known, content) != self.known;
                    if changed || !may_wait {
                        return;
                    }
                }
                // Both tasks have ended: the loop hears that from them.
                else => std::future::pending().await,
            }
        }
    }
}

/// What about a lease is news: not its extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LeaseKind {
    NotHeld,
    Held { answered: bool },
    Rejected,
}

impl LeaseKind {
    fn of(lease: &LeaseView) -> Self {
        match lease {
            LeaseView::NotHeld => Self::NotHeld,
            LeaseView::Held { unavailable_since, .. } => Self::Held { answered: unavailable_since.is_none() },
            LeaseView::Rejected { .. } => Self::Rejected,
        }
    }
}

/// What about the store is news: not that it was confirmed.
#[derive(Debug)]
struct StoreContent {
    snapshot: Arc<Snapshot>,
    reachable: bool,
}

impl StoreContent {
    fn of(state: &MirrorState) -> Self {
        Self { snapshot: state.snapshot.clone(), reachable: state.error.is_none() }
    }
}

impl PartialEq for StoreContent {
    /// The same content in another place counts as new: at worst, one decision too many.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.snapshot, &other.snapshot) && self.reachable == other.reachable
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bellwether_dcs::{Deadline, MemoryStore, Store, Write, codec::keys};
    use bellwether_types::{Revision, Term, Timestamp};
    use futures::FutureExt as _;

    use super::*;

    struct Scene {
        store: MemoryStore,
        mirror: Mirror,
        lease: watch::Sender<LeaseState>,
        news: News,
    }

    impl Scene {
        async fn with_leader(leader: Option<&str>) -> Self {
            let store = MemoryStore::new();
            let mirror = Mirror::new(Arc::new(store.clone()), Duration::from_secs(60));
            let (lease, watched) = watch::channel(LeaseState { lease: None, view: LeaseView::NotHeld });
            let news = News {
                lease: watched,
                lease_kind: LeaseKind::NotHeld,
                store: mirror.subscribe(),
                known: StoreContent::of(&mirror.state()),
            };
            let mut scene = Self { store, mirror, lease, news };
            if let Some(leader) = leader {
                scene.put(leader).await;
            }
            scene.confirm().await;
            assert!(scene.arrived(true), "the first content");
            scene
        }

        async fn put(&self, leader: &str) {
            self.store.commit(&[], &[Write::put(keys::LEADER, leader)], soon()).await;
        }

        async fn confirm(&self) {
            self.mirror.refresh(soon()).await.expect("a store in memory answers");
        }

        fn lease(&self, view: LeaseView) {
            self.lease.send_replace(LeaseState { lease: None, view });
        }

        fn arrived(&mut self, routine: bool) -> bool {
            self.news.arrives(routine).now_or_never().is_some()
        }
    }

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(5))
    }

    fn held(until: u64) -> LeaseView {
        let until = Timestamp::from_nanos(until);
        LeaseView::Held {
            term: Term(1),
            revision: Revision(1),
            until,
            demote_at: until,
            unavailable_since: None,
        }
    }

    #[tokio::test]
    async fn a_confirmation_is_no_news_while_all_is_well() {
        let mut scene = Scene::with_leader(Some("a")).await;
        scene.confirm().await;
        assert!(!scene.arrived(true));
        scene.confirm().await;
        assert!(scene.arrived(false), "something is going on, which may wait for just this");
        scene.put("b").await;
        scene.confirm().await;
        assert!(scene.arrived(true), "another leader");
        scene.lease(LeaseView::Rejected { at: Timestamp::ZERO, good_until: Timestamp::ZERO });
        assert!(scene.arrived(true));
        scene.confirm().await;
        assert!(scene.arrived(true), "what was rejected waits for a newer content");
    }

    #[tokio::test]
    async fn without_a_leader_every_confirmation_is_news() {
        let mut scene = Scene::with_leader(None).await;
        scene.confirm().await;
        assert!(scene.arrived(true));
    }

    #[tokio::test]
    async fn an_extension_of_the_lease_is_no_news() {
        let mut scene = Scene::with_leader(Some("a")).await;
        scene.lease(held(1));
        assert!(scene.arrived(true), "the lock");
        scene.lease(held(2));
        assert!(!scene.arrived(true));
        scene.lease(LeaseView::NotHeld);
        assert!(scene.arrived(true));
    }
}
