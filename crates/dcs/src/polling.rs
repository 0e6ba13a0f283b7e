//! A watch for stores that can only say *that* something has changed: read again, compare, tell the difference.
//!
//! The reader learns of every key's latest content and of nothing in between, so such a store's
//! [`every_change`](crate::Capabilities::every_change) is false.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bellwether_types::{Revision, Timestamp};
use tokio::sync::mpsc;

use crate::store::{Entry, Key, Snapshot, StoreError, WatchEvent, now};

/// Proofs of life are due every second; twice as often leaves room for a slow read.
const ALIVE_EVERY: Duration = Duration::from_millis(500);
/// A proof of life that was under way for longer proves too little.
const FRESH: Duration = Duration::from_millis(500);
/// Events that a reader may be behind before its watch is lost.
pub const QUEUE: usize = 256;
/// Reads that a watch can start from.
const REMEMBERED: usize = 8;

/// Where a watch gets its knowledge from.
#[async_trait]
pub trait Source: Send {
    /// Waits until something may have changed; an error means that a change may have gone unnoticed. Safe to cancel.
    async fn changed(&mut self) -> Result<(), StoreError>;

    /// Reads everything, linearizably. Must end within about a second.
    async fn read(&mut self) -> Result<Snapshot, StoreError>;
}

/// Tells the reader of `events` how the source differs from `known`, again and again, until it goes away or the watch is lost.
pub async fn follow(mut source: impl Source, mut known: Snapshot, events: mpsc::Sender<WatchEvent>) {
    // The source may be ahead of what the reader knows: read at once.
    let mut signal = Ok(());
    loop {
        let began = now();
        let read = match signal {
            Ok(()) => source.read().await,
            Err(error) => Err(error),
        };
        let Some(event) = read.ok().and_then(|read| tell(&mut known, read, (began, now()))) else { break };
        if events.capacity() <= 1 {
            break;
        }
        if let Some(event) = event
            && events.try_send(event).is_err()
        {
            return;
        }
        signal = tokio::select! {
            () = events.closed() => return,
            signal = source.changed() => signal,
            () = tokio::time::sleep(ALIVE_EVERY) => Ok(()),
        };
    }
    // Fails only if the reader is gone. One place in the queue was kept for it.
    let _ = events.try_send(WatchEvent::Lost);
}

/// What to tell about a read that began and ended then: `None` if the watch is lost, `Some(None)` if nothing.
fn tell(
    known: &mut Snapshot,
    read: Snapshot,
    (since, end): (Timestamp, Timestamp),
) -> Option<Option<WatchEvent>> {
    let revision = read.revision;
    if revision < known.revision {
        return None; // the store was set back
    }
    let changes = differences(known, &read);
    *known = read;
    if !changes.is_empty() {
        return Some(Some(WatchEvent::Changed { revision, changes }));
    }
    Some((end.since(since) <= FRESH).then_some(WatchEvent::Alive { revision, since }))
}

/// The keys that are not the same in both, as they are in `after`.
fn differences(before: &Snapshot, after: &Snapshot) -> Vec<(Key, Option<Entry>)> {
    let gone = before.entries.keys().filter(|key| !after.entries.contains_key(key));
    let other = after.entries.iter().filter(|(key, entry)| before.entries.get(key) != Some(entry));
    gone.map(|key| (key.clone(), None))
        .chain(other.map(|(key, entry)| (key.clone(), Some(entry.clone()))))
        .collect()
}

/// The last few snapshots that were handed out: a watch after one of them misses nothing, deletions included.
#[derive(Debug, Default)]
pub struct Remembered {
    snapshots: Mutex<VecDeque<Snapshot>>,
}

impl Remembered {
    /// Takes note of a snapshot.
    pub fn note(&self, snapshot: &Snapshot) {
        let mut snapshots = self.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
        if snapshots.iter().any(|known| known.revision == snapshot.revision) {
            return;
        }
        snapshots.push_front(snapshot.clone());
        snapshots.truncate(REMEMBERED);
    }

    /// What the store held at exactly this revision.
    pub fn at(&self, revision: Revision) -> Option<Snapshot> {
        let snapshots = self.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
        snapshots.iter().find(|known| known.revision == revision).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGAN: Timestamp = Timestamp::from_nanos(1_000_000_000);

    fn took(time: Duration) -> (Timestamp, Timestamp) {
        (BEGAN, BEGAN + time)
    }

    fn snapshot(revision: u64, entries: &[(&str, u64)]) -> Snapshot {
        let entry = |modified| Entry {
            value: Vec::new(),
            created: Revision(1),
            modified: Revision(modified),
            lease: None,
        };
        let entries = entries.iter().map(|(key, modified)| (Key::from(*key), entry(*modified))).collect();
        Snapshot { revision: Revision(revision), entries }
    }

    #[test]
    fn the_difference_has_the_new_the_changed_and_the_gone() {
        let mut known = snapshot(5, &[("same", 2), ("changed", 3), ("gone", 5)]);
        let told = tell(&mut known, snapshot(9, &[("same", 2), ("changed", 8), ("new", 9)]), took(FRESH));
        let Some(Some(WatchEvent::Changed { revision, changes })) = told else { panic!("{told:?}") };
        let told: Vec<(&str, Option<u64>)> = changes
            .iter()
            .map(|(key, entry)| (key.as_str(), entry.as_ref().map(|entry| entry.modified.0)))
            .collect();
        assert_eq!(revision, Revision(9));
        assert_eq!(told, [("gone", None), ("changed", Some(8)), ("new", Some(9))]);
    }

    #[test]
    fn a_slow_read_proves_no_life_and_a_step_back_ends_the_watch() {
        let mut known = snapshot(5, &[("a", 5)]);
        assert_eq!(
            tell(&mut known, snapshot(5, &[("a", 5)]), took(FRESH)),
            Some(Some(WatchEvent::Alive { revision: Revision(5), since: BEGAN }))
        );
        assert_eq!(tell(&mut known, snapshot(5, &[("a", 5)]), took(2 * FRESH)), Some(None));
        assert_eq!(tell(&mut known, snapshot(4, &[("a", 4)]), took(FRESH)), None);
    }
}
