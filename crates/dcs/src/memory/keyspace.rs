//! Keys, leases and the log of changes: plain data, with the time as an argument.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use bellwether_types::{LeaseId, Revision, Timestamp};

use crate::store::{Check, Condition, Entry, Key, Snapshot, Write};

/// What one revision changed; `None` = deleted.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) revision: Revision,
    pub(super) keys: Vec<(Key, Option<Entry>)>,
}

/// A transaction that was not applied; `found` as in [`crate::CommitOutcome::Refused`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) found: Option<Revision>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum LeaseState {
    Renewed { ttl: Duration },
    NotHolding,
    Gone,
}

#[derive(Debug)]
struct Lease {
    ttl: Duration,
    expires: Timestamp,
}

#[derive(Debug)]
pub(super) struct Keyspace {
    revision: Revision,
    entries: BTreeMap<Key, Entry>,
    leases: BTreeMap<LeaseId, Lease>,
    last_lease: LeaseId,
    log: VecDeque<Change>,
    log_limit: usize,
    /// Changes up to here are no longer in the log.
    forgotten: Revision,
}

impl Keyspace {
    pub(super) fn new(log_limit: usize) -> Self {
        Self {
            revision: Revision(0),
            entries: BTreeMap::new(),
            leases: BTreeMap::new(),
            last_lease: LeaseId(0),
            log: VecDeque::new(),
            log_limit,
            forgotten: Revision(0),
        }
    }

    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot { revision: self.revision, entries: self.entries.clone() }
    }

    /// The changes after `after`; `None` if some of them are forgotten, or if it lies in the future.
    pub(super) fn changes_after(&self, after: Revision) -> Option<impl Iterator<Item = &Change>> {
        if after < self.forgotten || after > self.revision {
            return None;
        }
        Some(self.log.iter().filter(move |change| change.revision > after))
    }

    pub(super) fn commit(&mut self, checks: &[Check], writes: &[Write]) -> Result<Revision, Refusal> {
        for check in checks {
            let entry = self.entries.get(&check.key);
            if !holds(&check.condition, entry) {
                return Err(Refusal { found: entry.map(|entry| entry.modified) });
            }
        }
        let unknown = |lease: &LeaseId| !self.leases.contains_key(lease);
        if writes.iter().any(|write| matches!(write, Write::Put { lease: Some(id), .. } if unknown(id))) {
            return Err(Refusal { found: None });
        }
        let revision = Revision(self.revision.0 + 1);
        let mut touched = BTreeSet::new();
        for write in writes {
            match write {
                Write::Put { key, value, lease } => {
                    let created = self.entries.get(key).map_or(revision, |entry| entry.created);
                    let entry = Entry { value: value.clone(), created, modified: revision, lease: *lease };
                    self.entries.insert(key.clone(), entry);
                    touched.insert(key.clone());
                }
                Write::Delete { key } => {
                    if self.entries.remove(key).is_some() {
                        touched.insert(key.clone());
                    }
                }
            }
        }
        self.record(touched);
        Ok(self.revision)
    }

    pub(super) fn grant(&mut self, ttl: Duration, now: Timestamp) -> LeaseId {
        self.last_lease = LeaseId(self.last_lease.0 + 1);
        self.leases.insert(self.last_lease, Lease { ttl, expires: now + ttl });
        self.last_lease
    }

    /// Renews the lease, also if `holding` turns out not to hang on it: other keys may.
    pub(super) fn keep_alive(&mut self, id: LeaseId, holding: Option<&Key>, now: Timestamp) -> LeaseState {
        let Some(lease) = self.leases.get_mut(&id) else { return LeaseState::Gone };
        lease.expires = now + lease.ttl;
        let held = |key| self.entries.get(key).is_some_and(|entry| entry.lease == Some(id));
        match holding {
            Some(key) if !held(key) => LeaseState::NotHolding,
            _ => LeaseState::Renewed { ttl: lease.ttl },
        }
    }

    /// Ends a lease; all its keys vanish in one revision.
    pub(super) fn revoke(&mut self, id: LeaseId) {
        if self.leases.remove(&id).is_none() {
            return;
        }
        let keys: BTreeSet<Key> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.lease == Some(id))
            .map(|(key, _)| key.clone())
            .collect();
        self.entries.retain(|key, _| !keys.contains(key));
        self.record(keys);
    }

    /// Ends every lease whose time is over.
    pub(super) fn expire(&mut self, now: Timestamp) {
        let over: Vec<LeaseId> =
            self.leases.iter().filter(|(_, lease)| lease.expires <= now).map(|(id, _)| *id).collect();
        over.into_iter().for_each(|id| self.revoke(id));
    }

    pub(super) fn next_expiry(&self) -> Option<Timestamp> {
        self.leases.values().map(|lease| lease.expires).min()
    }

    /// Makes a revision of the keys that were touched, if there are any.
    fn record(&mut self, touched: BTreeSet<Key>) {
        if touched.is_empty() {
            return;
        }
        self.revision = Revision(self.revision.0 + 1);
        let keys = touched.into_iter().map(|key| {
            let entry = self.entries.get(&key).cloned();
            (key, entry)
        });
        self.log.push_back(Change { revision: self.revision, keys: keys.collect() });
        while self.log.len() > self.log_limit {
            let oldest = self.log.pop_front().expect("the log is longer than its limit");
            self.forgotten = oldest.revision;
        }
    }
}

fn holds(condition: &Condition, entry: Option<&Entry>) -> bool {
    match condition {
        Condition::Absent => entry.is_none(),
        Condition::AtRevision(revision) => entry.is_some_and(|entry| entry.modified == *revision),
        Condition::HasValue(value) => entry.is_some_and(|entry| entry.value == *value),
    }
}
