//! A new standby: by the methods of the settings, the first that succeeds.

mod command;

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use bellwether_types::program::{ProgramOption, ReplicaMethod, ours};
use tokio::{process::Command, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::{
    config_files::{self, ConfigFileError},
    conninfo::{Conninfo, TemporaryPassfile},
    datadir::{self, WipeError},
    postmaster::Postmaster,
    program::{ProgramError, blocking, run_listening},
    replication::Target,
    settings::PgSettings,
};

const MEGABYTE: u64 = 1024 * 1024;
/// What pg_basebackup takes for WAL before it tells how large the copy is.
const FIRST_SEGMENTS: u64 = 2 * 16 * MEGABYTE;
/// What the system says of a full disk.
const DISK_FULL: &str = "No space left on device";
const ATTEMPTS: u32 = 2;
const BETWEEN_ATTEMPTS: Duration = Duration::from_secs(5);

/// How far a clone has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CloneProgress {
    /// Beginning with 1; 0 before the first one.
    pub attempt: u32,
    pub bytes_done: u64,
    /// The source's estimate; it grows if the database does.
    pub bytes_total: u64,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloneError {
    #[error("option `{option}` is not allowed for pg_basebackup: remove it from `postgresql.basebackup`")]
    ForbiddenOption { option: String },
    #[error("PostgreSQL runs on the data directory with pid {pid}: stop it before it is replaced")]
    Running { pid: i32 },
    #[error("pg_basebackup ended with {status}: {last_line}")]
    Exited { status: String, code: Option<i32>, last_line: String },
    #[error("the command of method `{method}` failed: {last_line}")]
    Method {
        method: String,
        command: String,
        /// `None`: ended by a signal.
        code: Option<i32>,
        last_line: String,
    },
    #[error("no method of `postgresql.create_replica_methods` works {}", if *with_source { "here" } else { "without a member to copy from" })]
    NoMethod { with_source: bool },
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error(transparent)]
    Wipe(#[from] WipeError),
    #[error(transparent)]
    Config(#[from] ConfigFileError),
    /// The source's own estimate, which leaves out the WAL that is written meanwhile.
    #[error(
        "the copy needs {} MB more and `{}` has {} MB left: make room there, or put the data directory on a larger disk",
        needed.div_ceil(MEGABYTE),
        path.display(),
        free / MEGABYTE
    )]
    NoSpace { needed: u64, free: u64, path: PathBuf },
    #[error("the copy has filled the disk of `{}`: make room there, or put the data directory on a larger disk", path.display())]
    DiskFull { path: PathBuf },
    #[error("could not look for a running postmaster")]
    Look(#[source] io::Error),
    #[error("could not write a password file")]
    Passfile(#[source] io::Error),
}

impl CloneError {
    /// Whether trying again without human help can succeed.
    pub fn is_retryable(&self) -> bool {
        !matches!(
            self,
            Self::ForbiddenOption { .. }
                | Self::Running { .. }
                | Self::NoSpace { .. }
                | Self::DiskFull { .. }
                | Self::Program(ProgramError::Spawn { .. })
        )
    }

    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Program(ProgramError::Cancelled { .. }))
    }
}

/// Fills the data directory by the methods of the settings, in order: the first that succeeds wins. Without a source only those are
/// tried that need none. After a failure or a cancellation the directory is empty, unless a method keeps data. Refused while a
/// postmaster runs on it.
///
/// Cancel by the token, not by dropping the future: that would leave a program running.
pub async fn create_replica(
    settings: &PgSettings,
    source: Option<&Target>,
    progress: &watch::Sender<CloneProgress>,
    cancel: &CancellationToken,
) -> Result<(), CloneError> {
    let usable = |method: &&ReplicaMethod| source.is_some() || method.needs_no_source();
    let mut failure = CloneError::NoMethod { with_source: source.is_some() };
    for method in settings.replica_methods.iter().filter(usable) {
        let result = match (method, source) {
            (ReplicaMethod::Basebackup, Some(source)) => basebackup(settings, source, progress, cancel).await,
            (ReplicaMethod::Basebackup, None) => continue,
            (ReplicaMethod::Command(method), _) => command::create(settings, method, source, cancel).await,
        };
        let Err(error) = result else {
            tracing::info!("replica has been created using {}", name(method));
            return complete(settings).await;
        };
        if !error.is_cancelled() {
            tell(&error);
        }
        let is_final = error.is_cancelled() || matches!(error, CloneError::Running { .. });
        failure = error;
        if is_final {
            break;
        }
    }
    Err(failure)
}

fn name(method: &ReplicaMethod) -> &str {
    match method {
        ReplicaMethod::Basebackup => "basebackup",
        ReplicaMethod::Command(method) => &method.name,
    }
}

/// In the words that people look for.
fn tell(error: &CloneError) {
    let shown = |code: &Option<i32>| code.map_or_else(|| "signal".to_owned(), |code| code.to_string());
    match error {
        CloneError::Method { method, command, code, last_line } => {
            let code = shown(code);
            tracing::error!(
                last_line,
                "Error creating replica using method {method}: {command} exited with code={code}"
            );
        }
        CloneError::Exited { code, last_line, .. } => {
            let code = shown(code);
            tracing::error!(last_line, "Error when fetching backup: pg_basebackup exited with code={code}");
        }
        error => tracing::error!(error = error as &dyn std::error::Error, "no replica was created: {error}"),
    }
}

/// What a copy lacks, and what could promote it by accident.
async fn complete(settings: &PgSettings) -> Result<(), CloneError> {
    let settings = settings.clone();
    blocking(move || {
        config_files::restore(&settings)?;
        config_files::remove_triggers(&settings)
    })
    .await?;
    Ok(())
}

/// Wipes the data directory and fills it by pg_basebackup from `source`; two attempts, 5 s apart. After a failure or a
/// cancellation the directory is empty.
async fn basebackup(
    settings: &PgSettings,
    source: &Target,
    progress: &watch::Sender<CloneProgress>,
    cancel: &CancellationToken,
) -> Result<(), CloneError> {
    refuse_forbidden(&settings.basebackup)?;
    let mut attempt = 1;
    loop {
        wipe(settings).await?;
        progress.send_replace(CloneProgress { attempt, ..CloneProgress::default() });
        let error = match try_once(settings, source, progress, cancel).await {
            Ok(()) => break,
            Err(error) => error,
        };
        if attempt == ATTEMPTS || error.is_cancelled() || !error.is_retryable() {
            wipe(settings).await?;
            return Err(error);
        }
        attempt += 1;
        tell(&error);
        tracing::warn!(source = %source.address, "Trying again in {} seconds", BETWEEN_ATTEMPTS.as_secs());
        tokio::select! {
            () = tokio::time::sleep(BETWEEN_ATTEMPTS) => {}
            () = cancel.cancelled() => {}
        }
    }
    Ok(())
}

async fn wipe(settings: &PgSettings) -> Result<(), CloneError> {
    refuse_running(settings).await?;
    let dir = settings.data_dir.clone();
    if dir.exists() {
        tracing::info!("Removing data directory: {}", dir.display());
    }
    Ok(blocking(move || datadir::wipe(&dir)).await.map(drop)?)
}

async fn refuse_running(settings: &PgSettings) -> Result<(), CloneError> {
    let dir = settings.data_dir.clone();
    match blocking(move || Postmaster::find(&dir)).await.map_err(CloneError::Look)? {
        Some(running) => Err(CloneError::Running { pid: running.id().pid }),
        None => Ok(()),
    }
}

async fn try_once(
    settings: &PgSettings,
    source: &Target,
    progress: &watch::Sender<CloneProgress>,
    cancel: &CancellationToken,
) -> Result<(), CloneError> {
    let (pgpass, address, credentials) =
        (settings.pgpass.clone(), source.address.clone(), source.credentials.clone());
    let passfile = blocking(move || TemporaryPassfile::create(&pgpass, &address, &credentials))
        .await
        .map_err(CloneError::Passfile)?;
    if let Some(error) = no_space(&settings.data_dir, FIRST_SEGMENTS) {
        return Err(error);
    }
    let mut pending = String::new();
    let mut refused = None;
    let mut is_first = true;
    let give_up = cancel.child_token();
    let mut listen = |chunk: &[u8]| {
        if let Some(Report { done, total, tablespaces }) = last_progress(&mut pending, chunk) {
            progress.send_modify(|progress| (progress.bytes_done, progress.bytes_total) = (done, total));
            // Other tablespaces may be on other disks.
            if std::mem::take(&mut is_first) && tablespaces == 1 {
                refused = no_space(&settings.data_dir, total.saturating_sub(done));
                if refused.is_some() {
                    give_up.cancel();
                }
            }
        }
    };
    let command = command(settings, source, &passfile);
    let finished = run_listening(command, None, &give_up, &mut listen).await;
    if let Some(error) = refused {
        return Err(error);
    }
    let finished = finished?;
    if finished.status.success() {
        return Ok(());
    }
    if finished.stderr.contains(DISK_FULL) {
        // It was over before the program told how large the copy is.
        return Err(CloneError::DiskFull { path: settings.data_dir.clone() });
    }
    let (status, code) = (finished.status.to_string(), finished.status.code());
    Err(CloneError::Exited { status, code, last_line: finished.first_error() })
}

fn command(settings: &PgSettings, source: &Target, passfile: &TemporaryPassfile) -> Command {
    let dsn = Conninfo::new(&source.address, &source.credentials, u32::MAX)
        .with("application_name", settings.member.as_str())
        .with("passfile", &passfile.path().to_string_lossy());
    let mut command = settings.tool("pg_basebackup");
    command.arg(format!("--pgdata={}", settings.data_dir.display()));
    command.args(["-X", "stream", "--progress", "--no-password", &format!("--dbname={dsn}")]);
    // Without it the source spreads its checkpoint over minutes, and the cluster is without this standby meanwhile.
    if !settings.basebackup.iter().any(|option| option.name == "checkpoint") {
        command.arg("--checkpoint=fast");
    }
    command.args(settings.basebackup.iter().map(ProgramOption::to_string));
    command
}

/// Compression is only allowed on the server's side: the result must be a data directory.
fn refuse_forbidden(options: &[ProgramOption]) -> Result<(), CloneError> {
    let is_forbidden = |option: &&ProgramOption| match option.name.as_str() {
        "compress" => !option.value.as_deref().is_some_and(|value| value.starts_with("server")),
        name => ours::BASEBACKUP.contains(&name),
    };
    match options.iter().find(is_forbidden) {
        Some(option) => Err(CloneError::ForbiddenOption { option: option.name.clone() }),
        None => Ok(()),
    }
}

/// Whether so many bytes do not fit. Where that cannot be told, they may.
fn no_space(data_dir: &Path, needed: u64) -> Option<CloneError> {
    let disk = rustix::fs::statvfs(data_dir).ok()?;
    let free = disk.f_bavail * disk.f_frsize;
    (free < needed).then(|| CloneError::NoSpace { needed, free, path: data_dir.to_owned() })
}

/// What pg_basebackup tells of its progress, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Report {
    done: u64,
    total: u64,
    tablespaces: u32,
}

/// The last report in `pending` + `chunk`: `  31017/223543 kB (13%), 0/1 tablespace`.
fn last_progress(pending: &mut String, chunk: &[u8]) -> Option<Report> {
    pending.push_str(&String::from_utf8_lossy(chunk));
    let reported = pending.split(['\r', '\n']).filter_map(parse_report).next_back();
    let rest = pending.rfind(['\r', '\n']).map_or(0, |at| at + 1);
    pending.drain(..rest);
    reported
}

fn parse_report(line: &str) -> Option<Report> {
    let (numbers, rest) = line.trim_start().split_once(" kB")?;
    let (done, total) = numbers.split_once('/')?;
    let bytes = |text: &str| text.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024);
    let (_, tablespaces) = rest.split_once("), ")?.1.split_once('/')?;
    // Without the blank behind it the number may go on.
    let tablespaces = tablespaces.split_once(' ')?.0.parse().ok()?;
    Some(Report { done: bytes(done)?, total: bytes(total)?, tablespaces })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read_across_chunks() {
        let report = |done| Some(Report { done, total: 2_048_000, tablespaces: 1 });
        let mut pending = String::new();
        assert_eq!(
            last_progress(&mut pending, b"waiting for checkpoint\r    0/2000 kB (0%), 0/1 tabl"),
            report(0)
        );
        assert_eq!(last_progress(&mut pending, b"espace\r  10"), report(0));
        assert_eq!(last_progress(&mut pending, b"00/2000 kB (50%), 0/1 tablespace\r"), report(1_024_000));
        let several = parse_report(" 10/2000 kB (0%), 1/3 tablespaces (base/1)").unwrap();
        assert_eq!(several.tablespaces, 3);
        assert_eq!(last_progress(&mut pending, b"pg_basebackup: error: x\n"), None);
    }

    #[test]
    fn a_copy_that_does_not_fit_is_refused_before_it_is_made() {
        let dir = tempfile::tempdir().unwrap();
        assert!(no_space(dir.path(), 1).is_none());
        let error = no_space(dir.path(), u64::MAX).unwrap();
        assert!(error.to_string().contains("make room there") && !error.is_retryable(), "{error}");
        assert!(no_space(&dir.path().join("nothing"), u64::MAX).is_none(), "nobody knows");
    }

    #[test]
    fn options_that_are_ours_are_refused() {
        for (option, allowed) in [
            (ProgramOption::with_value("max-rate", "100M"), true),
            (ProgramOption::with_value("compress", "server-lz4"), true),
            (ProgramOption::with_value("compress", "gzip"), false),
            (ProgramOption::flag("compress"), false),
            (ProgramOption::with_value("dbname", "x"), false),
            (ProgramOption::with_value("password", "x"), false),
        ] {
            assert_eq!(refuse_forbidden(std::slice::from_ref(&option)).is_ok(), allowed, "{option:?}");
        }
    }
}
