//! All znodes of the cluster at one moment.
//!
//! One `multiRead` reads every known znode and the children of each, which is atomic in the server. If the children are not the
//! znodes that were known, they are now, and it is read again. What is a key and what only a directory, see [`Node::is_entry`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

use bellwether_dcs::{Entry, Key, Snapshot};
use bellwether_types::{LeaseId, Revision};
use zookeeper_client::{Client, Error, MultiReadResult, MultiWriteError, Stat};

use crate::servers::Servers;

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) value: Vec<u8>,
    pub(crate) stat: Stat,
}

impl Node {
    /// A znode without a value that has, or once had, children is a directory. `initialize`, which may be empty, never has any.
    pub(crate) fn is_entry(&self) -> bool {
        !self.value.is_empty() || self.stat.cversion == 0
    }

    pub(crate) fn modified(&self) -> Revision {
        revision(self.stat.mzxid)
    }

    pub(crate) fn lease(&self) -> Option<LeaseId> {
        (self.stat.ephemeral_owner != 0).then_some(LeaseId(self.stat.ephemeral_owner.cast_unsigned()))
    }

    fn entry(&self) -> Entry {
        let created = revision(self.stat.czxid);
        Entry { value: self.value.clone(), created, modified: self.modified(), lease: self.lease() }
    }
}

/// A transaction's number is its revision.
pub(crate) fn revision(zxid: i64) -> Revision {
    Revision(zxid.cast_unsigned())
}

/// The names of the znodes that were there last, relative to the base, which is "".
#[derive(Debug)]
pub(crate) struct Shape {
    paths: Mutex<BTreeSet<String>>,
}

impl Default for Shape {
    fn default() -> Self {
        Self { paths: Mutex::new(BTreeSet::from([String::new()])) }
    }
}

/// Makes sure that what this session reads next is as new as this call. Neither `sync` nor a read does: a leader that has lost
/// its followers still answers them for a while. A `multi` that only checks is agreed on by the quorum and writes nothing.
///
/// Sent when called, not when awaited: requests that are sent after it are answered after it.
pub(crate) fn barrier<'a>(
    client: &'a Client,
    servers: &Servers,
) -> impl Future<Output = Result<(), Error>> + Send + use<'a> {
    let mut writer = client.new_multi_writer();
    let added = writer.add_check_version(servers.base(), -1);
    let committed = writer.commit();
    async move {
        added?;
        match committed.await {
            // A refusal passed the quorum as well.
            Ok(_) | Err(MultiWriteError::OperationFailed { source: Error::NoNode, .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Reads everything. Linearizable.
pub(crate) async fn read(client: &Client, servers: &Servers, shape: &Shape) -> Result<Snapshot, Error> {
    let mut fresh = Some(barrier(client, servers));
    loop {
        let paths = shape.paths.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut reader = client.new_multi_reader();
        for path in &paths {
            let path = servers.path(path);
            reader.add_get_data(&path)?;
            reader.add_get_children(&path)?;
        }
        let answer = reader.commit();
        if let Some(barrier) = fresh.take() {
            barrier.await?;
        }
        let (nodes, seen) = interpret(&paths, answer.await?)?;
        if nodes.is_empty() || (seen == paths && nodes.len() == paths.len()) {
            return Ok(snapshot(&nodes));
        }
        *shape.paths.lock().unwrap_or_else(PoisonError::into_inner) = seen;
    }
}

type Nodes = BTreeMap<String, Node>;

/// The znodes that were found, and the names of all that there are as far as these tell.
fn interpret(
    paths: &BTreeSet<String>,
    results: Vec<MultiReadResult>,
) -> Result<(Nodes, BTreeSet<String>), Error> {
    let mut nodes = Nodes::new();
    let mut seen = BTreeSet::from([String::new()]);
    let mut results = results.into_iter();
    for path in paths {
        match (results.next(), results.next()) {
            (
                Some(MultiReadResult::Data { data: value, stat }),
                Some(MultiReadResult::Children { children }),
            ) => {
                let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
                seen.extend(children.into_iter().map(|child| format!("{prefix}{child}")));
                nodes.insert(path.clone(), Node { value, stat });
            }
            (Some(MultiReadResult::Error { err: Error::NoNode }), _) => {}
            (Some(MultiReadResult::Error { err }), _) | (_, Some(MultiReadResult::Error { err })) => {
                return Err(err);
            }
            _ => {
                return Err(Error::UnexpectedError(
                    "a multiRead had fewer answers than questions".to_owned(),
                ));
            }
        }
    }
    Ok((nodes, seen))
}

/// The last change to anything, deletions included: those are in the parent's `pzxid`.
fn snapshot(nodes: &Nodes) -> Snapshot {
    let last = nodes.values().map(|node| node.stat.mzxid.max(node.stat.pzxid)).max();
    let entries = nodes.iter().filter(|(path, node)| !path.is_empty() && node.is_entry());
    Snapshot {
        revision: revision(last.unwrap_or_default()),
        entries: entries.map(|(path, node)| (Key::from(path.as_str()), node.entry())).collect(),
    }
}

/// Reads some znodes at one moment. Linearizable.
pub(crate) async fn read_some(
    client: &Client,
    servers: &Servers,
    paths: &BTreeSet<String>,
) -> Result<Nodes, Error> {
    let barrier = barrier(client, servers);
    let mut reader = client.new_multi_reader();
    for path in paths {
        reader.add_get_data(&servers.path(path))?;
    }
    let answer = reader.commit();
    barrier.await?;
    let mut nodes = Nodes::new();
    for (path, result) in paths.iter().zip(answer.await?) {
        match result {
            MultiReadResult::Data { data: value, stat } => {
                nodes.insert(path.clone(), Node { value, stat });
            }
            MultiReadResult::Error { err: Error::NoNode } => {}
            MultiReadResult::Error { err } => return Err(err),
            other => return Err(Error::UnexpectedError(format!("a multiRead answered {other:?}"))),
        }
    }
    Ok(nodes)
}
