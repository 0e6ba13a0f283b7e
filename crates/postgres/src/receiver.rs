//! The WAL receiver process of a standby: seen, and its end seen at once.
//!
//! It ends when its upstream closes the connection, when nothing came for `wal_receiver_timeout`, and when it is told to. Before
//! it ends it flushes what it has written, and sends nothing any more.

use std::{io, os::fd::OwnedFd, sync::Arc};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};

use crate::{
    postmaster::{PostmasterId, exited, has_exited},
    process,
};

/// A WAL receiver process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Receiver {
    process: process::Process,
    pidfd: Arc<OwnedFd>,
}

impl Receiver {
    /// The process that an observation names, if it still is a child of this postmaster. Blocking, cheap.
    ///
    /// # Errors
    /// If the process cannot be looked at.
    pub fn open(postmaster: &PostmasterId, pid: i32) -> io::Result<Option<Self>> {
        let Some(raw) = Pid::from_raw(pid) else { return Ok(None) };
        let pidfd = match pidfd_open(raw, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let Some(process) = process::read(pid)? else { return Ok(None) };
        let is_it = process.parent == postmaster.pid && !process.is_dead() && !has_exited(&pidfd);
        Ok(is_it.then(|| Self { process, pidfd: Arc::new(pidfd) }))
    }

    pub fn pid(&self) -> i32 {
        self.process.pid
    }

    pub fn is_alive(&self) -> bool {
        !has_exited(&self.pidfd)
    }

    /// Completes when the process has ended. Safe to cancel.
    ///
    /// # Errors
    /// If it cannot be watched.
    pub async fn exited(&self) -> io::Result<()> {
        exited(&self.pidfd).await
    }

    /// Tells it to end, as an administrator would. One that has ended already is no error.
    pub(crate) fn terminate(&self) -> io::Result<()> {
        process::signal(&self.process, Signal::TERM)
    }
}
