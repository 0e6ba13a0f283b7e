//! A store that breaks one promise, to see that the suite notices and that the mirror copes.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bellwether_dcs::{
    Capabilities, Check, CommitOutcome, Deadline, Key, MemoryStore, Renewal, Snapshot, Store, StoreError,
    Watch, WatchEvent, Write, memory::Fault,
};
use bellwether_types::{LeaseId, Revision};
use tokio::sync::mpsc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defect {
    /// Leases end earlier than their holders are told.
    PromisesTooMuch,
    /// Renewals never look at the key.
    IgnoresHolding,
    /// A transaction's writes are applied one by one.
    SplitsTransactions,
    /// Every other snapshot is the one before.
    ServesOldSnapshots,
    /// Every fifth change is not told.
    SkipsChanges,
    /// Nothing is ever told.
    NeverTells,
    /// Writes without an answer are reported as applied.
    ClaimsSuccess,
    /// Writes without an answer are reported as refused.
    ClaimsRefusal,
    /// A write without an answer is sent again.
    RetriesBlindly,
}

#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) store: MemoryStore,
    pub(crate) defect: Defect,
    last_snapshot: Mutex<Option<Snapshot>>,
    calls: AtomicUsize,
    /// Interrupts calls in a fixed rhythm.
    flaky: AtomicBool,
}

/// What happens to one call after the other.
const RHYTHM: [Option<Fault>; 10] = [
    None,
    Some(Fault::AnswersLost),
    None,
    Some(Fault::Unreachable),
    Some(Fault::AnswersLost),
    None,
    Some(Fault::Delayed(LATE)),
    Some(Fault::AnswersLost),
    None,
    Some(Fault::Delayed(Duration::from_millis(5))),
];
/// Longer than the suite's patience, so that such writes land after their sender gave up.
pub(crate) const LATE: Duration = Duration::from_millis(400);

impl Broken {
    pub(crate) fn new(store: MemoryStore, defect: Defect) -> Arc<Self> {
        let (last_snapshot, calls, flaky) = (Mutex::default(), AtomicUsize::new(0), AtomicBool::new(false));
        Arc::new(Self { store, defect, last_snapshot, calls, flaky })
    }

    pub(crate) fn make_flaky(&self, flaky: bool) {
        self.flaky.store(flaky, Ordering::SeqCst);
        self.store.set_fault(None);
    }

    fn next_call(&self) -> usize {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        if self.flaky.load(Ordering::SeqCst) {
            self.store.set_fault(RHYTHM[call % RHYTHM.len()]);
        }
        call
    }
}

#[async_trait]
impl Store for Broken {
    async fn snapshot(&self, by: Deadline) -> Result<Snapshot, StoreError> {
        let call = self.next_call();
        let snapshot = self.store.snapshot(by).await?;
        let before = self.last_snapshot.lock().unwrap().replace(snapshot.clone());
        match before {
            Some(old) if self.defect == Defect::ServesOldSnapshots && call.is_multiple_of(2) => Ok(old),
            _ => Ok(snapshot),
        }
    }

    async fn commit(&self, checks: &[Check], writes: &[Write], by: Deadline) -> CommitOutcome {
        self.next_call();
        if self.defect == Defect::SplitsTransactions {
            let mut outcome = self.store.commit(checks, &[], by).await;
            for write in writes {
                if !matches!(outcome, CommitOutcome::Applied(_)) {
                    return outcome;
                }
                outcome = self.store.commit(&[], std::slice::from_ref(write), by).await;
            }
            return outcome;
        }
        let outcome = self.store.commit(checks, writes, by).await;
        match (self.defect, outcome) {
            (Defect::ClaimsSuccess, CommitOutcome::Unknown(_)) => CommitOutcome::Applied(Revision(1)),
            (Defect::ClaimsRefusal, CommitOutcome::Unknown(_)) => CommitOutcome::Refused { found: None },
            (Defect::RetriesBlindly, CommitOutcome::Unknown(_)) => {
                self.store.set_fault(None);
                self.store.commit(checks, writes, by).await
            }
            (_, outcome) => outcome,
        }
    }

    async fn grant_lease(&self, ttl: Duration, by: Deadline) -> Result<LeaseId, StoreError> {
        self.next_call();
        self.store.grant_lease(ttl, by).await
    }

    async fn keep_alive(&self, lease: LeaseId, holding: Option<&Key>, by: Deadline) -> Renewal {
        self.next_call();
        let holding = holding.filter(|_| self.defect != Defect::IgnoresHolding);
        match self.store.keep_alive(lease, holding, by).await {
            Renewal::Valid { guaranteed } if self.defect == Defect::PromisesTooMuch => {
                Renewal::Valid { guaranteed: guaranteed + Duration::from_millis(300) }
            }
            renewal => renewal,
        }
    }

    async fn revoke_lease(&self, lease: LeaseId, by: Deadline) -> Result<(), StoreError> {
        self.next_call();
        self.store.revoke_lease(lease, by).await
    }

    async fn watch(&self, after: Revision) -> Result<Watch, StoreError> {
        let mut inner = self.store.watch(after).await?;
        let defect = self.defect;
        let (sender, events) = mpsc::channel(1024);
        tokio::spawn(async move {
            let mut changes = 0;
            while let Some(event) = inner.events.recv().await {
                changes += usize::from(matches!(event, WatchEvent::Changed { .. }));
                let skipped = match defect {
                    Defect::NeverTells => true,
                    Defect::SkipsChanges => matches!(event, WatchEvent::Changed { .. }) && changes % 5 == 0,
                    _ => false,
                };
                if !skipped && sender.send(event).await.is_err() {
                    return;
                }
            }
        });
        Ok(Watch { events })
    }

    fn capabilities(&self) -> Capabilities {
        self.store.capabilities()
    }
}
