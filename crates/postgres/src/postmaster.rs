//! The postmaster: which process it is, when it ends, and how to end it.
//!
//! A process is only ever signalled through a pidfd that was opened before its identity was checked, so a reused pid can't
//! be hit. Exit is seen at once, for postmasters that somebody else started too.

use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use tokio::io::{Interest, unix::AsyncFd};

use crate::{
    pidfile::PidFile,
    process::{self, ProcessTable, StatFile},
    program::blocking,
};

/// What makes a postmaster this one and no other: a pid alone may be reused.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PostmasterId {
    pub pid: i32,
    /// Field 22 of `/proc/<pid>/stat`: clock ticks since boot.
    pub start_ticks: u64,
    /// The real path of the data directory.
    pub data_dir: PathBuf,
}

/// How to stop: PostgreSQL's three shutdown modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// Waits for the clients to leave.
    Smart,
    /// Ends the clients' sessions.
    Fast,
    /// Like a crash.
    Immediate,
}

/// How much of a server has been stopped by a signal (SIGSTOP), or by a debugger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stopped {
    #[default]
    Nothing,
    /// Sessions go on; nobody new comes in, and no process is started.
    Postmaster,
    /// Every process of it: nobody is served.
    Everything,
}

/// Who is there of a server that is being killed, at worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Left {
    Nobody,
    /// Killed, and not out of the kernel yet.
    Harmless,
    Dangerous,
}

/// Between two looks at what was killed: at first, and when it takes longer.
const SHORT: Duration = Duration::from_millis(2);
const LONG: Duration = Duration::from_millis(200);

/// A handle to a running (or just ended) postmaster, ours or not. Cheap to clone; it stays valid when the directory vanishes.
#[derive(Clone, Debug)]
pub struct Postmaster {
    id: PostmasterId,
    pidfd: Arc<OwnedFd>,
    stat: Arc<StatFile>,
}

impl Postmaster {
    /// Finds the postmaster that runs on `data_dir`, by its pid file. Blocking, cheap.
    pub fn find(data_dir: &Path) -> io::Result<Option<Postmaster>> {
        let Ok(data_dir) = std::fs::canonicalize(data_dir) else { return Ok(None) };
        let Some(file) = PidFile::read(&data_dir)? else { return Ok(None) };
        if file.pid <= 0 {
            return Ok(None); // a single-user server writes its pid negated
        }
        let real = data_dir.clone();
        Self::open(file.pid, data_dir, &|process| is_postmaster(process, &file, &real))
    }

    /// The process that was just started with this pid, before it has written its pid file.
    pub(crate) fn just_started(pid: i32, data_dir: &Path) -> io::Result<Option<Postmaster>> {
        Self::open(pid, std::fs::canonicalize(data_dir)?, &|_| true)
    }

    fn open(
        pid: i32,
        data_dir: PathBuf,
        is_it: &dyn Fn(&process::Process) -> bool,
    ) -> io::Result<Option<Postmaster>> {
        let Some(raw) = Pid::from_raw(pid) else { return Ok(None) };
        let pidfd = match pidfd_open(raw, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let Some(process) = process::read(pid)? else { return Ok(None) };
        let Ok(stat) = StatFile::open(pid) else { return Ok(None) };
        if process.is_dead() || !is_it(&process) {
            return Ok(None);
        }
        let id = PostmasterId { pid, start_ticks: process.start_ticks, data_dir };
        let postmaster = Self { id, pidfd: Arc::new(pidfd), stat: Arc::new(stat) };
        // Still alive after all this: then what was read belongs to the process that the pidfd means.
        Ok(postmaster.is_alive().then_some(postmaster))
    }

    pub fn id(&self) -> &PostmasterId {
        &self.id
    }

    /// Whether the process still runs (a zombie does not).
    pub fn is_alive(&self) -> bool {
        !has_exited(&self.pidfd)
    }

    /// Whether a signal has stopped it (SIGSTOP): it takes no connection and obeys nothing until it is woken. Cheap.
    pub fn is_stopped(&self) -> bool {
        // Whoever is gone is not stopped.
        self.stat.is_stopped().unwrap_or(false)
    }

    /// How much of the server is stopped. Cheap where the postmaster is not.
    pub async fn stopped(&self) -> io::Result<Stopped> {
        if !self.is_stopped() {
            return Ok(Stopped::Nothing);
        }
        let this = self.clone();
        blocking(move || {
            let table = ProcessTable::read()?;
            let is_whole = this.members(&table).into_iter().all(process::Process::is_stopped);
            Ok(if is_whole { Stopped::Everything } else { Stopped::Postmaster })
        })
        .await
    }

    /// Wakes it up if it alone is stopped: asked to end, it could not obey otherwise. A server that is stopped whole stays so: its
    /// sessions could still acknowledge what others know nothing of.
    pub(crate) async fn wake(&self) -> io::Result<()> {
        if self.stopped().await? == Stopped::Postmaster { self.signal(Signal::CONT) } else { Ok(()) }
    }

    /// Completes when the process has ended. Safe to cancel.
    pub async fn exited(&self) -> io::Result<()> {
        exited(&self.pidfd).await
    }

    /// Asks it to stop. A process that has ended already is no error.
    pub fn signal_stop(&self, mode: StopMode) -> io::Result<()> {
        self.signal(match mode {
            StopMode::Smart => Signal::TERM,
            StopMode::Fast => Signal::INT,
            StopMode::Immediate => Signal::QUIT,
        })
    }

    /// Makes it read its configuration files again.
    pub fn signal_reload(&self) -> io::Result<()> {
        self.signal(Signal::HUP)
    }

    /// Makes a standby look for its `promote` file.
    pub(crate) fn signal_promote(&self) -> io::Result<()> {
        self.signal(Signal::USR1)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        signal_process(&self.pidfd, signal)
    }

    /// Whether any process of this server is left: the postmaster, its descendants, or an orphan. Blocking.
    pub fn any_process_left(&self) -> io::Result<bool> {
        Ok(self.is_alive() || !self.members(&ProcessTable::read()?).is_empty())
    }

    /// How many client backends (walsenders not counted) there are. Blocking.
    pub fn client_backends(&self) -> io::Result<usize> {
        let table = ProcessTable::read()?;
        let members = self.members(&table);
        Ok(members.iter().filter(|process| process.runs_postgres() && process.may_serve_a_client()).count())
    }

    /// Kills the postmaster and everything that belongs to it, and returns when nothing is left.
    ///
    /// The postmaster is frozen first, so that it can't fork. A busy backend is known to outlive its postmaster and could still
    /// acknowledge a commit: that is why nothing is taken for granted before the process table shows none.
    ///
    /// # Errors
    /// If something is left after `limit`, or the process table cannot be read.
    pub async fn kill_tree(&self, limit: Duration) -> io::Result<()> {
        let gone = async {
            self.kill_until_harmless(limit).await?;
            self.gone().await
        };
        tokio::time::timeout(limit, gone).await.map_err(|_| still_there())?
    }

    /// The same, up to the moment from which nothing of it runs any code: what is left then was killed and waits in the kernel, for a
    /// disk that hangs, say. [`Postmaster::gone`] waits for that.
    ///
    /// # Errors
    /// If something could still act after `limit`, or the process table cannot be read.
    pub async fn kill_until_harmless(&self, limit: Duration) -> io::Result<()> {
        let end = tokio::time::Instant::now() + limit;
        self.signal(Signal::STOP)?;
        while self.kill_members().await? == Left::Dangerous {
            wait_until(end).await?;
        }
        self.signal(Signal::KILL)?;
        // Also what was forked between the last look and the freeze, or started by a dying process.
        while !self.is_harmless()? || self.kill_members().await? == Left::Dangerous {
            wait_until(end).await?;
        }
        Ok(())
    }

    /// Waits until no process is left of a server that was killed, however long that takes. Safe to cancel.
    pub async fn gone(&self) -> io::Result<()> {
        let mut pause = SHORT;
        while self.is_alive() || self.kill_members().await? != Left::Nobody {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONG);
        }
        Ok(())
    }

    /// Whether the postmaster itself runs no code any more.
    fn is_harmless(&self) -> io::Result<bool> {
        if !self.is_alive() {
            return Ok(true);
        }
        match process::read(self.id.pid)? {
            Some(process) if process.start_ticks == self.id.start_ticks => process.is_harmless(),
            _ => Ok(true),
        }
    }

    /// Kills the processes that have outlived this dead postmaster, and returns when none is left. A server that somebody has
    /// started on the data directory meanwhile, and its processes, are left alone.
    pub async fn kill_orphans(&self, limit: Duration) -> io::Result<()> {
        let end = tokio::time::Instant::now() + limit;
        loop {
            let data_dir = self.id.data_dir.clone();
            let found = blocking(move || {
                let table = ProcessTable::read()?;
                let orphans = table.orphans_in(&data_dir);
                for orphan in &orphans {
                    process::kill(orphan)?;
                }
                Ok::<_, io::Error>(!orphans.is_empty())
            })
            .await?;
            if !found {
                return Ok(());
            }
            wait_until(end).await?;
        }
    }

    /// Kills all members but the postmaster; who was there.
    async fn kill_members(&self) -> io::Result<Left> {
        let this = self.clone();
        blocking(move || {
            let table = ProcessTable::read()?;
            let mut left = Left::Nobody;
            for member in this.members(&table) {
                // As it was before this signal: the next look shows what has become of it.
                let is_harmless = member.is_harmless()?;
                left = left.max(if is_harmless { Left::Harmless } else { Left::Dangerous });
                process::kill(member)?;
            }
            Ok(left)
        })
        .await
    }

    /// Living processes of this server other than the postmaster: its descendants, and whoever runs PostgreSQL's program in
    /// our data directory.
    fn members<'a>(&self, table: &'a ProcessTable) -> Vec<&'a process::Process> {
        let descendants = table.descendants_of(self.id.pid, self.id.start_ticks);
        table
            .living()
            .filter(|process| process.pid != self.id.pid)
            .filter(|process| {
                descendants.contains(&process.pid)
                    || (process.cwd.as_deref() == Some(&self.id.data_dir) && process.runs_postgres())
            })
            .collect()
    }
}

/// Whether `process` is the postmaster that wrote `file` in `data_dir` (which may have been moved since).
fn is_postmaster(process: &process::Process, file: &PidFile, data_dir: &Path) -> bool {
    if i64::from(process.pid) == i64::from(std::process::id()) {
        return false;
    }
    match &process.cwd {
        Some(cwd) => {
            let is_there = cwd == data_dir || *cwd == file.data_dir;
            is_there && process.runs_postgres() && !process.title.starts_with("postgres: ")
        }
        // Not ours to look at (another user's): fall back to the start time.
        None => process::started_at(process).is_some_and(|at| at.abs_diff(file.start_time) <= 3),
    }
}

fn signal_process(pidfd: &OwnedFd, signal: Signal) -> io::Result<()> {
    match pidfd_send_signal(pidfd, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn has_exited(pidfd: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(pidfd, PollFlags::IN)];
    matches!(poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(1..))
}

#[expect(deprecated, reason = "the safe constructor is fit for a descriptor that the AsyncFd owns")]
pub(crate) async fn exited(pidfd: &OwnedFd) -> io::Result<()> {
    let watched = AsyncFd::with_interest(pidfd.try_clone()?, Interest::READABLE)?;
    watched.readable().await.map(drop)
}

async fn wait_until(end: tokio::time::Instant) -> io::Result<()> {
    if tokio::time::Instant::now() >= end {
        return Err(still_there());
    }
    tokio::time::sleep(SHORT).await;
    Ok(())
}

fn still_there() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "processes of the server are left after SIGKILL")
}
