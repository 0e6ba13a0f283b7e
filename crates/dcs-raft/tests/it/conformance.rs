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
    conformance::{Bench, Failure, Harness, Timing, run},
};
use tokio::{sync::Mutex, task::JoinHandle, time::sleep};

use crate::cluster::{Cluster, put, until};

struct Loopback;

struct ThreeNodes {
    cluster: Cluster,
    next: AtomicUsize,
    disturbance: Mutex<Option<JoinHandle<()>>>,
}

/// Shorter and longer than an election.
const CUT_OFF: [Duration; 3] =
    [Duration::from_millis(50), Duration::from_millis(1200), Duration::from_millis(250)];
const CONNECTED: Duration = Duration::from_millis(900);
/// A call of the suite is given up well before: what it sent has landed by then, or never will.
const LATE_WRITES: Duration = Duration::from_millis(700);

#[async_trait]
impl Harness for Loopback {
    async fn open(&self) -> Result<Arc<dyn Bench>, Failure> {
        let cluster = Cluster::start(3).await;
        Ok(Arc::new(ThreeNodes { cluster, next: AtomicUsize::new(0), disturbance: Mutex::default() }))
    }

    fn concurrency(&self) -> usize {
        3
    }
}

#[async_trait]
impl Bench for ThreeNodes {
    /// Each of the nodes in turn, then a client without a vote.
    async fn client(&self) -> Result<Arc<dyn Store>, Failure> {
        let turn = self.next.fetch_add(1, Ordering::SeqCst) % (self.cluster.nodes.len() + 1);
        match self.cluster.nodes.get(turn) {
            Some(node) => Ok(node.store().clone()),
            None => Ok(Arc::new(self.cluster.client().await)),
        }
    }

    /// A client of the leader, which is cut off from the others again and again; after an election it forwards.
    async fn flaky_client(&self) -> Result<Option<Arc<dyn Store>>, Failure> {
        let leader = self.cluster.leader().await;
        let node = self.cluster.nodes[leader].store().clone();
        let cut = node.clone();
        let disturbing = tokio::spawn(async move {
            for cut_off in CUT_OFF.iter().cycle() {
                sleep(CONNECTED).await;
                cut.set_isolated(true);
                sleep(*cut_off).await;
                cut.set_isolated(false);
            }
        });
        *self.disturbance.lock().await = Some(disturbing);
        Ok(Some(node))
    }

    async fn calm(&self) {
        if let Some(disturbing) = self.disturbance.lock().await.take() {
            disturbing.abort();
        }
        for node in &self.cluster.nodes {
            node.store().set_isolated(false);
        }
        sleep(LATE_WRITES).await;
        put(&**self.cluster.nodes[0].store(), "calm", "1").await;
        until("all nodes are level", || {
            let applied: Vec<_> =
                self.cluster.running().map(|status| (status.last_log, status.applied)).collect();
            applied.iter().all(|level| *level == applied[0] && level.0 == level.1)
        })
        .await;
    }

    fn timing(&self) -> Timing {
        Timing { expires_within: Duration::from_secs(2), ..Timing::default() }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_keep_every_promise_of_a_store() {
    run(Arc::new(Loopback)).await.assert_passed();
}
