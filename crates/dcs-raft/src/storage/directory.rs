//! A node's directory as a whole: which files must be there together.

use std::{
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use tokio::sync::oneshot::{self, error::TryRecvError};

use super::{
    StorageError, identity::Identity, log_file::RedbLog, log_store::LogStore, machine::Machine,
    snapshot_file::SnapshotFile,
};

/// The writer of an unused log ends at once; longer means a disk that hangs.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// An opened directory.
pub(crate) struct Directory {
    pub(crate) identity: Identity,
    pub(crate) log: LogStore,
    pub(crate) machine: Machine,
    /// Ends when the log is closed.
    pub(crate) closed: oneshot::Receiver<()>,
}

impl Directory {
    /// Opens a node's directory, or makes a new identity with an empty log in an empty one. Blocks.
    pub(crate) fn open(directory: &Path, cluster: &str) -> Result<Self, StorageError> {
        let mut private = fs::DirBuilder::new();
        private.recursive(true).mode(0o700);
        private.create(directory).map_err(StorageError::io("create", directory))?;
        match Identity::load(directory)? {
            Some(identity) => Self::open_existing(directory, cluster, identity),
            None => Self::create(directory, cluster),
        }
    }

    pub(crate) fn open_existing(
        directory: &Path,
        cluster: &str,
        identity: Identity,
    ) -> Result<Self, StorageError> {
        if identity.cluster != cluster {
            return Err(StorageError::Foreign {
                path: directory.into(),
                found: format!("cluster `{}`", identity.cluster),
                expected: format!("cluster `{cluster}`"),
            });
        }
        if !RedbLog::path(directory).exists() {
            return Err(StorageError::LogMissing { path: directory.into() });
        }
        let (log, closed) = LogStore::load(RedbLog::open(directory, identity.node)?, directory)?;
        let machine = Machine::load(directory)?;
        let snapshot = machine.last_applied();
        if log.purged() > snapshot {
            return Err(StorageError::damaged(
                SnapshotFile::path(directory),
                "the log begins after it, or it is missing",
            ));
        }
        Ok(Self { identity, log, machine, closed })
    }

    /// Waits until the log is closed and can be opened again. Blocks, also on a thread of a runtime.
    pub(crate) fn close(self) {
        let Self { log, mut closed, .. } = self;
        drop(log);
        let patience = Instant::now() + CLOSE_LIMIT;
        while closed.try_recv() == Err(TryRecvError::Empty) && Instant::now() < patience {
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn create(directory: &Path, cluster: &str) -> Result<Self, StorageError> {
        if SnapshotFile::path(directory).exists() {
            return Err(StorageError::IdentityMissing { path: directory.into() });
        }
        let path = RedbLog::path(directory);
        if path.exists() {
            // Log first, identity last: a crash between the two leaves a log that nobody knows of and nothing is in.
            // It was made whole, so one that cannot be read is not such a leftover.
            if !RedbLog::is_pristine(directory)? {
                return Err(StorageError::IdentityMissing { path: directory.into() });
            }
            fs::remove_file(&path).map_err(StorageError::io("remove", &path))?;
        }
        let identity = Identity::random(cluster);
        RedbLog::create(directory, identity.node)?;
        identity.save(directory)?;
        Self::open_existing(directory, cluster, identity)
    }
}
