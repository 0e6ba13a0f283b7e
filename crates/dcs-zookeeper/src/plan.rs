//! What a transaction of the trait is in ZooKeeper's operations. Pure: znodes as they were read in, operations of one `multi` out.
//!
//! A `multi` can only ask for versions, which count from 0 for every new znode: one that was deleted and created again since
//! it was read may look the same. Three things keep that from happening. Each transaction sets the cluster's own znode at
//! the version that was read, so no other transaction of ours comes in between. Znodes that we create get version 1, so
//! that one which Patroni creates (version 0) is never taken for ours. And an ephemeral znode of this very session cannot end
//! and begin again within it by an expiry.
//!
//! What remains: a znode of one Patroni that another Patroni replaces, both at version 0, between our read and our `multi`. We check a
//! leader key that is not our session's own only to take over one that names us.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_dcs::{Check, Condition, Key, Write};
use bellwether_types::{LeaseId, Revision};

use crate::tree::Node;

/// One operation of a `multi`; paths are relative to the base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Check { path: String, version: i32 },
    Create { path: String, value: Vec<u8>, lifetime: Lifetime },
    Set { path: String, value: Vec<u8>, version: Option<i32> },
    Delete { path: String, version: Option<i32> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifetime {
    Persistent,
    /// Ends with the session that sends the `multi`.
    Session,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// A check does not hold.
    Refused { found: Option<Revision> },
    /// The answer to the operation with this index tells the revision.
    Multi { operations: Vec<Operation>, revision_at: usize },
}

/// A transaction that ZooKeeper has no operations for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Impossible {
    #[error("one transaction cannot hang keys on several ZooKeeper sessions")]
    SeveralLeases,
    #[error("{0} has keys below it, so it can neither hang on a lease nor stop doing so")]
    Directory(String),
}

/// The znodes that a plan rests on: the base, the keys and the directories above them.
pub(crate) fn concerned(checks: &[Check], writes: &[Write]) -> BTreeSet<String> {
    let keys = checks.iter().map(|check| &check.key).chain(writes.iter().map(written));
    let mut paths = BTreeSet::from([String::new()]);
    for key in keys {
        paths.extend(directories(key.as_str()).map(str::to_owned));
        paths.insert(key.as_str().to_owned());
    }
    paths
}

/// The lease that the writes of a transaction hang on.
pub(crate) fn lease_of(writes: &[Write]) -> Result<Option<LeaseId>, Impossible> {
    let mut leases = writes.iter().filter_map(|write| match write {
        Write::Put { lease, .. } => *lease,
        Write::Delete { .. } => None,
    });
    let first = leases.next();
    if leases.any(|other| Some(other) != first) { Err(Impossible::SeveralLeases) } else { Ok(first) }
}

fn written(write: &Write) -> &Key {
    match write {
        Write::Put { key, .. } | Write::Delete { key } => key,
    }
}

fn directories(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(end, _)| &path[..end])
}

/// Plans a transaction on the znodes that [`concerned`] names, as far as they exist.
pub(crate) fn plan(
    nodes: &BTreeMap<String, Node>,
    checks: &[Check],
    writes: &[Write],
) -> Result<Plan, Impossible> {
    for check in checks {
        let entry = nodes.get(check.key.as_str()).filter(|node| node.is_entry());
        if !holds(&check.condition, entry) {
            return Ok(Plan::Refused { found: entry.map(Node::modified) });
        }
    }
    // Only the last write to a key leaves anything behind.
    let last: BTreeMap<&Key, &Write> = writes.iter().map(|write| (written(write), write)).collect();
    let mut planner = Planner { nodes, made: BTreeSet::new(), operations: Vec::new() };
    let revision_at = planner.pin_base();
    for check in checks.iter().filter(|check| !last.contains_key(&check.key)) {
        planner.pin(check.key.as_str());
    }
    for write in last.into_values() {
        match write {
            Write::Put { key, value, lease } => planner.put(key.as_str(), value, *lease)?,
            Write::Delete { key } => planner.delete(key.as_str())?,
        }
    }
    Ok(Plan::Multi { operations: planner.operations, revision_at })
}

fn holds(condition: &Condition, entry: Option<&Node>) -> bool {
    match condition {
        Condition::Absent => entry.is_none(),
        Condition::AtRevision(revision) => entry.is_some_and(|node| node.modified() == *revision),
        Condition::HasValue(value) => entry.is_some_and(|node| node.value == *value),
    }
}

struct Planner<'a> {
    nodes: &'a BTreeMap<String, Node>,
    /// Directories that the plan has made so far.
    made: BTreeSet<String>,
    operations: Vec<Operation>,
}

impl Planner<'_> {
    /// Sets the base as it is, at the version that was read; tells the index of that operation.
    fn pin_base(&mut self) -> usize {
        let (value, version) = match self.nodes.get("") {
            Some(base) => (base.value.clone(), Some(base.stat.version)),
            None => {
                self.create("", &[], Lifetime::Persistent);
                return self.operations.len() - 1;
            }
        };
        self.operations.push(Operation::Set { path: String::new(), value, version });
        self.operations.len() - 1
    }

    /// The key is as it was read.
    fn pin(&mut self, path: &str) {
        match self.nodes.get(path) {
            Some(node) => {
                let (path, version) = (path.to_owned(), node.stat.version);
                self.operations.push(Operation::Check { path, version });
            }
            // A `multi` cannot ask for absence, but what can be created is absent.
            None => {
                self.make_directories(path);
                let (path, value) = (path.to_owned(), Vec::new());
                self.operations.push(Operation::Create {
                    path: path.clone(),
                    value,
                    lifetime: Lifetime::Persistent,
                });
                self.operations.push(Operation::Delete { path, version: None });
            }
        }
    }

    fn put(&mut self, path: &str, value: &[u8], lease: Option<LeaseId>) -> Result<(), Impossible> {
        let lifetime = if lease.is_some() { Lifetime::Session } else { Lifetime::Persistent };
        match self.nodes.get(path) {
            Some(node) if node.lease() == lease => {
                let version = Some(node.stat.version);
                self.operations.push(Operation::Set {
                    path: path.to_owned(),
                    value: value.to_vec(),
                    version,
                });
            }
            Some(node) => {
                self.remove(path, node)?;
                self.create(path, value, lifetime);
            }
            None => {
                self.make_directories(path);
                self.create(path, value, lifetime);
            }
        }
        Ok(())
    }

    fn delete(&mut self, path: &str) -> Result<(), Impossible> {
        match self.nodes.get(path) {
            Some(node) if node.is_entry() => self.remove(path, node),
            _ => {
                self.pin(path);
                Ok(())
            }
        }
    }

    fn remove(&mut self, path: &str, node: &Node) -> Result<(), Impossible> {
        if node.stat.num_children > 0 {
            return Err(Impossible::Directory(path.to_owned()));
        }
        self.operations.push(Operation::Delete { path: path.to_owned(), version: Some(node.stat.version) });
        Ok(())
    }

    /// Creates a znode with version 1.
    fn create(&mut self, path: &str, value: &[u8], lifetime: Lifetime) {
        let (path, value) = (path.to_owned(), value.to_vec());
        self.operations.push(Operation::Create { path: path.clone(), value: value.clone(), lifetime });
        self.operations.push(Operation::Set { path, value, version: None });
    }

    fn make_directories(&mut self, path: &str) {
        for directory in directories(path) {
            if !self.nodes.contains_key(directory) && self.made.insert(directory.to_owned()) {
                let (path, lifetime) = (directory.to_owned(), Lifetime::Persistent);
                self.operations.push(Operation::Create { path, value: Vec::new(), lifetime });
            }
        }
    }
}

#[cfg(test)]
mod tests;
