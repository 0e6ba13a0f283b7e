//! The log on disk. [`LogFile`] is all that the rest asks of it, so that another engine can take redb's place.

#[cfg(test)]
mod tests;

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use redb::{Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, TableDefinition};

use super::{StorageError, file};

const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const VOTE: &str = "vote";
const PURGED: &str = "purged";
const OWNER: &str = "owner";

/// A few kilobytes of live data need no gigabyte of page cache.
const CACHE_BYTES: usize = 1 << 20;
/// Purges between two compactions of the file.
const PURGES_PER_COMPACTION: u32 = 64;

/// One change of the file. Records are sealed by the caller.
#[derive(Debug)]
pub(crate) enum LogWrite {
    Append { index: u64, record: Vec<u8> },
    TruncateFrom { index: u64 },
    PurgeTo { index: u64, marker: Vec<u8> },
    Vote { record: Vec<u8> },
}

/// What the file holds, as sealed records.
#[derive(Debug, Default)]
pub(crate) struct LogContent {
    pub(crate) vote: Option<Vec<u8>>,
    pub(crate) purged: Option<Vec<u8>>,
    pub(crate) entries: Vec<(u64, Vec<u8>)>,
}

/// A durable log with a vote. Calls block.
pub(crate) trait LogFile: Send + 'static {
    fn content(&mut self) -> Result<LogContent, StorageError>;

    /// All of these, in order and durable on return, or none of them.
    fn write(&mut self, writes: Vec<LogWrite>) -> Result<(), StorageError>;
}

/// [`LogFile`] on redb.
#[derive(Debug)]
pub(crate) struct RedbLog {
    database: Database,
    path: PathBuf,
    purges: u32,
}

impl RedbLog {
    pub(crate) fn path(directory: &Path) -> PathBuf {
        directory.join("log.redb")
    }

    /// Makes an empty log that belongs to `owner`: it appears whole or not at all.
    pub(crate) fn create(directory: &Path, owner: u64) -> Result<(), StorageError> {
        let path = Self::path(directory);
        let temporary = file::temporary(&path);
        let create = || -> Result<(), redb::Error> {
            if temporary.exists() {
                fs::remove_file(&temporary)?;
            }
            let database = Database::builder().set_cache_size(CACHE_BYTES).create(&temporary)?;
            let transaction = database.begin_write()?;
            transaction.open_table(LOG)?;
            transaction.open_table(META)?.insert(OWNER, owner.to_be_bytes().as_slice())?;
            transaction.commit()?;
            drop(database);
            fs::rename(&temporary, &path)?;
            file::sync_directory(&path)?;
            Ok(())
        };
        create().map_err(|error| failed("create", &path, error))
    }

    /// Opens an existing log; one that is missing or empty is an error, never a new log.
    pub(crate) fn open(directory: &Path, owner: u64) -> Result<Self, StorageError> {
        let path = Self::path(directory);
        let length = fs::metadata(&path).map_err(StorageError::io("open", &path))?.len();
        if length == 0 {
            return Err(StorageError::damaged(&path, "it is empty"));
        }
        // redb asserts on some kinds of damage; on an operator's desk that has to be a message.
        let opened =
            catch_unwind(AssertUnwindSafe(|| Database::builder().set_cache_size(CACHE_BYTES).open(&path)));
        let database = match opened {
            Ok(Ok(database)) => database,
            Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => return Err(StorageError::InUse { path }),
            Ok(Err(DatabaseError::Storage(redb::StorageError::Io(cause))))
                if cause.kind() == std::io::ErrorKind::PermissionDenied =>
            {
                return Err(StorageError::io("open", path)(cause));
            }
            Ok(Err(error)) => return Err(StorageError::damaged(&path, error)),
            Err(_) => return Err(StorageError::damaged(&path, "the storage engine cannot read it")),
        };
        let mut log = Self { database, path, purges: 0 };
        let found = log.guarded(|log| log.read_owner())?;
        match found {
            Some(found) if found == owner => Ok(log),
            Some(found) => Err(StorageError::Foreign {
                path: log.path,
                found: format!("node {found:x}"),
                expected: format!("node {owner:x}"),
            }),
            None => Err(StorageError::damaged(&log.path, "it names no owner")),
        }
    }

    /// Whether the log was made and never used. Only for a directory without an identity.
    pub(crate) fn is_pristine(directory: &Path) -> Result<bool, StorageError> {
        let path = Self::path(directory);
        let opened =
            catch_unwind(AssertUnwindSafe(|| Database::builder().set_cache_size(CACHE_BYTES).open(&path)));
        let Ok(Ok(database)) = opened else { return Ok(false) };
        let content = Self { database, path, purges: 0 }.content()?;
        Ok(content.vote.is_none() && content.purged.is_none() && content.entries.is_empty())
    }

    fn read_owner(&self) -> Result<Option<u64>, redb::Error> {
        let table = self.database.begin_read()?.open_table(META)?;
        Ok(table.get(OWNER)?.and_then(|owner| owner.value().try_into().ok().map(u64::from_be_bytes)))
    }

    fn read(&self) -> Result<LogContent, redb::Error> {
        let transaction = self.database.begin_read()?;
        let meta = transaction.open_table(META)?;
        let log = transaction.open_table(LOG)?;
        let mut content = LogContent {
            vote: meta.get(VOTE)?.map(|record| record.value().to_vec()),
            purged: meta.get(PURGED)?.map(|record| record.value().to_vec()),
            entries: Vec::new(),
        };
        for entry in log.iter()? {
            let (index, record) = entry?;
            content.entries.push((index.value(), record.value().to_vec()));
        }
        Ok(content)
    }

    fn transact(&mut self, writes: Vec<LogWrite>) -> Result<(), redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate).expect("no savepoints are used");
        let mut purged = false;
        {
            let mut meta = transaction.open_table(META)?;
            let mut log = transaction.open_table(LOG)?;
            for write in &writes {
                match write {
                    LogWrite::Append { index, record } => {
                        log.insert(index, record.as_slice())?;
                    }
                    LogWrite::TruncateFrom { index } => log.retain_in(*index.., |_, _| false)?,
                    LogWrite::PurgeTo { index, marker } => {
                        purged = true;
                        log.retain_in(..=*index, |_, _| false)?;
                        meta.insert(PURGED, marker.as_slice())?;
                    }
                    LogWrite::Vote { record } => {
                        meta.insert(VOTE, record.as_slice())?;
                    }
                }
            }
        }
        // A forgotten vote can elect two leaders: one more fsync, immune to damage of a single commit slot.
        transaction.set_two_phase_commit(writes.iter().any(|write| matches!(write, LogWrite::Vote { .. })));
        transaction.commit()?;
        if purged {
            self.purges += 1;
            if self.purges.is_multiple_of(PURGES_PER_COMPACTION)
                && let Err(error) = self.database.compact()
            {
                tracing::warn!(error = %error, path = %self.path.display(), "could not compact the store's log");
            }
        }
        Ok(())
    }

    fn guarded<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, redb::Error>,
    ) -> Result<T, StorageError> {
        match catch_unwind(AssertUnwindSafe(|| work(self))) {
            Ok(result) => result.map_err(|error| failed("use", &self.path, error)),
            Err(_) => Err(StorageError::damaged(&self.path, "the storage engine gave up on it")),
        }
    }
}

impl LogFile for RedbLog {
    fn content(&mut self) -> Result<LogContent, StorageError> {
        self.guarded(|log| log.read())
    }

    fn write(&mut self, writes: Vec<LogWrite>) -> Result<(), StorageError> {
        self.guarded(|log| log.transact(writes))
    }
}

fn failed(action: &'static str, path: &Path, error: redb::Error) -> StorageError {
    match error {
        redb::Error::Io(cause) => StorageError::io(action, path)(cause),
        redb::Error::DatabaseAlreadyOpen => StorageError::InUse { path: path.into() },
        error => StorageError::damaged(path, error),
    }
}
