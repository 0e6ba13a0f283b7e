//! `bellwether demo`, as a newcomer meets it.

use std::{
    fs::{self, Permissions},
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

fn demo() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bellwether"));
    command.arg("demo").stdin(Stdio::null());
    command
}

/// A directory through which the nodes' user may pass.
fn open_directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o711)).unwrap();
    directory
}

fn in_full(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{}\n{out}\n{err}", output.status)
}

/// The processes that work below `folder` or are told of something in it.
fn left_over(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let works_there = fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
        if works_there || command.contains(&*folder.to_string_lossy()) {
            found.push(command);
        }
    }
    found
}

#[test]
fn the_drill_heals_from_each_fault_and_loses_nothing() {
    let directory = open_directory();
    let folder = directory.path().join("drill");
    let output = demo().args(["--drill", "--format", "json", "--folder"]).arg(&folder).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", in_full(&output)));
    let told = in_full(&output);
    assert!(output.status.success(), "{told}");
    assert_eq!(report["good"], true, "{told}");
    assert_eq!(report["rows"]["lost"], 0, "{told}");
    assert_eq!(report["members"].as_array().map(Vec::len), Some(3), "{told}");

    let events = report["events"].as_array().unwrap();
    let codes: Vec<_> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    let story = ["leader_host_lost", "leader_frozen", "switchover", "postgres_killed", "agent_killed"];
    assert_eq!(codes, story, "{told}");
    for event in &events[..3] {
        assert_ne!(event["leader_before"], event["leader_after"], "{told}");
    }
    assert_eq!(left_over(&folder), Vec::<String>::new());
}

#[test]
fn an_interrupt_stops_everything() {
    let directory = open_directory();
    let folder = directory.path().join("live");
    let mut running =
        demo().args(["--format", "json", "--folder"]).arg(&folder).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(running.stdout.take().unwrap()).lines();
    // The first line comes once the cluster is whole and writes.
    let line: Value = serde_json::from_str(&lines.next().expect("it gets ready").unwrap()).unwrap();
    assert!(line["leader"].is_string(), "{line}");
    assert!(line["rows"]["acknowledged"].as_u64() > Some(0), "{line}");
    assert_eq!(line["members"].as_array().map(Vec::len), Some(3), "{line}");

    let demo = rustix::process::Pid::from_child(&running);
    rustix::process::kill_process(demo, rustix::process::Signal::INT).unwrap();
    for _ in lines.by_ref() {}
    assert!(running.wait().unwrap().success());
    assert_eq!(left_over(&folder), Vec::<String>::new());
    assert!(!folder.join("node1/data/postmaster.pid").exists(), "PostgreSQL was stopped in order");
}

#[test]
fn what_cannot_be_shown_is_told_before_anything_is_made() {
    let directory = open_directory();
    fs::write(directory.path().join("precious"), "data").unwrap();
    let elsewhere = directory.path().join("new");
    let (occupied, elsewhere) = (directory.path().to_str().unwrap(), elsewhere.to_str().unwrap());
    for (case, arguments, told) in [
        ("an occupied folder", ["--folder", occupied].as_slice(), "is not empty"),
        ("no PostgreSQL there", &["--folder", elsewhere, "--bin-dir", occupied], "there is no `postgres`"),
    ] {
        let output = demo().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{case}: {}", in_full(&output));
        assert!(String::from_utf8_lossy(&output.stderr).contains(told), "{case}: {}", in_full(&output));
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing was made");
}
