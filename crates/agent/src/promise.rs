//! The promise by which this member is bound during a quorum take-over, and its file.
//!
//! It is on disk before anybody is told, and read before a new agent decides anything. While it is there this member receives no WAL:
//! whatever would write `primary_conninfo` or begin to copy or rewind asks [`PromiseBook::is_bound`] first.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use bellwether_ha::view::Kept;
use bellwether_types::{Revision, Timestamp, takeover::Promise};
use serde::{Deserialize, Serialize};

use crate::{clock, failsafe::boot_id};

const NAME: &str = "takeover.json";
/// Format of the file. One of a newer version is not read.
const VERSION: u32 = 1;

/// The promise in force, shared by the loop (which makes and forgets it) and the API (which tells it).
#[derive(Clone, Debug)]
pub(crate) struct PromiseBook {
    dir: PathBuf,
    present: Arc<Mutex<Option<Kept>>>,
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
        Ok(Self { dir: dir.to_owned(), present: Arc::new(Mutex::new(present)) })
    }

    /// Where it is, for people.
    pub(crate) fn path(dir: &Path) -> PathBuf {
        dir.join(NAME)
    }

    /// On disk when this returns. Blocking: two fsyncs.
    ///
    /// # Errors
    /// If it could not be written. It may be in the file all the same: a next agent would tell it, and this member is detached.
    pub(crate) fn keep(&self, promise: Promise) -> io::Result<()> {
        let made_at = clock::now();
        let written = Written { v: VERSION, boot: boot_id(), made_at, promise: promise.clone() };
        let temporary = self.dir.join("takeover.json.tmp");
        let mut file =
            OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&serde_json::to_vec(&written)?)?;
        file.sync_all()?;
        fs::rename(&temporary, self.dir.join(NAME))?;
        self.sync_directory()?;
        *self.lock() = Some(Kept { promise, made_at });
        Ok(())
    }

    /// The epoch is over. `false`: there was no promise for it.
    ///
    /// # Errors
    /// If the file could not be removed for good; the promise stays in force.
    pub(crate) fn forget(&self, revision: Revision) -> io::Result<bool> {
        if self.present().is_none_or(|kept| kept.promise.revision != revision) {
            return Ok(false);
        }
        match fs::remove_file(self.dir.join(NAME)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => self.sync_directory()?,
        }
        *self.lock() = None;
        Ok(true)
    }

    pub(crate) fn present(&self) -> Option<Kept> {
        self.lock().clone()
    }

    /// Nothing may be received from anybody.
    pub(crate) fn is_bound(&self) -> bool {
        self.lock().is_some()
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
    use bellwether_types::{Lsn, MemberName, TimelineId, WalPosition};

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
        PromiseBook { dir: dir.path().to_owned(), present: Arc::default() }.keep(promise(7)).unwrap();
        let text = fs::read_to_string(PromiseBook::path(dir.path())).unwrap();
        fs::write(PromiseBook::path(dir.path()), text.replace(r#""v":1"#, r#""v":2"#)).unwrap();
        let error = PromiseBook::open(dir.path()).unwrap_err();
        assert!(error.to_string().contains("version 2"), "{error}");
    }

    #[test]
    fn what_could_not_be_written_is_not_told() {
        let dir = tempfile::tempdir().unwrap();
        let book = PromiseBook::open(&dir.path().join("gone")).unwrap();
        assert!(book.keep(promise(7)).is_err());
        assert_eq!(book.present(), None);
    }
}
