//! What the cases stand on: a guardian, a tree of processes in a directory, and bounded waiting.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use bellwether_guardian::{Firing, Guardian, Mode, SpawnOptions, Target, last_firing};
use tempfile::TempDir;

/// How late a firing may be on a machine that is busy with other tests. Undisturbed it is well below a millisecond.
pub(crate) const PUNCTUAL: Duration = Duration::from_millis(500);
/// The limit of every wait.
const PATIENCE: Duration = Duration::from_secs(30);

/// The binary that plays guardian and agent. Cargo builds examples for `cargo test` without telling where they are.
pub(crate) fn stand_in() -> PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        let path = test.parent().unwrap().parent().unwrap().join("examples/stand-in");
        assert!(path.exists(), "`{}` is built together with this test", path.display());
        path
    })
    .clone()
}

/// A node: a data directory with processes in it, and a runtime directory.
pub(crate) struct Node {
    dir: TempDir,
}

impl Node {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        fs::create_dir(dir.path().join("run")).unwrap();
        Self { dir }
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn runtime_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    pub(crate) fn guardian(&self, mode: Mode) -> Guardian {
        Guardian::spawn(self.spawn_options(mode)).unwrap_or_else(|error| {
            let log = fs::read_to_string(self.runtime_dir().join("guardian.log"));
            panic!("{error}: {log:?}")
        })
    }

    pub(crate) fn spawn_options(&self, mode: Mode) -> SpawnOptions {
        SpawnOptions { exe: stand_in(), data_dir: self.data_dir(), runtime_dir: self.runtime_dir(), mode }
    }

    pub(crate) fn tree(&self, script: &str) -> Tree {
        Tree::new(&self.data_dir(), script)
    }

    /// Waits for the record of a firing, which is the last thing the guardian does.
    pub(crate) fn firing(&self) -> Firing {
        let mut found = None;
        wait_for("the record of a firing", || {
            found = last_firing(&self.runtime_dir()).unwrap();
            found.is_some()
        });
        found.unwrap()
    }

    pub(crate) fn has_fired(&self) -> bool {
        last_firing(&self.runtime_dir()).unwrap().is_some()
    }
}

/// A shell script and all that it started: stands for a postmaster with its backends.
pub(crate) struct Tree {
    root: Child,
    dir: PathBuf,
}

/// Children, a grandchild, and one in a session of its own, as PostgreSQL's backends are.
pub(crate) const FAMILY: &str = "sleep 1000 & (sleep 1000 & sleep 1000) & setsid sleep 1000 & wait";
/// The number of processes of [`FAMILY`], the root included.
pub(crate) const FAMILY_SIZE: usize = 5;

impl Tree {
    pub(crate) fn new(dir: &Path, script: &str) -> Self {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(script).current_dir(dir).stdin(Stdio::null()).stdout(Stdio::null());
        Self { root: command.spawn().unwrap(), dir: dir.to_owned() }
    }

    /// The family, once it is complete.
    pub(crate) fn family(node: &Node) -> Self {
        let tree = node.tree(FAMILY);
        tree.wait_for_size(FAMILY_SIZE);
        tree
    }

    pub(crate) fn wait_for_size(&self, size: usize) {
        wait_for("the tree to be complete", || self.living().len() == size);
    }

    pub(crate) fn root(&self) -> Target {
        Target::of_pid(self.root.id() as i32).unwrap()
    }

    /// Everybody who runs in the tree's directory, by a look at /proc of the test's own.
    pub(crate) fn living(&self) -> Vec<i32> {
        inhabitants(&self.dir)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // Only what this test started, by pid; several times, for what is being forked meanwhile.
        for _ in 0..50 {
            let living = self.living();
            if living.is_empty() {
                break;
            }
            for pid in living {
                signal(pid, rustix::process::Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.root.wait();
    }
}

/// The live processes whose working directory is `dir`.
pub(crate) fn inhabitants(dir: &Path) -> Vec<i32> {
    let Ok(wanted) = fs::metadata(dir) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        if fs::metadata(entry.path().join("cwd"))
            .is_ok_and(|cwd| (cwd.dev(), cwd.ino()) == (wanted.dev(), wanted.ino()))
            && lives(pid)
        {
            found.push(pid);
        }
    }
    found
}

/// Whether the process runs, which a zombie does not.
pub(crate) fn lives(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| stat.rsplit_once(") ").map(|(_, rest)| !rest.starts_with(['Z', 'X'])))
        .unwrap_or(false)
}

pub(crate) fn signal(pid: i32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    let _ = rustix::process::kill_process(pid, signal);
}

/// Waits until `condition` holds; fails the test when it does not within a generous time.
pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
