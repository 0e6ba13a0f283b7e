//! Snapshots, checks and writes in etcd's terms and back.

use std::collections::BTreeMap;

use bellwether_dcs::{Check, CommitOutcome, Condition, Entry, Key, Snapshot, StoreError, Write};
use bellwether_types::{LeaseId, Revision, Timestamp};

use crate::proto::{
    Compare, Comparison, DeleteRangeRequest, KeyValue, Operand, Operation, PutRequest, RangeRequest,
    RangeResponse, RequestOp, Target, TxnRequest, TxnResponse,
};

/// etcd's numbers are signed, and what we get from it is never negative.
pub(crate) fn revision(number: i64) -> Revision {
    Revision(u64::try_from(number).unwrap_or_default())
}

pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// What a linearizable read saw: the keys and the revisions of their last changes.
#[derive(Debug)]
pub(crate) struct Sighting {
    /// Before the read was sent.
    pub(crate) since: Timestamp,
    /// The id of the etcd cluster.
    pub(crate) etcd: u64,
    pub(crate) revision: i64,
    pub(crate) keys: BTreeMap<Vec<u8>, i64>,
}

impl Sighting {
    /// Of [`everything`], in an answer to a question that was asked at `since`.
    pub(crate) fn of(answer: RangeResponse, since: Timestamp) -> Self {
        let header = answer.header.unwrap_or_default();
        let keys = answer.kvs.into_iter().map(|kv| (kv.key, kv.mod_revision)).collect();
        Self { since, etcd: header.cluster_id, revision: header.revision, keys }
    }
}

/// All keys below the prefix, now.
pub(crate) fn everything(prefix: &str) -> RangeRequest {
    RangeRequest { key: prefix.as_bytes().to_vec(), range_end: end_of(prefix), ..RangeRequest::default() }
}

/// The first key after all those with this prefix.
pub(crate) fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    let last = end.last_mut().expect("a cluster's prefix is never empty");
    *last += 1; // it is a `/`
    end
}

pub(crate) fn full_key(prefix: &str, key: &Key) -> Vec<u8> {
    [prefix.as_bytes(), key.as_str().as_bytes()].concat()
}

/// The key below the prefix; `None` for one that is no text, which is nobody's.
pub(crate) fn short_key(prefix: &str, key: &[u8]) -> Option<Key> {
    let rest = key.strip_prefix(prefix.as_bytes())?;
    std::str::from_utf8(rest).ok().map(Key::new)
}

pub(crate) fn entry(kv: KeyValue) -> Entry {
    Entry {
        value: kv.value,
        created: revision(kv.create_revision),
        modified: revision(kv.mod_revision),
        lease: (kv.lease != 0).then(|| LeaseId(kv.lease.unsigned_abs())),
    }
}

pub(crate) fn snapshot(prefix: &str, answer: RangeResponse) -> Snapshot {
    let revision = revision(answer.header.unwrap_or_default().revision);
    let entries: BTreeMap<Key, Entry> =
        answer.kvs.into_iter().filter_map(|kv| Some((short_key(prefix, &kv.key)?, entry(kv)))).collect();
    Snapshot { revision, entries }
}

/// One transaction. If a check fails, etcd answers with the keys that were checked, so that we can say which one it was.
pub(crate) fn request(prefix: &str, checks: &[Check], writes: &[Write]) -> TxnRequest {
    TxnRequest {
        compare: checks.iter().flat_map(|check| compares(prefix, check)).collect(),
        success: writes.iter().map(|write| operation(prefix, write)).collect(),
        failure: checks
            .iter()
            .map(|check| {
                let key = full_key(prefix, &check.key);
                op(Operation::Range(RangeRequest { key, ..RangeRequest::default() }))
            })
            .collect(),
    }
}

fn compares(prefix: &str, check: &Check) -> Vec<Compare> {
    let compare = |result: Comparison, target: Target, operand| Compare {
        result: result.into(),
        target: target.into(),
        key: full_key(prefix, &check.key),
        operand: Some(operand),
    };
    let created = |result| compare(result, Target::Create, Operand::CreateRevision(0));
    match &check.condition {
        Condition::Absent => vec![created(Comparison::Equal)],
        // An absent key has the revision 0 to etcd, and may not pass for one that exists.
        Condition::AtRevision(at) => vec![
            created(Comparison::Greater),
            compare(Comparison::Equal, Target::Mod, Operand::ModRevision(signed(at.0))),
        ],
        // Never true of an absent key, not even for an empty value.
        Condition::HasValue(value) => {
            vec![compare(Comparison::Equal, Target::Value, Operand::Value(value.clone()))]
        }
    }
}

fn operation(prefix: &str, write: &Write) -> RequestOp {
    op(match write {
        Write::Put { key, value, lease } => Operation::Put(PutRequest {
            key: full_key(prefix, key),
            value: value.clone(),
            lease: lease.map_or(0, |lease| signed(lease.0)),
        }),
        Write::Delete { key } => Operation::DeleteRange(DeleteRangeRequest { key: full_key(prefix, key) }),
    })
}

fn op(operation: Operation) -> RequestOp {
    RequestOp { operation: Some(operation) }
}

/// What became of a transaction that etcd answered.
pub(crate) fn outcome(checks: &[Check], answer: TxnResponse) -> CommitOutcome {
    if answer.succeeded {
        return CommitOutcome::Applied(revision(answer.header.unwrap_or_default().revision));
    }
    let mut found = answer.responses.into_iter().map(|response| response.range.unwrap_or_default().kvs.pop());
    for check in checks {
        let present = found.next().flatten();
        if !holds(&check.condition, present.as_ref()) {
            return CommitOutcome::Refused { found: present.map(|kv| revision(kv.mod_revision)) };
        }
    }
    CommitOutcome::Unknown(StoreError::Protocol(
        "a transaction failed, but all of its checks hold".to_owned(),
    ))
}

fn holds(condition: &Condition, present: Option<&KeyValue>) -> bool {
    match (condition, present) {
        (Condition::Absent, present) => present.is_none(),
        (Condition::AtRevision(at), Some(kv)) => revision(kv.mod_revision) == *at,
        (Condition::HasValue(value), Some(kv)) => kv.value == *value,
        (_, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_patronis() {
        let prefix = "/service/batman/";
        assert_eq!(full_key(prefix, &Key::from("members/pg-1")), b"/service/batman/members/pg-1");
        assert_eq!(short_key(prefix, b"/service/batman/leader"), Some(Key::from("leader")));
        assert_eq!(short_key(prefix, b"/service/batman1/leader"), None);
        assert_eq!(short_key(prefix, b"/service/batman/\xff"), None);
        assert_eq!(end_of(prefix), b"/service/batman0");
    }
}
