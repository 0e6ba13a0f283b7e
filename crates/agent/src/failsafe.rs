//! The receiving side of the failsafe protocol: what this member promised to a leader that lost the store.
//!
//! A promise is on disk before it is answered, so that a restarted agent keeps it.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bellwether_ha::view::FailsafeAcceptance;
use bellwether_types::failsafe::FailsafeRequest;
use serde::{Deserialize, Serialize};

use crate::{clock, promise::PromiseBook};

const FILE: &str = "failsafe.json";

/// The promise in force, shared by the API (which makes it) and the loop (which keeps it).
#[derive(Clone, Debug)]
pub(crate) struct FailsafeBook {
    dir: PathBuf,
    present: Arc<Mutex<Option<FailsafeAcceptance>>>,
}

/// As it stands in the file: instants mean something only within one boot.
#[derive(Serialize, Deserialize)]
struct Kept {
    boot: String,
    promised: Duration,
    acceptance: FailsafeAcceptance,
}

impl Kept {
    /// How much of a promise of an earlier boot is left cannot be told: all of it.
    fn in_this_boot(self) -> FailsafeAcceptance {
        let mut acceptance = self.acceptance;
        if self.boot != boot_id() {
            acceptance.until = clock::now() + self.promised;
        }
        acceptance
    }
}

impl FailsafeBook {
    /// Reads the promise of an earlier agent.
    pub(crate) fn open(dir: &Path) -> Self {
        let kept =
            fs::read(dir.join(FILE)).ok().and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok());
        Self { dir: dir.to_owned(), present: Arc::new(Mutex::new(kept.map(Kept::in_this_boot))) }
    }

    /// Promises not to race for so long; an earlier promise that reaches further is kept as well. Blocking (one fsync); an error means
    /// that nothing new was promised.
    pub(crate) fn accept(&self, request: &FailsafeRequest, promised: Duration) -> std::io::Result<()> {
        let now = clock::now();
        let until = self.present().map_or(now + promised, |earlier| earlier.until.max(now + promised));
        let acceptance = FailsafeAcceptance {
            leader: request.name.clone(),
            conn_url: request.conn_url.clone(),
            api_url: request.api_url.clone(),
            until,
            slots: request.slots.clone().unwrap_or_default(),
        };
        let kept = Kept { boot: boot_id(), promised: until.since(now), acceptance: acceptance.clone() };
        let temporary = self.dir.join("failsafe.json.tmp");
        let mut file =
            fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&serde_json::to_vec(&kept)?)?;
        file.sync_all()?;
        fs::rename(&temporary, self.dir.join(FILE))?;
        fs::File::open(&self.dir)?.sync_all()?;
        *self.lock() = Some(acceptance);
        Ok(())
    }

    /// The same, unless this member is bound against that leader: then `false`, and nothing is promised.
    pub(crate) fn accept_unless_promised(
        &self,
        request: &FailsafeRequest,
        promised: Duration,
        takeover: &PromiseBook,
    ) -> std::io::Result<bool> {
        takeover.alone(|| {
            let is_against = takeover.present().is_some_and(|kept| kept.promise.leader == request.name);
            if is_against { Ok(false) } else { self.accept(request, promised).map(|()| true) }
        })
    }

    pub(crate) fn present(&self) -> Option<FailsafeAcceptance> {
        self.lock().clone().filter(|acceptance| clock::now() < acceptance.until)
    }

    pub(crate) fn clear(&self) {
        if self.lock().take().is_some() {
            let _ = fs::remove_file(self.dir.join(FILE));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<FailsafeAcceptance>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use bellwether_types::MemberName;

    use super::*;

    fn request() -> FailsafeRequest {
        FailsafeRequest {
            name: MemberName::new("a").unwrap(),
            conn_url: "postgres://a/postgres".into(),
            api_url: "http://a/patroni".into(),
            slots: None,
            rely_on_ms: None,
        }
    }

    #[test]
    fn a_promise_survives_the_agent_and_ends_by_itself() {
        let dir = tempfile::tempdir().unwrap();
        FailsafeBook::open(dir.path()).accept(&request(), Duration::from_secs(60)).unwrap();
        let next = FailsafeBook::open(dir.path());
        assert_eq!(next.present().unwrap().leader.as_str(), "a");

        let dir = tempfile::tempdir().unwrap();
        let book = FailsafeBook::open(dir.path());
        book.accept(&request(), Duration::ZERO).unwrap();
        assert_eq!(book.present(), None, "it has run out");
    }

    #[test]
    fn a_shorter_promise_takes_nothing_from_a_longer_one() {
        let dir = tempfile::tempdir().unwrap();
        let book = FailsafeBook::open(dir.path());
        book.accept(&request(), Duration::from_secs(60)).unwrap();
        let until = book.present().unwrap().until;
        book.accept(&request(), Duration::from_secs(5)).unwrap();
        assert_eq!(book.present().unwrap().until, until);
        assert_eq!(FailsafeBook::open(dir.path()).present().unwrap().until, until);
    }

    #[test]
    fn a_promise_of_another_boot_is_kept_whole() {
        let dir = tempfile::tempdir().unwrap();
        FailsafeBook::open(dir.path()).accept(&request(), Duration::from_secs(60)).unwrap();
        let text = fs::read_to_string(dir.path().join(FILE)).unwrap().replace(&boot_id(), "another");
        // The clock of that boot had run for longer than that of this one.
        let mut kept: serde_json::Value = serde_json::from_str(&text).unwrap();
        kept["acceptance"]["until"] = serde_json::json!(1);
        fs::write(dir.path().join(FILE), kept.to_string()).unwrap();
        let before = clock::now();
        let present = FailsafeBook::open(dir.path()).present().expect("still promised");
        assert!(present.until >= before + Duration::from_secs(60));
    }

    #[test]
    fn a_cleared_promise_stays_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let book = FailsafeBook::open(dir.path());
        book.accept(&request(), Duration::from_secs(60)).unwrap();
        book.clear();
        assert_eq!(FailsafeBook::open(dir.path()).present(), None);
    }
}
