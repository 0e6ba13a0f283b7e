//! Starting, reloading and promoting the local server. Stopping it is in [`crate::stop`].

use std::{
    fs,
    io::{self, Read, Seek},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use bellwether_types::TimelineId;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::{
    config::{self, ConfigPlan, Recovery},
    config_check,
    config_files::{self, Applied, ConfigFileError},
    connect,
    control::{self, ClusterState, ControlData, ControlError, ControlPeek, ShutdownCheckpoint},
    datadir::{self, DataDirState, WipeError, Wiped},
    monitor::MonitorError,
    pidfile::PidFile,
    postmaster::{Postmaster, PostmasterId},
    program::{ProgramError, blocking, run},
    settings::PgSettings,
    timelines,
};

/// The local server, as far as it is files and processes. Cheap to clone; holds no connection and no state.
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
    /// It answers but accepts nobody: starting up, recovering and not yet consistent, or shutting down.
    Rejecting,
    NoResponse,
}

/// In which session the postmaster runs.
#[derive(Clone, Copy)]
enum Session {
    Own,
    Ours,
}

/// Something that could not be done to the local server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    #[error("PostgreSQL runs already with pid {}", .0.pid)]
    AlreadyRunning(PostmasterId),
    #[error("data directory `{}` can't be used: {state:?}", path.display())]
    NoDatabase { path: PathBuf, state: DataDirState },
    /// The postmaster ended instead of getting ready; `log_tail` is what it said.
    #[error("PostgreSQL ended while it was starting: {log_tail}")]
    EndedAtStart { log_tail: String },
    #[error("the server is not in archive recovery (control file: {found:?}), so it can't be promoted")]
    NotAStandby { found: Option<ClusterState> },
    #[error("processes of the server are left and could not be killed")]
    Unkillable(#[source] io::Error),
    #[error(transparent)]
    Config(#[from] ConfigFileError),
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error(transparent)]
    Wipe(#[from] WipeError),
    #[error(transparent)]
    Query(MonitorError),
    #[error("{what}")]
    Io {
        what: &'static str,
        #[source]
        cause: io::Error,
    },
}

impl ServerError {
    /// Whether trying again without human help can succeed.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::AlreadyRunning(_) | Self::NoDatabase { .. } | Self::NotAStandby { .. } => false,
            Self::Control(error) => error.is_retryable(),
            Self::Program(error) => matches!(error, ProgramError::Timeout { .. }),
            Self::Query(error) => error.is_retryable(),
            Self::EndedAtStart { .. }
            | Self::Unkillable(_)
            | Self::Config(_)
            | Self::Wipe(_)
            | Self::Io { .. } => true,
        }
    }

    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::Io { what, cause }
    }
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
        let dir = self.settings.data_dir.clone();
        blocking(move || datadir::inspect(&dir)).await
    }

    /// The control file, whether the server runs or not. Starts a program; see [`Server::peek`] for polling.
    pub async fn control_data(&self) -> Result<ControlData, ServerError> {
        Ok(control::read(&self.settings).await?)
    }

    /// State, checkpoint and timeline from the control file, cheaply.
    pub async fn peek(&self) -> Option<ControlPeek> {
        let dir = self.settings.data_dir.clone();
        blocking(move || control::peek(&dir)).await
    }

    /// Finds a postmaster that runs on our data directory, whoever started it.
    pub async fn attach(&self) -> Result<Option<Postmaster>, ServerError> {
        let dir = self.settings.data_dir.clone();
        blocking(move || Postmaster::find(&dir))
            .await
            .map_err(ServerError::io("could not look for the postmaster"))
    }

    /// Writes the configuration and the signal files, and starts the postmaster in a session of its own. Returns as soon as
    /// the process is there; see [`Server::wait_ready`]. Give it a task of its own: a start must not be dropped half-way.
    pub async fn start(&self, plan: &ConfigPlan) -> Result<Started, ServerError> {
        if let Some(running) = self.attach().await? {
            return Err(ServerError::AlreadyRunning(running.id().clone()));
        }
        let applied = self.apply_config(plan).await?;
        // A standby would take it for the timeline to follow, and wait for it for ever.
        self.forget_skipped().await?;
        // Not awaited: tokio reaps it when it ends, and its end is seen through the pidfd.
        let child = match self.start_command(&applied, Session::Own).await?.spawn() {
            // No `setsid` on this machine: a process group of its own must do.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.start_command(&applied, Session::Ours).await?.spawn()
            }
            spawned => spawned,
        };
        let program = self.settings.program("postgres");
        let child = child.map_err(|cause| ProgramError::Spawn { program, cause })?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or_default();
        let dir = self.settings.data_dir.clone();
        let found = blocking(move || Postmaster::just_started(pid, &dir)).await;
        match found.map_err(ServerError::io("could not watch the postmaster"))? {
            Some(postmaster) => {
                tracing::info!("postmaster pid={}", postmaster.id().pid);
                Ok(Started { postmaster, applied })
            }
            None => Err(ServerError::EndedAtStart { log_tail: self.log_tail().await }),
        }
    }

    async fn start_command(&self, applied: &Applied, session: Session) -> Result<Command, ServerError> {
        let settings = &self.settings;
        let mut command = match session {
            Session::Own => settings.session_command("postgres"),
            Session::Ours => settings.command(settings.program("postgres")),
        };
        command.arg("-D").arg(&settings.data_dir);
        command.arg(format!("--config-file={}", settings.config_file().display()));
        for (name, value) in &applied.command_line {
            command.arg(format!("--{name}={value}"));
        }
        if let Some(arenas) = std::env::var_os("PG_MALLOC_ARENA_MAX") {
            command.env("MALLOC_ARENA_MAX", arenas);
        }
        let dir = settings.data_dir.clone();
        let stale = blocking(move || PidFile::read(&dir)).await.ok().flatten();
        if let Some(stale) = stale {
            // Its pid now belongs to somebody else; PostgreSQL would take that process for a living postmaster. It still refuses
            // if shared memory of an old server is in use.
            command.env("PG_GRANDPARENT_PID", stale.pid.unsigned_abs().to_string());
        }
        if let Some(path) = &settings.log_file {
            let open = |path: &Path| fs::OpenOptions::new().create(true).append(true).open(path);
            let log = open(path).and_then(|log| Ok((log.try_clone()?, log)));
            let (out, err) = log.map_err(ServerError::io("could not open the log file of PostgreSQL"))?;
            command.stdout(Stdio::from(out)).stderr(Stdio::from(err));
        }
        Ok(command)
    }

    /// Asks whether the server takes connections, without logging in. Ends within 3 s.
    pub async fn probe(&self) -> Readiness {
        connect::probe(&self.settings).await
    }

    /// Waits until the server accepts connections or `limit` passes, and returns its last answer. An ended postmaster is an
    /// error. Safe to cancel.
    pub async fn wait_ready(
        &self,
        postmaster: &Postmaster,
        limit: Duration,
    ) -> Result<Readiness, ServerError> {
        const PAUSE: Duration = Duration::from_millis(20);
        let end = tokio::time::Instant::now() + limit;
        let mut last = Readiness::NoResponse;
        loop {
            tokio::select! {
                biased;
                result = postmaster.exited() => {
                    result.map_err(ServerError::io("could not watch the postmaster"))?;
                    return Err(ServerError::EndedAtStart { log_tail: self.log_tail().await });
                }
                answer = self.probe() => last = answer,
                () = tokio::time::sleep_until(end) => return Ok(last),
            }
            if last == Readiness::Ready || tokio::time::Instant::now() >= end {
                return Ok(last);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The last lines of the log file, if we know it.
    async fn log_tail(&self) -> String {
        const TAIL: u64 = 2000;
        let Some(path) = self.settings.log_file.clone() else { return "see its log".to_owned() };
        let read = move || -> io::Result<String> {
            let mut file = fs::File::open(path)?;
            let length = file.metadata()?.len();
            file.seek(io::SeekFrom::Start(length.saturating_sub(TAIL)))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = text.lines().rev().take(5).collect();
            Ok(lines.into_iter().rev().collect::<Vec<_>>().join("; "))
        };
        blocking(read).await.unwrap_or_else(|error| format!("its log could not be read: {error}"))
    }

    /// Writes the files whose content differs, and the signal files. Does not reload. For a standby that is about to start,
    /// parameters are raised to what the control file says.
    pub async fn apply_config(&self, plan: &ConfigPlan) -> Result<Applied, ServerError> {
        let state = self.data_dir_state().await;
        let DataDirState::Present { major } = state else {
            // Never write into a directory of unknown version: it may be an unmounted volume.
            return Err(ServerError::NoDatabase { path: self.settings.data_dir.clone(), state });
        };
        let control = match plan.recovery {
            Recovery::Standby { .. } => Some(self.control_data().await?),
            _ => None,
        };
        let mut effective = config::effective(&self.settings, plan, control.as_ref(), major);
        config_check::drop_rejected(&self.settings, &mut effective).await?;
        let (settings, plan) = (Arc::clone(&self.settings), plan.clone());
        let applied = blocking(move || config_files::write(&settings, &plan, &effective)).await?;
        for warning in &applied.warnings {
            tracing::warn!("{warning}");
        }
        Ok(applied)
    }

    /// Makes the last [`Server::apply_config`] survive a loss of power.
    pub(crate) async fn sync_files(&self) -> Result<(), ServerError> {
        let settings = Arc::clone(&self.settings);
        Ok(blocking(move || config_files::sync_directories(&settings)).await?)
    }

    /// Copies the configuration files into the data directory (`*.backup`), for clones.
    pub async fn back_up_config(&self) -> Result<(), ServerError> {
        let settings = Arc::clone(&self.settings);
        Ok(blocking(move || config_files::back_up(&settings)).await?)
    }

    /// Makes the server read its files again.
    pub fn reload(&self, postmaster: &Postmaster) -> Result<(), ServerError> {
        postmaster.signal_reload().map_err(ServerError::io("could not signal the postmaster"))
    }

    /// Asks the server to leave recovery, and does not wait until it has: poll [`Server::is_promoted`] or the monitor.
    ///
    /// What `pg_ctl promote -W` does, without starting a program: the trigger file and a signal, a millisecond in all.
    pub async fn promote(&self, postmaster: &Postmaster) -> Result<(), ServerError> {
        let found = self.peek().await.map(|peek| peek.state);
        if found != Some(ClusterState::InArchiveRecovery) {
            return Err(ServerError::NotAStandby { found });
        }
        let trigger = self.settings.data_dir.join("promote");
        blocking(move || fs::write(trigger, ""))
            .await
            .map_err(ServerError::io("could not write the promote file"))?;
        postmaster.signal_promote().map_err(ServerError::io("could not signal the postmaster"))
    }

    /// Makes the promotion that follows give its timeline a number beyond `through`: nobody shall find two of one number. The server
    /// runs as a standby on timeline `after`.
    ///
    /// # Errors
    /// If the marks cannot be written; the server must not be promoted then.
    pub async fn skip_timelines(&self, after: TimelineId, through: TimelineId) -> Result<(), ServerError> {
        let dir = self.settings.data_dir.clone();
        blocking(move || timelines::skip(&dir, after, through))
            .await
            .map_err(ServerError::io("could not mark the timelines that others have begun"))
    }

    /// Removes the marks of a promotion that did not happen. Every start does that by itself.
    ///
    /// # Errors
    /// If they cannot be found or removed.
    pub async fn forget_skipped(&self) -> Result<(), ServerError> {
        let dir = self.settings.data_dir.clone();
        let forgotten = blocking(move || timelines::forget(&dir))
            .await
            .map_err(ServerError::io("could not remove the marks of skipped timelines"))?;
        if !forgotten.is_empty() {
            let numbers: Vec<u32> = forgotten.iter().map(|timeline| timeline.0).collect();
            tracing::info!(timelines = ?numbers, "forgetting timelines that a promotion was to skip: it did not happen");
        }
        Ok(())
    }

    /// Whether the control file says `in production`: recovery has ended, writes are accepted.
    pub async fn is_promoted(&self) -> bool {
        self.peek().await.is_some_and(|peek| peek.state == ClusterState::InProduction)
    }

    /// Runs the `pre_promote` hook: `true` = go on (also if there is none). Cancelling ends the script.
    pub async fn run_pre_promote(&self, cancel: &CancellationToken) -> Result<bool, ServerError> {
        let Some(line) = &self.settings.pre_promote else { return Ok(true) };
        let finished = run(self.settings.hook(line)?, None, cancel).await?;
        tracing::info!(status = %finished.status, output = finished.last_line(), "pre_promote script ended");
        Ok(finished.status.success())
    }

    /// After a clean stop of a primary: where it ended.
    pub async fn shutdown_checkpoint(
        &self,
        control: &ControlData,
    ) -> Result<ShutdownCheckpoint, ServerError> {
        Ok(control::shutdown_checkpoint(&self.settings, control).await?)
    }

    /// Empties the data directory, its WAL directory and its tablespaces, wherever links lead. Refused while a postmaster runs.
    pub async fn wipe(&self) -> Result<Wiped, ServerError> {
        self.refuse_if_running().await?;
        let dir = self.settings.data_dir.clone();
        Ok(blocking(move || datadir::wipe(&dir)).await?)
    }

    /// Renames the data directory (and what its links lead to) to `.failed`, replacing an earlier one. Refused while a
    /// postmaster runs.
    pub async fn set_aside(&self) -> Result<PathBuf, ServerError> {
        self.refuse_if_running().await?;
        let dir = self.settings.data_dir.clone();
        Ok(blocking(move || datadir::set_aside(&dir)).await?)
    }

    /// As [`Server::set_aside`], unless there is an earlier one.
    pub async fn keep_aside(&self) -> Result<PathBuf, ServerError> {
        self.refuse_if_running().await?;
        let dir = self.settings.data_dir.clone();
        Ok(blocking(move || datadir::keep_aside(&dir)).await?)
    }

    async fn refuse_if_running(&self) -> Result<(), ServerError> {
        match self.attach().await? {
            Some(running) => Err(ServerError::AlreadyRunning(running.id().clone())),
            None => Ok(()),
        }
    }
}
