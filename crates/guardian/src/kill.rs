//! What happens at the deadline: PostgreSQL ends, whole and at once.
//!
//! First everything is stopped, the postmaster before the others, so that it can neither fork nor restart what dies and
//! no backend acknowledges another commit. Then everything but the postmaster is killed, until nobody is left, and the
//! postmaster last: who sees it gone may rely on its backends being gone. Each signal goes through a pidfd to a process
//! whose start time was checked.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
    time::Duration,
};

use rustix::process::{Signal, pidfd_send_signal};

use crate::{
    client::Mode,
    clock::{boottime, to_timespec},
    scan::{FileId, Scanner},
    target::Target,
    wait::wait_readable,
};

/// How long the backends may take to be gone before the postmaster is killed all the same.
const BACKENDS_GONE_WITHIN: Duration = Duration::from_secs(5);
/// How long the end of the last process is waited for after that.
const ALL_GONE_WITHIN: Duration = Duration::from_secs(3);
/// Between two looks at /proc.
const PAUSE: Duration = Duration::from_millis(1);
/// Processes told apart in the count of the killed; further ones are killed as well but not counted.
const COUNTED_MAX: usize = 8192;

/// Whom to kill, and all that is needed to do it without allocating.
#[derive(Debug)]
pub(crate) struct Fence {
    mode: Mode,
    data_dir: CString,
    /// As it was at the start and at the last arming. Known beforehand, since at the deadline the disk may hang.
    directory: Option<FileId>,
    postmaster: Option<Postmaster>,
    scanner: Scanner,
    counted: Vec<Target>,
}

#[derive(Debug)]
struct Postmaster {
    id: Target,
    pidfd: OwnedFd,
}

/// How it went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) postmaster: Option<i32>,
    pub(crate) killed: u32,
    pub(crate) left: u32,
}

impl Fence {
    pub(crate) fn new(mode: Mode, data_dir: &Path) -> io::Result<Self> {
        let mut fence = Self {
            mode,
            data_dir: CString::new(data_dir.as_os_str().as_bytes())?,
            directory: None,
            postmaster: None,
            scanner: Scanner::new()?,
            counted: Vec::with_capacity(COUNTED_MAX),
        };
        fence.remember_directory();
        Ok(fence)
    }

    /// Looks up which directory the path means now: a clone may have made it anew. An unreadable one leaves the old answer.
    pub(crate) fn remember_directory(&mut self) {
        if let Ok(directory) = FileId::of_path(&self.data_dir) {
            self.directory = Some(directory);
        }
    }

    /// Takes hold of the postmaster, if it is that process and alive.
    pub(crate) fn set_postmaster(&mut self, id: Option<Target>) -> io::Result<()> {
        self.postmaster = None;
        if let Some(id) = id {
            self.postmaster = Some(Postmaster { id, pidfd: id.pidfd()? });
        }
        Ok(())
    }

    /// Kills every process of the data directory, or counts them in a rehearsal. Bounded in time; does not allocate.
    pub(crate) fn fire(&mut self) -> Outcome {
        self.counted.clear();
        let known = self.directory;
        let mut outcome = self.fire_at(known);
        // Only now may we ask the disk whether the path has come to mean another directory.
        self.remember_directory();
        if self.directory != known {
            let again = self.fire_at(self.directory);
            outcome.left = again.left;
        }
        outcome.killed = u32::try_from(self.counted.len()).unwrap_or(u32::MAX);
        outcome
    }

    /// Looks for everybody without signalling anybody, so that what a firing needs has been touched once.
    pub(crate) fn warm_up(&mut self) {
        self.count(self.directory);
        self.counted.clear();
    }

    fn fire_at(&mut self, directory: Option<FileId>) -> Outcome {
        if self.mode == Mode::Rehearse {
            self.count(directory);
            return Outcome { postmaster: self.live_postmaster().map(|id| id.pid), ..Outcome::default() };
        }
        // If it is gone, its orphans are found by their directory.
        let postmaster = self.signal_postmaster(Signal::STOP);
        self.signal_others(directory, Signal::STOP);
        self.until_gone(directory, BACKENDS_GONE_WITHIN);
        if self.signal_postmaster(Signal::KILL).is_some() {
            note(&mut self.counted, postmaster);
        }
        let others_left = self.until_gone(directory, ALL_GONE_WITHIN);
        let left = others_left + u32::from(self.postmaster_outlives(ALL_GONE_WITHIN));
        Outcome { postmaster: postmaster.map(|id| id.pid), left, killed: 0 }
    }

    /// Kills all but the postmaster, again and again until none is found; how many are left when time is up.
    fn until_gone(&mut self, directory: Option<FileId>, within: Duration) -> u32 {
        let by = boottime() + within;
        loop {
            let left = self.signal_others(directory, Signal::KILL);
            if left == Some(0) || boottime() >= by {
                return left.unwrap_or(0);
            }
            // A nap lets the dying run, which in our real-time class on one processor they could not otherwise.
            let _ = rustix::thread::nanosleep(&to_timespec(bellwether_types::Timestamp::ZERO + PAUSE));
        }
    }

    /// Sends `signal` to everybody but the postmaster; how many were found, unless /proc could not be read.
    fn signal_others(&mut self, directory: Option<FileId>, signal: Signal) -> Option<u32> {
        let (scanner, counted) = (&mut self.scanner, &mut self.counted);
        let postmaster = self.postmaster.as_ref().map(|postmaster| postmaster.id);
        let mut found = 0;
        let scanned = scanner.each(directory.as_slice(), postmaster, |process| {
            let Ok(pidfd) = process.process.pidfd() else { return };
            found += 1;
            if pidfd_send_signal(&pidfd, signal).is_ok() && signal == Signal::KILL {
                note(counted, Some(process.process));
            }
        });
        scanned.is_ok().then_some(found)
    }

    fn count(&mut self, directory: Option<FileId>) {
        let counted = &mut self.counted;
        let postmaster = self.postmaster.as_ref().map(|postmaster| postmaster.id);
        // A /proc that cannot be read leaves the count at what was seen.
        let _ = self.scanner.each(directory.as_slice(), postmaster, |process| {
            note(counted, Some(process.process));
        });
        let alive = self.live_postmaster();
        note(&mut self.counted, alive);
    }

    fn live_postmaster(&self) -> Option<Target> {
        let postmaster = self.postmaster.as_ref()?;
        Target::of_pid(postmaster.id.pid).ok().filter(|id| *id == postmaster.id)
    }

    /// Who got the signal; nobody if it is gone.
    fn signal_postmaster(&self, signal: Signal) -> Option<Target> {
        let postmaster = self.postmaster.as_ref()?;
        pidfd_send_signal(&postmaster.pidfd, signal).ok().map(|()| postmaster.id)
    }

    fn postmaster_outlives(&self, within: Duration) -> bool {
        let Some(postmaster) = &self.postmaster else { return false };
        let ended = wait_readable(postmaster.pidfd.as_fd(), boottime() + within);
        !ended.unwrap_or(true)
    }
}

/// Counts a process once, as long as there is room.
fn note(counted: &mut Vec<Target>, process: Option<Target>) {
    if let Some(process) = process
        && counted.len() < counted.capacity()
        && !counted.contains(&process)
    {
        counted.push(process);
    }
}
