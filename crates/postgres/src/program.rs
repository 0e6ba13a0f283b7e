//! Running PostgreSQL's own programs and the users' scripts: environment, output, time limits, cancellation.

use std::{
    ffi::{OsStr, OsString},
    io,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::AsyncReadExt,
    process::{Child, Command},
};
use tokio_util::sync::CancellationToken;

use crate::{leftover, settings::PgSettings};

/// Variables that would silently change what libpq connects to.
const LIBPQ_VARIABLES: [&str; 9] = [
    "PGHOST",
    "PGHOSTADDR",
    "PGPORT",
    "PGUSER",
    "PGDATABASE",
    "PGPASSWORD",
    "PGPASSFILE",
    "PGSERVICE",
    "PGOPTIONS",
];

/// What the variables begin with that tell a pod about its cluster.
const KUBERNETES: &str = "KUBERNETES_";

/// Between the polite signal and the other one.
const TERMINATION_GRACE: Duration = Duration::from_secs(10);

/// More output than this of one program is cut at the front.
const OUTPUT_LIMIT: usize = 256 * 1024;

/// A program that could not be run to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    #[error("could not run `{}`", program.display())]
    Spawn {
        program: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("`{}` did not end within {limit:?} and was stopped", program.display())]
    Timeout { program: PathBuf, limit: Duration },
    #[error("`{}` was cancelled", program.display())]
    Cancelled { program: PathBuf },
    #[error("`{hook}` is not a command line: its quotes are not balanced")]
    Unparsable { hook: String },
}

/// What a finished program left.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Finished {
    pub(crate) fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The first line in which a program of PostgreSQL tells of an error, what comes later being its consequence; else the last one.
    pub(crate) fn first_error(&self) -> String {
        let first = self.stderr.lines().map(str::trim).find(|line| line.contains(": error: "));
        first.map_or_else(|| self.last_line(), ToOwned::to_owned)
    }

    /// The last line that says something, for error messages.
    pub(crate) fn last_line(&self) -> String {
        let stdout = String::from_utf8_lossy(&self.stdout);
        let last = |text: &str| {
            text.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(ToOwned::to_owned)
        };
        last(&self.stderr).or_else(|| last(&stdout)).unwrap_or_else(|| "no output".to_owned())
    }
}

impl PgSettings {
    /// The path of one of PostgreSQL's programs.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        let file = self.bin_names.get(name).map_or(name, String::as_str);
        self.bin_dir.as_ref().map_or_else(|| PathBuf::from(file), |dir| dir.join(file))
    }

    /// The environment of everything we start: ours without what is the agent's own business.
    pub(crate) fn clean_environment(&self) -> Vec<(OsString, OsString)> {
        std::env::vars_os().filter(|(name, _)| !self.is_scrubbed(name)).collect()
    }

    fn is_scrubbed(&self, name: &OsStr) -> bool {
        let name = name.to_string_lossy();
        LIBPQ_VARIABLES.contains(&name.as_ref())
            || self.scrub_env.iter().any(|prefix| name.starts_with(prefix.as_str()))
    }

    /// Users' scripts may want to talk to Kubernetes, or to another database: they get what the agent was started with, but its own
    /// settings and secrets.
    fn is_kept_from_scripts(&self, name: &OsStr) -> bool {
        let name = name.to_string_lossy();
        let ours = self.scrub_env.iter().filter(|prefix| *prefix != KUBERNETES);
        ours.into_iter().any(|prefix| name.starts_with(prefix.as_str()))
    }

    /// A command with a clean environment in a process group of its own, so that no signal meant for us reaches it.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(self.clean_environment()).stdin(Stdio::null()).process_group(0);
        command
    }

    /// One of PostgreSQL's tools, speaking English whatever the locale: its output is parsed.
    pub(crate) fn tool(&self, name: &str) -> Command {
        let mut command = self.command(self.program(name));
        command.env("LC_ALL", "C").env_remove("LANGUAGE");
        command
    }

    /// One of PostgreSQL's programs in a session of its own, so that it outlives us and our terminal.
    pub(crate) fn session_command(&self, name: &str) -> Command {
        // `setsid` replaces itself by the program (same pid), unless it leads a process group; so none is made for it.
        let mut command = Command::new("setsid");
        command.arg(self.program(name)).env_clear().envs(self.clean_environment()).stdin(Stdio::null());
        command
    }

    /// A user's script, split like a shell would, without running a shell.
    pub(crate) fn hook(&self, line: &str) -> Result<Command, ProgramError> {
        let words = shlex::split(line).ok_or_else(|| ProgramError::Unparsable { hook: line.to_owned() })?;
        let (program, arguments) =
            words.split_first().ok_or_else(|| ProgramError::Unparsable { hook: line.to_owned() })?;
        let mut command = self.command(program);
        let environment = std::env::vars_os().filter(|(name, _)| !self.is_kept_from_scripts(name));
        command.args(arguments).env_clear().envs(environment);
        Ok(command)
    }

    /// A user's script that fills the data directory. Should it outlive this agent, the next one finds and ends it.
    pub(crate) fn filling_hook(&self, line: &str) -> Result<Command, ProgramError> {
        let mut command = self.hook(line)?;
        command.env(leftover::MARK, &self.data_dir);
        Ok(command)
    }
}

/// Runs `command` to its end and collects its output. Cancelling the token or passing `limit` ends its whole process group:
/// SIGTERM, 10 s, SIGKILL. Dropping the future leaves the program running.
pub(crate) async fn run(
    command: Command,
    limit: Option<Duration>,
    cancel: &CancellationToken,
) -> Result<Finished, ProgramError> {
    run_listening(command, limit, cancel, &mut |_| {}).await
}

/// Like [`run`], and shows what the program writes to stderr while it runs.
pub(crate) async fn run_listening(
    mut command: Command,
    limit: Option<Duration>,
    cancel: &CancellationToken,
    on_stderr: &mut (dyn FnMut(&[u8]) + Send),
) -> Result<Finished, ProgramError> {
    let program = PathBuf::from(command.as_std().get_program());
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|cause| ProgramError::Spawn { program: program.clone(), cause })?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let mut ignore = |_: &[u8]| {};
    let output = async { tokio::join!(read_tail(stdout, &mut ignore), read_tail(stderr, on_stderr)) };
    tokio::pin!(output);

    let stopped_because = tokio::select! {
        (status, (stdout, stderr)) = async { let read = (&mut output).await; (child.wait().await, read) } => {
            let status = status.map_err(|cause| ProgramError::Spawn { program, cause })?;
            return Ok(Finished { status, stdout, stderr: String::from_utf8_lossy(&stderr).into_owned() });
        }
        () = cancel.cancelled() => ProgramError::Cancelled { program },
        limit = expired(limit) => ProgramError::Timeout { program, limit },
    };
    terminate(&mut child).await;
    Err(stopped_because)
}

/// Never ends without a limit.
async fn expired(limit: Option<Duration>) -> Duration {
    match limit {
        Some(limit) => {
            tokio::time::sleep(limit).await;
            limit
        }
        None => std::future::pending().await,
    }
}

/// Ends the process group of `child`: politely, and after a grace by force.
pub(crate) async fn terminate(child: &mut Child) {
    signal_group(child, Signal::TERM);
    if tokio::time::timeout(TERMINATION_GRACE, child.wait()).await.is_err() {
        signal_group(child, Signal::KILL);
        if let Err(error) = child.wait().await {
            tracing::warn!(%error, "a killed program could not be waited for");
        }
    }
}

/// A child that was already waited for has no id any more, so its pid can't have been reused.
fn signal_group(child: &Child, signal: Signal) {
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(group) = group
        && let Err(error) = kill_process_group(group, signal)
    {
        tracing::debug!(%error, pid = group.as_raw_nonzero().get(), "a process group could not be signalled");
    }
}

/// Reads to the end and keeps the last [`OUTPUT_LIMIT`] bytes.
async fn read_tail(
    pipe: Option<impl tokio::io::AsyncRead + Unpin>,
    listener: &mut (dyn FnMut(&[u8]) + Send),
) -> Vec<u8> {
    let (mut kept, mut chunk) = (Vec::new(), vec![0; 8192]);
    let Some(mut pipe) = pipe else { return kept };
    while let Ok(read @ 1..) = pipe.read(&mut chunk).await {
        listener(&chunk[..read]);
        kept.extend_from_slice(&chunk[..read]);
        if kept.len() > 2 * OUTPUT_LIMIT {
            kept.drain(..kept.len() - OUTPUT_LIMIT);
        }
    }
    kept
}

/// Runs file work off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("file work does not panic and is never aborted")
}

#[cfg(test)]
mod tests {
    use bellwether_types::{ClusterName, MemberName};

    use super::*;
    use crate::settings::HostPort;

    fn settings() -> PgSettings {
        PgSettings::new(
            MemberName::new("pg1").unwrap(),
            ClusterName::new("demo").unwrap(),
            PathBuf::from("/nowhere"),
            HostPort { host: "127.0.0.1".to_owned(), port: 5432 },
        )
    }

    #[test]
    fn secrets_of_the_agent_are_not_handed_down() {
        let settings = settings();
        for (name, from_postgres, from_scripts) in [
            ("PATRONI_SUPERUSER_PASSWORD", true, true),
            ("BELLWETHER_LOG", true, true),
            ("KUBERNETES_PORT", true, false),
            ("NOTIFY_SOCKET", true, true),
            ("PGPASSWORD", true, false),
            ("PATH", false, false),
            ("PGTZ", false, false),
        ] {
            let name = OsStr::new(name);
            let told = (settings.is_scrubbed(name), settings.is_kept_from_scripts(name));
            assert_eq!(told, (from_postgres, from_scripts), "{name:?}");
        }
    }

    #[tokio::test]
    async fn a_program_is_started_without_what_it_must_not_see() {
        // Cargo gives this to every test.
        let kept_back = "CARGO_MANIFEST_DIR";
        assert!(std::env::var_os(kept_back).is_some());
        let settings = PgSettings {
            scrub_env: [kept_back.to_owned()].into(),
            bin_dir: Some(PathBuf::from("/usr/bin")),
            ..settings()
        };
        for mut command in
            [settings.command("env"), settings.session_command("env"), settings.hook("env").unwrap()]
        {
            let told = command.output().await.unwrap();
            let told = String::from_utf8_lossy(&told.stdout).into_owned();
            assert!(told.contains("PATH=") && !told.contains(kept_back), "{command:?}: {told}");
        }
    }

    #[test]
    fn what_is_parsed_was_said_in_english() {
        let command = settings().tool("pg_controldata");
        let set = |name: &str| {
            let found = command.as_std().get_envs().find(|(given, _)| *given == OsStr::new(name));
            found.and_then(|(_, value)| value)
        };
        assert_eq!(set("LC_ALL"), Some(OsStr::new("C")));
        assert_eq!(set("LANGUAGE"), None);
    }

    #[tokio::test]
    async fn a_program_that_ignores_its_limit_is_stopped_with_its_children() {
        let settings = settings();
        let mut command = settings.command("sh");
        command.args(["-c", "sleep 600 & wait"]);
        let started = std::time::Instant::now();
        let result = run(command, Some(Duration::from_millis(50)), &CancellationToken::new()).await;
        assert!(matches!(result, Err(ProgramError::Timeout { .. })), "{result:?}");
        assert!(started.elapsed() < Duration::from_secs(5));
    }

    #[tokio::test]
    async fn cancellation_ends_a_program() {
        let cancel = CancellationToken::new();
        cancel.cancel();
        let mut command = settings().command("sleep");
        command.arg("600");
        assert!(matches!(run(command, None, &cancel).await, Err(ProgramError::Cancelled { .. })));
    }

    #[tokio::test]
    async fn output_and_status_are_kept() {
        let mut command = settings().command("sh");
        command.args(["-c", "echo out; echo first >&2; echo 'last ' >&2; exit 3"]);
        let finished = run(command, None, &CancellationToken::new()).await.unwrap();
        assert_eq!((finished.status.code(), finished.last_line().as_str()), (Some(3), "last"));
        assert_eq!(finished.stdout_text(), "out\n");
        assert_eq!(finished.first_error(), "last");
        let mut command = settings().command("sh");
        command.args(["-c", "echo 'x: error: no room' >&2; echo 'x: removing contents' >&2; exit 1"]);
        let finished = run(command, None, &CancellationToken::new()).await.unwrap();
        assert_eq!(finished.first_error(), "x: error: no room");
    }
}
