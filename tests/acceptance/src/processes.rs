//! The processes of a node, found through /proc from what the tests started, never by name.
//!
//! Those are the agent with its descendants, everything that works in the node's data directory (PostgreSQL has a session
//! of its own and may have outlived its agent), and the guardians, whose command line names that directory.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::Path,
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// All living processes of a node; `agent` is the process that was started as its agent.
pub fn of_node(agent: Option<i32>, data_dir: &Path) -> Vec<i32> {
    let all = living();
    let mut members: BTreeSet<i32> = all
        .iter()
        .map(|process| process.pid)
        .filter(|&pid| agent == Some(pid) || works_in(pid, data_dir) || is_told(pid, data_dir))
        .collect();
    loop {
        let before = members.len();
        let children = all.iter().filter(|process| members.contains(&process.parent));
        let children: Vec<i32> = children.map(|process| process.pid).collect();
        members.extend(children);
        if members.len() == before {
            return members.into_iter().collect();
        }
    }
}

/// PostgreSQL alone: everybody who works in the data directory.
pub fn of_postgres(data_dir: &Path) -> Vec<i32> {
    living().iter().map(|process| process.pid).filter(|&pid| works_in(pid, data_dir)).collect()
}

/// The guardians of a data directory.
pub fn guardians(data_dir: &Path) -> Vec<i32> {
    let told =
        |&pid: &i32| is_told(pid, data_dir) && arguments(pid).get(1).is_some_and(|word| word == b"guardian");
    living().iter().map(|process| process.pid).filter(told).collect()
}

/// The postmaster by its pid file, if that process really works in the directory.
pub fn postmaster(data_dir: &Path) -> Option<i32> {
    let file = fs::read_to_string(data_dir.join("postmaster.pid")).ok()?;
    let pid = file.lines().next()?.trim().parse().ok()?;
    works_in(pid, data_dir).then_some(pid)
}

/// Like a loss of power: first nobody runs any more, then nobody is there any more.
pub fn kill_at_once(pids: &[i32]) {
    for signal in [Signal::STOP, Signal::KILL] {
        for &pid in pids {
            send(pid, signal);
        }
    }
}

/// Sends a signal; whether the process was there to get it.
pub fn send(pid: i32, signal: Signal) -> bool {
    Pid::from_raw(pid)
        .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
        .is_some_and(|process| pidfd_send_signal(&process, signal).is_ok())
}

struct Process {
    pid: i32,
    parent: i32,
}

/// Everybody who is not dead.
fn living() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            // The command's name in parentheses may contain anything.
            let mut fields = stat.rsplit_once(") ")?.1.split(' ');
            let state = fields.next()?;
            let parent = fields.next()?.parse().ok()?;
            (!matches!(state, "Z" | "X")).then_some(Process { pid, parent })
        })
        .collect()
}

fn works_in(pid: i32, directory: &Path) -> bool {
    let identity = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    let there = identity(Path::new(&format!("/proc/{pid}/cwd")));
    there.is_some() && there == identity(directory)
}

fn is_told(pid: i32, path: &Path) -> bool {
    arguments(pid).iter().any(|argument| argument == path.as_os_str().as_bytes())
}

fn arguments(pid: i32) -> Vec<Vec<u8>> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect()
}
