//! Programs that an earlier agent started on our data directory and that have outlived it.
//!
//! pg_rewind and pg_basebackup are no children that end with the agent: one that goes on writing while the next agent starts
//! PostgreSQL, or copies anew, would leave a directory of two histories. The same goes for users' commands that make a data directory;
//! those, and whatever they start, are known by a variable in their environment.

use std::{
    fs, io,
    path::Path,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

/// What writes into a data directory besides the postmaster.
const WRITERS: [&str; 3] = ["pg_rewind", "pg_basebackup", "initdb"];
/// In the environment of a user's command that fills a data directory: which one.
pub(crate) const MARK: &str = "BELLWETHER_WRITES_TO";
/// How long a killed one may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// Kills them and returns their pids once they are gone. For the start of an agent, which has none of its own yet. Blocking.
pub fn kill_leftovers(data_dir: &Path) -> io::Result<Vec<i32>> {
    kill_all(data_dir, works_on)
}

/// The same for users' commands that fill the data directory. Only while one of them has not succeeded: what a successful one leaves
/// running is its own business.
pub fn kill_commands(data_dir: &Path) -> io::Result<Vec<i32>> {
    kill_all(data_dir, is_marked)
}

fn kill_all(data_dir: &Path, is_one: fn(i32, &Path) -> bool) -> io::Result<Vec<i32>> {
    let mut killed = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        if is_one(pid, data_dir) && kill(pid, data_dir, is_one)? {
            killed.push(pid);
        }
    }
    Ok(killed)
}

/// Whether this process is a writer whose command line names the directory. One that is gone works on nothing.
fn works_on(pid: i32, data_dir: &Path) -> bool {
    let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    let line = String::from_utf8_lossy(&line);
    let mut words = line.split('\0').filter(|word| !word.is_empty());
    let program =
        words.next().and_then(|program| Path::new(program).file_name()?.to_str()).unwrap_or_default();
    let dir = data_dir.to_string_lossy();
    WRITERS.contains(&program)
        && words.any(|word| word == dir || word.split_once('=').is_some_and(|(_, value)| value == dir))
}

fn is_marked(pid: i32, data_dir: &Path) -> bool {
    let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { return false };
    let mark = format!("{MARK}={}", data_dir.display());
    environment.split(|&byte| byte == 0).any(|variable| variable == mark.as_bytes())
}

/// By pidfd, looked at again once it is held: the number may have gone to somebody else.
fn kill(pid: i32, data_dir: &Path, is_one: fn(i32, &Path) -> bool) -> io::Result<bool> {
    let Some(raw) = Pid::from_raw(pid) else { return Ok(false) };
    let Ok(pidfd) = pidfd_open(raw, PidfdFlags::empty()) else { return Ok(false) };
    if !is_one(pid, data_dir) {
        return Ok(false);
    }
    match pidfd_send_signal(&pidfd, Signal::KILL) {
        Ok(()) => {}
        Err(rustix::io::Errno::SRCH) => return Ok(false),
        Err(errno) => return Err(errno.into()),
    }
    let by = Instant::now() + GONE_WITHIN;
    loop {
        let left = by.saturating_duration_since(Instant::now());
        let limit = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit)) {
            Ok(0) => {
                return Err(io::Error::other(format!("process {pid} does not end although it was killed")));
            }
            Ok(_) => return Ok(true),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::BufRead,
        os::unix::process::CommandExt,
        process::{Child, Command, Stdio},
    };

    use super::*;

    /// A shell under another name that waits for its standard input.
    fn stand_in(program: &str, argument: &str) -> Child {
        let mut command = Command::new("sh");
        command.arg0(format!("/usr/lib/postgresql/15/bin/{program}")).args([
            "-c",
            "read line; true",
            "x",
            argument,
        ]);
        command.stdin(Stdio::piped()).spawn().unwrap()
    }

    #[test]
    fn only_writers_on_our_directory_are_killed() {
        let dir = tempfile::tempdir().unwrap();
        let ours = format!("--target-pgdata={}", dir.path().display());
        let mut leftover = stand_in("pg_rewind", &ours);
        let mut elsewhere = stand_in("pg_rewind", "--target-pgdata=/somewhere/else");
        let mut reader = stand_in("pg_waldump", &ours);

        let killed = kill_leftovers(dir.path()).unwrap();
        assert_eq!(killed, [i32::try_from(leftover.id()).unwrap()]);
        assert!(!leftover.wait().unwrap().success());
        for other in [&mut elsewhere, &mut reader] {
            assert!(other.try_wait().unwrap().is_none(), "not ours to kill");
            other.kill().unwrap();
            other.wait().unwrap();
        }
        assert!(kill_leftovers(dir.path()).unwrap().is_empty());
    }

    #[test]
    fn users_commands_are_known_with_all_that_they_started() {
        let dir = tempfile::tempdir().unwrap();
        let command = |writes_to: &Path| {
            let mut command = Command::new("sh");
            command.args(["-c", "sleep 600 & echo up; wait"]).env(MARK, writes_to);
            let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
            let mut line = String::new();
            io::BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
            child
        };
        let (mut ours, mut elsewhere) = (command(dir.path()), command(Path::new("/somewhere/else")));
        assert!(kill_leftovers(dir.path()).unwrap().is_empty(), "their names say nothing");
        assert_eq!(kill_commands(dir.path()).unwrap().len(), 2, "the shell and what it runs");
        assert!(!ours.wait().unwrap().success());
        assert!(elsewhere.try_wait().unwrap().is_none(), "not ours to kill");
        assert_eq!(kill_commands(Path::new("/somewhere/else")).unwrap().len(), 2);
        elsewhere.wait().unwrap();
    }
}
