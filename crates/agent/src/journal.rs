//! The journal: what this member saw, decided and did, and why. One JSON object per line in a bounded file.
//!
//! A record is written when a decision differs from the one before, for every action that changes the world, for every
//! unsafe API call, and at the end of each failover with the time that each step took. `bellwether explain` tells the story.
//! Writing never holds up a decision: records go through a bounded queue to a thread of their own; a full queue drops the
//! record and counts it.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

use bellwether_types::{ClusterName, MemberName};
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::{clock, role_changes};

/// Format of the records; readers accept this one and the one before.
pub const JOURNAL_VERSION: u32 = 1;

const FILE: &str = "journal.jsonl";
const PREVIOUS: &str = "journal.1.jsonl";
/// Two files of this size are kept at most.
const MAX_BYTES: u64 = 8 * 1024 * 1024;
const KEPT_IN_MEMORY: usize = 1_000;
/// Some seconds of the busiest failover.
const QUEUE: usize = 1_024;

/// Where records go. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Journal {
    cluster: ClusterName,
    member: MemberName,
    recent: Arc<Mutex<VecDeque<Value>>>,
    queue: Option<SyncSender<String>>,
    dropped: Arc<AtomicU64>,
    /// The last records of changes of role, in short.
    role_changes: watch::Sender<Vec<Value>>,
}

impl Journal {
    /// Opens (or creates) the journal in `dir` and reads its last records.
    pub fn open(dir: &Path, cluster: ClusterName, member: MemberName) -> std::io::Result<Self> {
        fs::create_dir_all(dir)?;
        let recent = read_records(dir, KEPT_IN_MEMORY)?;
        let mut changes: Vec<Value> = recent.iter().filter_map(role_changes::brief).collect();
        changes.drain(..changes.len().saturating_sub(role_changes::KEPT));
        let file = open_file(&dir.join(FILE))?;
        let (queue, records) = sync_channel(QUEUE);
        let dir = dir.to_owned();
        std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || write_records(&records, file, &dir))?;
        Ok(Self {
            cluster,
            member,
            recent: Arc::new(Mutex::new(recent.into())),
            queue: Some(queue),
            dropped: Arc::default(),
            role_changes: watch::Sender::new(changes),
        })
    }

    /// A journal without a file, for tests of other parts.
    #[cfg(test)]
    pub(crate) fn in_memory(cluster: ClusterName, member: MemberName) -> Self {
        Self {
            cluster,
            member,
            recent: Arc::default(),
            queue: None,
            dropped: Arc::default(),
            role_changes: watch::Sender::default(),
        }
    }

    /// Writes a record of this kind (`decision`, `action`, `call`, `failover`, `start`, ...) with `fields` beside the usual ones.
    pub fn record(&self, kind: &str, fields: Value) {
        let mut record = Map::new();
        record.insert("v".into(), json!(JOURNAL_VERSION));
        record.insert("time".into(), json!(clock::wall_text(clock::wall())));
        record.insert("boottime_ms".into(), json!(clock::now().as_millis()));
        record.insert("cluster".into(), json!(self.cluster));
        record.insert("member".into(), json!(self.member));
        record.insert("kind".into(), json!(kind));
        if let Value::Object(fields) = fields {
            record.extend(fields);
        }
        self.append(Value::Object(record));
    }

    fn append(&self, record: Value) {
        if let Some(queue) = &self.queue
            && queue.try_send(record.to_string()).is_err()
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(change) = role_changes::brief(&record) {
            self.role_changes.send_modify(|changes| {
                changes.drain(..(changes.len() + 1).saturating_sub(role_changes::KEPT));
                changes.push(change);
            });
        }
        let mut recent = self.recent.lock().expect("nothing panics while it holds the journal");
        if recent.len() == KEPT_IN_MEMORY {
            recent.pop_front();
        }
        recent.push_back(record);
    }

    /// The last `limit` records, oldest first.
    pub fn recent(&self, limit: usize) -> Vec<Value> {
        let recent = self.recent.lock().expect("nothing panics while it holds the journal");
        recent.iter().skip(recent.len().saturating_sub(limit)).cloned().collect()
    }

    /// The last records of changes of role, in short and in the order of time.
    pub(crate) fn role_changes(&self) -> watch::Receiver<Vec<Value>> {
        self.role_changes.subscribe()
    }

    /// Records that the disk was too slow for.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

fn open_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// The thread: appends lines and rotates. A line that cannot be written is lost, which the next start can tell by the gap.
fn write_records(records: &Receiver<String>, mut file: File, dir: &Path) {
    let mut size = file.metadata().map_or(0, |metadata| metadata.len());
    for line in records {
        if size > MAX_BYTES
            && fs::rename(dir.join(FILE), dir.join(PREVIOUS)).is_ok()
            && let Ok(fresh) = open_file(&dir.join(FILE))
        {
            file = fresh;
            size = 0;
        }
        if writeln!(file, "{line}").is_ok() {
            size += line.len() as u64 + 1;
        }
    }
}

/// The last `limit` records below `dir`, oldest first. Lines that are no JSON (cut off by a crash) are skipped.
pub fn read_records(dir: &Path, limit: usize) -> std::io::Result<Vec<Value>> {
    let mut records = VecDeque::new();
    for path in [dir.join(PREVIOUS), dir.join(FILE)] {
        for line in lines(&path)? {
            if let Ok(record) = serde_json::from_str(&line?) {
                if records.len() == limit {
                    records.pop_front();
                }
                records.push_back(record);
            }
        }
    }
    Ok(records.into())
}

fn lines(path: &PathBuf) -> std::io::Result<Box<dyn Iterator<Item = std::io::Result<String>>>> {
    match File::open(path) {
        Ok(file) => Ok(Box::new(BufReader::new(file).lines())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Box::new(std::iter::empty())),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(dir: &Path) -> Journal {
        Journal::open(dir, ClusterName::new("c").unwrap(), MemberName::new("a").unwrap()).unwrap()
    }

    /// The file is written by another thread.
    fn wait_for_records(dir: &Path, count: usize) -> Vec<Value> {
        for _ in 0..500 {
            let records = read_records(dir, 100).unwrap();
            if records.len() >= count {
                return records;
            }
            std::thread::yield_now();
            std::thread::park_timeout(std::time::Duration::from_millis(10));
        }
        panic!("{count} records expected, found {:?}", read_records(dir, 100));
    }

    #[test]
    fn records_survive_a_restart_and_a_torn_line() {
        let dir = tempfile::tempdir().unwrap();
        journal(dir.path()).record("decision", json!({"reason": "first"}));
        wait_for_records(dir.path(), 1);
        open_file(&dir.path().join(FILE)).unwrap().write_all(b"{\"kind\": \"torn").unwrap();
        open_file(&dir.path().join(FILE)).unwrap().write_all(b"\n").unwrap();

        let reopened = journal(dir.path());
        reopened.record("decision", json!({"reason": "second"}));
        let reasons: Vec<_> = reopened.recent(10).iter().map(|record| record["reason"].clone()).collect();
        assert_eq!(reasons, ["first", "second"]);
        assert_eq!(wait_for_records(dir.path(), 2).len(), 2);
    }

    #[test]
    fn changes_of_role_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let first = journal(dir.path());
        for number in 0..role_changes::KEPT + 3 {
            first.record("failover", json!({"total_ms": number}));
            first.record("decision", json!({"reason": "secondary_following"}));
        }
        let told = |journal: &Journal| {
            let changes = journal.role_changes().borrow().clone();
            (changes.len(), changes.last().unwrap()["total_ms"].clone())
        };
        assert_eq!(told(&first), (role_changes::KEPT, json!(role_changes::KEPT + 2)));
        wait_for_records(dir.path(), 2 * (role_changes::KEPT + 3));
        assert_eq!(told(&journal(dir.path())), told(&first));
    }

    #[test]
    fn the_newest_records_are_kept_in_memory() {
        let journal = Journal::in_memory(ClusterName::new("c").unwrap(), MemberName::new("a").unwrap());
        for number in 0..KEPT_IN_MEMORY + 5 {
            journal.record("decision", json!({"number": number}));
        }
        let recent = journal.recent(2);
        assert_eq!((recent.len(), &recent[1]["number"]), (2, &json!(KEPT_IN_MEMORY + 4)));
        assert_eq!(journal.recent(usize::MAX).len(), KEPT_IN_MEMORY);
    }
}
