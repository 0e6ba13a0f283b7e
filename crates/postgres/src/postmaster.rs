//! The postmaster: which process it is, when it ends, and how to end it.

use std::{io, path::Path, sync::Arc};

/// What makes a postmaster this one and no other: a pid alone may be reused.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PostmasterId {
    pub pid: i32,
    /// Field 22 of `/proc/<pid>/stat`: clock ticks since boot.
    pub start_ticks: u64,
    pub data_dir: std::path::PathBuf,
}

/// How to stop: PostgreSQL's three shutdown modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    Smart,
    Fast,
    Immediate,
}

/// A handle to a running (or just ended) postmaster, ours or not.
#[derive(Clone, Debug)]
pub struct Postmaster {
    id: PostmasterId,
    pidfd: Arc<std::os::fd::OwnedFd>,
}

impl Postmaster {
    /// Finds the postmaster that runs on `data_dir`. Blocking, cheap.
    pub fn find(_data_dir: &Path) -> io::Result<Option<Postmaster>> {
        Err(crate::not_built())
    }

    pub fn id(&self) -> &PostmasterId {
        &self.id
    }

    pub fn is_alive(&self) -> bool {
        let _ = &self.pidfd;
        true
    }

    /// Completes when the process has ended. Safe to cancel.
    pub async fn exited(&self) -> io::Result<()> {
        Err(crate::not_built())
    }

    pub fn signal_stop(&self, _mode: StopMode) -> io::Result<()> {
        Err(crate::not_built())
    }

    /// Kills the postmaster and everything that belongs to it; returns when nothing is left or `limit` has passed.
    pub async fn kill_tree(&self, _limit: std::time::Duration) -> io::Result<()> {
        Err(crate::not_built())
    }
}
