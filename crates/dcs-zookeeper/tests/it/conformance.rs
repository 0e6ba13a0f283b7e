//! The suite that every store passes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bellwether_dcs::{
    Deadline, Store,
    conformance::{
        Bench, Failure, Harness, Timing,
        link::{Flow, Link},
        run,
    },
};
use tokio::{sync::Mutex, task::JoinSet};

use crate::server::{Ensemble, LOOK_AGAIN, store};

struct ThreeServers {
    ensemble: Ensemble,
    cases: AtomicUsize,
}

/// One cluster's prefix.
struct Prefix {
    addresses: Vec<String>,
    prefix: String,
    next: AtomicUsize,
    disturbed: Mutex<Option<Disturbed>>,
}

struct Disturbed {
    store: Arc<dyn Store>,
    proxy: Link,
    disturbing: JoinSet<()>,
}

#[async_trait]
impl Harness for ThreeServers {
    async fn open(&self) -> Result<Arc<dyn Bench>, Failure> {
        let case = self.cases.fetch_add(1, Ordering::SeqCst);
        Ok(Arc::new(Prefix {
            addresses: self.ensemble.addresses(),
            prefix: format!("/service/case{case}/"),
            next: AtomicUsize::new(case),
            disturbed: Mutex::default(),
        }))
    }

    fn concurrency(&self) -> usize {
        3
    }
}

#[async_trait]
impl Bench for Prefix {
    /// Of each of the servers in turn.
    async fn client(&self) -> Result<Arc<dyn Store>, Failure> {
        let turn = self.next.fetch_add(1, Ordering::SeqCst) % self.addresses.len();
        Ok(Arc::new(store(&self.addresses[turn..=turn], &self.prefix)))
    }

    fn timing(&self) -> Timing {
        Timing { ttl: Duration::from_secs(2), expires_within: Duration::from_secs(2), ..Timing::default() }
    }

    async fn flaky_client(&self) -> Result<Option<Arc<dyn Store>>, Failure> {
        let proxy = Link::to(&self.addresses[0]).await;
        let store: Arc<dyn Store> = Arc::new(store(std::slice::from_ref(&proxy.address), &self.prefix));
        let disturbing = proxy.disturb();
        *self.disturbed.lock().await = Some(Disturbed { store: store.clone(), proxy, disturbing });
        Ok(Some(store))
    }

    /// A session's requests are answered in order: once a read is, no earlier write is on its way.
    async fn calm(&self) {
        if let Some(mut disturbed) = self.disturbed.lock().await.take() {
            disturbed.disturbing.shutdown().await;
            disturbed.proxy.set(Flow::Open);
            while disturbed.store.snapshot(Deadline::after(Duration::from_secs(5))).await.is_err() {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ensemble_keeps_every_promise_of_a_store() {
    let harness = ThreeServers { ensemble: Ensemble::start(3).await, cases: AtomicUsize::new(0) };
    run(Arc::new(harness)).await.assert_passed();
}
