//! The lease keeper: the one task that renews our lease in the store, and the only source of the right to lead.
//!
//! It renews every fifth of the time that the store guarantees with a timeout of the same length, whether the loop is busy or not; but it
//! stops renewing a leadership when the loop has not decided anything for a whole `ttl`: a hung agent must not keep the lock.
//! What it knows is published as [`LeaseState`]; nobody else derives leadership from anything.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bellwether_dcs::{
    Check, CommitOutcome, Deadline, Key, Renewal, Store, StoreError, Write,
    codec::{self, keys},
};
use bellwether_ha::{action::NextTimeline, lease, view::LeaseView};
use bellwether_types::{
    LeaseId, MemberName, Revision, Term, Timestamp, cluster::TimelineClaim, takeover::Takeover,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{clock, fencing::Fencing};

/// What is known about our lease.
#[derive(Clone, Debug)]
pub(crate) struct LeaseState {
    /// The lease that our keys hang on; `None` until the store granted one.
    pub(crate) lease: Option<LeaseId>,
    pub(crate) view: LeaseView,
}

/// The end of an attempt to take the lock.
#[derive(Debug)]
pub(crate) enum Acquired {
    Yes {
        term: Term,
    },
    /// Somebody else was faster, or what the decision rested on has changed.
    No,
    /// It may have worked or not; the keeper finds out with its next renewal.
    Unknown(StoreError),
}

/// The end of an attempt to give the lock up.
#[derive(Debug)]
pub(crate) enum Released {
    Yes,
    /// It was not ours any more.
    No,
    /// It expires by itself at the latest.
    Unknown(StoreError),
}

/// The lock as somebody wants to take it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// `None`: create `leader`. Otherwise take over the key that already names us, if it still has this revision.
    pub(crate) present: Option<Revision>,
    /// The revision of `/sync` that the decision was made on; `None` = absent.
    pub(crate) sync: Option<Revision>,
    /// The number taken in the same transaction.
    pub(crate) timeline: Option<NextTimeline>,
    /// The lock is somebody else's: what entitles us to it, checked and written in the same transaction.
    pub(crate) over: Option<Over>,
}

/// The promises by which a lock is taken over that somebody else holds.
#[derive(Clone, Debug)]
pub(crate) struct Over {
    /// The revision of `takeover` that they were made for.
    pub(crate) opened_at: Revision,
    pub(crate) takeover: Takeover,
    /// The content of `/sync`, written anew so that a late change by the old leader is refused.
    pub(crate) sync: Vec<u8>,
}

enum Command {
    Acquire { wanted: Wanted, answer: oneshot::Sender<Acquired> },
    Release { status: Option<Vec<u8>>, answer: oneshot::Sender<Released> },
    Extend { began_at: Timestamp, good_for: Duration },
    Forget,
}

/// Talks to the keeper. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct LeaseHandle {
    commands: mpsc::Sender<Command>,
    state: watch::Receiver<LeaseState>,
    heartbeat: Arc<AtomicU64>,
}

impl LeaseHandle {
    pub(crate) fn state(&self) -> LeaseState {
        self.state.borrow().clone()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<LeaseState> {
        self.state.clone()
    }

    /// The loop decided something at `at`.
    pub(crate) fn beat(&self, at: Timestamp) {
        self.heartbeat.store(at.as_nanos(), Ordering::Relaxed);
    }

    /// Takes the lock.
    pub(crate) async fn acquire(&self, wanted: Wanted) -> Acquired {
        let (answer, answered) = oneshot::channel();
        let command = Command::Acquire { wanted, answer };
        if self.commands.send(command).await.is_err() {
            return Acquired::Unknown(StoreError::Stopped);
        }
        answered.await.unwrap_or(Acquired::Unknown(StoreError::Stopped))
    }

    /// Gives the lock up, writing `status` first if given.
    pub(crate) async fn release(&self, status: Option<Vec<u8>>) -> Released {
        let (answer, answered) = oneshot::channel();
        if self.commands.send(Command::Release { status, answer }).await.is_err() {
            return Released::Unknown(StoreError::Stopped);
        }
        answered.await.unwrap_or(Released::Unknown(StoreError::Stopped))
    }

    /// A failsafe round that began at `began_at` was accepted by every member: as good as a renewal that is guaranteed for `good_for`.
    pub(crate) async fn extend(&self, began_at: Timestamp, good_for: Duration) {
        let _ = self.commands.send(Command::Extend { began_at, good_for }).await;
    }

    /// We stopped leading without touching the key.
    pub(crate) async fn forget(&self) {
        let _ = self.commands.send(Command::Forget).await;
    }
}

/// The task. Spawn [`LeaseKeeper::run`] and await it.
#[derive(Debug)]
pub(crate) struct LeaseKeeper {
    store: Arc<dyn Store>,
    me: MemberName,
    ttl: watch::Receiver<Duration>,
    fencing: Fencing,
    heartbeat: Arc<AtomicU64>,
    commands: mpsc::Receiver<Command>,
    state: watch::Sender<LeaseState>,
    granted_ttl: Duration,
    /// For how long the store guaranteed the last renewal; `None` before the first one of a lease.
    guaranteed: Option<Duration>,
    next_renewal: Timestamp,
}

impl LeaseKeeper {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        me: MemberName,
        ttl: watch::Receiver<Duration>,
        fencing: Fencing,
    ) -> (Self, LeaseHandle) {
        // Few callers, all of which wait for the answer.
        let (sender, commands) = mpsc::channel(16);
        let (state, watched) = watch::channel(LeaseState { lease: None, view: LeaseView::NotHeld });
        let heartbeat = Arc::new(AtomicU64::new(clock::now().as_nanos()));
        let granted_ttl = *ttl.borrow();
        let next_renewal = clock::now();
        let handle = LeaseHandle { commands: sender, state: watched, heartbeat: heartbeat.clone() };
        (
            Self {
                store,
                me,
                ttl,
                fencing,
                heartbeat,
                commands,
                state,
                granted_ttl,
                guaranteed: None,
                next_renewal,
            },
            handle,
        )
    }

    /// Runs until `stop`. Does not revoke the lease: a stopped agent in pause leaves its keys to expire.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            let wait = clock::now().until(self.next_renewal);
            tokio::select! {
                () = stop.cancelled() => return,
                command = self.commands.recv() => match command {
                    None => return,
                    Some(command) => self.obey(command).await,
                },
                () = tokio::time::sleep(wait) => self.renew().await,
            }
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Acquire { wanted, answer } => {
                let acquired = self.acquire(wanted).await;
                let _ = answer.send(acquired);
            }
            Command::Release { status, answer } => {
                let released = self.release(status).await;
                let _ = answer.send(released);
            }
            Command::Extend { began_at, good_for } => self.extend(began_at, good_for).await,
            Command::Forget => self.set_view(LeaseView::NotHeld),
        }
    }

    /// By the shorter one while a change of `ttl` is under way: a lease of the old length is still to be kept. Some stores guarantee
    /// less than they grant.
    fn period(&self) -> Duration {
        lease::renewal_period(self.at_most_guaranteed(self.granted_ttl.min(*self.ttl.borrow())))
    }

    fn at_most_guaranteed(&self, time: Duration) -> Duration {
        self.guaranteed.map_or(time, |guaranteed| time.min(guaranteed))
    }

    fn budget(&self) -> Deadline {
        Deadline::after(self.period())
    }

    fn set_view(&self, view: LeaseView) {
        if !matches!(view, LeaseView::Held { .. }) {
            self.fencing.lost();
        }
        self.state.send_if_modified(|state| {
            let changed = state.view != view;
            state.view = view;
            changed
        });
    }

    /// One renewal. Everything unexpected counts as "not renewed".
    async fn renew(&mut self) {
        self.next_renewal = clock::now() + self.period();
        if self.loop_is_stuck() {
            warn!("the loop has not decided anything for a whole ttl: the lease is not renewed");
            return;
        }
        // For all steps, like that of `acquire`.
        let by = self.budget();
        let Some(lease) = self.current_lease(by).await else {
            self.note_unavailable();
            return;
        };
        let holding = matches!(self.state.borrow().view, LeaseView::Held { .. });
        let leader = Key::new(keys::LEADER);
        let sent_at = clock::now();
        // A new lease for a new `ttl` could not be had: what that has cost must not cost the lease that there is.
        let by = if self.granted_ttl == *self.ttl.borrow() { by } else { self.budget() };
        let store = self.store.clone();
        let mut renewal = store.keep_alive(lease, holding.then_some(&leader), by);
        // A renewal that gets no answer takes its whole time. Nothing that is asked meanwhile may wait for it, least of all the
        // promises of the other members, which are what we need in just this silence.
        let renewal = loop {
            tokio::select! {
                renewal = &mut renewal => break renewal,
                Some(command) = self.commands.recv() => match command {
                    Command::Extend { began_at, good_for } => self.extend(began_at, good_for).await,
                    command => {
                        drop(renewal);
                        self.next_renewal = clock::now();
                        return self.obey(command).await;
                    }
                }
            }
        };
        self.conclude(renewal, sent_at, holding).await;
    }

    async fn conclude(&mut self, renewal: Renewal, sent_at: Timestamp, holding: bool) {
        if let Renewal::Valid { guaranteed } = renewal {
            self.guaranteed = Some(guaranteed);
            self.next_renewal = self.next_renewal.min(sent_at + self.period());
        }
        match renewal {
            Renewal::Valid { guaranteed } if holding => self.confirm(sent_at, guaranteed).await,
            Renewal::Valid { .. } => {}
            Renewal::Gone => {
                info!(holding, "the store has dropped our lease");
                self.state.send_modify(|state| state.lease = None);
                if holding {
                    self.set_view(LeaseView::Rejected { at: clock::now() });
                }
                self.next_renewal = clock::now();
            }
            Renewal::NotHolding => {
                warn!("the leader lock is no longer ours");
                self.set_view(LeaseView::Rejected { at: clock::now() });
            }
            Renewal::Unavailable(error) => {
                debug!(%error, "no answer to a lease renewal");
                self.note_unavailable();
                // Try again at once after a quick failure, but not faster than five times a period.
                self.next_renewal = self.next_renewal.min(clock::now() + self.period() / 5);
            }
        }
    }

    /// The guardian hears of it before anybody may rely on it.
    async fn confirm(&mut self, sent_at: Timestamp, guaranteed: Duration) {
        let limits = lease::limits(sent_at, guaranteed);
        self.fencing.extend(limits.until);
        self.state.send_modify(|state| {
            if let LeaseView::Held { until, demote_at, unavailable_since, .. } = &mut state.view {
                *until = limits.until.max(*until);
                *demote_at = limits.demote_at.max(*demote_at);
                *unavailable_since = None;
            }
        });
        self.fencing.ping(limits.until);
    }

    fn note_unavailable(&self) {
        self.state.send_if_modified(|state| match &mut state.view {
            LeaseView::Held { unavailable_since: since @ None, .. } => {
                *since = Some(clock::now());
                true
            }
            _ => false,
        });
    }

    fn loop_is_stuck(&self) -> bool {
        let last = Timestamp::from_nanos(self.heartbeat.load(Ordering::Relaxed));
        clock::now().since(last) > (*self.ttl.borrow()).max(Duration::from_secs(2))
    }

    /// Our lease, granted if there is none or if `ttl` has changed; keys move to the new one as they are next written.
    async fn current_lease(&mut self, by: Deadline) -> Option<LeaseId> {
        let ttl = *self.ttl.borrow();
        let present = self.state.borrow().lease;
        if let (Some(lease), true) = (present, ttl == self.granted_ttl) {
            return Some(lease);
        }
        match self.store.grant_lease(ttl, by).await {
            Ok(lease) => {
                debug!(?lease, ?ttl, "granted a lease");
                if !self.move_leadership(lease, by).await {
                    // The key still hangs on the old lease, or nobody can say: that one is renewed, and this is tried again.
                    return present;
                }
                self.granted_ttl = ttl;
                self.guaranteed = None;
                self.state.send_modify(|state| state.lease = Some(lease));
                Some(lease)
            }
            Err(error) => {
                debug!(%error, "no lease granted");
                self.next_renewal = clock::now() + self.period() / 5;
                present
            }
        }
    }

    /// Hangs a leader key that we hold on another lease of ours. True if no key of ours hangs on the old one any more.
    async fn move_leadership(&mut self, lease: LeaseId, by: Deadline) -> bool {
        let LeaseView::Held { revision, .. } = self.state.borrow().view else { return true };
        let checks = [Check::at(keys::LEADER, revision)];
        let writes = [Write::put_leased(keys::LEADER, self.me.as_str(), lease)];
        match self.store.commit(&checks, &writes, by).await {
            CommitOutcome::Applied(new) => {
                self.state.send_modify(|state| {
                    if let LeaseView::Held { revision, .. } = &mut state.view {
                        *revision = new;
                    }
                });
                true
            }
            CommitOutcome::Refused { .. } => {
                self.set_view(LeaseView::Rejected { at: clock::now() });
                true
            }
            CommitOutcome::Unknown(error) => {
                warn!(%error, "moving the leader key to a new lease: outcome unknown");
                let leader = Key::new(keys::LEADER);
                // The time of the first attempt is over, and the answer decides whether the lock is still ours.
                let asked = self.store.keep_alive(lease, Some(&leader), self.budget()).await;
                matches!(asked, Renewal::Valid { .. })
            }
        }
    }

    async fn acquire(&mut self, wanted: Wanted) -> Acquired {
        // For all steps: a lease if there is none, the lock, the proof. Limits of their own would add up.
        let by = Deadline::after(self.period() * 3 / 2);
        let Some(lease) = self.current_lease(by).await else {
            return Acquired::Unknown(StoreError::TimedOut);
        };
        let still = |key: &'static str, revision: Option<Revision>| match revision {
            None => Check::absent(key),
            Some(revision) => Check::at(key, revision),
        };
        let mut checks = vec![still(keys::LEADER, wanted.present), still(keys::SYNC, wanted.sync)];
        let mut writes = vec![Write::put_leased(keys::LEADER, self.me.as_str(), lease)];
        if let Some(next) = wanted.timeline {
            let claim = TimelineClaim { timeline: next.timeline, leader: self.me.clone() };
            checks.push(still(keys::TIMELINE, next.expect));
            writes.push(Write::put(keys::TIMELINE, codec::encode_timeline_claim(&claim)));
        }
        if let Some(over) = wanted.over {
            checks.push(Check::at(keys::TAKEOVER, over.opened_at));
            writes.push(Write::put(keys::TAKEOVER, codec::encode_takeover(&over.takeover)));
            writes.push(Write::put(keys::SYNC, over.sync));
        }
        match self.store.commit(&checks, &writes, by).await {
            CommitOutcome::Applied(revision) => self.prove(lease, revision, by).await,
            CommitOutcome::Refused { .. } => Acquired::No,
            CommitOutcome::Unknown(error) => Acquired::Unknown(error),
        }
    }

    /// The key is ours; how long the lease behind it is good for only a renewal can tell.
    async fn prove(&mut self, lease: LeaseId, revision: Revision, by: Deadline) -> Acquired {
        let leader = Key::new(keys::LEADER);
        let sent_at = clock::now();
        match self.store.keep_alive(lease, Some(&leader), by).await {
            Renewal::Valid { guaranteed } => {
                self.guaranteed = Some(guaranteed);
                let limits = lease::limits(sent_at, guaranteed);
                let term = Term(revision.0);
                self.set_view(LeaseView::Held {
                    until: limits.until,
                    demote_at: limits.demote_at,
                    term,
                    revision,
                    unavailable_since: None,
                });
                self.next_renewal = sent_at + self.period();
                self.store.member_leads(true).await;
                Acquired::Yes { term }
            }
            Renewal::Gone | Renewal::NotHolding => Acquired::No,
            Renewal::Unavailable(error) => Acquired::Unknown(error),
        }
    }

    async fn release(&mut self, status: Option<Vec<u8>>) -> Released {
        // From here on nobody on this node may believe in the lease, whatever the store answers.
        self.set_view(LeaseView::NotHeld);
        self.store.member_leads(false).await;
        let checks = [Check::has_value(keys::LEADER, self.me.as_str())];
        let mut writes: Vec<Write> =
            status.into_iter().map(|value| Write::put(keys::STATUS, value)).collect();
        writes.push(Write::delete(keys::LEADER));
        match self.store.commit(&checks, &writes, self.budget()).await {
            CommitOutcome::Applied(_) => Released::Yes,
            CommitOutcome::Refused { .. } => Released::No,
            CommitOutcome::Unknown(error) => Released::Unknown(error),
        }
    }

    async fn extend(&mut self, began_at: Timestamp, good_for: Duration) {
        if matches!(self.state.borrow().view, LeaseView::Held { .. }) {
            // Not beyond what a renewal at that time would have been good for.
            let limits = lease::limits(began_at, self.at_most_guaranteed(good_for));
            self.fencing.extend(limits.until);
            self.state.send_modify(|state| {
                if let LeaseView::Held { until, demote_at, .. } = &mut state.view {
                    *until = limits.until.max(*until);
                    *demote_at = limits.demote_at.max(*demote_at);
                }
            });
            self.fencing.ping(limits.until);
        }
    }
}

#[cfg(test)]
mod tests {
    use bellwether_dcs::memory::{Fault, MemoryStore};
    use bellwether_types::TimelineId;

    use super::*;
    use crate::{
        fencing::GuardianUse,
        watchdog::{Watchdog, tests::Hanging},
    };
    use bellwether_config::sections::watchdog::Watchdog as Section;
    use bellwether_types::settings::Settings;

    const TTL: Duration = Duration::from_secs(2);

    struct Node {
        lease: LeaseHandle,
        link: MemoryStore,
        stop: CancellationToken,
        /// Cancelled: the loop hangs, the keeper does not.
        beating: CancellationToken,
        _ttl: watch::Sender<Duration>,
    }

    impl Drop for Node {
        fn drop(&mut self) {
            self.stop.cancel();
        }
    }

    fn node(name: &str, store: &MemoryStore) -> Node {
        guarded_node(name, store, Watchdog::new(&Section::default(), &Settings::default()))
    }

    fn guarded_node(name: &str, store: &MemoryStore, watchdog: Watchdog) -> Node {
        let link = store.another_client();
        let fencing = Fencing::new(GuardianUse::Off, "/nonexistent".into(), "/nonexistent".into(), watchdog);
        let (ttl, ttl_changes) = watch::channel(TTL);
        let shared: Arc<dyn Store> = Arc::new(link.clone());
        let (keeper, lease) = LeaseKeeper::new(shared, MemberName::new(name).unwrap(), ttl_changes, fencing);
        let stop = CancellationToken::new();
        tokio::spawn(keeper.run(stop.clone()));
        // A loop that is alive, for as long as the test runs.
        let (heart, beating) = (lease.clone(), stop.child_token());
        let stopped = beating.clone();
        tokio::spawn(async move {
            while stopped.run_until_cancelled(tokio::time::sleep(TTL / 10)).await.is_some() {
                heart.beat(clock::now());
            }
        });
        Node { lease, link, stop, beating, _ttl: ttl }
    }

    /// Waits until the lease looks as wanted; the store's and the keeper's timers decide when.
    async fn wait_for(node: &Node, what: &str, wanted: impl Fn(&LeaseView) -> bool) -> LeaseView {
        let mut changes = node.lease.subscribe();
        let seen = async {
            loop {
                let view = changes.borrow_and_update().view.clone();
                if wanted(&view) {
                    return view;
                }
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(10 * TTL, seen)
            .await
            .unwrap_or_else(|_| panic!("never {what}: {:?}", node.lease.state()))
    }

    fn is_held(view: &LeaseView) -> bool {
        matches!(view, LeaseView::Held { .. })
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn exactly_one_of_two_gets_the_lock_and_keeps_it() {
        let store = MemoryStore::new();
        let (a, b) = (node("a", &store), node("b", &store));
        assert!(matches!(a.lease.acquire(Wanted::default()).await, Acquired::Yes { .. }));
        assert!(matches!(b.lease.acquire(Wanted::default()).await, Acquired::No));
        let LeaseView::Held { until, .. } = a.lease.state().view else { panic!("held") };
        wait_for(
            &a,
            "extended",
            |view| matches!(view, LeaseView::Held { until: later, .. } if *later > until + TTL / 2),
        )
        .await;
        assert_eq!(b.lease.state().view, LeaseView::NotHeld);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_watchdog_device_that_hangs_costs_no_lease_and_hears_nothing_after_its_loss() {
        let store = MemoryStore::new();
        let (watchdog, device) = Hanging::active().await;
        let a = guarded_node("a", &store, watchdog.clone());
        assert!(matches!(a.lease.acquire(Wanted::default()).await, Acquired::Yes { .. }));
        device.wait_for_ping();
        let before = until(&a.lease.state().view);
        wait_for(&a, "extended", |view| is_held(view) && until(view) > before + TTL).await;
        store.commit(&[], &[Write::delete(keys::LEADER)], Deadline::after(TTL)).await;
        wait_for(&a, "rejected", |view| matches!(view, LeaseView::Rejected { .. })).await;
        assert_eq!(device.recover(&watchdog).await, 0, "a ping was left over from the lost lease");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_lock_that_somebody_removed_is_a_rejection() {
        let store = MemoryStore::new();
        let a = node("a", &store);
        assert!(matches!(a.lease.acquire(Wanted::default()).await, Acquired::Yes { .. }));
        store.commit(&[], &[Write::delete(keys::LEADER)], Deadline::after(TTL)).await;
        wait_for(&a, "rejected", |view| matches!(view, LeaseView::Rejected { .. })).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn silence_is_no_rejection_and_does_not_extend() {
        let store = MemoryStore::new();
        let a = node("a", &store);
        assert!(matches!(a.lease.acquire(Wanted::default()).await, Acquired::Yes { .. }));
        a.link.set_fault(Some(Fault::Silent));
        let unanswered =
            |view: &LeaseView| matches!(view, LeaseView::Held { unavailable_since: Some(_), .. });
        let LeaseView::Held { until: before, .. } = wait_for(&a, "unanswered", unanswered).await else {
            unreachable!()
        };
        assert!(before < clock::now() + TTL, "belief is shorter than the lease");
        a.link.set_fault(None);
        // The store drops a lease that was not renewed; whichever came first, the keeper must not invent one.
        wait_for(&a, "answered or rejected", |view| {
            matches!(view, LeaseView::Rejected { .. } | LeaseView::Held { unavailable_since: None, .. })
        })
        .await;
    }

    fn until(view: &LeaseView) -> Timestamp {
        let LeaseView::Held { until, .. } = view else { panic!("{view:?}") };
        *until
    }

    /// Less than the fifth of `ttl` in which a lease would be renewed otherwise.
    const SHORT: Duration = Duration::from_millis(300);

    #[tokio::test(flavor = "multi_thread")]
    async fn a_store_that_guarantees_less_than_ttl_is_asked_more_often() {
        let a = node("a", &MemoryStore::new());
        a.link.guarantee_at_most(SHORT);
        assert!(matches!(a.lease.acquire(Wanted::default()).await, Acquired::Yes { .. }));
        let mut seen = until(&a.lease.state().view);
        let mut steps = Vec::new();
        while steps.len() < 10 {
            let later = wait_for(&a, "renewed", |view| is_held(view) && until(view) > seen).await;
            steps.push(until(&later) - seen);
            seen = until(&later);
        }
        assert!(steps.iter().any(|step| *step < SHORT / 2), "a fifth each, and some may be late: {steps:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn promises_of_the_members_count_no_longer_than_a_renewal() {
        let a = node("a", &MemoryStore::new());
        a.link.guarantee_at_most(SHORT);
        assert!(matches!(a.lease.acquire(Wanted::default()).await, Acquired::Yes { .. }));
        a.link.set_fault(Some(Fault::Silent));
        wait_for(&a, "unanswered", |view| matches!(view, LeaseView::Held { unavailable_since: Some(_), .. }))
            .await;
        let (before, began_at) = (until(&a.lease.state().view), clock::now());
        a.lease.extend(began_at, TTL).await;
        let extended = wait_for(&a, "extended", |view| until(view) > before).await;
        assert_eq!(until(&extended), lease::limits(began_at, SHORT).until);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_next_agent_takes_over_the_key_of_the_one_before() {
        let store = MemoryStore::new();
        let before = node("a", &store);
        let Acquired::Yes { term } = before.lease.acquire(Wanted::default()).await else {
            panic!("free lock")
        };
        let LeaseView::Held { revision, .. } = before.lease.state().view else { panic!("held") };
        drop(before);
        let next = node("a", &store);
        assert!(
            matches!(next.lease.acquire(Wanted::default()).await, Acquired::No),
            "a plain race must not win it"
        );
        let resumed = next.lease.acquire(Wanted { present: Some(revision), ..Wanted::default() }).await;
        assert!(matches!(resumed, Acquired::Yes { .. }), "{resumed:?} after {term:?}");
        // The key hangs on the new lease now and so survives the old one.
        let LeaseView::Held { until, .. } = next.lease.state().view else { panic!("held") };
        wait_for(
            &next,
            "kept",
            |view| matches!(view, LeaseView::Held { until: later, .. } if *later > until + TTL),
        )
        .await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_race_that_rests_on_an_old_sync_state_is_lost() {
        let store = MemoryStore::new();
        let a = node("a", &store);
        store.commit(&[], &[Write::put(keys::SYNC, "{}")], Deadline::after(TTL)).await;
        assert!(
            matches!(a.lease.acquire(Wanted::default()).await, Acquired::No),
            "`sync` was absent when it was decided"
        );
        assert_eq!(a.lease.state().view, LeaseView::NotHeld);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_number_of_a_timeline_goes_with_the_lock_or_not_at_all() {
        let store = MemoryStore::new();
        let (a, b) = (node("a", &store), node("b", &store));
        let wanted = |timeline, expect| Wanted {
            timeline: Some(NextTimeline { timeline: TimelineId(timeline), expect }),
            ..Wanted::default()
        };
        let claim = async || {
            let snapshot = store.snapshot(Deadline::after(TTL)).await.unwrap();
            let claim = codec::decode(&snapshot).timeline_claim.expect("a number was taken");
            (claim.value.unwrap(), claim.revision)
        };
        assert!(matches!(a.lease.acquire(wanted(2, None)).await, Acquired::Yes { .. }));
        let (taken, revision) = claim().await;
        assert_eq!((taken.timeline, taken.leader.as_str()), (TimelineId(2), "a"));
        assert!(matches!(b.lease.acquire(wanted(3, Some(revision))).await, Acquired::No), "a holds the lock");
        assert_eq!(claim().await.1, revision, "who does not get the lock takes no number");
        a.lease.release(None).await;
        assert!(
            matches!(b.lease.acquire(wanted(2, None)).await, Acquired::No),
            "b has not seen that a took 2"
        );
        assert!(matches!(b.lease.acquire(wanted(3, Some(revision))).await, Acquired::Yes { .. }));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn release_stops_belief_before_the_key_is_gone() {
        let store = MemoryStore::new();
        let (a, b) = (node("a", &store), node("b", &store));
        assert!(matches!(a.lease.acquire(Wanted::default()).await, Acquired::Yes { .. }));
        assert!(matches!(a.lease.release(Some(br#"{"optime":7}"#.to_vec())).await, Released::Yes));
        assert_eq!(a.lease.state().view, LeaseView::NotHeld);
        let snapshot = store.snapshot(Deadline::after(TTL)).await.unwrap();
        assert!(!snapshot.entries.contains_key(&Key::from(keys::LEADER)));
        assert_eq!(snapshot.entries[&Key::from(keys::STATUS)].value, br#"{"optime":7}"#);
        assert!(matches!(b.lease.acquire(Wanted::default()).await, Acquired::Yes { .. }));
        assert!(matches!(a.lease.release(None).await, Released::No), "it is somebody else's now");
        assert!(is_held(&b.lease.state().view));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_steps_to_the_lock_share_one_deadline() {
        let a = node("a", &MemoryStore::new());
        drop(a.lease.subscribe().wait_for(|state| state.lease.is_some()).await.expect("the keeper runs"));
        // The lock and its proof would each be in time for a renewal, and together they are not.
        let step = TTL * 7 / 40;
        a.link.set_fault(Some(Fault::Delayed(step)));
        let began = clock::now();
        let acquired = a.lease.acquire(Wanted::default()).await;
        let took = clock::now().since(began);
        assert!(matches!(acquired, Acquired::Unknown(_)), "{acquired:?} after {took:?}");
        assert_eq!(a.lease.state().view, LeaseView::NotHeld, "a lock without a proof is none");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_lease_is_kept_by_who_does_not_lead_and_replaced_when_it_is_gone() {
        let store = MemoryStore::new();
        let a = node("a", &store);
        let granted = async |other: Option<LeaseId>| {
            let mut changes = a.lease.subscribe();
            let seen = changes.wait_for(|state| state.lease.is_some() && state.lease != other);
            let state = tokio::time::timeout(10 * TTL, seen).await.expect("a lease").unwrap().lease;
            state.unwrap()
        };
        let first = granted(None).await;
        let key = Key::new("members/a");
        let soon = || Deadline::after(TTL);
        store.commit(&[], &[Write::put_leased(key.clone(), "{}", first)], soon()).await;
        let end = clock::now() + 2 * TTL;
        while clock::now() < end {
            assert!(store.snapshot(soon()).await.unwrap().entries.contains_key(&key), "nobody renewed it");
            tokio::time::sleep(TTL / 20).await;
        }
        store.revoke_lease(first, soon()).await.unwrap();
        let second = granted(Some(first)).await;
        assert!(matches!(store.keep_alive(second, None, soon()).await, Renewal::Valid { .. }));
        assert!(matches!(a.lease.acquire(Wanted::default()).await, Acquired::Yes { .. }));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_loop_that_hangs_loses_the_lock() {
        let store = MemoryStore::new();
        let a = node("a", &store);
        assert!(matches!(a.lease.acquire(Wanted::default()).await, Acquired::Yes { .. }));
        a.beating.cancel();
        let b = node("b", &store);
        let taken = async {
            while !matches!(b.lease.acquire(Wanted::default()).await, Acquired::Yes { .. }) {
                tokio::time::sleep(TTL / 20).await;
            }
        };
        tokio::time::timeout(10 * TTL, taken).await.expect("the lease of a hung agent runs out");
    }
}
