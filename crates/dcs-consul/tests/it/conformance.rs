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
    Store,
    conformance::{
        Bench, Failure, Harness, Timing,
        link::{Flow, Link},
        run,
    },
};
use tokio::{sync::Mutex, task::JoinSet};

use crate::server::{Server, store};

/// What was sent on a connection that is cut now is done by then.
const LATE_WRITES: Duration = Duration::from_secs(1);

struct OneServer {
    server: Server,
    cases: AtomicUsize,
}

/// One cluster's prefix.
struct Prefix {
    address: String,
    prefix: String,
    disturbed: Mutex<Option<(Link, JoinSet<()>)>>,
}

#[async_trait]
impl Harness for OneServer {
    async fn open(&self) -> Result<Arc<dyn Bench>, Failure> {
        let case = self.cases.fetch_add(1, Ordering::SeqCst);
        let (address, prefix) = (self.server.address.clone(), format!("service/case{case}/"));
        Ok(Arc::new(Prefix { address, prefix, disturbed: Mutex::default() }))
    }

    fn concurrency(&self) -> usize {
        3
    }
}

#[async_trait]
impl Bench for Prefix {
    async fn client(&self) -> Result<Arc<dyn Store>, Failure> {
        Ok(Arc::new(store(&self.address, &self.prefix)))
    }

    /// A session of one second ends up to two seconds after its renewal.
    fn timing(&self) -> Timing {
        Timing {
            ttl: Duration::from_secs(2),
            expires_within: Duration::from_millis(2_500),
            ..Timing::default()
        }
    }

    async fn flaky_client(&self) -> Result<Option<Arc<dyn Store>>, Failure> {
        let proxy = Link::to(&self.address).await;
        let store: Arc<dyn Store> = Arc::new(store(&proxy.address, &self.prefix));
        let disturbing = proxy.disturb();
        *self.disturbed.lock().await = Some((proxy, disturbing));
        Ok(Some(store))
    }

    async fn calm(&self) {
        if let Some((proxy, mut disturbing)) = self.disturbed.lock().await.take() {
            disturbing.shutdown().await;
            proxy.set(Flow::Cut);
            tokio::time::sleep(LATE_WRITES).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn consul_keeps_every_promise_of_a_store() {
    let harness = OneServer { server: Server::start().await, cases: AtomicUsize::new(0) };
    run(Arc::new(harness)).await.assert_passed();
}
