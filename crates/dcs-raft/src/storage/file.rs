//! Small files that are whole or absent.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    StorageError,
    record::{self, BadRecord},
};

/// Replaces `path` durably: temporary file, fsync, rename, fsync of the directory.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<(), StorageError> {
    let temporary = temporary(path);
    let write = || -> io::Result<()> {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_directory(path)
    };
    write().map_err(StorageError::io("write", path))
}

/// Reads a file that may not exist.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, StorageError> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StorageError::io("read", path)(error)),
    }
}

pub(crate) fn replace_record<T: Serialize>(path: &Path, value: &T) -> Result<(), StorageError> {
    replace(path, &record::seal(value))
}

pub(crate) fn read_record<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StorageError> {
    let Some(content) = read(path)? else { return Ok(None) };
    match record::open(&content) {
        Ok(value) => Ok(Some(value)),
        Err(bad) => Err(unreadable(path, bad)),
    }
}

pub(crate) fn unreadable(path: &Path, bad: BadRecord) -> StorageError {
    match bad {
        BadRecord::Damaged(detail) => StorageError::damaged(path, detail),
        BadRecord::Newer(found) => StorageError::Newer { path: path.into(), found, known: record::VERSION },
    }
}

/// Makes a rename or a new file in the directory of `path` durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

pub(crate) fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}
