//! pg_rewind: the facts to decide on, what comes before it, and the run. Whether to rewind is decided elsewhere.

mod archive;
mod single_user;

use std::{io, time::Duration};

use bellwether_types::{
    Lsn, TimelineId, WalPosition,
    program::{ProgramOption, ours},
};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

pub use self::{
    archive::{archive_ready_wal, archive_shutdown_checkpoint},
    single_user::crash_recover,
};
use crate::{
    config_files::{self, ConfigFileError},
    connect,
    conninfo::{Conninfo, TemporaryPassfile},
    control::{self, ClusterState, ControlError},
    file_values,
    program::{self, Finished, ProgramError, blocking},
    replication::Target,
    settings::PgSettings,
};

/// Where the local WAL ends, as input of the question whether it fits the leader's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalWalEnd {
    pub position: WalPosition,
    /// `false`: this server wrote WAL itself (it was a primary).
    pub was_standby: bool,
    /// Of a cleanly stopped primary: where its shutdown checkpoint record ends, if it could be found exactly. Unknown means
    /// that a rewind is needed.
    pub shutdown_checkpoint_end: Option<Lsn>,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RewindError {
    /// Nothing is known to be wrong with this server: try again later.
    #[error("the source {address} is not reachable or not a primary")]
    SourceUnreachable { address: String },
    /// The source is fine and the rewind failed all the same (or the control file is damaged): only a new clone helps.
    #[error("pg_rewind ended with {status}: {last_line}")]
    Failed { status: String, last_line: String },
    #[error("the server was not shut down cleanly (control file: {found:?}): crash recovery must come first")]
    NotShutDown { found: ClusterState },
    #[error("PostgreSQL runs on the data directory with pid {pid}: stop it first")]
    Running { pid: i32 },
    #[error("there is a backup label: a restore was not finished, and crash recovery would damage it")]
    BackupLabel,
    #[error("crash recovery ended with {status}: {last_line}")]
    CrashRecovery { status: String, last_line: String },
    #[error("archive_command failed for {segment} with {status}: {last_line}")]
    Archive { segment: String, status: String, last_line: String },
    #[error("option `{option}` is not allowed for pg_rewind: remove it from `postgresql.rewind`")]
    ForbiddenOption { option: String },
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error(transparent)]
    Program(ProgramError),
    #[error(transparent)]
    Config(#[from] ConfigFileError),
    #[error("{what}")]
    Io {
        what: &'static str,
        #[source]
        cause: io::Error,
    },
    #[error("cancelled")]
    Cancelled,
}

impl From<ProgramError> for RewindError {
    fn from(error: ProgramError) -> Self {
        match error {
            ProgramError::Cancelled { .. } => Self::Cancelled,
            error => Self::Program(error),
        }
    }
}

impl RewindError {
    /// Whether trying again without human help can succeed.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::SourceUnreachable { .. } | Self::Cancelled | Self::Io { .. } | Self::Archive { .. }
        )
    }

    fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::Io { what, cause }
    }
}

/// Where the local WAL ends according to the control file of the stopped server; `None` = no verdict possible.
pub async fn local_end_of_stopped(settings: &PgSettings) -> Result<Option<LocalWalEnd>, RewindError> {
    let control = control::read(settings).await?;
    let as_primary = match control.state {
        ClusterState::ShutDownInRecovery | ClusterState::InArchiveRecovery => {
            // Zero: it crashed as a primary and was only about to become a standby.
            control.min_recovery_end == Lsn::ZERO || control.min_recovery_timeline == TimelineId(0)
        }
        ClusterState::ShutDown => true,
        _ => return Ok(None),
    };
    if !as_primary {
        let position = WalPosition { timeline: control.min_recovery_timeline, lsn: control.min_recovery_end };
        return Ok(Some(LocalWalEnd { position, was_standby: true, shutdown_checkpoint_end: None }));
    }
    let shutdown_checkpoint_end = control::shutdown_checkpoint_end(settings, &control).await?;
    let position = WalPosition { timeline: control.timeline, lsn: control.checkpoint };
    Ok(Some(LocalWalEnd { position, was_standby: false, shutdown_checkpoint_end }))
}

/// Makes sure that the control file of a server outside of this cluster shows its present timeline, which pg_rewind goes by: a
/// superuser issues a checkpoint, any other role can only look.
///
/// # Errors
/// If the server could not be asked, or its first checkpoint after a promotion is not done yet: try again later.
pub async fn prepare_source(settings: &PgSettings, source: &Target) -> Result<(), RewindError> {
    const LIMIT: Duration = Duration::from_secs(300);
    let unreachable = || RewindError::SourceUnreachable { address: source.address.to_string() };
    let ask = async {
        let session =
            connect::session(&source.address, &source.credentials, &settings.database, "Patroni", "").await?;
        if settings.rewind.is_none() {
            session.client.batch_execute("CHECKPOINT").await?;
            return Ok(true);
        }
        let is_shown = "SELECT timeline_id = ('x' || substr(pg_walfile_name(pg_current_wal_flush_lsn()), 1, 8))::bit(32)::int \
                        FROM pg_control_checkpoint()";
        Ok::<bool, connect::ConnectError>(session.client.query_one(is_shown, &[]).await?.try_get(0)?)
    };
    match tokio::time::timeout(LIMIT, ask).await {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) | Err(_) => Err(unreachable()),
        Ok(Err(error)) => {
            tracing::info!(error = &error as &dyn std::error::Error, source = %source.address, "the source of the rewind is not ready");
            Err(unreachable())
        }
    }
}

/// Runs pg_rewind on the stopped server, with a role that may read the source's files. The local configuration files are kept.
/// Cancel by the token, not by dropping the future.
pub async fn run(
    settings: &PgSettings,
    source: &Target,
    cancel: &CancellationToken,
) -> Result<(), RewindError> {
    if let Some(option) =
        settings.rewind_options.iter().find(|option| ours::REWIND.contains(&option.name.as_str()))
    {
        return Err(RewindError::ForbiddenOption { option: option.name.clone() });
    }
    let control = control::read(settings).await?;
    if !control.state.is_clean() {
        return Err(RewindError::NotShutDown { found: control.state });
    }
    if !is_primary(settings, source).await {
        return Err(RewindError::SourceUnreachable { address: source.address.to_string() });
    }
    let (pgpass, address, credentials) =
        (settings.pgpass.clone(), source.address.clone(), source.credentials.clone());
    let passfile = blocking(move || TemporaryPassfile::create(&pgpass, &address, &credentials))
        .await
        .map_err(RewindError::io("could not write a password file"))?;
    let kept = {
        let settings = settings.clone();
        blocking(move || config_files::keep(&settings)).await?
    };
    tracing::info!("running pg_rewind from {}", source.address);
    let finished = program::run(rewind_command(settings, source, &passfile).await?, None, cancel).await;
    // The source's configuration came along with the rest.
    let for_restore = settings.clone();
    blocking(move || config_files::bring_back(&for_restore, &kept)).await?;
    let finished = finished?;
    let code = finished.status.code().map_or_else(|| finished.status.to_string(), |code| code.to_string());
    tracing::info!("pg_rewind exit code={code}");
    if finished.status.success() {
        return Ok(());
    }
    Err(judge_failure(settings, source, &finished).await)
}

async fn rewind_command(
    settings: &PgSettings,
    source: &Target,
    passfile: &TemporaryPassfile,
) -> Result<Command, RewindError> {
    let dsn = Conninfo::new(&source.address, &source.credentials, u32::MAX)
        .with("dbname", &settings.database)
        .with("application_name", settings.member.as_str())
        .with("passfile", &passfile.path().to_string_lossy())
        .with("options", "-c statement_timeout=0")
        .with("target_session_attrs", "read-write");
    let mut command = settings.tool("pg_rewind");
    command.arg("-D").arg(&settings.data_dir);
    command.args(["--no-ensure-shutdown".to_owned(), format!("--source-server={dsn}")]);
    let major = {
        let dir = settings.data_dir.clone();
        blocking(move || crate::datadir::inspect(&dir)).await.major().unwrap_or_default()
    };
    let config_inside = settings.config_file().starts_with(&settings.data_dir);
    let has_restore_command = file_values::value(settings, &[], "restore_command")
        .await?
        .is_some_and(|command| !command.is_empty());
    if has_restore_command && (major >= 15 || config_inside) {
        command.arg("--restore-target-wal");
    }
    if major >= 15 && !config_inside {
        command.arg(format!("--config-file={}", settings.config_file().display()));
    }
    command.args(settings.rewind_options.iter().map(ProgramOption::to_string));
    Ok(command)
}

/// Whose fault was it? A source that went away may come back; a healthy one means that this directory is beyond repair.
async fn judge_failure(settings: &PgSettings, source: &Target, finished: &Finished) -> RewindError {
    let failed = RewindError::Failed { status: finished.status.to_string(), last_line: finished.last_line() };
    let damaged = control::read(settings).await.is_err();
    if damaged || is_primary(settings, source).await {
        return failed;
    }
    RewindError::SourceUnreachable { address: source.address.to_string() }
}

async fn is_primary(settings: &PgSettings, source: &Target) -> bool {
    const LIMIT: Duration = Duration::from_secs(5);
    let ask = async {
        let options = "-c statement_timeout=2000";
        let session =
            connect::session(&source.address, &source.credentials, &settings.database, "Patroni", options)
                .await?;
        let row = session.client.query_one("SELECT NOT pg_is_in_recovery()", &[]).await?;
        Ok::<bool, connect::ConnectError>(row.try_get(0)?)
    };
    matches!(tokio::time::timeout(LIMIT, ask).await, Ok(Ok(true)))
}
