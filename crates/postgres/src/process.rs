//! Processes as `/proc` shows them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The unit of times in `/proc`: the same on every architecture that PostgreSQL's packages exist for.
const TICKS_PER_SECOND: u64 = 100;
/// `PF_EXITING` among the flags in `/proc/PID/stat`.
const EXITING: u32 = 0x4;

/// One process at the moment it was read.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    state: char,
    /// On its way out of the kernel already, as far as a disk lets it.
    is_exiting: bool,
    pub(crate) start_ticks: u64,
    /// `None` if we may not look.
    pub(crate) cwd: Option<PathBuf>,
    executable: Option<PathBuf>,
    /// The command line, which PostgreSQL's processes rewrite.
    pub(crate) title: String,
}

/// Reads one process; `None` if it is gone.
pub(crate) fn read(pid: i32) -> io::Result<Option<Process>> {
    let file = |name: &str| format!("/proc/{pid}/{name}");
    let stat = match fs::read_to_string(file("stat")) {
        Ok(stat) => stat,
        Err(error) if is_gone(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    // The name may hold blanks and parentheses: the fields follow the last `)`.
    let fields: Vec<&str> =
        stat.rsplit_once(')').map_or_else(Vec::new, |(_, rest)| rest.split_whitespace().collect());
    let parsed = (|| {
        let state = fields.first()?.chars().next()?;
        let flags: u32 = fields.get(6)?.parse().ok()?;
        Some((state, fields.get(1)?.parse().ok()?, flags, fields.get(19)?.parse().ok()?))
    })();
    let Some((state, parent, flags, start_ticks)) = parsed else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} has another form", file("stat"))));
    };
    let title = fs::read(file("cmdline")).unwrap_or_default();
    Ok(Some(Process {
        pid,
        parent,
        state,
        is_exiting: flags & EXITING != 0,
        start_ticks,
        cwd: fs::read_link(file("cwd")).ok(),
        executable: fs::read_link(file("exe")).ok(),
        title: String::from_utf8_lossy(&title).replace('\0', " ").trim().to_owned(),
    }))
}

/// `/proc/<pid>/stat` of one process, kept open: a look is one system call. Never another process's, should the pid be used again.
#[derive(Debug)]
pub(crate) struct StatFile(fs::File);

impl StatFile {
    pub(crate) fn open(pid: i32) -> io::Result<Self> {
        fs::File::open(format!("/proc/{pid}/stat")).map(Self)
    }

    /// [`Process::is_stopped`] at this moment. Fails once the process is gone.
    pub(crate) fn is_stopped(&self) -> io::Result<bool> {
        let mut start = [0; 128];
        let length = self.0.read_at(&mut start, 0)?;
        // The name is cut to 15 bytes, so the state is among these.
        let state =
            start[..length].iter().rposition(|byte| *byte == b')').and_then(|at| start[..length].get(at + 2));
        state
            .map(|state| means_stopped(char::from(*state)))
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/<pid>/stat has another form"))
    }
}

fn means_stopped(state: char) -> bool {
    matches!(state, 'T' | 't')
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

impl Process {
    /// A zombie or a dead one.
    pub(crate) fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }

    /// Will run no code of its own any more: it is dead, on its way out, or was killed and has yet to leave the kernel, where a disk that
    /// hangs may keep it for ever. What it was about to acknowledge it never will.
    pub(crate) fn is_harmless(&self) -> io::Result<bool> {
        Ok(self.is_dead() || self.is_exiting || is_pending(self.pid, Signal::KILL)?)
    }

    /// Sleeps until something happens; neither runs nor was stopped.
    pub(crate) fn is_asleep(&self) -> bool {
        self.state == 'S'
    }

    /// A signal (or a debugger) has stopped it, and it will do nothing before another one wakes it.
    pub(crate) fn is_stopped(&self) -> bool {
        means_stopped(self.state)
    }

    /// Its program is PostgreSQL's server (`postgres`, `postgres-15`, `edb-postgres`, `postmaster`), also after an upgrade has
    /// replaced the file. `postgres_exporter` and its kind are not.
    pub(crate) fn runs_postgres(&self) -> bool {
        let Some(name) = self.executable.as_ref().and_then(|path| path.file_name()) else { return false };
        let name = name.to_string_lossy();
        let name = name.strip_suffix(" (deleted)").unwrap_or(&name);
        name == "postmaster"
            || name.ends_with("postgres")
            || name.strip_prefix("postgres").is_some_and(|rest| rest.starts_with(['-', '.']))
    }

    /// May serve a client: a process of PostgreSQL that is not known to be an auxiliary one or a walsender. One that has not
    /// set its title yet counts, because "no backend is left" is a promise. Titles: `postgres: [cluster: ]what ...`.
    pub(crate) fn may_serve_a_client(&self) -> bool {
        const AUXILIARY: [&str; 19] = [
            "archiver",
            "autovacuum launcher",
            "autovacuum worker",
            "background writer",
            "checkpointer",
            "io worker",
            "logger",
            "logical replication",
            "slotsync worker",
            "startup",
            "stats collector",
            "wal receiver",
            "wal sender",
            "wal writer",
            "walreceiver",
            "walsender",
            "walsummarizer",
            "wal summarizer",
            "walwriter",
        ];
        let title = self.title.strip_prefix("postgres: ").unwrap_or_default();
        // `cluster_name` may stand in front, and may be anything.
        !title.split(": ").take(2).any(|part| AUXILIARY.iter().any(|word| part.starts_with(word)))
    }
}

/// When `process` started, in seconds since 1970, as far as the clock was not stepped since boot.
pub(crate) fn started_at(process: &Process) -> Option<i64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let boot: i64 = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + i64::try_from(process.start_ticks / TICKS_PER_SECOND).ok()?)
}

/// Whether a signal was sent to this process that it has not taken yet. A process that is gone has none.
pub(crate) fn is_pending(pid: i32, signal: Signal) -> io::Result<bool> {
    let status = match fs::read_to_string(format!("/proc/{pid}/status")) {
        Ok(status) => status,
        Err(error) if is_gone(&error) => return Ok(false),
        Err(error) => return Err(error),
    };
    // Those for the thread and those for the process, as bits in hexadecimal from signal 1.
    let masks = ["SigPnd:", "ShdPnd:"].map(|field| {
        let mask = status.lines().find_map(|line| line.strip_prefix(field))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    });
    let [Some(thread), Some(process)] = masks else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the status of a process has another form"));
    };
    Ok(((thread | process) >> (signal.as_raw() - 1)) & 1 == 1)
}

/// SIGKILL to exactly this process.
pub(crate) fn kill(process: &Process) -> io::Result<()> {
    signal(process, Signal::KILL)
}

/// Signals exactly this process: the pidfd is opened first, then the identity is checked. One that is gone is no error.
pub(crate) fn signal(process: &Process, signal: Signal) -> io::Result<()> {
    let Some(pid) = Pid::from_raw(process.pid) else { return Ok(()) };
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    match read(process.pid)? {
        Some(now) if now.start_ticks == process.start_ticks => {}
        _ => return Ok(()),
    }
    match pidfd_send_signal(&pidfd, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// All processes at about one moment.
#[derive(Debug)]
pub(crate) struct ProcessTable(BTreeMap<i32, Process>);

impl ProcessTable {
    /// Blocking; a few milliseconds on a busy machine.
    pub(crate) fn read() -> io::Result<Self> {
        let mut table = BTreeMap::new();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            // One that can't be read (hidepid, another user's) can't be ours either.
            if let Ok(Some(process)) = read(pid) {
                table.insert(pid, process);
            }
        }
        Ok(Self(table))
    }

    pub(crate) fn living(&self) -> impl Iterator<Item = &Process> {
        self.0.values().filter(|process| !process.is_dead())
    }

    /// Processes of PostgreSQL that work in `data_dir` and whose postmaster is dead.
    ///
    /// A postmaster keeps the command line that it was started with; what it forks is titled `postgres: ...` and is its child.
    pub(crate) fn orphans_in(&self, data_dir: &Path) -> Vec<&Process> {
        let is_there =
            |process: &Process| process.cwd.as_deref() == Some(data_dir) && process.runs_postgres();
        let has_parent = |process: &Process| {
            self.0.get(&process.parent).is_some_and(|parent| !parent.is_dead() && is_there(parent))
        };
        self.living()
            .filter(|process| is_there(process) && process.title.starts_with("postgres: "))
            .filter(|process| !has_parent(process))
            .collect()
    }

    /// Pids of all descendants of the process that is `pid` and started at `start_ticks`.
    pub(crate) fn descendants_of(&self, pid: i32, start_ticks: u64) -> BTreeSet<i32> {
        let mut found = BTreeSet::new();
        if self.0.get(&pid).is_some_and(|process| process.start_ticks != start_ticks) {
            return found; // the pid was reused
        }
        let mut parents = vec![pid];
        while let Some(parent) = parents.pop() {
            for child in self.0.values().filter(|process| process.parent == parent) {
                if found.insert(child.pid) {
                    parents.push(child.pid);
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn titled(title: &str) -> Process {
        Process {
            pid: 2,
            parent: 1,
            state: 'S',
            is_exiting: false,
            start_ticks: 0,
            cwd: None,
            executable: None,
            title: title.to_owned(),
        }
    }

    #[test]
    fn what_may_serve_a_client_is_told_from_auxiliary_processes() {
        for (title, expected) in [
            ("postgres: app shop 10.0.0.1(40000) idle in transaction", true),
            ("postgres: demo: app shop [local] COMMIT waiting for 0/3000060", true),
            ("postgres: demo: walsender replicator 127.0.0.1(40000) streaming 0/3000060", false),
            ("postgres: checkpointer", false),
            ("postgres: demo: background writer", false),
            ("postgres: demo: logical replication launcher", false),
            ("postgres: startup recovering 000000010000000000000003", false),
            ("postgres: demo: app shop [local] SELECT 'x: startup'", true),
            ("/usr/lib/postgresql/15/bin/postgres -D /data", true),
        ] {
            assert_eq!(titled(title).may_serve_a_client(), expected, "{title}");
        }
    }

    #[test]
    fn the_server_is_told_from_programs_with_similar_names() {
        for (path, expected) in [
            ("/usr/lib/postgresql/15/bin/postgres", true),
            ("/usr/lib/postgresql/15/bin/postgres (deleted)", true),
            ("/opt/edb/bin/edb-postgres", true),
            ("/usr/bin/postgres-15", true),
            ("/usr/bin/postgres_exporter", false),
            ("/usr/lib/postgresql/15/bin/pg_basebackup", false),
        ] {
            let process = Process { executable: Some(PathBuf::from(path)), ..titled("") };
            assert_eq!(process.runs_postgres(), expected, "{path}");
        }
    }

    #[test]
    fn this_process_is_found_in_the_table() {
        let me = i32::try_from(std::process::id()).unwrap();
        let process = read(me).unwrap().unwrap();
        assert!(!process.is_dead() && process.start_ticks > 0);
        let table = ProcessTable::read().unwrap();
        assert!(
            table
                .descendants_of(process.parent, read(process.parent).unwrap().unwrap().start_ticks)
                .contains(&me)
        );
        assert!(
            table.descendants_of(process.parent, 0).is_empty(),
            "a reused pid has no descendants of ours"
        );
    }
}
