//! A store in memory: for tests, the simulator's smaller brothers, and the first steps on one node.
//!
//! It behaves like a real one, leases and watches included, and passes the [conformance suite](crate::conformance). Nothing
//! survives the process. Handles of one store ([`MemoryStore::another_client`]) stand for several clients; each has a link of
//! its own that can be broken with [`MemoryStore::set_fault`].
//!
//! Two kinds of time: [`MemoryStore::new`] counts leases on CLOCK_BOOTTIME and expires them by itself;
//! [`MemoryStore::with_clock`] moves only when its [`ManualClock`] does.

mod clock;
mod fault;
mod keyspace;
mod watcher;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bellwether_types::{LeaseId, Revision, Timestamp};
use tokio::sync::{Notify, mpsc};
use tokio_util::task::AbortOnDropHandle;

pub use clock::ManualClock;
pub use fault::Fault;

use self::{
    clock::Clock,
    fault::Link,
    keyspace::{Keyspace, LeaseState},
    watcher::{Fate, Watcher},
};
use crate::store::{
    Capabilities, Check, CommitOutcome, Deadline, Key, Renewal, Snapshot, Store, StoreError, Watch,
    WatchEvent, Write,
};

/// The shortest time for which a lease makes sense here.
const MINIMUM_TTL: Duration = Duration::from_millis(50);
/// The ticker looks again at least so often: its timer stops while the machine is suspended, the leases' clock does not.
const TICK_AT_LEAST_EVERY: Duration = Duration::from_millis(250);

/// Sizes of the store's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Changes that a new watch can still be told about.
    pub log: usize,
    /// Events that a watch's reader may be behind before it is `Lost`.
    pub watch_queue: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { log: 4096, watch_queue: 1024 }
    }
}

/// One client of a store in memory. Clones share the link, and so its faults.
#[derive(Clone)]
pub struct MemoryStore {
    server: Arc<Server>,
    link: Arc<Link>,
}

/// The store and the task that lets its time pass, which ends with it.
struct Server {
    core: Arc<Core>,
    _ticker: Option<AbortOnDropHandle<()>>,
}

struct Core {
    clock: Clock,
    limits: Limits,
    state: Mutex<State>,
    /// A lease or a watch was added: the ticker may have to wake earlier than it planned.
    wake: Notify,
}

struct State {
    keyspace: Keyspace,
    watchers: Vec<Watcher>,
    /// Writes on their way, whose senders have given up waiting.
    late: Vec<LateWrite>,
}

struct LateWrite {
    at: Timestamp,
    checks: Vec<Check>,
    writes: Vec<Write>,
}

/// How a call gets through to the store.
enum Passage {
    Clear,
    /// The work is to be done, the answer lost.
    AnswerLost,
    /// The request arrives only then, after the caller's deadline.
    Late(Timestamp),
}

impl MemoryStore {
    /// An empty store on the machine's clock.
    ///
    /// # Panics
    /// Outside of a tokio runtime: leases end by themselves, so something must run.
    pub fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    /// As [`MemoryStore::new`], with other limits.
    pub fn with_limits(limits: Limits) -> Self {
        let core = Arc::new(Core::new(Clock::Real, limits));
        let ticker = AbortOnDropHandle::new(tokio::spawn(let_time_pass(core.clone())));
        Self { server: Arc::new(Server { core, _ticker: Some(ticker) }), link: Arc::default() }
    }

    /// An empty store whose leases are counted on `clock`. It looks at the clock in every call and in [`MemoryStore::tick`];
    /// deadlines are ignored, since no time passes during a call.
    pub fn with_clock(clock: ManualClock) -> Self {
        let core = Arc::new(Core::new(Clock::Manual(clock), Limits::default()));
        Self { server: Arc::new(Server { core, _ticker: None }), link: Arc::default() }
    }

    /// One more client of the same store, with a healthy link.
    pub fn another_client(&self) -> Self {
        Self { server: self.server.clone(), link: Arc::default() }
    }

    /// Breaks or heals (`None`) the link of this handle and its clones.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.link.set(fault);
        self.tick();
    }

    /// Renewals of this handle and its clones are guaranteed for no longer than this, as with stores that grant more than they keep.
    pub fn guarantee_at_most(&self, most: Duration) {
        self.link.guarantee_at_most(most);
    }

    /// Lets everything happen that is due: leases end, late writes land, watches are told.
    pub fn tick(&self) {
        self.server.core.tick();
    }

    /// Waits until a fault lets the call through, or is the error itself.
    async fn pass(&self, by: Deadline) -> Result<Passage, StoreError> {
        // Nothing here waits for anything, so a caller in a loop would never let others run.
        tokio::task::consume_budget().await;
        let clock = &self.server.core.clock;
        if !clock.is_manual() && by.remaining().is_zero() {
            return Err(StoreError::TimedOut);
        }
        match self.link.fault() {
            None => Ok(Passage::Clear),
            Some(Fault::Unreachable) => Err(StoreError::Unreachable("the link is cut".to_owned())),
            Some(Fault::AnswersLost) => Ok(Passage::AnswerLost),
            Some(Fault::Silent) => {
                if !clock.is_manual() {
                    tokio::time::sleep(by.remaining()).await;
                }
                Err(StoreError::TimedOut)
            }
            Some(Fault::Delayed(delay)) if clock.is_manual() || delay > by.remaining() => {
                Ok(Passage::Late(clock.now() + delay))
            }
            Some(Fault::Delayed(delay)) => {
                tokio::time::sleep(delay).await;
                Ok(Passage::Clear)
            }
        }
    }

    /// Does the work of a call that leaves nothing behind when it is late.
    async fn call<T>(
        &self,
        by: Deadline,
        work: impl FnOnce(&mut Keyspace, Timestamp) -> T + Send,
    ) -> Result<T, StoreError> {
        match self.pass(by).await? {
            Passage::Clear => Ok(self.server.core.with_state(work)),
            Passage::AnswerLost => {
                self.server.core.with_state(work);
                Err(StoreError::TimedOut)
            }
            Passage::Late(_) => {
                self.wait_out(by).await;
                Err(StoreError::TimedOut)
            }
        }
    }

    async fn wait_out(&self, by: Deadline) {
        if !self.server.core.clock.is_manual() {
            tokio::time::sleep(by.remaining()).await;
        }
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("fault", &self.link.fault()).finish_non_exhaustive()
    }
}

impl Core {
    fn new(clock: Clock, limits: Limits) -> Self {
        let state = State { keyspace: Keyspace::new(limits.log), watchers: Vec::new(), late: Vec::new() };
        Self { clock, limits, state: Mutex::new(state), wake: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the state up to the present, does the work, and tells the watches.
    fn with_state<T>(&self, work: impl FnOnce(&mut Keyspace, Timestamp) -> T) -> T {
        let mut state = self.state();
        let now = self.clock.now();
        state.settle(now);
        let result = work(&mut state.keyspace, now);
        state.deliver(now);
        result
    }

    /// Returns when something is due next.
    fn tick(&self) -> Timestamp {
        let mut state = self.state();
        let now = self.clock.now();
        state.settle(now);
        state.deliver(now);
        let alive = state.watchers.iter().map(Watcher::next_alive);
        let late = state.late.iter().map(|write| write.at);
        alive.chain(late).chain(state.keyspace.next_expiry()).min().unwrap_or(Timestamp::MAX)
    }
}

impl State {
    /// Everything that is due, in the order in which it became so.
    fn settle(&mut self, now: Timestamp) {
        self.late.sort_by_key(|write| write.at);
        let due = self.late.partition_point(|write| write.at <= now);
        for write in self.late.drain(..due) {
            self.keyspace.expire(write.at);
            // Nobody waits for this answer any more.
            let _ = self.keyspace.commit(&write.checks, &write.writes);
        }
        self.keyspace.expire(now);
    }

    fn deliver(&mut self, now: Timestamp) {
        let keyspace = &self.keyspace;
        self.watchers.retain_mut(|watcher| watcher.deliver(keyspace, now) == Fate::Open);
    }
}

/// Ends leases, lands late writes and proves life to watches. Runs until it is aborted.
async fn let_time_pass(core: Arc<Core>) {
    loop {
        let wait = core.clock.now().until(core.tick()).min(TICK_AT_LEAST_EVERY);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = core.wake.notified() => {}
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn snapshot(&self, by: Deadline) -> Result<Snapshot, StoreError> {
        self.call(by, |keyspace, _| keyspace.snapshot()).await
    }

    async fn commit(&self, checks: &[Check], writes: &[Write], by: Deadline) -> CommitOutcome {
        let core = &self.server.core;
        let commit = || core.with_state(|keyspace, _| keyspace.commit(checks, writes));
        match self.pass(by).await {
            Ok(Passage::Clear) => match commit() {
                Ok(revision) => CommitOutcome::Applied(revision),
                Err(refusal) => CommitOutcome::Refused { found: refusal.found },
            },
            Ok(Passage::AnswerLost) => {
                // Whether it applied is exactly what the caller must not learn.
                let _ = commit();
                CommitOutcome::Unknown(StoreError::TimedOut)
            }
            Ok(Passage::Late(at)) => {
                let late = LateWrite { at, checks: checks.to_vec(), writes: writes.to_vec() };
                core.state().late.push(late);
                core.wake.notify_one();
                self.wait_out(by).await;
                CommitOutcome::Unknown(StoreError::TimedOut)
            }
            Err(error) => CommitOutcome::Unknown(error),
        }
    }

    async fn grant_lease(&self, ttl: Duration, by: Deadline) -> Result<LeaseId, StoreError> {
        let lease = self.call(by, |keyspace, now| keyspace.grant(ttl.max(MINIMUM_TTL), now)).await;
        self.server.core.wake.notify_one();
        lease
    }

    async fn keep_alive(&self, lease: LeaseId, holding: Option<&Key>, by: Deadline) -> Renewal {
        match self.call(by, |keyspace, now| keyspace.keep_alive(lease, holding, now)).await {
            Ok(LeaseState::Renewed { ttl }) => Renewal::Valid { guaranteed: self.link.guaranteed(ttl) },
            Ok(LeaseState::NotHolding) => Renewal::NotHolding,
            Ok(LeaseState::Gone) => Renewal::Gone,
            Err(error) => Renewal::Unavailable(error),
        }
    }

    async fn revoke_lease(&self, lease: LeaseId, by: Deadline) -> Result<(), StoreError> {
        self.call(by, |keyspace, _| keyspace.revoke(lease)).await
    }

    async fn watch(&self, after: Revision) -> Result<Watch, StoreError> {
        let core = &self.server.core;
        match self.link.fault() {
            Some(Fault::Unreachable) => return Err(StoreError::Unreachable("the link is cut".to_owned())),
            Some(Fault::Silent) => return Err(StoreError::TimedOut),
            _ => {}
        }
        let (sender, events) = mpsc::channel::<WatchEvent>(core.limits.watch_queue.max(2));
        let now = core.clock.now();
        let mut state = core.state();
        state.watchers.push(Watcher::new(sender, self.link.clone(), after, now));
        state.settle(now);
        state.deliver(now);
        drop(state);
        core.wake.notify_one();
        Ok(Watch { events })
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            multi_key_transactions: true,
            minimum_ttl: MINIMUM_TTL,
            every_change: true,
            kind: "memory",
        }
    }
}
