//! The promise by which this member is bound during a quorum take-over, and its file.
//!
//! It is on disk before anybody is told, and read before a new agent decides anything. While it is there this member receives no WAL:
//! whatever would write `primary_conninfo` or begin to copy or rewind asks [`PromiseBook::is_bound`] first.
//!
//! This promise and a failsafe acceptance exclude each other: whoever makes one of them does it [`PromiseBook::alone`].

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use bellwether_ha::view::Kept;
use bellwether_types::{Revision, Timestamp, takeover::Promise};
use serde::{Deserialize, Serialize};

use crate::{
    clock,
    failsafe::{FailsafeBook, boot_id},
};

const NAME: &str = "takeover.json";
/// Format of the file. One of a newer version is not read.
const VERSION: u32 = 1;

/// The promise in force, shared by the loop (which makes and forgets it) and the API (which tells it).
#[derive(Clone, Debug)]
pub(crate) struct PromiseBook {
    dir: PathBuf,
    present: Arc<Mutex<Option<Kept>>>,
    /// A file that could neither be finished nor removed: nothing was promised, and a next agent may find it all the same.
    is_torn: Arc<AtomicBool>,
    /// One promise at a time, of whatever kind.
    turn: Arc<Mutex<()>>,
}

/// As it stands in the file: an instant means something only within one boot.
#[derive(Serialize, Deserialize)]
struct Written {
    v: u32,
    boot: String,
    made_at: Timestamp,
    promise: Promise,
}

impl PromiseBook {
    /// Reads the promise of an earlier agent.
    ///
    /// # Errors
    /// If there is one that cannot be read, or that a newer program has written: nobody may go on as if there were none.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let present = match fs::read(dir.join(NAME)) {
            Ok(bytes) => Some(read(&bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let book = Self {
            dir: dir.to_owned(),
            present: Arc::new(Mutex::new(present)),
            is_torn: Arc::default(),
            turn: Arc::default(),
        };
        if book.is_bound() {
            // The agent that wrote it may have died before it was safely there, and it is about to be told again.
            File::open(dir.join(NAME))?.sync_all()?;
            book.sync_directory()?;
        }
        Ok(book)
    }

    /// While `what` looks at what is promised, and promises something itself, nobody else promises anything. Blocking.
    pub(crate) fn alone<T>(&self, what: impl FnOnce() -> T) -> T {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        what()
    }

    /// Where it is, for people.
    pub(crate) fn path(dir: &Path) -> PathBuf {
        dir.join(NAME)
    }

    /// On disk when this returns. Blocking: two fsyncs.
    ///
    /// # Errors
    /// If it could not be written: nothing was promised. Until the file is known to be gone this member stays bound.
    pub(crate) fn keep(&self, promise: Promise) -> io::Result<()> {
        let kept = Kept { promise, made_at: clock::now() };
        if let Err(error) = self.write(&kept) {
            self.is_torn.store(true, Ordering::Release);
            self.settle();
            return Err(error);
        }
        self.is_torn.store(false, Ordering::Release);
        *self.lock() = Some(kept);
        Ok(())
    }

    /// The same, unless a leader was accepted that goes on without the store: then `false`, and nothing is promised.
    pub(crate) fn keep_unless_accepted(&self, promise: Promise, failsafe: &FailsafeBook) -> io::Result<bool> {
        self.alone(|| match failsafe.present() {
            Some(_) => Ok(false),
            None => self.keep(promise).map(|()| true),
        })
    }

    fn write(&self, kept: &Kept) -> io::Result<()> {
        let Kept { promise, made_at } = kept.clone();
        let written = Written { v: VERSION, boot: boot_id(), made_at, promise };
        let temporary = self.dir.join("takeover.json.tmp");
        let mut file =
            OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&serde_json::to_vec(&written)?)?;
        file.sync_all()?;
        fs::rename(&temporary, self.dir.join(NAME))?;
        self.sync_directory()
    }

    /// Removes what a failure has left. Blocking, and nothing to do unless something has failed.
    pub(crate) fn settle(&self) {
        if self.is_torn.load(Ordering::Acquire) && self.present().is_none() && self.remove().is_ok() {
            self.is_torn.store(false, Ordering::Release);
        }
    }

    fn remove(&self) -> io::Result<()> {
        match fs::remove_file(self.dir.join(NAME)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => self.sync_directory(),
        }
    }

    /// The epoch is over. `false`: there was no promise for it.
    ///
    /// # Errors
    /// If the file could not be removed for good; the promise stays in force.
    pub(crate) fn forget(&self, revision: Revision) -> io::Result<bool> {
        if self.present().is_none_or(|kept| kept.promise.revision != revision) {
            return Ok(false);
        }
        self.remove()?;
        *self.lock() = None;
        Ok(true)
    }

    pub(crate) fn present(&self) -> Option<Kept> {
        self.lock().clone()
    }

    /// Nothing may be received from anybody.
    pub(crate) fn is_bound(&self) -> bool {
        self.lock().is_some() || self.is_torn.load(Ordering::Acquire)
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Kept>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(bytes: &[u8]) -> io::Result<Kept> {
    let written: Written = serde_json::from_slice(bytes)?;
    if written.v != VERSION {
        let why = format!("it has version {}, this program understands {VERSION}", written.v);
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    let made_at = if written.boot == boot_id() { written.made_at } else { Timestamp::ZERO };
    Ok(Kept { promise: written.promise, made_at })
}

#[cfg(test)]
mod tests {
    use std::{sync::Barrier, time::Duration};

    use bellwether_types::{Lsn, MemberName, TimelineId, WalPosition, failsafe::FailsafeRequest};

    use super::*;

    fn promise(revision: u64) -> Promise {
        Promise {
            revision: Revision(revision),
            epoch: 3,
            leader: MemberName::new("a").unwrap(),
            position: WalPosition { timeline: TimelineId(2), lsn: Lsn(0x30_00F0) },
        }
    }

    #[test]
    fn a_promise_binds_the_next_agent_until_its_epoch_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let book = PromiseBook::open(dir.path()).unwrap();
        assert!(!book.is_bound());
        book.keep(promise(7)).unwrap();
        let next = PromiseBook::open(dir.path()).unwrap();
        assert_eq!(next.present().unwrap().promise, promise(7));
        assert_eq!(next.present(), book.present(), "with the time at which it was made");

        assert!(!next.forget(Revision(6)).unwrap(), "another epoch");
        assert!(next.is_bound());
        assert!(next.forget(Revision(7)).unwrap());
        assert!(!next.is_bound());
        assert!(!PromiseBook::open(dir.path()).unwrap().is_bound());
    }

    #[test]
    fn a_promise_of_another_boot_was_made_before_all_that_is_seen_now() {
        let dir = tempfile::tempdir().unwrap();
        PromiseBook::open(dir.path()).unwrap().keep(promise(7)).unwrap();
        let path = PromiseBook::path(dir.path());
        let text = fs::read_to_string(&path).unwrap().replace(&boot_id(), "another");
        fs::write(&path, text).unwrap();
        let kept = PromiseBook::open(dir.path()).unwrap().present().unwrap();
        assert_eq!((kept.made_at, kept.promise), (Timestamp::ZERO, promise(7)));
    }

    #[test]
    fn what_cannot_be_read_is_not_taken_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["", "{}", "[1"] {
            fs::write(PromiseBook::path(dir.path()), text).unwrap();
            assert!(PromiseBook::open(dir.path()).is_err(), "{text:?}");
        }
        fs::remove_file(PromiseBook::path(dir.path())).unwrap();
        PromiseBook::open(dir.path()).unwrap().keep(promise(7)).unwrap();
        let text = fs::read_to_string(PromiseBook::path(dir.path())).unwrap();
        fs::write(PromiseBook::path(dir.path()), text.replace(r#""v":1"#, r#""v":2"#)).unwrap();
        let error = PromiseBook::open(dir.path()).unwrap_err();
        assert!(error.to_string().contains("version 2"), "{error}");
    }

    #[test]
    fn what_could_not_be_written_is_not_told_and_binds_until_it_is_known_to_be_gone() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let book = PromiseBook::open(&state).unwrap();
        assert!(book.keep(promise(7)).is_err());
        assert_eq!(book.present(), None);
        // Nobody can say what is there.
        assert!(book.is_bound());
        book.settle();
        assert!(book.is_bound());

        fs::create_dir(&state).unwrap();
        book.settle();
        assert!(!book.is_bound());
        book.keep(promise(7)).unwrap();
        assert_eq!(PromiseBook::open(&state).unwrap().present(), book.present());
        book.settle();
        assert!(PromiseBook::path(&state).exists(), "a promise that holds is no leftover");
    }

    #[test]
    fn a_promise_and_a_failsafe_acceptance_exclude_each_other() {
        let call = FailsafeRequest {
            name: promise(7).leader,
            conn_url: "postgres://a/postgres".into(),
            api_url: "http://a/patroni".into(),
            slots: None,
            rely_on_ms: None,
        };
        let minute = Duration::from_secs(60);
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..100 {
            let (book, failsafe) = (PromiseBook::open(dir.path()).unwrap(), FailsafeBook::open(dir.path()));
            let start = Barrier::new(2);
            let ends = std::thread::scope(|scope| {
                let promised = scope.spawn(|| {
                    start.wait();
                    book.keep_unless_accepted(promise(7), &failsafe).unwrap()
                });
                start.wait();
                let accepted = failsafe.accept_unless_promised(&call, minute, &book).unwrap();
                (promised.join().unwrap(), accepted)
            });
            assert_ne!(ends.0, ends.1, "one of them, and only one");
            assert_eq!((book.present().is_some(), failsafe.present().is_some()), ends);
            book.forget(Revision(7)).unwrap();
            failsafe.clear();
        }

        book_of_another_leader(dir.path(), &call, minute);
    }

    /// Who is bound against one leader may accept another one.
    fn book_of_another_leader(dir: &Path, call: &FailsafeRequest, minute: Duration) {
        let (book, failsafe) = (PromiseBook::open(dir).unwrap(), FailsafeBook::open(dir));
        book.keep(promise(7)).unwrap();
        let other = FailsafeRequest { name: MemberName::new("c").unwrap(), ..call.clone() };
        assert!(!failsafe.accept_unless_promised(call, minute, &book).unwrap());
        assert!(failsafe.accept_unless_promised(&other, minute, &book).unwrap());
    }
}
