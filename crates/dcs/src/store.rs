//! The store as the rest of Bellwether sees it: versioned keys, transactions over several of them, leases, and a watch.

use std::{collections::BTreeMap, fmt, time::Duration};

use async_trait::async_trait;
use bellwether_types::{Failure, LeaseId, Revision, Timestamp};
use tokio::sync::mpsc;

/// A key below the cluster's prefix, without the prefix: `leader`, `members/pg-1`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub String);

impl Key {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// A value as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub value: Vec<u8>,
    /// The revision at which the key came into being; it changes when the key is deleted and created again.
    pub created: Revision,
    pub modified: Revision,
    /// The lease that the key vanishes with.
    pub lease: Option<LeaseId>,
}

/// All keys below the cluster's prefix at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub revision: Revision,
    pub entries: BTreeMap<Key, Entry>,
}

/// Until when a call may take, on CLOCK_BOOTTIME.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(pub Timestamp);

impl Deadline {
    /// So much time from now.
    pub fn after(budget: Duration) -> Self {
        Self(now() + budget)
    }

    /// What is left of the budget; zero when it has run out.
    pub fn remaining(self) -> Duration {
        now().until(self.0)
    }
}

/// CLOCK_BOOTTIME now: the clock of all store timers.
pub fn now() -> Timestamp {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Timestamp::from_nanos(time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs())
}

/// What must hold about a key for a transaction to apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub key: Key,
    pub condition: Condition,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The key does not exist.
    Absent,
    /// The key exists and was last modified at this revision.
    AtRevision(Revision),
    /// The key exists and holds exactly this value.
    HasValue(Vec<u8>),
}

impl Check {
    pub fn absent(key: impl Into<Key>) -> Self {
        Self { key: key.into(), condition: Condition::Absent }
    }

    pub fn at(key: impl Into<Key>, revision: Revision) -> Self {
        Self { key: key.into(), condition: Condition::AtRevision(revision) }
    }

    pub fn has_value(key: impl Into<Key>, value: impl Into<Vec<u8>>) -> Self {
        Self { key: key.into(), condition: Condition::HasValue(value.into()) }
    }
}

/// One effect of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    Put {
        key: Key,
        value: Vec<u8>,
        lease: Option<LeaseId>,
    },
    /// Deleting an absent key is no error.
    Delete {
        key: Key,
    },
}

impl Write {
    pub fn put(key: impl Into<Key>, value: impl Into<Vec<u8>>) -> Self {
        Self::Put { key: key.into(), value: value.into(), lease: None }
    }

    pub fn put_leased(key: impl Into<Key>, value: impl Into<Vec<u8>>, lease: LeaseId) -> Self {
        Self::Put { key: key.into(), value: value.into(), lease: Some(lease) }
    }

    pub fn delete(key: impl Into<Key>) -> Self {
        Self::Delete { key: key.into() }
    }

    pub fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }
}

/// The three ends of a write. An `Unknown` one may still land later, so nothing may rest on it: read, then decide.
#[derive(Debug)]
pub enum CommitOutcome {
    /// All checks held and everything was written at this revision.
    Applied(Revision),
    /// The store is healthy and said no: a check failed, or the lease of a put does not exist. `found` is the present
    /// revision of the first key whose check failed; `None` if that key is absent or the lease was the reason.
    Refused { found: Option<Revision> },
    /// No answer, or none that says whether it was written.
    Unknown(StoreError),
}

/// The end of a lease renewal.
#[derive(Debug)]
pub enum Renewal {
    /// The store guarantees the lease for so long, counted from *before* the request was sent.
    Valid { guaranteed: Duration },
    /// The store is healthy and the lease is gone.
    Gone,
    /// The lease lives, but the key asked about does not exist or does not hang on it: somebody else may own it.
    NotHolding,
    /// No answer: the lease may or may not have been renewed.
    Unavailable(StoreError),
}

/// What went wrong below a store call. All of them mean "unavailable", never "refused".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    #[error("the store did not answer in time")]
    TimedOut,
    #[error("the store has no leader or no quorum: {0}")]
    NoQuorum(String),
    #[error("could not reach the store: {0}")]
    Unreachable(String),
    #[error("the store refused our credentials: {0}")]
    Unauthorized(String),
    #[error("the store answered nonsense: {0}")]
    Protocol(String),
    #[error("the store is shutting down")]
    Stopped,
}

impl StoreError {
    /// The code under which the book explains it.
    pub fn failure(&self) -> Failure {
        match self {
            Self::TimedOut | Self::Unreachable(_) | Self::Stopped => Failure::StoreUnreachable,
            Self::NoQuorum(_) => Failure::StoreNoQuorum,
            Self::Unauthorized(_) => Failure::StoreUnauthorized,
            Self::Protocol(_) => Failure::StoreProtocol,
        }
    }
}

/// What this kind of store can promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Checks and writes over at least three keys in one transaction.
    pub multi_key_transactions: bool,
    /// The shortest `ttl` that it can keep.
    pub minimum_ttl: Duration,
    /// A watch tells every single change. Without it, changes that follow each other closely may be told as one, with the
    /// latest content; a deletion and a creation of the same key then look like a change.
    pub every_change: bool,
    /// A short name: `raft`, `etcd3`, `memory`.
    pub kind: &'static str,
}

/// Changes below the prefix since a revision.
#[derive(Debug)]
pub struct Watch {
    /// Bounded; when the reader is too slow the watch ends with [`WatchEvent::Lost`].
    pub events: mpsc::Receiver<WatchEvent>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// The keys that one revision changed; `None` = deleted (or expired with its lease).
    Changed { revision: Revision, changes: Vec<(Key, Option<Entry>)> },
    /// Proof of life without a change, at least once per second or in the time that [`Store::set_pace`] allows: the reader
    /// knows that it has missed nothing that happened before `since` (on CLOCK_BOOTTIME; [`Timestamp::ZERO`] if the store
    /// cannot say).
    Alive { revision: Revision, since: Timestamp },
    /// Changes may have been missed: read a snapshot and watch anew. The last event.
    Lost,
}

/// A linearizable key-value store with leases. All calls end by their deadline.
///
/// Safe to cancel (drop) at any await point, but a dropped write may still land: treat it as [`CommitOutcome::Unknown`].
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// Reads the whole cluster prefix at one revision, linearizably.
    async fn snapshot(&self, by: Deadline) -> Result<Snapshot, StoreError>;

    /// One transaction over several keys: all checks hold and all writes happen, or nothing does.
    /// Never retries a write whose fate is unknown.
    async fn commit(&self, checks: &[Check], writes: &[Write], by: Deadline) -> CommitOutcome;

    /// A new lease that lives for `ttl` after the last renewal. It may be bound to this very client: another one may be told
    /// `Gone` for it, and cannot revoke it.
    async fn grant_lease(&self, ttl: Duration, by: Deadline) -> Result<LeaseId, StoreError>;

    /// Renews a lease. With `holding`, the answer is `Valid` only if that key exists and hangs on this lease at a moment
    /// after the call began.
    async fn keep_alive(&self, lease: LeaseId, holding: Option<&Key>, by: Deadline) -> Renewal;

    /// Ends a lease at once; its keys vanish in one revision. Revoking one that is gone is no error.
    async fn revoke_lease(&self, lease: LeaseId, by: Deadline) -> Result<(), StoreError>;

    /// Every change after `after`, in order and without gaps, until `Lost`.
    async fn watch(&self, after: Revision) -> Result<Watch, StoreError>;

    fn capabilities(&self) -> Capabilities;

    /// While nothing changes, proofs of life may be as far apart as `pace`: where each is a request to a server, that server is
    /// spared. Holds for all watches of this store, at once. A store whose proofs cost nothing goes on as before.
    fn set_pace(&self, _pace: Duration) {}

    /// Tells the store that this member took the leader lock, or gave it up. A store that runs on the members themselves
    /// moves its own leadership elsewhere, so that one lost host does not cost both.
    async fn member_leads(&self, _leads: bool) {}
}
