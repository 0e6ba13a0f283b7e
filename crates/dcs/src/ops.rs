//! The writes that a cluster lives by, each with the precondition that makes it safe. (The lock itself: the agent's lease keeper.)
//!
//! Every function is one transaction and one attempt: an `Unknown` outcome is the caller's to resolve, by reading. The `also`
//! checks join the transaction; pass [`leader_is`] for whatever only the lock owner may write, where the store can
//! ([`Capabilities::multi_key_transactions`](crate::Capabilities)). As with every store call, a dropped future may still land.

use bellwether_types::{
    LeaseId, MemberName, Revision, SystemId,
    cluster::{FailoverRequest, SyncState, TimelineClaim},
    takeover::Takeover,
};
use serde_json::Value;

use crate::{
    codec::{self, keys},
    store::{Check, CommitOutcome, Condition, Deadline, Key, Snapshot, Store, Write},
};

/// What the writer last knew of a key: the precondition of a compare-and-set, and the text whose unknown fields are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen<'a> {
    /// Not looked at, or it does not matter: the write is unconditional.
    Any,
    /// It did not exist: create it, never overwrite.
    Absent,
    /// It was last modified then. `raw` is what it held; empty if unknown, which drops fields that only others know.
    At { revision: Revision, raw: &'a [u8] },
}

impl<'a> Seen<'a> {
    /// The key as the snapshot has it.
    pub fn in_snapshot(snapshot: &'a Snapshot, key: &str) -> Self {
        match snapshot.entries.get(&Key::from(key)) {
            Some(entry) => Self::At { revision: entry.modified, raw: &entry.value },
            None => Self::Absent,
        }
    }

    /// As [`Seen::in_snapshot`], for a decision that was made on `expected`: if the snapshot is newer, the write will be refused.
    pub fn expecting(expected: Option<Revision>, snapshot: &'a Snapshot, key: &str) -> Self {
        let Some(revision) = expected else { return Self::Absent };
        let raw = snapshot.entries.get(&Key::from(key)).map_or(&[][..], |entry| &entry.value);
        Self::At { revision, raw }
    }

    fn raw(self) -> Option<&'a [u8]> {
        match self {
            Self::At { raw, .. } => Some(raw),
            _ => None,
        }
    }

    fn check(self, key: &str) -> Option<Check> {
        let condition = match self {
            Self::Any => return None,
            Self::Absent => Condition::Absent,
            Self::At { revision, .. } => Condition::AtRevision(revision),
        };
        Some(Check { key: Key::from(key), condition })
    }
}

/// Holds while `name` is the leader.
pub fn leader_is(name: &MemberName) -> Check {
    Check::has_value(keys::LEADER, name.as_str())
}

async fn put(
    store: &dyn Store,
    key: &str,
    value: String,
    seen: Seen<'_>,
    also: &[Check],
    by: Deadline,
) -> CommitOutcome {
    let checks: Vec<Check> = seen.check(key).into_iter().chain(also.iter().cloned()).collect();
    store.commit(&checks, &[Write::put(key, value)], by).await
}

/// Claims the right to bootstrap the cluster: exactly one member's claim is applied. Ends with the claimer's lease, so that a claimer
/// that dies blocks nobody; or by [`abandon_initialize`].
pub async fn claim_initialize(store: &dyn Store, lease: LeaseId, by: Deadline) -> CommitOutcome {
    let claim = Write::put_leased(keys::INITIALIZE, codec::encode_initialize(None), lease);
    store.commit(&[Check::absent(keys::INITIALIZE)], &[claim], by).await
}

/// Fills in the system identifier, over a claim or after the store was wiped. It stays, whatever becomes of the claimer.
///
/// `founding` names the bootstrap that made the cluster, `None` if it was made long ago: restored copies of one backup have the same
/// identifier, so that alone does not tell whose they are.
pub async fn write_initialize(
    store: &dyn Store,
    system_id: SystemId,
    founding: Option<&str>,
    seen: Seen<'_>,
    also: &[Check],
    by: Deadline,
) -> CommitOutcome {
    let checks: Vec<Check> = seen.check(keys::INITIALIZE).into_iter().chain(also.iter().cloned()).collect();
    let identity = Write::put(keys::INITIALIZE, codec::encode_initialize(Some(system_id)));
    let founder = match founding {
        Some(founding) => Write::put(keys::FOUNDER, founding),
        None => Write::delete(keys::FOUNDER),
    };
    store.commit(&checks, &[identity, founder], by).await
}

/// Takes back the claim of this revision, whose bootstrap failed. Refused once it is another's, or a system identifier is filled in.
pub async fn abandon_initialize(store: &dyn Store, claim: Revision, by: Deadline) -> CommitOutcome {
    store.commit(&[Check::at(keys::INITIALIZE, claim)], &[Write::delete(keys::INITIALIZE)], by).await
}

/// Writes `/sync`. [`Seen::Absent`] creates it, and is refused if somebody was faster.
pub async fn write_sync(
    store: &dyn Store,
    state: &SyncState,
    seen: Seen<'_>,
    also: &[Check],
    by: Deadline,
) -> CommitOutcome {
    put(store, keys::SYNC, codec::encode_sync(state, seen.raw()), seen, also, by).await
}

/// Deletes `/sync` (synchronous mode is off), if it is still as it was read.
pub async fn delete_sync(store: &dyn Store, seen: Revision, also: &[Check], by: Deadline) -> CommitOutcome {
    let checks: Vec<Check> = [Check::at(keys::SYNC, seen)].into_iter().chain(also.iter().cloned()).collect();
    store.commit(&checks, &[Write::delete(keys::SYNC)], by).await
}

/// Writes the dynamic configuration whole.
pub async fn write_config(
    store: &dyn Store,
    document: &Value,
    seen: Seen<'_>,
    also: &[Check],
    by: Deadline,
) -> CommitOutcome {
    put(store, keys::CONFIG, codec::encode_config(document), seen, also, by).await
}

/// Asks for a switchover or failover.
pub async fn write_failover(
    store: &dyn Store,
    request: &FailoverRequest,
    seen: Seen<'_>,
    by: Deadline,
) -> CommitOutcome {
    put(store, keys::FAILOVER, codec::encode_failover(request), seen, &[], by).await
}

/// Clears a request; the key stays, as `{}`. The old leader passes the revision of the request that it served, so that a newer one
/// survives; the new leader may clear whatever is there.
pub async fn clear_failover(
    store: &dyn Store,
    seen: Seen<'_>,
    also: &[Check],
    by: Deadline,
) -> CommitOutcome {
    put(store, keys::FAILOVER, codec::NO_REQUEST.to_owned(), seen, also, by).await
}

/// Takes the number of a timeline; `expect` is the revision of `timeline` that it was decided on, `None` = absent.
pub async fn take_timeline(
    store: &dyn Store,
    claim: &TimelineClaim,
    expect: Option<Revision>,
    also: &[Check],
    by: Deadline,
) -> CommitOutcome {
    let mut checks = also.to_vec();
    checks.push(expect.map_or_else(|| Check::absent(keys::TIMELINE), |at| Check::at(keys::TIMELINE, at)));
    store.commit(&checks, &[Write::put(keys::TIMELINE, codec::encode_timeline_claim(claim))], by).await
}

/// Opens an epoch of quorum take-over, if leader and `/sync` still are as it says. `expect` is the revision of `takeover` that this was
/// decided on, `None` = absent.
pub async fn open_takeover(
    store: &dyn Store,
    takeover: &Takeover,
    expect: Option<Revision>,
    by: Deadline,
) -> CommitOutcome {
    let checks = [
        Check::at(keys::LEADER, takeover.leader_revision),
        Check::at(keys::SYNC, takeover.sync_revision),
        expect.map_or_else(|| Check::absent(keys::TAKEOVER), |at| Check::at(keys::TAKEOVER, at)),
    ];
    store.commit(&checks, &[Write::put(keys::TAKEOVER, codec::encode_takeover(takeover))], by).await
}

/// Closes the epoch that was opened at this revision: whoever promised is free again. Refused once somebody has taken over.
pub async fn close_takeover(
    store: &dyn Store,
    takeover: &Takeover,
    opened_at: Revision,
    by: Deadline,
) -> CommitOutcome {
    let write = Write::put(keys::TAKEOVER, codec::encode_takeover(takeover));
    store.commit(&[Check::at(keys::TAKEOVER, opened_at)], &[write], by).await
}
