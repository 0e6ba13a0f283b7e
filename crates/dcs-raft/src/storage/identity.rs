//! Who a node is: an identity belongs to one log for ever.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{StorageError, file};
use crate::consensus::NodeId;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) cluster: String,
    pub(crate) node: NodeId,
    /// The store this node belongs to, once it does: two stores of one cluster name never mix.
    pub(crate) store: Option<u64>,
}

impl Identity {
    /// A stranger's: nobody else has or had this id.
    pub(crate) fn random(cluster: &str) -> Self {
        Self { cluster: cluster.to_owned(), node: random_id(), store: None }
    }

    pub(crate) fn path(directory: &Path) -> PathBuf {
        directory.join("identity")
    }

    pub(crate) fn load(directory: &Path) -> Result<Option<Self>, StorageError> {
        file::read_record(&Self::path(directory))
    }

    pub(crate) fn save(&self, directory: &Path) -> Result<(), StorageError> {
        file::replace_record(&Self::path(directory), self)
    }
}

/// Random and not zero; below 2^63, for tools that read numbers as signed.
pub(crate) fn random_id() -> u64 {
    rand::random::<u64>() >> 1 | 1
}
