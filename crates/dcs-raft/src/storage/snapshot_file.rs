//! The snapshot on disk: the whole state as of one log entry.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{StorageError, file};
use crate::{
    consensus::{LogId, SnapshotMeta, StoredMembership},
    state::State,
};

#[derive(Serialize, Deserialize)]
pub(crate) struct SnapshotFile {
    pub(crate) last: Option<LogId>,
    pub(crate) membership: StoredMembership,
    pub(crate) state: State,
}

impl SnapshotFile {
    pub(crate) fn path(directory: &Path) -> PathBuf {
        directory.join("snapshot")
    }

    pub(crate) fn load(directory: &Path) -> Result<Option<Self>, StorageError> {
        file::read_record(&Self::path(directory))
    }

    pub(crate) fn save(&self, directory: &Path) -> Result<(), StorageError> {
        file::replace_record(&Self::path(directory), self)
    }

    pub(crate) fn meta(&self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: self.last, last_membership: self.membership.clone() }
    }
}
