//! The log as the Raft library sees it: all entries in memory, each change durable before it is acknowledged.
//!
//! One thread owns the file and takes what has queued up in one transaction, in the order in which it was asked for.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
    thread,
};

use openraft::{
    OptionalSend, RaftLogReader,
    storage::{IOFlushed, LogState, RaftLogStorage},
};
use tokio::sync::{mpsc, oneshot};

use super::{
    StorageError,
    file::unreadable,
    log_file::{LogFile, LogWrite, RedbLog},
    record,
};
use crate::consensus::{LogEntry, LogId, TypeConfig, Vote};

/// Changes that may wait for the disk before the Raft core has to.
const QUEUE: usize = 1024;
/// So many of them become one transaction.
const BATCH: usize = 256;

struct Job {
    writes: Vec<LogWrite>,
    done: Done,
}

enum Done {
    Flushed(IOFlushed<TypeConfig>),
    Reply(oneshot::Sender<io::Result<()>>),
}

impl Done {
    fn complete(self, result: io::Result<()>) {
        match self {
            Self::Flushed(callback) => callback.io_completed(result),
            Self::Reply(reply) => {
                let _ = reply.send(result);
            }
        }
    }
}

#[derive(Debug, Default)]
struct Tail {
    vote: Option<Vote>,
    purged: Option<LogId>,
    entries: BTreeMap<u64, LogEntry>,
}

impl Tail {
    fn last(&self) -> Option<LogId> {
        self.entries.last_key_value().map(|(_, entry)| entry.log_id).or(self.purged)
    }
}

/// The log of one node. Clones share it.
#[derive(Clone)]
pub(crate) struct LogStore {
    tail: Arc<Mutex<Tail>>,
    jobs: mpsc::Sender<Job>,
}

impl LogStore {
    /// Reads and checks the whole log. `directory` is only for messages.
    ///
    /// The receiver ends when the file is closed, after the last clone was dropped.
    pub(crate) fn load(
        mut file: impl LogFile,
        directory: &Path,
    ) -> Result<(Self, oneshot::Receiver<()>), StorageError> {
        let path = RedbLog::path(directory);
        let content = file.content()?;
        let bad = |bad| unreadable(&path, bad);
        let mut tail = Tail {
            vote: content.vote.map(|record| record::open(&record)).transpose().map_err(bad)?,
            purged: content.purged.map(|record| record::open(&record)).transpose().map_err(bad)?,
            entries: BTreeMap::new(),
        };
        for (index, sealed) in content.entries {
            let entry: LogEntry = record::open(&sealed).map_err(bad)?;
            let expected = tail.last().map_or(0, |last| last.index + 1);
            if entry.log_id.index != index || index != expected {
                return Err(StorageError::damaged(&path, format!("entry {expected} is missing")));
            }
            tail.entries.insert(index, entry);
        }
        let (jobs, queue) = mpsc::channel(QUEUE);
        let (closing, closed) = oneshot::channel();
        thread::Builder::new()
            .name("bw-store-log".to_owned())
            .spawn(move || {
                write_in_order(file, queue);
                let _ = closing.send(());
            })
            .map_err(StorageError::io("start the writer of", &path))?;
        Ok((Self { tail: Arc::new(Mutex::new(tail)), jobs }, closed))
    }

    pub(crate) fn last(&self) -> Option<LogId> {
        self.lock().last()
    }

    pub(crate) fn purged(&self) -> Option<LogId> {
        self.lock().purged
    }

    pub(crate) fn vote(&self) -> Option<Vote> {
        self.lock().vote
    }

    pub(crate) fn entries(&self) -> Vec<LogEntry> {
        self.lock().entries.values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().expect("no code panics while it holds the log")
    }

    async fn submit(&self, writes: Vec<LogWrite>, done: Done) -> io::Result<()> {
        self.jobs.send(Job { writes, done }).await.map_err(|_| io::Error::other("the log's writer has ended"))
    }

    async fn write(&self, writes: Vec<LogWrite>) -> io::Result<()> {
        let (reply, done) = oneshot::channel();
        self.submit(writes, Done::Reply(reply)).await?;
        done.await.map_err(|_| io::Error::other("the log's writer has ended"))?
    }
}

/// The writer thread: ends when the last [`LogStore`] is dropped.
fn write_in_order(mut file: impl LogFile, mut queue: mpsc::Receiver<Job>) {
    // After one failed write nothing may follow: a later entry without an earlier one is a hole in the log.
    let mut failed: Option<String> = None;
    while let Some(first) = queue.blocking_recv() {
        let mut jobs = vec![first];
        while jobs.len() < BATCH
            && let Ok(job) = queue.try_recv()
        {
            jobs.push(job);
        }
        let (writes, done): (Vec<_>, Vec<_>) = jobs.into_iter().map(|job| (job.writes, job.done)).unzip();
        if failed.is_none()
            && let Err(error) = file.write(writes.into_iter().flatten().collect())
        {
            tracing::error!(error = %error, "the store's log cannot be written; this node stops taking part");
            failed = Some(error.to_string());
        }
        for done in done {
            done.complete(match &failed {
                None => Ok(()),
                Some(error) => Err(io::Error::other(error.clone())),
            });
        }
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<LogEntry>, io::Error> {
        let tail = self.lock();
        // A range that ends before it starts is empty for the library, and a panic for the map.
        let empty = match (range.start_bound(), range.end_bound()) {
            (Bound::Included(start), Bound::Excluded(end)) => start >= end,
            (Bound::Included(start), Bound::Included(end)) => start > end,
            _ => false,
        };
        if empty {
            return Ok(Vec::new());
        }
        Ok(tail.entries.range(range).map(|(_, entry)| entry.clone()).collect())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.lock().vote)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let tail = self.lock();
        Ok(LogState { last_purged_log_id: tail.purged, last_log_id: tail.last() })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.write(vec![LogWrite::Vote { record: record::seal(vote) }]).await?;
        self.lock().vote = Some(*vote);
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = LogEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut writes = Vec::new();
        {
            let mut tail = self.lock();
            for entry in entries {
                let index = entry.log_id.index;
                writes.push(LogWrite::Append { index, record: record::seal(&entry) });
                tail.entries.insert(index, entry);
            }
        }
        self.submit(writes, Done::Flushed(callback)).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let index = last.map_or(0, |last| last.index + 1);
        self.lock().entries.split_off(&index);
        self.write(vec![LogWrite::TruncateFrom { index }]).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        {
            let mut tail = self.lock();
            tail.entries = tail.entries.split_off(&(upto.index + 1));
            tail.purged = Some(upto);
        }
        self.write(vec![LogWrite::PurgeTo { index: upto.index, marker: record::seal(&upto) }]).await
    }
}
