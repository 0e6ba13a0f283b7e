//! What a transaction of the trait is in operations of `/v1/txn`. Pure: keys as they were read in, operations out.
//!
//! Every key that is checked or written is pinned to the index at which it was read, and indexes never come twice: what is not as it
//! was read refuses the whole transaction.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use bellwether_dcs::{Check, Condition, Entry, Key, Write};
use bellwether_types::{LeaseId, Revision};
use serde::Serialize;

use crate::read::{Content, lease_id};

/// More are not allowed in one transaction.
const MOST_OPERATIONS: usize = 64;
/// Written and deleted in a transaction that puts nothing, because only a put tells the transaction's index.
const SCRATCH: &str = "_bellwether";

/// One operation, as the interface wants it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Operation {
    #[serde(rename = "KV")]
    kv: Kv,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Kv {
    verb: &'static str,
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flags: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// A check does not hold.
    Refused {
        found: Option<Revision>,
    },
    Transaction(Vec<Operation>),
    TooLong,
}

/// What a plan is made for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    pub(crate) prefix: &'a str,
    /// The sessions of the leases that can be named.
    pub(crate) sessions: &'a BTreeMap<LeaseId, String>,
    /// Another one each time: Consul does not write what would change nothing, and so gives it no new index.
    pub(crate) nonce: u64,
}

/// Plans a transaction. The leases of all writes must be in the context.
pub(crate) fn plan(content: &Content, checks: &[Check], writes: &[Write], context: Context<'_>) -> Plan {
    for check in checks {
        let entry = content.snapshot.entries.get(&check.key);
        if !holds(&check.condition, entry) {
            return Plan::Refused { found: entry.map(|entry| entry.modified) };
        }
    }
    // Only the last write to a key leaves anything behind.
    let last: BTreeMap<&Key, &Write> = writes.iter().map(|write| (written(write), write)).collect();
    let mut planner = Planner { content, context, operations: Vec::new() };
    for check in checks.iter().filter(|check| !last.contains_key(&check.key)) {
        planner.pin(&check.key);
    }
    for (key, write) in &last {
        planner.pin(key);
        match write {
            Write::Put { value, lease, .. } => planner.put(key, value, *lease),
            Write::Delete { .. } => planner.delete(key),
        }
    }
    if !last.values().any(|write| matches!(write, Write::Put { .. })) {
        let scratch = Key::from(SCRATCH);
        planner.add("set", &scratch, |kv| (kv.value, kv.flags) = (Some(String::new()), Some(context.nonce)));
        planner.add("delete", &scratch, |_| ());
    }
    match planner.operations.len() {
        0..=MOST_OPERATIONS => Plan::Transaction(planner.operations),
        _ => Plan::TooLong,
    }
}

pub(crate) fn written(write: &Write) -> &Key {
    match write {
        Write::Put { key, .. } | Write::Delete { key } => key,
    }
}

fn holds(condition: &Condition, entry: Option<&Entry>) -> bool {
    match condition {
        Condition::Absent => entry.is_none(),
        Condition::AtRevision(revision) => entry.is_some_and(|entry| entry.modified == *revision),
        Condition::HasValue(value) => entry.is_some_and(|entry| entry.value == *value),
    }
}

struct Planner<'a> {
    content: &'a Content,
    context: Context<'a>,
    operations: Vec<Operation>,
}

impl Planner<'_> {
    fn add(&mut self, verb: &'static str, key: &Key, fill: impl FnOnce(&mut Kv)) {
        let key = format!("{}{key}", self.context.prefix);
        let mut kv = Kv { verb, key, value: None, flags: None, index: None, session: None };
        fill(&mut kv);
        self.operations.push(Operation { kv });
    }

    /// The key is as it was read.
    fn pin(&mut self, key: &Key) {
        match self.content.snapshot.entries.get(key) {
            Some(entry) => self.add("check-index", key, |kv| kv.index = Some(entry.modified.0)),
            None => self.add("check-not-exists", key, |_| ()),
        }
    }

    fn put(&mut self, key: &Key, value: &[u8], lease: Option<LeaseId>) {
        let (value, flags) = (Some(STANDARD.encode(value)), Some(self.context.nonce));
        let holder = self.content.sessions.get(key).cloned();
        let wanted = lease.and_then(|lease| self.context.sessions.get(&lease).cloned());
        // A lock stays where it is until it is given up; `unlock` writes the value as well.
        if let Some(holder) = holder.filter(|holder| Some(lease_id(holder)) != lease) {
            let value = value.clone();
            self.add("unlock", key, |kv| (kv.value, kv.flags, kv.session) = (value, flags, Some(holder)));
            if wanted.is_none() {
                return;
            }
        }
        match wanted {
            Some(_) => self.add("lock", key, |kv| (kv.value, kv.flags, kv.session) = (value, flags, wanted)),
            None => self.add("set", key, |kv| (kv.value, kv.flags) = (value, flags)),
        }
    }

    fn delete(&mut self, key: &Key) {
        if self.content.snapshot.entries.contains_key(key) {
            self.add("delete", key, |_| ());
        }
    }
}

#[cfg(test)]
mod tests;
