//! Noticing that a signal has stopped the postmaster (SIGSTOP), or has woken it up.

use std::{io, time::Duration};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{postmaster::Postmaster, process};

/// How often one is looked at whose parent is somebody else, as after a restart of the agent. Nobody tells of it.
const LOOK: Duration = Duration::from_millis(400);

/// Watches one postmaster.
#[derive(Debug)]
pub struct StopWatch {
    postmaster: Postmaster,
    /// The kernel tells the parent when a child is stopped or goes on.
    told: Option<Signal>,
    was_stopped: bool,
}

impl StopWatch {
    /// Must be called within a runtime of tokio.
    pub fn new(postmaster: &Postmaster) -> io::Result<Self> {
        let is_ours = process::read(postmaster.id().pid)?
            .is_some_and(|process| process.parent.cast_unsigned() == std::process::id());
        // Before the first look, so that nothing is missed between the two.
        let told = if is_ours { Some(signal(SignalKind::child())?) } else { None };
        Ok(Self { postmaster: postmaster.clone(), told, was_stopped: false })
    }

    /// Completes when it is stopped, if it was not, or not, if it was: which. Safe to cancel.
    pub async fn changed(&mut self) -> bool {
        loop {
            let is_stopped = self.postmaster.is_stopped();
            if is_stopped != self.was_stopped {
                self.was_stopped = is_stopped;
                return is_stopped;
            }
            match &mut self.told {
                Some(told) => drop(told.recv().await),
                None => tokio::time::sleep(LOOK).await,
            }
        }
    }
}
