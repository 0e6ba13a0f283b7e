//! Work on files while no node runs on them: backups, restore, and the way back after the loss of a majority.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use bellwether_dcs::{Snapshot, StoreError};
use bellwether_types::Failure;
use openraft::EntryPayload;
use serde::{Deserialize, Serialize};

use crate::{
    command::{Blob, Command, WriteRecord},
    consensus::{LeaderTag, LogEntry, LogId, Membership, NodeId, Peer, StoredMembership, Vote},
    state::State,
    storage::{
        StorageError,
        directory::Directory,
        file,
        identity::{Identity, random_id},
        log_file::{LogFile as _, LogWrite, RedbLog},
        record,
        snapshot_file::SnapshotFile,
    },
};

/// Revisions and leases jump ahead by this much, so that what a client remembers from before means nothing else now.
const SKIPPED: u64 = 1_000_000;

/// Why an operation on files did not happen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OfflineError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("the store did not answer")]
    Store(#[source] StoreError),
    #[error("`{}` exists already", .0.display())]
    Exists(PathBuf),
    #[error("`{}` is not empty: move it away first", .0.display())]
    NotEmpty(PathBuf),
    #[error("`{}` holds no node of a store", .0.display())]
    NoNode(PathBuf),
    #[error("the backup is of cluster `{found}`, not of `{expected}`")]
    OtherCluster { found: String, expected: String },
    #[error(
        "the confirmation does not match: the other members with a vote are {}, and you confirmed the permanent loss \
         of {}",
        list(actual),
        list(confirmed)
    )]
    NotConfirmed { actual: BTreeSet<String>, confirmed: BTreeSet<String> },
}

impl OfflineError {
    /// The code under which the book explains it.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Storage(error) => error.failure(),
            Self::Store(error) => error.failure(),
            Self::Exists(_) => Failure::BackupExists,
            Self::NotEmpty(_) => Failure::StoreNotEmpty,
            Self::NoNode(_) => Failure::NoStoreHere,
            Self::OtherCluster { .. } => Failure::BackupOfOther,
            Self::NotConfirmed { .. } => Failure::LossNotConfirmed,
        }
    }
}

fn list(names: &BTreeSet<String>) -> String {
    if names.is_empty() { "none".to_owned() } else { names.iter().cloned().collect::<Vec<_>>().join(", ") }
}

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    pub cluster: String,
    pub revision: u64,
    pub keys: usize,
    /// Seconds since 1970 when it was taken.
    pub taken_at: u64,
}

#[derive(Serialize, Deserialize)]
struct BackupFile {
    cluster: String,
    revision: u64,
    taken_at: u64,
    keys: BTreeMap<String, Blob>,
}

impl BackupFile {
    fn summary(&self) -> Backup {
        Backup {
            cluster: self.cluster.clone(),
            revision: self.revision,
            keys: self.keys.len(),
            taken_at: self.taken_at,
        }
    }
}

/// Writes the keys without a lease: nobody could renew the others after a restore.
pub(crate) async fn write_backup(
    path: &Path,
    cluster: &str,
    snapshot: &Snapshot,
) -> Result<Backup, OfflineError> {
    let backup = BackupFile {
        cluster: cluster.to_owned(),
        revision: snapshot.revision.0,
        taken_at: unix_now(),
        keys: snapshot
            .entries
            .iter()
            .filter(|(_, entry)| entry.lease.is_none())
            .map(|(key, entry)| (key.0.clone(), Blob(entry.value.clone())))
            .collect(),
    };
    let summary = backup.summary();
    let path = path.to_owned();
    let write = move || -> Result<(), OfflineError> {
        let mut target = match fs::OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(OfflineError::Exists(path));
            }
            Err(error) => return Err(StorageError::io("create", path)(error).into()),
        };
        target
            .write_all(&record::seal(&backup))
            .and_then(|()| target.sync_all())
            .map_err(StorageError::io("write", path))?;
        Ok(())
    };
    tokio::task::spawn_blocking(write)
        .await
        .map_err(|error| StorageError::io("write", "the backup")(std::io::Error::other(error)))??;
    Ok(summary)
}

/// Checks a backup and tells what it holds. Blocks.
pub fn inspect_backup(path: &Path) -> Result<Backup, OfflineError> {
    Ok(read_backup(path)?.summary())
}

fn read_backup(path: &Path) -> Result<BackupFile, OfflineError> {
    match file::read_record(path)? {
        Some(backup) => Ok(backup),
        None => Err(StorageError::io("read", path)(std::io::ErrorKind::NotFound.into()).into()),
    }
}

/// Makes a new store from a backup, with this node as its only member, in an empty directory. Blocks.
///
/// The other nodes start with empty directories and are then made members with `add_member`.
pub fn restore_from(
    backup: &Path,
    data_dir: &Path,
    cluster: &str,
    self_addr: &str,
) -> Result<Backup, OfflineError> {
    let content = read_backup(backup)?;
    if content.cluster != cluster {
        return Err(OfflineError::OtherCluster { found: content.cluster, expected: cluster.to_owned() });
    }
    fs::create_dir_all(data_dir).map_err(StorageError::io("create", data_dir))?;
    let mut entries = fs::read_dir(data_dir).map_err(StorageError::io("read", data_dir))?;
    if entries.next().is_some() {
        return Err(OfflineError::NotEmpty(data_dir.to_owned()));
    }
    let summary = content.summary();
    let identity = Identity { store: Some(random_id()), ..Identity::random(cluster) };
    let founder = LeaderTag { term: 1, node: identity.node };
    let mut state = State::default();
    let writes =
        content.keys.into_iter().map(|(key, value)| WriteRecord::Put { key, value, lease: None }).collect();
    state.skip_ahead(content.revision.saturating_add(SKIPPED));
    state.apply(founder, Command::Commit { checks: Vec::new(), writes });
    let last = LogId::new(founder.to_leader_id(), 1);
    let membership = StoredMembership::new(Some(last), only(identity.node, self_addr));
    // The identity comes last: until then the directory does not count as a node's.
    RedbLog::create(data_dir, identity.node)?;
    let mut log = RedbLog::open(data_dir, identity.node)?;
    log.write(vec![LogWrite::PurgeTo { index: last.index, marker: record::seal(&last) }])?;
    SnapshotFile { last: Some(last), membership, state }.save(data_dir)?;
    identity.save(data_dir)?;
    Ok(summary)
}

/// What a person must know and say before a node may go on without the majority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForceQuorum {
    pub cluster: String,
    /// The addresses of *all* other members with a vote. Confirms that they are lost for ever: if they came back with
    /// their old data, there would be two stores.
    pub lost_members: BTreeSet<String>,
}

/// What a forced recovery did; also written beside the data directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryRecord {
    /// Seconds since 1970.
    pub at: u64,
    pub cluster: String,
    pub node: u64,
    pub address: String,
    pub lost_members: BTreeSet<String>,
    /// The last log entry this node had. Later ones that only the lost nodes had are gone.
    pub last_log: u64,
    pub old_store: Option<u64>,
    pub new_store: u64,
    pub file: PathBuf,
}

/// Makes a stopped node the only member of its store, after the permanent loss of a majority. Blocks.
///
/// Its last entries may be ones that were never confirmed to anybody; they are kept, because the lost nodes may have
/// confirmed them. The store gets a new id, so that a lost node that comes back after all is refused.
pub fn recover_force_quorum(
    data_dir: &Path,
    self_addr: &str,
    confirmed: &ForceQuorum,
) -> Result<RecoveryRecord, OfflineError> {
    let Some(identity) = Identity::load(data_dir)? else {
        return Err(OfflineError::NoNode(data_dir.to_owned()));
    };
    let plan = plan_recovery(data_dir, &identity, confirmed)?;
    let new_store = random_id();
    let file = record_path(data_dir);
    let summary = RecoveryRecord {
        at: unix_now(),
        cluster: identity.cluster.clone(),
        node: identity.node,
        address: self_addr.to_owned(),
        lost_members: confirmed.lost_members.clone(),
        last_log: plan.last.index,
        old_store: identity.store,
        new_store,
        file: file.clone(),
    };
    let text = serde_json::to_vec_pretty(&summary).expect("our own types have string keys");
    file::replace(&file, &text)?;
    // The new identity first: with it alone this node is refused by the old store, which is safe. The other way
    // round, a crash would leave a node of the old store that counts itself as the majority.
    Identity { store: Some(new_store), ..identity.clone() }.save(data_dir)?;
    let leader = LeaderTag { term: plan.term + 1, node: identity.node };
    let log_id = |offset| LogId::new(leader.to_leader_id(), plan.last.index + offset);
    let entries = [
        LogEntry { log_id: log_id(1), payload: EntryPayload::Membership(only(identity.node, self_addr)) },
        LogEntry { log_id: log_id(2), payload: EntryPayload::Normal(Command::SkipAhead { by: SKIPPED }) },
    ];
    let mut writes: Vec<LogWrite> = entries
        .iter()
        .map(|entry| LogWrite::Append { index: entry.log_id.index, record: record::seal(entry) })
        .collect();
    writes.push(LogWrite::Vote { record: record::seal(&Vote::new(leader.term, leader.node)) });
    RedbLog::open(data_dir, identity.node)?.write(writes)?;
    Ok(summary)
}

struct Plan {
    last: LogId,
    term: u64,
}

fn plan_recovery(
    data_dir: &Path,
    identity: &Identity,
    confirmed: &ForceQuorum,
) -> Result<Plan, OfflineError> {
    let directory = Directory::open_existing(data_dir, &confirmed.cluster, identity.clone())?;
    let plan = plan_on(&directory, data_dir, confirmed);
    directory.close();
    plan
}

fn plan_on(directory: &Directory, data_dir: &Path, confirmed: &ForceQuorum) -> Result<Plan, OfflineError> {
    let own = directory.identity.node;
    let Some(last) = directory.log.last().max(directory.machine.last_applied()) else {
        return Err(OfflineError::NoNode(data_dir.to_owned()));
    };
    let in_log = directory.log.entries().into_iter().rev().find_map(|entry| match entry.payload {
        EntryPayload::Membership(membership) => Some(membership),
        _ => None,
    });
    let in_snapshot = SnapshotFile::load(data_dir)?.map(|snapshot| snapshot.membership.membership().clone());
    let membership = in_log.or(in_snapshot).ok_or_else(|| OfflineError::NoNode(data_dir.to_owned()))?;
    let actual: BTreeSet<String> = membership
        .voter_ids()
        .filter(|id| *id != own)
        .filter_map(|id| membership.get_node(&id).map(|peer| peer.addr.clone()))
        .collect();
    if actual != confirmed.lost_members {
        return Err(OfflineError::NotConfirmed { actual, confirmed: confirmed.lost_members.clone() });
    }
    let voted = directory.log.vote().map_or(0, |vote| vote.leader_id.term);
    Ok(Plan { last, term: voted.max(last.leader_id.term) })
}

fn only(node: NodeId, addr: &str) -> Membership {
    let peer = Peer { addr: addr.to_owned(), witness: false };
    Membership::from(BTreeMap::from([(node, peer)]))
}

fn record_path(data_dir: &Path) -> PathBuf {
    let mut name = data_dir.as_os_str().to_owned();
    name.push(format!(".recovery-{}.json", unix_now()));
    name.into()
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
