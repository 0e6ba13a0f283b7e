use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bellwether_dcs::{
    MemoryStore, Store,
    conformance::{self, Bench, CASES, Failure, Harness, Timing},
    memory::Limits,
};

use crate::broken::{Broken, Defect, LATE};

/// Fresh stores in memory; with a defect, every client has it.
struct Memory {
    limits: Limits,
    defect: Option<Defect>,
}

struct MemoryBench {
    store: MemoryStore,
    defect: Option<Defect>,
    flaky: Mutex<Vec<Arc<Broken>>>,
}

#[async_trait]
impl Harness for Memory {
    async fn open(&self) -> Result<Arc<dyn Bench>, Failure> {
        let store = MemoryStore::with_limits(self.limits);
        Ok(Arc::new(MemoryBench { store, defect: self.defect, flaky: Mutex::default() }))
    }

    fn concurrency(&self) -> usize {
        CASES.len()
    }
}

#[async_trait]
impl Bench for MemoryBench {
    async fn client(&self) -> Result<Arc<dyn Store>, Failure> {
        let client = self.store.another_client();
        Ok(match self.defect {
            Some(defect) => Broken::new(client, defect),
            None => Arc::new(client),
        })
    }

    fn timing(&self) -> Timing {
        Timing { expires_within: Duration::from_millis(500), ..Timing::default() }
    }

    async fn flaky_client(&self) -> Result<Option<Arc<dyn Store>>, Failure> {
        // With this "defect" the client only passes on what the store in memory says.
        let client = Broken::new(self.store.another_client(), self.defect.unwrap_or(Defect::NeverTells));
        client.make_flaky(true);
        self.flaky.lock().unwrap().push(client.clone());
        Ok(Some(client))
    }

    async fn calm(&self) {
        for client in self.flaky.lock().unwrap().drain(..) {
            client.make_flaky(false);
        }
        // Exactly the delay of the writes that are still on their way.
        tokio::time::sleep(LATE).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_in_memory_keeps_its_promises() {
    conformance::run(Arc::new(Memory { limits: Limits::default(), defect: None })).await.assert_passed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_forgets_quickly_says_so() {
    let limits = Limits { log: 20, watch_queue: 8 };
    let cases: Vec<_> = CASES.iter().copied().filter(|case| case.promise.contains("watch")).collect();
    assert!(cases.len() >= 3);
    // The full story needs more room than this store has.
    let cases: Vec<_> = cases.into_iter().filter(|case| !case.promise.contains("every change")).collect();
    let harness = Arc::new(Memory { limits, defect: None });
    conformance::run_cases(harness, &cases).await.assert_passed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_catches_a_store_that_breaks_a_promise() {
    let mut examinations = tokio::task::JoinSet::new();
    for (defect, promise) in [
        (Defect::PromisesTooMuch, "the keys of a lease vanish together"),
        (Defect::PromisesTooMuch, "a renewal in the last moment"),
        (Defect::IgnoresHolding, "a renewal that asks about a key"),
        (Defect::SplitsTransactions, "a transaction over three keys"),
        (Defect::SplitsTransactions, "concurrent transactions"),
        (Defect::SplitsTransactions, "a put that names an unknown lease"),
        (Defect::ServesOldSnapshots, "a confirmed write is in every snapshot"),
        (Defect::SkipsChanges, "a slow reader"),
        (Defect::SkipsChanges, "a watch from an old revision"),
        (Defect::SkipsChanges, "a watch tells every change"),
        (Defect::ClaimsSuccess, "interrupted writes"),
        (Defect::ClaimsRefusal, "interrupted writes"),
        (Defect::RetriesBlindly, "interrupted writes"),
    ] {
        let case = *CASES.iter().find(|case| case.promise.starts_with(promise)).expect(promise);
        let harness = Arc::new(Memory { limits: Limits::default(), defect: Some(defect) });
        examinations.spawn(async move {
            let report = conformance::run_cases(harness, &[case]).await;
            assert_eq!(report.failures().count(), 1, "{defect:?} was not caught by: {promise}");
        });
    }
    while let Some(ended) = examinations.join_next().await {
        ended.expect("the defect is caught");
    }
}
