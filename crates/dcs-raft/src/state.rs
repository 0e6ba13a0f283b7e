//! What the log means: keys, revisions and leases as a pure function of the commands applied so far.
//!
//! No clock, no I/O. A lease here has a ttl but no deadline: when it was last renewed is known to the store leader
//! alone (see `leases`), and its end arrives as a command.

use std::collections::{BTreeMap, VecDeque};

use bellwether_dcs::{Entry, Key, Snapshot};
use bellwether_types::{LeaseId, Revision};
use serde::{Deserialize, Serialize};

use crate::{
    command::{Blob, CheckRecord, Command, ConditionRecord, Outcome, WriteRecord},
    consensus::LeaderTag,
};

/// So many changes can be watched from the past, unless they are big.
const HISTORY_CHANGES: usize = 1024;
const HISTORY_BYTES: usize = 2 << 20;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stored {
    pub(crate) value: Blob,
    pub(crate) created: u64,
    pub(crate) modified: u64,
    pub(crate) lease: Option<u64>,
}

impl From<&Stored> for Entry {
    fn from(stored: &Stored) -> Self {
        Entry {
            value: stored.value.0.clone(),
            created: Revision(stored.created),
            modified: Revision(stored.modified),
            lease: stored.lease.map(LeaseId),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    pub(crate) ttl_ms: u64,
    /// Which grant this is; unique in the life of the store.
    pub(crate) granted: u64,
}

/// The keys that one revision changed; `None` = gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Change {
    pub(crate) revision: u64,
    pub(crate) keys: BTreeMap<String, Option<Stored>>,
}

impl Change {
    fn bytes(&self) -> usize {
        self.keys
            .iter()
            .map(|(key, stored)| 64 + key.len() + stored.as_ref().map_or(0, |stored| stored.value.0.len()))
            .sum()
    }
}

/// The changes after a revision, or the news that they are no longer known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Past {
    Known(Vec<Change>),
    Forgotten,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct State {
    revision: u64,
    next_lease: u64,
    keys: BTreeMap<String, Stored>,
    leases: BTreeMap<u64, Lease>,
    /// Not part of a snapshot: a node that was sent one knows no past.
    #[serde(skip)]
    history: VecDeque<Change>,
    #[serde(skip)]
    history_bytes: usize,
    /// Every change after this revision is in `history`.
    #[serde(skip)]
    history_start: u64,
}

impl State {
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    pub(crate) fn leases(&self) -> &BTreeMap<u64, Lease> {
        &self.leases
    }

    pub(crate) fn lease_of(&self, key: &str) -> Option<u64> {
        self.keys.get(key).and_then(|stored| stored.lease)
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            revision: Revision(self.revision),
            entries: self.keys.iter().map(|(key, stored)| (Key::new(key.clone()), stored.into())).collect(),
        }
    }

    pub(crate) fn keys(&self) -> &BTreeMap<String, Stored> {
        &self.keys
    }

    /// Forgets the past: for a state that arrived whole.
    pub(crate) fn begin_history(&mut self) {
        self.history.clear();
        self.history_bytes = 0;
        self.history_start = self.revision;
    }

    /// Makes every revision and lease of the future greater than any that was seen before a restore.
    pub(crate) fn skip_ahead(&mut self, revisions: u64) {
        self.revision += revisions;
        self.next_lease += revisions;
        self.begin_history();
    }

    /// Every change after `revision`, in order.
    pub(crate) fn past(&self, revision: u64) -> Past {
        if revision < self.history_start || revision > self.revision {
            return Past::Forgotten;
        }
        Past::Known(self.history.iter().filter(|change| change.revision > revision).cloned().collect())
    }

    /// Applies one command that `leader` put into the log.
    pub(crate) fn apply(&mut self, leader: LeaderTag, command: Command) -> Outcome {
        match command {
            Command::Commit { checks, writes } => self.commit(&checks, writes),
            Command::Grant { ttl_ms } => {
                self.next_lease += 1;
                let lease = self.next_lease;
                self.leases.insert(lease, Lease { ttl_ms, granted: lease });
                Outcome::Granted { lease }
            }
            Command::Revoke { lease } => self.end_lease(lease),
            Command::Expire { lease, granted, by } => {
                let same_grant = self.leases.get(&lease).is_none_or(|lease| lease.granted == granted);
                if by == leader && same_grant { self.end_lease(lease) } else { Outcome::Void }
            }
            Command::SkipAhead { by } => {
                self.skip_ahead(by);
                Outcome::Nothing
            }
        }
    }

    fn commit(&mut self, checks: &[CheckRecord], writes: Vec<WriteRecord>) -> Outcome {
        for check in checks {
            let stored = self.keys.get(&check.key);
            let holds = match (&check.condition, stored) {
                (ConditionRecord::Absent, stored) => stored.is_none(),
                (ConditionRecord::AtRevision(revision), Some(stored)) => stored.modified == *revision,
                (ConditionRecord::HasValue(value), Some(stored)) => stored.value == *value,
                (_, None) => false,
            };
            if !holds {
                return Outcome::Refused { found: stored.map(|stored| stored.modified) };
            }
        }
        let dead_lease = writes.iter().any(|write| match write {
            WriteRecord::Put { lease: Some(lease), .. } => !self.leases.contains_key(lease),
            _ => false,
        });
        if dead_lease {
            return Outcome::Refused { found: None };
        }
        let revision = self.revision + 1;
        let mut changed = BTreeMap::new();
        for write in writes {
            match write {
                WriteRecord::Put { key, value, lease } => {
                    let created = self.keys.get(&key).map_or(revision, |stored| stored.created);
                    let stored = Stored { value, created, modified: revision, lease };
                    self.keys.insert(key.clone(), stored.clone());
                    changed.insert(key, Some(stored));
                }
                WriteRecord::Delete { key } => {
                    if self.keys.remove(&key).is_some() {
                        changed.insert(key, None);
                    }
                }
            }
        }
        self.record(changed);
        Outcome::Applied { revision: self.revision }
    }

    fn end_lease(&mut self, lease: u64) -> Outcome {
        self.leases.remove(&lease);
        let attached: Vec<String> = self
            .keys
            .iter()
            .filter(|(_, stored)| stored.lease == Some(lease))
            .map(|(key, _)| key.clone())
            .collect();
        for key in &attached {
            self.keys.remove(key);
        }
        self.record(attached.into_iter().map(|key| (key, None)).collect());
        Outcome::Gone
    }

    /// Counts a revision, if anything changed at all.
    fn record(&mut self, keys: BTreeMap<String, Option<Stored>>) {
        if keys.is_empty() {
            return;
        }
        self.revision += 1;
        let change = Change { revision: self.revision, keys };
        self.history_bytes += change.bytes();
        self.history.push_back(change);
        while self.history.len() > HISTORY_CHANGES || self.history_bytes > HISTORY_BYTES {
            let Some(oldest) = self.history.pop_front() else { break };
            self.history_bytes -= oldest.bytes();
            self.history_start = oldest.revision;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEADER: LeaderTag = LeaderTag { term: 3, node: 7 };

    fn put(key: &str, value: &str, lease: Option<u64>) -> WriteRecord {
        WriteRecord::Put { key: key.into(), value: Blob(value.into()), lease }
    }

    fn check(key: &str, condition: ConditionRecord) -> CheckRecord {
        CheckRecord { key: key.into(), condition }
    }

    fn commit(state: &mut State, checks: Vec<CheckRecord>, writes: Vec<WriteRecord>) -> Outcome {
        state.apply(LEADER, Command::Commit { checks, writes })
    }

    fn grant(state: &mut State) -> u64 {
        match state.apply(LEADER, Command::Grant { ttl_ms: 1000 }) {
            Outcome::Granted { lease } => lease,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_transaction_applies_whole_or_not_at_all() {
        let mut state = State::default();
        assert_eq!(
            commit(&mut state, vec![], vec![put("a", "1", None), put("b", "1", None)]),
            Outcome::Applied { revision: 1 }
        );
        assert_eq!(commit(&mut state, vec![], vec![put("b", "2", None)]), Outcome::Applied { revision: 2 });
        let cases = [
            ("present though absent asked", "b", ConditionRecord::Absent, Some(2)),
            ("older revision", "b", ConditionRecord::AtRevision(1), Some(2)),
            ("another value", "b", ConditionRecord::HasValue(Blob("1".into())), Some(2)),
            ("absent key at a revision", "c", ConditionRecord::AtRevision(1), None),
        ];
        for (case, key, condition, found) in cases {
            let checks = vec![check("a", ConditionRecord::AtRevision(1)), check(key, condition)];
            let outcome = commit(&mut state, checks, vec![put("a", "9", None), put("z", "9", None)]);
            assert_eq!(outcome, Outcome::Refused { found }, "{case}");
            assert_eq!(state.revision(), 2, "{case}");
            assert!(!state.keys().contains_key("z"), "{case}");
        }
        assert_eq!(state.keys()["b"].created, 1);
        assert_eq!(state.keys()["b"].modified, 2);
    }

    #[test]
    fn a_put_on_a_dead_lease_is_refused() {
        let mut state = State::default();
        assert_eq!(
            commit(&mut state, vec![], vec![put("a", "1", Some(5))]),
            Outcome::Refused { found: None }
        );
        assert!(state.keys().is_empty());
    }

    #[test]
    fn an_expiry_ends_only_the_grant_and_leadership_it_names() {
        let mut state = State::default();
        let lease = grant(&mut state);
        commit(&mut state, vec![], vec![put("x", "1", Some(lease)), put("y", "1", None)]);
        let expire = |granted, by| Command::Expire { lease, granted, by };
        let stranger = LeaderTag { term: 3, node: 8 };
        assert_eq!(state.apply(LEADER, expire(lease, stranger)), Outcome::Void);
        assert_eq!(state.apply(LEADER, expire(lease + 1, LEADER)), Outcome::Void);
        assert!(state.keys().contains_key("x"));
        assert_eq!(state.apply(LEADER, expire(lease, LEADER)), Outcome::Gone);
        assert_eq!(state.keys().keys().collect::<Vec<_>>(), ["y"]);
        assert_eq!(state.revision(), 2, "all keys of a lease vanish in one revision");
        assert!(grant(&mut state) > lease, "a lease id is never used again");
    }

    #[test]
    fn the_past_is_whole_or_forgotten() {
        let mut state = State::default();
        for number in 0..HISTORY_CHANGES + 10 {
            commit(&mut state, vec![], vec![put("a", &number.to_string(), None)]);
        }
        let newest = state.revision();
        assert_eq!(state.past(newest), Past::Known(vec![]));
        assert_eq!(state.past(9), Past::Forgotten);
        let Past::Known(changes) = state.past(10) else { panic!("10 is known") };
        assert_eq!(
            changes.iter().map(|change| change.revision).collect::<Vec<_>>(),
            (11..=newest).collect::<Vec<_>>()
        );
        assert_eq!(
            state.past(newest + 1),
            Past::Forgotten,
            "a revision that is not reached is from elsewhere"
        );
    }

    #[test]
    fn a_transaction_without_effect_makes_no_revision() {
        let mut state = State::default();
        commit(&mut state, vec![], vec![put("a", "1", None)]);
        let outcome = commit(&mut state, vec![], vec![WriteRecord::Delete { key: "b".into() }]);
        assert_eq!(outcome, Outcome::Applied { revision: 1 });
        assert_eq!(state.past(0), Past::Known(vec![state.history[0].clone()]));
    }
}
