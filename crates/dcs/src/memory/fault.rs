//! What a test may break between one client and the store.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// How the link of one handle misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Every call fails at once and does nothing. Watches end with `Lost`.
    Unreachable,
    /// No call does anything or is answered before its deadline. Watches fall silent, and go on where they were once healed.
    Silent,
    /// Calls do their work, but the answers are lost: at once, so that tests need not wait for deadlines. Writes end
    /// `Unknown`, everything else times out. Watches are not affected.
    AnswersLost,
    /// Calls do their work so much later. A write whose deadline is earlier ends `Unknown` and lands all the same.
    Delayed(Duration),
}

/// The link of one handle.
#[derive(Debug, Default)]
pub(super) struct Link {
    fault: Mutex<Option<Fault>>,
    guarantee: Mutex<Option<Duration>>,
}

impl Link {
    pub(super) fn fault(&self) -> Option<Fault> {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long a renewal of a lease of `ttl` is guaranteed to be good for.
    pub(super) fn guaranteed(&self, ttl: Duration) -> Duration {
        self.guarantee.lock().unwrap_or_else(PoisonError::into_inner).map_or(ttl, |most| ttl.min(most))
    }

    pub(super) fn guarantee_at_most(&self, most: Duration) {
        *self.guarantee.lock().unwrap_or_else(PoisonError::into_inner) = Some(most);
    }

    pub(super) fn set(&self, fault: Option<Fault>) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }
}
