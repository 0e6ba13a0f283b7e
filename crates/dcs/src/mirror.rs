//! The cluster as the store last had it, kept up to date by a watch, with the time up to which that is known to be true.
//!
//! A [`Mirror`] is a handle; [`Mirror::run`] is the task behind it. It decides nothing about age: a reader compares
//! [`MirrorState::confirmed_at`] with its own limit. Nobody's leadership may rest on it (a lease does that).

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bellwether_types::{Timestamp, cluster::Cluster};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    alarm::Alarm,
    codec,
    store::{self, Deadline, Snapshot, Store, StoreError, Watch, WatchEvent},
};

/// A living watch says something at least this often, unless [`Mirror::set_pace`] allows more.
pub const PACE: Duration = Duration::from_millis(500);
/// How much later than that it may be. A longer silence, or a longer pause of this very task (a frozen process, a suspended
/// machine), means that what comes next may be old: read anew.
const GRACE: Duration = Duration::from_secs(2);
/// How long one read may take.
const READ_BUDGET: Duration = Duration::from_secs(2);
const FIRST_BACK_OFF: Duration = Duration::from_millis(25);
const LONGEST_BACK_OFF: Duration = Duration::from_millis(500);

/// The store's content as of `confirmed_at`.
#[derive(Clone, Debug, Default)]
pub struct MirrorState {
    /// `None` until the first read succeeds. Kept, growing old, while the store is unavailable.
    pub cluster: Option<Arc<Cluster>>,
    /// The same, undecoded. Empty until the first read succeeds.
    pub snapshot: Arc<Snapshot>,
    /// The content was the store's at some moment after this instant of CLOCK_BOOTTIME: taken before the request was sent, or
    /// before the wait for the proof of life began.
    pub confirmed_at: Timestamp,
    /// Why there is no newer content; `None` while all is well.
    pub error: Option<String>,
}

/// A handle to the mirror; clones share it.
#[derive(Clone, Debug)]
pub struct Mirror {
    store: Arc<dyn Store>,
    installed: Arc<Mutex<Installed>>,
    published: watch::Sender<MirrorState>,
    poll: watch::Sender<Duration>,
    pace: watch::Sender<Duration>,
}

/// Guards the order in which contents replace each other.
#[derive(Debug, Default)]
struct Installed {
    state: MirrorState,
    /// When the present content was installed: a read that began later is newer, whatever its revision.
    at: Timestamp,
}

/// Why following a watch ended.
enum Interrupted {
    Lost,
    Silent,
    Unavailable(StoreError),
}

impl Mirror {
    /// A mirror that reads the store anew at least every `poll`, once it runs.
    pub fn new(store: Arc<dyn Store>, poll: Duration) -> Self {
        Self {
            store,
            installed: Arc::default(),
            published: watch::Sender::default(),
            poll: watch::Sender::new(poll),
            pace: watch::Sender::new(PACE),
        }
    }

    /// The latest state now.
    pub fn state(&self) -> MirrorState {
        self.published.borrow().clone()
    }

    /// Tells of every change, proofs of life included.
    pub fn subscribe(&self) -> watch::Receiver<MirrorState> {
        self.published.subscribe()
    }

    /// Changes the longest time between two reads.
    pub fn set_poll(&self, poll: Duration) {
        self.poll.send_if_modified(|present| std::mem::replace(present, poll) != poll);
    }

    /// Changes how far apart the proofs may be that nothing has changed (never less than [`PACE`]): while all is well a store
    /// that has to be asked for each is asked less often.
    pub fn set_pace(&self, pace: Duration) {
        let pace = pace.max(PACE);
        if self.pace.send_if_modified(|present| std::mem::replace(present, pace) != pace) {
            self.store.set_pace(pace);
        }
    }

    /// Reads the store now, linearizably, and returns what it holds: every write that was confirmed before this call is in it.
    /// Works without [`Mirror::run`]. Safe to cancel.
    pub async fn refresh(&self, by: Deadline) -> Result<Arc<Cluster>, StoreError> {
        let sent_at = store::now();
        match self.store.snapshot(by).await {
            Ok(snapshot) => Ok(self.install(snapshot, sent_at)),
            Err(error) => {
                self.publish(|state| state.error = Some(error.to_string()));
                Err(error)
            }
        }
    }

    /// Keeps the mirror up to date until `stop`. To be run once.
    pub async fn run(&self, stop: CancellationToken) {
        let mut back_off = FIRST_BACK_OFF;
        loop {
            let Some(end) = stop.run_until_cancelled(self.read_and_follow(&mut back_off)).await else {
                return;
            };
            if let Interrupted::Unavailable(error) = &end {
                tracing::debug!(%error, "store mirror is cut off");
                self.publish(|state| state.error = Some(error.to_string()));
            }
            if stop.run_until_cancelled(tokio::time::sleep(jittered(back_off))).await.is_none() {
                return;
            }
            back_off = (back_off * 2).min(LONGEST_BACK_OFF);
        }
    }

    async fn read_and_follow(&self, back_off: &mut Duration) -> Interrupted {
        if let Err(error) = self.refresh(Deadline::after(READ_BUDGET)).await {
            return Interrupted::Unavailable(error);
        }
        let after = self.lock().state.snapshot.revision;
        match self.store.watch(after).await {
            Ok(watch) => self.follow(watch, back_off).await,
            Err(error) => Interrupted::Unavailable(error),
        }
    }

    /// Applies events until something is wrong.
    async fn follow(&self, mut watch: Watch, back_off: &mut Duration) -> Interrupted {
        let (mut poll, mut pace) = (self.poll.subscribe(), self.pace.subscribe());
        let (mut read_at, mut heard_at, mut turned_at) = (store::now(), store::now(), store::now());
        let mut limit = *pace.borrow_and_update() + GRACE;
        let mut alarm = Alarm::new();
        loop {
            let now = store::now();
            if now.since(turned_at) > limit {
                return Interrupted::Silent; // we were stopped, so the queue may be full of the past
            }
            turned_at = now;
            let present = *pace.borrow_and_update() + GRACE;
            if present != limit {
                // A silence that was allowed until now is none to be blamed for.
                (limit, heard_at) = (present, now);
            }
            // What is queued already came into being at some unknown time; what comes after this moment, after `now`.
            if let Ok(event) = watch.events.try_recv() {
                heard_at = now;
                if let Some(end) = self.apply(event, None) {
                    return end;
                }
                continue;
            }
            if now.since(heard_at) > limit {
                return Interrupted::Silent;
            }
            let next_read = read_at + *poll.borrow_and_update();
            if now >= next_read {
                read_at = now;
                if let Err(error) = self.refresh(Deadline::after(READ_BUDGET)).await {
                    return Interrupted::Unavailable(error);
                }
                continue;
            }
            let event = tokio::select! {
                event = watch.events.recv() => event.unwrap_or(WatchEvent::Lost),
                () = alarm.at(next_read.min(now + limit)) => continue,
                _ = poll.changed() => continue,
                _ = pace.changed() => continue,
            };
            let received_at = store::now();
            if received_at.since(now) > limit {
                return Interrupted::Silent;
            }
            heard_at = received_at;
            *back_off = FIRST_BACK_OFF;
            if let Some(end) = self.apply(event, Some(now)) {
                return end;
            }
        }
    }

    /// Takes in one event. `proven_at`: an instant after which it came into being, if one is known.
    fn apply(&self, event: WatchEvent, mut proven_at: Option<Timestamp>) -> Option<Interrupted> {
        let mut installed = self.lock();
        match event {
            WatchEvent::Lost => return Some(Interrupted::Lost),
            WatchEvent::Alive { revision, .. } if revision < installed.state.snapshot.revision => {
                return None;
            }
            WatchEvent::Alive { since, .. } => proven_at = Some(proven_at.unwrap_or_default().max(since)),
            WatchEvent::Changed { revision, .. } if revision <= installed.state.snapshot.revision => {
                return None;
            }
            WatchEvent::Changed { revision, changes } => {
                let mut snapshot = Arc::unwrap_or_clone(std::mem::take(&mut installed.state.snapshot));
                snapshot.revision = revision;
                for (key, entry) in changes {
                    match entry {
                        Some(entry) => drop(snapshot.entries.insert(key, entry)),
                        None => drop(snapshot.entries.remove(&key)),
                    }
                }
                installed.state.cluster = Some(Arc::new(codec::decode(&snapshot)));
                installed.state.snapshot = Arc::new(snapshot);
                installed.at = store::now();
            }
        }
        if let Some(proven_at) = proven_at {
            installed.state.confirmed_at = installed.state.confirmed_at.max(proven_at);
        }
        installed.state.error = None;
        self.published.send_replace(installed.state.clone());
        None
    }

    /// Takes in a snapshot, unless something newer is there already. Returns the newer of both.
    fn install(&self, snapshot: Snapshot, sent_at: Timestamp) -> Arc<Cluster> {
        let mut installed = self.lock();
        let present = &installed.state;
        // A lower revision in a read that began later: the store itself was set back (restored, recreated).
        let set_back = sent_at > installed.at;
        let cluster = match &present.cluster {
            Some(cluster)
                if present.snapshot.revision == snapshot.revision && *present.snapshot == snapshot =>
            {
                cluster.clone()
            }
            Some(cluster) if snapshot.revision < present.snapshot.revision && !set_back => {
                return cluster.clone();
            }
            _ => {
                let cluster = Arc::new(codec::decode(&snapshot));
                installed.state.cluster = Some(cluster.clone());
                installed.state.snapshot = Arc::new(snapshot);
                installed.at = store::now();
                cluster
            }
        };
        installed.state.confirmed_at = installed.state.confirmed_at.max(sent_at);
        installed.state.error = None;
        self.published.send_replace(installed.state.clone());
        cluster
    }

    fn publish(&self, change: impl FnOnce(&mut MirrorState)) {
        let mut installed = self.lock();
        change(&mut installed.state);
        self.published.send_replace(installed.state.clone());
    }

    fn lock(&self) -> MutexGuard<'_, Installed> {
        self.installed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Between half and all of it, so that the members of a cluster do not come back in step.
fn jittered(back_off: Duration) -> Duration {
    let half = back_off / 2;
    let share = u32::try_from(store::now().as_nanos() % 1024).expect("below 1024");
    half + half * share / 1024
}
