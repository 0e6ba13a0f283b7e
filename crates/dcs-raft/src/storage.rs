//! What a node keeps on disk: `identity.json`, `log.redb` (log and vote) and `snapshot.bin`.
//!
//! Every file and every log record carries a version and a checksum. Something unreadable is an error that names the
//! file, never an empty store.

pub(crate) mod directory;
pub(crate) mod file;
pub(crate) mod identity;
pub(crate) mod log_file;
pub(crate) mod log_store;
pub(crate) mod machine;
pub(crate) mod record;
pub(crate) mod snapshot_file;

use std::{io, path::PathBuf};

use bellwether_types::Failure;

/// Why the files of a node cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    #[error("could not {action} `{}`", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error(
        "`{}` is damaged ({detail}); if the other nodes of the store are healthy, move the directory away and start \
         again: the node joins anew under a new identity", path.display()
    )]
    Damaged { path: PathBuf, detail: String },
    #[error(
        "`{}` was written by a newer version (format {found}, this program knows up to {known}): install that version",
        path.display()
    )]
    Newer { path: PathBuf, found: u8, known: u8 },
    #[error(
        "`{}` has an identity but no log: a node that lost its log must not vote under its old identity; move the \
         directory away and start again: the node joins anew under a new one", path.display()
    )]
    LogMissing { path: PathBuf },
    #[error("`{}` has a log but no identity: part of the directory is missing", path.display())]
    IdentityMissing { path: PathBuf },
    #[error("`{}` belongs to {found}, not to {expected}", path.display())]
    Foreign { path: PathBuf, found: String, expected: String },
    #[error("`{}` is in use by another process", path.display())]
    InUse { path: PathBuf },
}

impl StorageError {
    /// The code under which the book explains it.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Io { .. } => Failure::StoreFiles,
            Self::Damaged { .. } => Failure::StoreDamaged,
            Self::Newer { .. } => Failure::StoreNewer,
            Self::LogMissing { .. } => Failure::StoreLogMissing,
            Self::IdentityMissing { .. } => Failure::StoreIdentityMissing,
            Self::Foreign { .. } => Failure::StoreForeign,
            Self::InUse { .. } => Failure::StoreInUse,
        }
    }

    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |cause| Self::Io { action, path, cause }
    }

    pub(crate) fn damaged(path: impl Into<PathBuf>, detail: impl std::fmt::Display) -> Self {
        Self::Damaged { path: path.into(), detail: detail.to_string() }
    }
}
