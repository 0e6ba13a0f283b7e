//! Starting, stopping, reloading and promoting the local server.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Applied, ConfigPlan, PendingRestart, ShutdownCheckpoint},
    control::ControlData,
    datadir::DataDirState,
    postmaster::{Postmaster, StopMode},
    settings::PgSettings,
};

/// The local server, as far as it is files and processes. Cheap to clone; holds no connection.
#[derive(Clone, Debug)]
pub struct Server {
    settings: Arc<PgSettings>,
}

/// A postmaster that was started.
#[derive(Clone, Debug)]
pub struct Started {
    pub postmaster: Postmaster,
    pub applied: Applied,
}

/// What a connection attempt says, without logging in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    /// It answers but accepts nobody: starting up, recovering without hot standby, or shutting down.
    Rejecting,
    NoResponse,
}

/// How to stop, and how long to be patient. All times count from the start of the stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopRequest {
    pub mode: StopMode,
    /// A CHECKPOINT before the stop, so that the stop itself is short.
    pub checkpoint: bool,
    /// Run the `before_stop` hook.
    pub hook: bool,
    /// Turn to an immediate stop after this time; `None` = never.
    pub immediate_after: Option<Duration>,
    /// Kill the whole process tree after this time; `None` = never.
    pub kill_after: Option<Duration>,
}

/// How far a stop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopStage {
    Preparing,
    Signalled,
    /// No client backend is left: nothing can be committed any more.
    BackendsGone,
    /// The control file says `shut down`; the postmaster may still be archiving or sending WAL.
    ShutDown(ShutdownCheckpoint),
    Gone,
}

/// How a stop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopEnd {
    /// As asked.
    Clean,
    /// After turning to an immediate stop.
    Immediate,
    /// Killed: everything that was not flushed is for crash recovery.
    Killed,
    /// It was not running.
    NotRunning,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    #[error("could not run `{}`", program.display())]
    Spawn {
        program: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("{what}")]
    Io {
        what: String,
        #[source]
        cause: io::Error,
    },
}

impl Server {
    pub fn new(settings: Arc<PgSettings>) -> Self {
        Self { settings }
    }

    pub fn settings(&self) -> &Arc<PgSettings> {
        &self.settings
    }

    /// Takes over a new configuration; nothing is written until the next [`Server::apply_config`] or start.
    pub fn set_settings(&mut self, settings: Arc<PgSettings>) {
        self.settings = settings;
    }

    pub async fn data_dir_state(&self) -> DataDirState {
        DataDirState::Missing
    }

    pub async fn control_data(&self) -> Result<ControlData, ServerError> {
        Err(not_built())
    }

    /// Finds a postmaster that runs on our data directory, whoever started it.
    pub async fn attach(&self) -> Result<Option<Postmaster>, ServerError> {
        Err(not_built())
    }

    /// Writes the configuration and the signal files, and starts the postmaster in a session of its own. Returns as soon as
    /// the process is there; see [`Server::wait_ready`].
    pub async fn start(&self, _plan: &ConfigPlan) -> Result<Started, ServerError> {
        Err(not_built())
    }

    pub async fn probe(&self) -> Readiness {
        Readiness::NoResponse
    }

    /// Waits until the server accepts connections, is seen to be gone (an error), or `limit` passes (its last answer).
    pub async fn wait_ready(
        &self,
        _postmaster: &Postmaster,
        _limit: Duration,
    ) -> Result<Readiness, ServerError> {
        Err(not_built())
    }

    /// Stops the server; returns when no process of it is left. `stage` tells how far it is. Cancelling leaves the signal sent.
    pub async fn stop(
        &self,
        _postmaster: &Postmaster,
        _request: &StopRequest,
        _stage: &watch::Sender<StopStage>,
    ) -> Result<StopEnd, ServerError> {
        Err(not_built())
    }

    /// Writes the files if their content differs, and the signal files. Does not reload.
    pub async fn apply_config(&self, _plan: &ConfigPlan) -> Result<Applied, ServerError> {
        Err(not_built())
    }

    /// Makes the server read its files again.
    pub fn reload(&self, _postmaster: &Postmaster) -> Result<(), ServerError> {
        Err(not_built())
    }

    /// Asks the server to leave recovery; returns when it was asked, not when it has.
    pub async fn promote(&self, _postmaster: &Postmaster) -> Result<(), ServerError> {
        Err(not_built())
    }

    /// Runs the `pre_promote` hook: `Ok(true)` = go on (or there is none).
    pub async fn run_pre_promote(&self, _cancel: &CancellationToken) -> Result<bool, ServerError> {
        Err(not_built())
    }

    /// Parameters whose new value waits for a restart, from `pg_settings` and `postgres -C`.
    pub async fn pending_restart(&self) -> Result<Vec<PendingRestart>, ServerError> {
        Err(not_built())
    }

    /// After a clean stop: where it ended.
    pub async fn shutdown_checkpoint(
        &self,
        _control: &ControlData,
    ) -> Result<ShutdownCheckpoint, ServerError> {
        Err(not_built())
    }

    /// Empties the data directory, its WAL directory and its tablespaces, wherever they are linked to.
    pub async fn wipe(&self) -> Result<(), ServerError> {
        Err(not_built())
    }

    /// Renames the data directory (and what its links point to) to `.failed`, replacing an earlier one.
    pub async fn set_aside(&self) -> Result<(), ServerError> {
        Err(not_built())
    }
}

fn not_built() -> ServerError {
    ServerError::Io { what: "not built yet".to_owned(), cause: crate::not_built() }
}
