//! The suite that every store must pass, so that `ha` may believe the same things of all of them.
//!
//! An adapter implements [`Harness`] in its tests and calls [`run`]; each case gets a fresh [`Bench`] and talks to it through
//! several clients. A difference between stores that was found in the field becomes a case here. It is compiled always (no
//! feature), and reports instead of panicking, so that it can also examine a store outside of tests.
//!
//! The promises: [`transactions`](self::CASES) over several keys, leases that last as long as they say, watches without gaps,
//! linearizable reads, and honest answers when calls are interrupted.

mod interruptions;
mod leases;
pub mod link;
mod reading;
mod transactions;
mod watching;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::future::BoxFuture;
use tokio::{sync::Semaphore, task::JoinSet};

use crate::store::{
    Check, CommitOutcome, Deadline, Key, Snapshot, Store, StoreError, Watch, WatchEvent, Write, now,
};

/// Gives the suite stores to work on.
#[async_trait]
pub trait Harness: Send + Sync {
    /// A store (or a prefix of one) that is empty and that no other case uses.
    async fn open(&self) -> Result<Arc<dyn Bench>, Failure>;

    /// How many cases may run at once.
    fn concurrency(&self) -> usize {
        8
    }
}

/// One store, for one case.
#[async_trait]
pub trait Bench: Send + Sync {
    /// One more client of the store; on a store of several servers, of another server each time.
    async fn client(&self) -> Result<Arc<dyn Store>, Failure>;

    /// What the store can keep, and how slow it may be.
    fn timing(&self) -> Timing;

    /// A client whose calls are interrupted now and then: its connection cut in the middle of a call, its server killed, its
    /// answers lost. `None` if the store cannot be disturbed. Interruptions go on until [`Bench::calm`].
    async fn flaky_client(&self) -> Result<Option<Arc<dyn Store>>, Failure> {
        Ok(None)
    }

    /// Ends the interruptions. After it the store answers again, and no write that was sent before lands any more.
    async fn calm(&self) {}
}

/// What the suite may expect of a store's timing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// The leases that the cases ask for: one or two seconds keep the suite short.
    pub ttl: Duration,
    /// How long after the guaranteed time the keys of a lease may last.
    pub expires_within: Duration,
    /// How long one call may take.
    pub call: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(1),
            expires_within: Duration::from_secs(1),
            call: Duration::from_secs(5),
        }
    }
}

/// What a store did wrong, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(pub String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self(error.to_string())
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// Ends the case unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err($crate::conformance::Failure(format!($($message)+)));
        }
    };
}
use ensure;

type Verdict = Result<(), Failure>;
type Run = fn(Arc<dyn Bench>) -> BoxFuture<'static, Verdict>;

/// One promise, and how it is examined.
#[derive(Clone, Copy)]
pub struct Case {
    /// A sentence.
    pub promise: &'static str,
    run: Run,
}

impl Case {
    /// Examines one store, which must be fresh.
    pub async fn run(&self, bench: Arc<dyn Bench>) -> Verdict {
        (self.run)(bench).await
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.promise)
    }
}

macro_rules! cases {
    ($($promise:literal => $run:path),+ $(,)?) => {
        /// Every case, in the order of the promises.
        pub const CASES: &[Case] = &[$(Case { promise: $promise, run: |bench| Box::pin($run(bench)) }),+];
    };
}

cases! {
    "of many who create a key at once exactly one succeeds" => transactions::one_creator_wins,
    "a transaction over three keys applies whole or not at all" => transactions::all_or_nothing,
    "concurrent transactions over three keys never mix" => transactions::transfers_never_mix,
    "a check on a revision, a value or absence refuses when it does not hold" => transactions::checks_refuse,
    "a key that is deleted and created again has a new creation revision" => transactions::recreation_shows,
    "a put that names an unknown lease is refused" => transactions::unknown_lease_is_refused,
    "the keys of a lease vanish together, not before the guaranteed time and soon after it"
        => leases::keys_vanish_together,
    "a renewal in the last moment really has the time that it was told" => leases::last_moment_renewals,
    "a lease that is renewed in time never ends" => leases::renewed_lease_lives,
    "renewing a lease that is gone says so" => leases::gone_is_gone,
    "a renewal that asks about a key is valid only while that key hangs on the lease" => leases::holding,
    "a revoked lease is gone with its keys at once" => leases::revoked_at_once,
    "a key that is put again without its lease outlives it" => leases::detached_key_survives,
    "a watch tells every change in order: own ones, others', deletions and expiries" => watching::tells_everything,
    "a watch from an old revision tells everything since, or that it cannot" => watching::from_an_old_revision,
    "a slow reader of a watch misses nothing without being told" => watching::slow_reader,
    "an idle watch proves its life every second" => watching::proves_life,
    "a confirmed write is in every snapshot that begins after it" => reading::snapshots_are_linearizable,
    "two snapshots never go back in time" => reading::never_back_in_time,
    "every call ends by its deadline" => reading::deadlines_hold,
    "interrupted writes are honest about their end" => interruptions::honest_writes,
    "an interrupted client's lease does not outlive its guarantee by much" => interruptions::lease_of_the_cut_off,
}

/// No case may take longer, whatever the store does.
const CASE_LIMIT: Duration = Duration::from_secs(60);

/// The verdicts of a run, in the order of [`CASES`].
#[derive(Debug)]
pub struct Report {
    pub verdicts: Vec<(&'static str, Verdict)>,
}

impl Report {
    pub fn failures(&self) -> impl Iterator<Item = (&'static str, &Failure)> {
        self.verdicts.iter().filter_map(|(promise, verdict)| Some((*promise, verdict.as_ref().err()?)))
    }

    /// For tests.
    ///
    /// # Panics
    /// If a promise was broken; the message lists all of them.
    pub fn assert_passed(&self) {
        let broken: Vec<String> =
            self.failures().map(|(promise, failure)| format!("- {promise}: {failure}")).collect();
        assert!(broken.is_empty(), "the store broke its promises:\n{}", broken.join("\n"));
    }
}

/// Runs every case, each on a fresh store, several at once.
pub async fn run(harness: Arc<dyn Harness>) -> Report {
    run_cases(harness, CASES).await
}

/// As [`run`], for some of the cases.
pub async fn run_cases(harness: Arc<dyn Harness>, cases: &[Case]) -> Report {
    let places = Arc::new(Semaphore::new(harness.concurrency().max(1)));
    let mut running = JoinSet::new();
    for (index, case) in cases.iter().copied().enumerate() {
        let (harness, places) = (harness.clone(), places.clone());
        running.spawn(async move {
            let _place = places.acquire_owned().await.expect("the semaphore is never closed");
            let verdict = match harness.open().await {
                Ok(bench) => tokio::time::timeout(CASE_LIMIT, case.run(bench))
                    .await
                    .unwrap_or_else(|_| Err(Failure(format!("the case did not end within {CASE_LIMIT:?}")))),
                Err(failure) => Err(failure),
            };
            (index, verdict)
        });
    }
    let mut verdicts: Vec<(&'static str, Verdict)> =
        cases.iter().map(|case| (case.promise, Err(Failure("the case did not end".to_owned())))).collect();
    while let Some(ended) = running.join_next().await {
        match ended {
            Ok((index, verdict)) => verdicts[index].1 = verdict,
            Err(error) => tracing::error!(%error, "a conformance case panicked"),
        }
    }
    Report { verdicts }
}

/// A client and its deadlines: what cases talk to.
#[derive(Clone)]
struct Client {
    store: Arc<dyn Store>,
    timing: Timing,
}

impl Client {
    async fn open(bench: &Arc<dyn Bench>) -> Result<Self, Failure> {
        Ok(Self { store: bench.client().await?, timing: bench.timing() })
    }

    fn deadline(&self) -> Deadline {
        Deadline::after(self.timing.call)
    }

    async fn snapshot(&self) -> Result<Snapshot, Failure> {
        Ok(self.store.snapshot(self.deadline()).await?)
    }

    async fn commit(&self, checks: &[Check], writes: &[Write]) -> CommitOutcome {
        self.store.commit(checks, writes, self.deadline()).await
    }

    /// A write that must apply.
    async fn apply(&self, checks: &[Check], writes: &[Write]) -> Result<bellwether_types::Revision, Failure> {
        match self.commit(checks, writes).await {
            CommitOutcome::Applied(revision) => Ok(revision),
            other => Err(Failure(format!("a write that must apply ended as {other:?}"))),
        }
    }

    /// A write that must be refused; tells the revision that was found.
    async fn refused(
        &self,
        checks: &[Check],
        writes: &[Write],
    ) -> Result<Option<bellwether_types::Revision>, Failure> {
        match self.commit(checks, writes).await {
            CommitOutcome::Refused { found } => Ok(found),
            other => Err(Failure(format!("a write that must be refused ended as {other:?}"))),
        }
    }

    async fn grant(&self) -> Result<bellwether_types::LeaseId, Failure> {
        Ok(self.store.grant_lease(self.timing.ttl, self.deadline()).await?)
    }
}

fn value_of<'a>(snapshot: &'a Snapshot, key: &str) -> Option<&'a [u8]> {
    snapshot.entries.get(&Key::from(key)).map(|entry| entry.value.as_slice())
}

/// The next event, which must come soon.
async fn next_event(watch: &mut Watch) -> Result<WatchEvent, Failure> {
    match tokio::time::timeout(Duration::from_secs(5), watch.events.recv()).await {
        Ok(Some(event)) => Ok(event),
        Ok(None) => Err(Failure("a watch ended without saying `Lost`".to_owned())),
        Err(_) => Err(Failure("a watch was silent for 5 s".to_owned())),
    }
}

/// Sleeps until an instant of CLOCK_BOOTTIME.
async fn sleep_until(instant: bellwether_types::Timestamp) {
    while now() < instant {
        tokio::time::sleep(now().until(instant)).await;
    }
}
