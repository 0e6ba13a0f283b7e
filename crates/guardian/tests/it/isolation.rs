//! What may not reach the guardian: its agent's signals, session, files and memory pressure.

use std::{
    fs,
    os::unix::{fs::MetadataExt as _, process::ExitStatusExt as _},
    process::Command,
    time::Duration,
};

use bellwether_guardian::{Mode, SpawnError, SpawnOptions, boottime};
use rustix::process::Signal;

use crate::tree::{Node, Tree, lives, signal, stand_in, wait_for};

#[test]
fn no_signal_but_its_own_reaches_it() {
    let node = Node::new();
    let tree = Tree::family(&node);
    let guardian = node.guardian(Mode::Fence);
    guardian.arm(boottime() + Duration::from_secs(1)).unwrap();
    for sent in [
        Signal::TERM,
        Signal::INT,
        Signal::HUP,
        Signal::PIPE,
        Signal::QUIT,
        Signal::ALARM,
        Signal::USR2,
        Signal::CHILD,
        Signal::TSTP,
        Signal::TTIN,
    ] {
        signal(guardian.pid(), sent);
        assert!(guardian.target(Some(tree.root())).is_ok(), "after {sent:?} it still answers");
    }
    wait_for("the tree to be gone", || tree.living().is_empty());
}

#[test]
fn it_has_a_session_of_its_own_and_nothing_open_of_its_agents() {
    let node = Node::new();
    let leaked = fs::File::create(node.runtime_dir().join("leaked")).unwrap();
    // Any careless library in the agent may leave such a one.
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    let leaked = leaked.metadata().unwrap();
    let guardian = node.guardian(Mode::Fence);
    let pid = guardian.pid();

    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    assert_eq!(
        (fields[2], fields[3]),
        (pid.to_string().as_str(), pid.to_string().as_str()),
        "group, session"
    );
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap().to_str(), Some("/"));
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let open = fs::metadata(entry.unwrap().path()).unwrap();
        assert!((open.dev(), open.ino()) != (leaked.dev(), leaked.ino()));
    }
    assert!(fs::read(format!("/proc/{pid}/environ")).unwrap().is_empty());
}

#[test]
fn its_memory_is_locked_where_that_is_allowed() {
    let node = Node::new();
    let guardian = node.guardian(Mode::Fence);
    let status = fs::read_to_string(format!("/proc/{}/status", guardian.pid())).unwrap();
    let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap().trim();
    assert_eq!(guardian.memory_locked(), locked != "0 kB", "{locked}");
    let policy = scheduling_policy(guardian.pid());
    assert_eq!(guardian.real_time(), policy == 1, "scheduling policy {policy}");
}

/// Field 41 of `/proc/<pid>/stat`: 1 is SCHED_FIFO.
fn scheduling_policy(pid: i32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.split(' ').nth(38).unwrap().parse().unwrap()
}

#[test]
fn the_allocator_of_these_tests_bites() {
    // All guardians of these tests run under it: one that allocated after its start would be gone.
    let status = Command::new(stand_in()).arg("allocate").status().unwrap();
    assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()));
}

#[test]
fn a_guardian_that_cannot_start_says_why() {
    let node = Node::new();
    let nowhere = node.runtime_dir().join("nowhere");
    let options = node.spawn_options(Mode::Fence);
    let Err(SpawnError::Log { path, .. }) = bellwether_guardian::Guardian::spawn(SpawnOptions {
        runtime_dir: nowhere.clone(),
        ..options.clone()
    }) else {
        panic!("there is no runtime directory")
    };
    assert_eq!(path, nowhere.join("guardian.log"));

    let missing = bellwether_guardian::Guardian::spawn(SpawnOptions { exe: nowhere, ..options.clone() });
    assert!(matches!(missing, Err(SpawnError::Start { .. })), "{missing:?}");

    let other = bellwether_guardian::Guardian::spawn(SpawnOptions { exe: "/bin/false".into(), ..options });
    let Err(error @ SpawnError::Ended { .. }) = other else { panic!("{other:?}") };
    assert!(error.to_string().contains("exit status: 1"), "{error}");
}

#[test]
fn by_hand_it_does_not_start() {
    let node = Node::new();
    let by_hand = |args: &[&std::ffi::OsStr]| {
        let mut command = Command::new(stand_in());
        command.arg("guardian").args(args).stdin(std::process::Stdio::null()).output().unwrap()
    };
    let output = by_hand(&["--data-dir".as_ref(), "relative".as_ref()]);
    assert_eq!(output.status.code(), Some(2));
    let (data, run) = (node.data_dir(), node.runtime_dir());
    let output = by_hand(&["--data-dir".as_ref(), data.as_ref(), "--runtime-dir".as_ref(), run.as_ref()]);
    assert_eq!(output.status.code(), Some(1));
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(complaint.contains("socket"), "{complaint}");
    assert!(fs::read_dir(&run).unwrap().next().is_none(), "no pid file");
}

#[test]
fn a_guardian_that_dies_is_noticed() {
    let node = Node::new();
    let guardian = node.guardian(Mode::Fence);
    assert!(guardian.is_alive());
    signal(guardian.pid(), Signal::KILL);
    wait_for("its end", || !guardian.is_alive());
    assert!(!lives(guardian.pid()));
    let refused = guardian.arm(boottime() + Duration::from_secs(9));
    assert!(matches!(refused, Err(bellwether_guardian::ControlError::Gone)), "{refused:?}");
}
