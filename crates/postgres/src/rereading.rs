//! Whether a process of the server acts by the configuration files as they are.
//!
//! A reload only asks: every process reads the files when it gets to it, and each session shows what that session has read.
//! PostgreSQL, 13 to 18, tells nobody when another process has read them; the system does:
//!
//! 1. SIGHUP goes to the process itself, after the files were written. From then on the signal is pending or handled.
//! 2. It is not pending any more: the handler has set the latch of the process, or will before anything else happens.
//! 3. PostgreSQL shows the process in a wait that ends when the latch is set, the system shows it asleep, and PostgreSQL shows it in
//!    such a wait again. With the latch set it would not sleep there; so it went on from the wait in which the signal found it, and
//!    before it waits again it reads the files.
//!
//! Which waits these are, each user of this module says.

use std::io;

use rustix::process::Signal;

use crate::{monitor::MonitorError, postmaster::PostmasterId, process};

/// A process that was told to read the configuration files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) pid: i32,
    start_ticks: u64,
}

impl Told {
    /// Tells the child `pid` of this postmaster. `None`: there is no such process any more.
    pub(crate) fn child(pid: i32, postmaster: &PostmasterId) -> Result<Option<Self>, MonitorError> {
        let Some(process) = process::read(pid).map_err(unreadable)? else { return Ok(None) };
        if process.parent != postmaster.pid {
            return Err(MonitorError::Answer {
                what: format!("process {pid} is no child of the postmaster"),
            });
        }
        process::signal(&process, Signal::HUP).map_err(unreadable)?;
        Ok(Some(Self { pid, start_ticks: process.start_ticks }))
    }

    /// The handler of the signal has run, or runs before anything else that the process does. Also if it is gone.
    pub(crate) fn has_taken_it(self) -> Result<bool, MonitorError> {
        Ok(!process::is_pending(self.pid, Signal::HUP).map_err(unreadable)?)
    }

    /// It is still the process that was told, and neither runs nor was stopped.
    pub(crate) fn is_asleep(self) -> Result<bool, MonitorError> {
        let now = process::read(self.pid).map_err(unreadable)?;
        Ok(now.is_some_and(|now| now.start_ticks == self.start_ticks && now.is_asleep()))
    }

    /// The process that was told has ended.
    pub(crate) fn is_gone(self) -> Result<bool, MonitorError> {
        let now = process::read(self.pid).map_err(unreadable)?;
        Ok(now.is_none_or(|now| now.start_ticks != self.start_ticks || now.is_dead()))
    }
}

fn unreadable(error: io::Error) -> MonitorError {
    MonitorError::Answer { what: format!("a process of the server cannot be looked at: {error}") }
}
