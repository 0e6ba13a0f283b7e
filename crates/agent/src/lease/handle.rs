//! What the rest of the agent sees of the keeper: what is known about the lease, and what can be asked of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bellwether_dcs::{Check, StoreError, Write};
use bellwether_ha::{action::NextTimeline, view::LeaseView};
use bellwether_types::{LeaseId, Revision, Term, Timestamp, takeover::Takeover};
use tokio::sync::{mpsc, oneshot, watch};

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
    /// What else is checked and written in the same transaction.
    pub(crate) also: Also,
}

/// More keys in the transaction that takes the lock.
#[derive(Clone, Debug, Default)]
pub(crate) struct Also {
    pub(crate) checks: Vec<Check>,
    pub(crate) writes: Vec<Write>,
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

/// What the keeper is asked to do.
pub(super) enum Command {
    Acquire { wanted: Box<Wanted>, answer: oneshot::Sender<Acquired> },
    Release { status: Option<Vec<u8>>, answer: oneshot::Sender<Released> },
    Extend { began_at: Timestamp, good_for: Duration },
    Forget,
}

/// Talks to the keeper. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct LeaseHandle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) state: watch::Receiver<LeaseState>,
    pub(super) heartbeat: Arc<AtomicU64>,
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
        let command = Command::Acquire { wanted: Box::new(wanted), answer };
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
