//! pg_rewind: the facts to decide on, what comes before it, and the run. Whether to rewind is decided elsewhere.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use bellwether_types::{Lsn, TimelineId, WalPosition};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::{
    config_files::{self, ConfigFileError},
    connect,
    conninfo::{Conninfo, TemporaryPassfile, remove_if_there},
    control::{self, ClusterState, ControlError},
    file_values, parameters,
    postmaster::Postmaster,
    program::{self, Finished, ProgramError, blocking},
    replication::Target,
    settings::{PgSettings, ProgramOption},
};

/// For one segment. An `archive_command` that hangs must not hold up what comes next for ever.
const ARCHIVE_LIMIT: Duration = Duration::from_secs(60);
/// Options of pg_rewind that are ours to choose.
const FORBIDDEN: [&str; 10] = [
    "target-pgdata",
    "source-pgdata",
    "source-server",
    "write-recovery-conf",
    "dry-run",
    "restore-target-wal",
    "config-file",
    "no-ensure-shutdown",
    "version",
    "help",
];

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

/// Archives the WAL segments of the stopped server that still wait for it, oldest first, and returns how many. A rewind
/// deletes segments that may exist nowhere else.
pub async fn archive_ready_wal(
    settings: &PgSettings,
    cancel: &CancellationToken,
) -> Result<usize, RewindError> {
    let Some(command) = archive_command(settings).await? else { return Ok(0) };
    let wal = settings.data_dir.join("pg_wal");
    let ready = {
        let status = wal.join("archive_status");
        blocking(move || ready_segments(&status))
            .await
            .map_err(RewindError::io("could not list archive_status"))?
    };
    for segment in &ready {
        archive(settings, &command, segment, cancel).await?;
        let marker = |suffix: &str| wal.join("archive_status").join(format!("{segment}.{suffix}"));
        let (ready, done) = (marker("ready"), marker("done"));
        blocking(move || fs::rename(ready, done))
            .await
            .map_err(RewindError::io("could not mark a segment as archived"))?;
    }
    Ok(ready.len())
}

/// Archives the segment that holds the shutdown checkpoint of a stopped primary, if it archives at all: PostgreSQL itself does not, as
/// the segment is not full, and whoever follows the archive alone would never learn that the primary has ended in good order.
///
/// # Errors
/// If the segment is not in the archive.
pub async fn archive_shutdown_checkpoint(
    settings: &PgSettings,
    cancel: &CancellationToken,
) -> Result<(), RewindError> {
    archive_ready_wal(settings, cancel).await?;
    let control = control::read(settings).await?;
    match archive_command(settings).await? {
        Some(command) if control.state == ClusterState::ShutDown => {
            archive(settings, &command, &control.checkpoint_segment(), cancel).await
        }
        _ => Ok(()),
    }
}

/// `None`: WAL is not archived.
async fn archive_command(settings: &PgSettings) -> Result<Option<String>, RewindError> {
    let value = async |name| file_values::value(settings, &[], name).await.map(Option::unwrap_or_default);
    let command = value("archive_command").await?;
    let is_on = ["on", "always"].contains(&value("archive_mode").await?.as_str());
    Ok(Some(command).filter(|command| is_on && !command.is_empty()))
}

async fn archive(
    settings: &PgSettings,
    command: &str,
    segment: &str,
    cancel: &CancellationToken,
) -> Result<(), RewindError> {
    let line = expand(command, &format!("pg_wal/{segment}"), segment);
    let mut shell = settings.command("sh");
    shell.arg("-c").arg(line).current_dir(&settings.data_dir).kill_on_drop(true);
    let finished = program::run(shell, Some(ARCHIVE_LIMIT), cancel).await?;
    if finished.status.success() {
        return Ok(());
    }
    let (status, last_line) = (finished.status.to_string(), finished.last_line());
    Err(RewindError::Archive { segment: segment.to_owned(), status, last_line })
}

/// Names of segments with a `.ready` marker, in order.
fn ready_segments(status: &Path) -> io::Result<Vec<String>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(status)? {
        let name = entry?.file_name();
        if let Some(segment) = name.to_str().and_then(|name| name.strip_suffix(".ready")) {
            segments.push(segment.to_owned());
        }
    }
    segments.sort();
    Ok(segments)
}

/// `%p`, `%f` and `%%` of archive_command.
fn expand(command: &str, path: &str, file: &str) -> String {
    let (mut text, mut characters) = (String::new(), command.chars().peekable());
    while let Some(c) = characters.next() {
        let replacement = match (c, characters.peek()) {
            ('%', Some('p')) => path,
            ('%', Some('f')) => file,
            ('%', Some('%')) => "%",
            _ => {
                text.push(c);
                continue;
            }
        };
        text.push_str(replacement);
        characters.next();
    }
    text
}

/// Runs crash recovery in single-user mode, so that pg_rewind finds a cleanly stopped server. Archiving is off and stdin
/// closed meanwhile; signal files are removed. Archive what is ready before. Cancel by the token, not by dropping the future.
pub async fn crash_recover(settings: &PgSettings, cancel: &CancellationToken) -> Result<(), RewindError> {
    let dir = settings.data_dir.clone();
    let prepared = blocking(move || prepare_single_user(&dir)).await;
    let options = match prepared.map_err(RewindError::io("could not prepare crash recovery"))? {
        Prepared::Running(pid) => return Err(RewindError::Running { pid }),
        Prepared::BackupLabel => return Err(RewindError::BackupLabel),
        Prepared::Options(options) => options,
    };
    let mut command = settings.tool("postgres");
    command.arg("--single").arg("-D").arg(&settings.data_dir);
    if options.is_empty() {
        command.arg(format!("--config-file={}", settings.config_file().display()));
        let controlled = parameters::controlled(settings, &mut Vec::new());
        command.args(
            parameters::command_line(&controlled).iter().map(|(name, value)| format!("--{name}={value}")),
        );
    }
    command.args(options).args(["-c", "archive_mode=on", "-c", "archive_command=false", "template1"]);
    let finished = program::run(command, None, cancel).await?;
    let control = control::read(settings).await?;
    if finished.status.success() && control.state.is_clean() {
        return Ok(());
    }
    Err(RewindError::CrashRecovery { status: finished.status.to_string(), last_line: finished.last_line() })
}

enum Prepared {
    Running(i32),
    BackupLabel,
    /// With which the postmaster ran, without the data directory and archiving.
    Options(Vec<String>),
}

fn prepare_single_user(data_dir: &Path) -> io::Result<Prepared> {
    if let Some(running) = Postmaster::find(data_dir)? {
        return Ok(Prepared::Running(running.id().pid));
    }
    if data_dir.join("backup_label").exists() {
        return Ok(Prepared::BackupLabel);
    }
    for name in ["standby.signal", "recovery.signal"] {
        remove_if_there(&data_dir.join(name))?;
    }
    // Without markers every segment counts as not archived, so none is recycled.
    for entry in fs::read_dir(data_dir.join("pg_wal/archive_status")).into_iter().flatten() {
        remove_if_there(&entry?.path())?;
    }
    let text = fs::read_to_string(data_dir.join("postmaster.opts")).unwrap_or_default();
    Ok(Prepared::Options(postmaster_options(&text)))
}

/// The `--name=value` options in `postmaster.opts`: `/path/postgres "-D" "/data" "--port=5432"`.
fn postmaster_options(text: &str) -> Vec<String> {
    let words = shlex::split(text.trim()).unwrap_or_default();
    let is_ours =
        |word: &String| word.starts_with("--") && word.contains('=') && !word.starts_with("--archive_");
    words.into_iter().skip(1).filter(is_ours).collect()
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
        settings.rewind_options.iter().find(|option| FORBIDDEN.contains(&option.name.as_str()))
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
    command.args(settings.rewind_options.iter().map(ProgramOption::to_argument));
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

/// Files with their content, kept over a rewind.
pub(crate) type KeptFiles = Vec<(PathBuf, String)>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archive_command_is_expanded_like_the_server_does() {
        for (command, expected) in [
            ("cp %p /a/%f", "cp pg_wal/1 /a/1"),
            ("date +%%Y; x %p%", "date +%Y; x pg_wal/1%"),
            ("x %q %%p", "x %q %p"),
        ] {
            assert_eq!(expand(command, "pg_wal/1", "1"), expected);
        }
    }

    #[test]
    fn single_user_mode_takes_the_postmasters_options_but_not_its_archiving() {
        let text = "/usr/lib/postgresql/15/bin/postgres \"-D\" \"/my data\" \"--config-file=/my data/postgresql.conf\" \
                    \"--port=5432\" \"--archive_mode=on\"\n";
        assert_eq!(postmaster_options(text), ["--config-file=/my data/postgresql.conf", "--port=5432"]);
        assert!(postmaster_options("").is_empty());
    }

    #[test]
    fn only_ready_segments_are_archived_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "000000010000000000000003.ready",
            "000000010000000000000002.ready",
            "000000010000000000000001.done",
        ] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let ready = ready_segments(dir.path()).unwrap();
        assert_eq!(ready, ["000000010000000000000002", "000000010000000000000003"]);
    }
}
