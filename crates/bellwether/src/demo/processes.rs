//! Which processes make up a node: found through /proc from what the demo itself started, never by name.
//!
//! They are the agent with all its descendants, everything that works in the node's data directory (PostgreSQL lives in a
//! session of its own, and may have outlived its agent), and the guardians, whose command line names that directory. The
//! directory is in a folder that the demo made for itself, so nothing else of this machine can be meant.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::Path,
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// All live processes of a node. `agent` is the process that the respawner started.
pub(super) fn of_node(agent: Option<u32>, data_dir: &Path) -> Vec<i32> {
    let all = snapshot();
    let mut members: BTreeSet<i32> = all
        .iter()
        .filter(|process| {
            agent.is_some_and(|agent| i64::from(process.pid) == i64::from(agent))
                || works_in(process.pid, data_dir)
                || is_told(process.pid, data_dir)
        })
        .map(|process| process.pid)
        .collect();
    // A child may come before its parent in the list: repeat until nobody is added.
    loop {
        let before = members.len();
        members.extend(
            all.iter()
                .filter(|process| members.contains(&process.parent))
                .map(|process| process.pid)
                .collect::<Vec<_>>(),
        );
        if members.len() == before {
            return members.into_iter().collect();
        }
    }
}

/// The processes of PostgreSQL alone.
pub(super) fn of_postgres(data_dir: &Path) -> Vec<i32> {
    snapshot().iter().map(|process| process.pid).filter(|&pid| works_in(pid, data_dir)).collect()
}

/// The postmaster, by the file that it keeps in its data directory; only if that process really works there.
pub(super) fn postmaster(data_dir: &Path) -> Option<i32> {
    let file = fs::read_to_string(data_dir.join("postmaster.pid")).ok()?;
    let pid = file.lines().next()?.trim().parse().ok()?;
    works_in(pid, data_dir).then_some(pid)
}

/// The processes of PostgreSQL that send WAL to other nodes.
pub(super) fn walsenders(data_dir: &Path) -> Vec<i32> {
    let is_one = |pid: &i32| {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains("walsender"))
    };
    of_postgres(data_dir).into_iter().filter(is_one).collect()
}

/// The guardian of this directory.
pub(super) fn guardian(data_dir: &Path) -> Option<i32> {
    let is_one = |pid: &i32| is_told(*pid, Path::new("guardian")) && is_told(*pid, data_dir);
    snapshot().iter().map(|process| process.pid).find(is_one)
}

/// Ends all these processes like a loss of power: first nobody runs any more, then nobody is there any more.
pub(super) fn kill_at_once(pids: &[i32]) {
    for signal in [Signal::STOP, Signal::KILL] {
        for &pid in pids {
            send(pid, signal);
        }
    }
}

/// Sends a signal; a process that is gone already does not get it.
pub(super) fn send(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid)
        && let Ok(process) = pidfd_open(pid, PidfdFlags::empty())
    {
        let _ = pidfd_send_signal(&process, signal);
    }
}

struct Process {
    pid: i32,
    parent: i32,
}

/// Everybody who is not dead.
fn snapshot() -> Vec<Process> {
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

/// Whether an argument of the process is exactly this path.
fn is_told(pid: i32, path: &Path) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| {
        line.split(|&byte| byte == 0).any(|argument| argument == path.as_os_str().as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    struct Started(Child);

    impl Drop for Started {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn start(script: &str, directory: &Path) -> Started {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(script).current_dir(directory).stdin(Stdio::null());
        Started(command.spawn().unwrap())
    }

    #[test]
    fn a_node_is_its_agent_with_children_its_postgres_and_its_guardian() {
        let temporary = tempfile::tempdir().unwrap();
        let data = temporary.path().join("data");
        fs::create_dir(&data).unwrap();
        // An agent with a child elsewhere, a server in the data directory, and somebody who is told of it.
        let agent = start("sleep 1000 & wait", Path::new("/"));
        let server = start("exec sleep 1000", &data);
        let guardian = start(
            &format!("exec sh -c 'sleep 1000; :' guardian --data-dir '{}'", data.display()),
            Path::new("/"),
        );
        let stranger = start("exec sleep 1000", Path::new("/"));
        let pid = |started: &Started| i32::try_from(started.0.id()).unwrap();

        let begun = std::time::Instant::now();
        let found = loop {
            let found = of_node(Some(agent.0.id()), &data);
            // The agent and its child, the server, the guardian and its child.
            if found.len() == 5 || begun.elapsed().as_secs() > 20 {
                break found;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        };
        assert_eq!(found.len(), 5, "{found:?}");
        for one in [&agent, &server, &guardian] {
            assert!(found.contains(&pid(one)));
        }
        assert!(!found.contains(&pid(&stranger)));
        assert_eq!(of_postgres(&data), [pid(&server)]);

        kill_at_once(&found);
        let begun = std::time::Instant::now();
        while !of_node(Some(agent.0.id()), &data).is_empty() {
            assert!(begun.elapsed().as_secs() < 20, "they die");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    #[test]
    fn a_postmaster_file_that_names_a_stranger_names_nobody() {
        let temporary = tempfile::tempdir().unwrap();
        fs::write(temporary.path().join("postmaster.pid"), format!("{}\n", std::process::id())).unwrap();
        assert_eq!(postmaster(temporary.path()), None);
    }
}
