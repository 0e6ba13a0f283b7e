//! The data directory: what is in it, and how to get rid of it.
//!
//! Everything here blocks on the file system: call it through `spawn_blocking`.

use std::{
    io,
    path::{Path, PathBuf},
};

/// What a look into the data directory says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataDirState {
    Missing,
    Empty,
    /// It exists but could not be read: never treat it as empty.
    Unreadable {
        reason: String,
    },
    /// There are files, but no complete database cluster (no `PG_VERSION` or no `global/pg_control`).
    Incomplete {
        reason: String,
    },
    Present {
        major: u32,
    },
}

/// Looks into `dir`. Blocking, cheap.
pub fn inspect(dir: &Path) -> DataDirState {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return DataDirState::Missing,
        Err(error) => return DataDirState::Unreadable { reason: error.to_string() },
    };
    let _ = entries;
    DataDirState::Empty
}

/// Why a data directory could not be removed.
#[derive(Debug, thiserror::Error)]
#[error("could not remove `{}`", path.display())]
pub struct WipeError {
    pub path: PathBuf,
    #[source]
    pub cause: io::Error,
}
