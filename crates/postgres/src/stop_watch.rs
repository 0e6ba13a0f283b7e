//! Noticing that a signal has stopped the postmaster (SIGSTOP), or has woken it up.

use std::{io, time::Duration};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    postmaster::Postmaster,
    process::{self, StatFile},
};

/// How often one is looked at whose parent is somebody else, as after a restart of the agent. Nobody tells of it.
const LOOK: Duration = Duration::from_millis(400);

/// Watches one postmaster.
#[derive(Debug)]
pub struct StopWatch {
    stat: StatFile,
    /// The kernel tells the parent when a child is stopped or goes on.
    told: Option<Signal>,
    was_stopped: bool,
}

impl StopWatch {
    /// Must be called within a runtime of tokio. Fails if the process is gone.
    pub fn new(postmaster: &Postmaster) -> io::Result<Self> {
        let pid = postmaster.id().pid;
        let is_ours =
            process::read(pid)?.is_some_and(|process| process.parent.cast_unsigned() == std::process::id());
        // Before the first look, so that nothing is missed between the two.
        let told = if is_ours { Some(signal(SignalKind::child())?) } else { None };
        Ok(Self { stat: StatFile::open(pid)?, told, was_stopped: false })
    }

    /// Completes when it is stopped, if it was not, or not, if it was. Safe to cancel. Fails once the process is gone.
    pub async fn changed(&mut self) -> io::Result<bool> {
        loop {
            let is_stopped = self.stat.is_stopped()?;
            if is_stopped != self.was_stopped {
                self.was_stopped = is_stopped;
                return Ok(is_stopped);
            }
            match &mut self.told {
                Some(told) => drop(told.recv().await),
                None => tokio::time::sleep(LOOK).await,
            }
        }
    }
}
