//! One open watch: where its reader is, and what it still has to be told.

use std::{sync::Arc, time::Duration};

use bellwether_types::{Revision, Timestamp};
use tokio::sync::mpsc;

use super::{
    fault::{Fault, Link},
    keyspace::Keyspace,
};
use crate::store::WatchEvent;

/// Proofs of life are due every second; twice as often leaves room for a busy machine.
pub(super) const ALIVE_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Watcher {
    events: mpsc::Sender<WatchEvent>,
    link: Arc<Link>,
    /// The reader was told everything up to here.
    position: Revision,
    last_sent: Timestamp,
}

/// Whether a watch goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Open,
    Ended,
}

impl Watcher {
    pub(super) fn new(
        events: mpsc::Sender<WatchEvent>,
        link: Arc<Link>,
        after: Revision,
        now: Timestamp,
    ) -> Self {
        Self { events, link, position: after, last_sent: now }
    }

    /// Tells the reader what it does not know yet. One place in the queue is kept for `Lost`.
    pub(super) fn deliver(&mut self, keyspace: &Keyspace, now: Timestamp) -> Fate {
        match self.link.fault() {
            Some(Fault::Silent) => return self.check_open(),
            Some(Fault::Unreachable) => return self.end(),
            _ => {}
        }
        let Some(changes) = keyspace.changes_after(self.position) else { return self.end() };
        for change in changes {
            if self.events.capacity() <= 1 {
                return self.end();
            }
            let event = WatchEvent::Changed { revision: change.revision, changes: change.keys.clone() };
            if self.events.try_send(event).is_err() {
                return Fate::Ended;
            }
            (self.position, self.last_sent) = (change.revision, now);
        }
        if now.since(self.last_sent) >= ALIVE_EVERY && self.events.capacity() > 1 {
            self.last_sent = now;
            // An error means that the reader is gone, which the next line notices.
            let _ = self
                .events
                .try_send(WatchEvent::Alive { revision: keyspace.revision(), since: Timestamp::ZERO });
        }
        self.check_open()
    }

    pub(super) fn next_alive(&self) -> Timestamp {
        self.last_sent + ALIVE_EVERY
    }

    fn check_open(&self) -> Fate {
        if self.events.is_closed() { Fate::Ended } else { Fate::Open }
    }

    fn end(&self) -> Fate {
        // Fails only if the reader is gone.
        let _ = self.events.try_send(WatchEvent::Lost);
        Fate::Ended
    }
}
