//! A log on a disk whose power fails.

use std::{
    io,
    sync::{Arc, Mutex},
};

use redb::StorageBackend;

use super::*;

/// A disk that loses what was not synced, or any part of it, when the power fails.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<Content>>);

#[derive(Debug, Default)]
struct Content {
    synced: Vec<u8>,
    /// Writes and changes of length since the last sync, in order.
    pending: Vec<Pending>,
    live: Vec<u8>,
    /// Operations until the power fails.
    operations_left: Option<usize>,
}

#[derive(Clone, Debug)]
enum Pending {
    Write { offset: usize, data: Vec<u8> },
    Length(usize),
}

impl Pending {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, data } => {
                let end = offset + data.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[*offset..end].copy_from_slice(data);
            }
            Self::Length(length) => content.resize(*length, 0),
        }
    }
}

impl Disk {
    fn operate<T>(&self, work: impl FnOnce(&mut Content) -> T) -> io::Result<T> {
        let mut content = self.0.lock().unwrap();
        match &mut content.operations_left {
            Some(0) => return Err(io::Error::other("the power failed")),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(work(&mut content))
    }

    fn change(&self, pending: Pending) -> io::Result<()> {
        self.operate(|content| {
            pending.apply(&mut content.live);
            content.pending.push(pending);
        })
    }

    /// The disk after the power came back: of the unsynced changes, those that `survives` picks by number.
    fn after_power_failure(&self, survives: impl Fn(usize) -> bool) -> Disk {
        let content = self.0.lock().unwrap();
        let mut image = content.synced.clone();
        for (number, pending) in content.pending.iter().enumerate() {
            if survives(number) {
                pending.apply(&mut image);
            }
        }
        Disk(Arc::new(Mutex::new(Content { synced: image.clone(), live: image, ..Content::default() })))
    }

    fn copy(&self) -> Disk {
        self.after_power_failure(|_| true)
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.operate(|content| content.live.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        self.operate(|content| out.copy_from_slice(&content.live[offset..offset + out.len()]))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Pending::Length(usize::try_from(len).unwrap()))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.operate(|content| {
            content.synced = content.live.clone();
            content.pending.clear();
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Pending::Write { offset: usize::try_from(offset).unwrap(), data: data.to_vec() })
    }
}

fn open(disk: &Disk) -> Option<RedbLog> {
    let database = Database::builder().create_with_backend(disk.clone()).ok()?;
    Some(RedbLog { database, path: PathBuf::from("disk"), purges: 0 })
}

fn steps() -> Vec<Vec<LogWrite>> {
    let record = |number: u64| number.to_be_bytes().repeat(40);
    let append = |index| LogWrite::Append { index, record: record(index) };
    vec![
        vec![LogWrite::Vote { record: record(1) }],
        vec![append(0), append(1), append(2)],
        vec![LogWrite::Vote { record: record(2) }],
        vec![append(3)],
        vec![LogWrite::TruncateFrom { index: 2 }, append(2)],
        vec![LogWrite::PurgeTo { index: 1, marker: record(1) }],
        vec![LogWrite::Vote { record: record(3) }, append(3), append(4)],
    ]
}

/// Which of the unsynced writes reached the disk after all.
type Survives = fn(usize) -> bool;

/// What a log holds after so many steps.
fn content_after(count: usize) -> LogContent {
    let disk = Disk::default();
    let mut log = fresh(&disk);
    for step in steps().into_iter().take(count) {
        log.write(step).unwrap();
    }
    log.content().unwrap()
}

fn fresh(disk: &Disk) -> RedbLog {
    let log = open(disk).expect("an empty disk");
    let transaction = log.database.begin_write().unwrap();
    transaction.open_table(LOG).unwrap();
    transaction.open_table(META).unwrap();
    transaction.commit().unwrap();
    log
}

fn same(left: &LogContent, right: &LogContent) -> bool {
    left.vote == right.vote && left.purged == right.purged && left.entries == right.entries
}

/// A forgotten vote elects two leaders, a forgotten entry loses a confirmed write: whatever was acknowledged before
/// the power failed is there afterwards, and of what was under way all or nothing.
#[test]
fn a_power_failure_at_any_moment_loses_nothing_that_was_acknowledged() {
    let blank = Disk::default();
    drop(fresh(&blank));
    let expected: Vec<LogContent> = (0..=steps().len()).map(content_after).collect();
    for operations in 0..2000 {
        let disk = blank.copy();
        let Some(mut log) = open(&disk) else { panic!("the disk is healthy") };
        disk.0.lock().unwrap().operations_left = Some(operations);
        let acknowledged = steps()
            .into_iter()
            .try_fold(0, |done, step| log.write(step).map(|()| done + 1).map_err(|_| done));
        let (done, finished) = match acknowledged {
            Ok(all) => (all, true),
            Err(done) => (done, false),
        };
        let picks: [(&str, Survives); 4] = [
            ("nothing unsynced survives", |_| false),
            ("all of it survives", |_| true),
            ("every other write survives", |number| number % 2 == 0),
            ("only the last ones survive", |number| number > 2),
        ];
        for (case, survives) in picks {
            let disk = disk.after_power_failure(survives);
            let mut log = open(&disk).unwrap_or_else(|| panic!("{case} after {operations}: unreadable"));
            let content = log.content().unwrap_or_else(|error| panic!("{case} after {operations}: {error}"));
            let whole = same(&content, &expected[done])
                || expected.get(done + 1).is_some_and(|next| same(&content, next));
            assert!(whole, "{case} after {operations} operations and {done} steps: {content:?}");
        }
        drop(log);
        if finished {
            assert!(operations > steps().len(), "the failures really hit");
            return;
        }
    }
    panic!("the steps never finished");
}
