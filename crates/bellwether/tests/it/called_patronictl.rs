//! The binary under the name `patronictl`.

use std::{
    os::unix::fs::symlink,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// A prompt waits for its answer in vain, Ctrl-C ends it: `Aborted!` and status 1, as Patroni's users know it.
#[test]
fn an_interrupt_aborts_a_prompt() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("patronictl");
    symlink(env!("CARGO_BIN_EXE_bellwether"), &link).unwrap();
    let config = dir.path().join("ctl.yml");
    std::fs::write(&config, "scope: demo\netcd3: {host: '127.0.0.1:1'}\n").unwrap();
    let mut child = Command::new(&link)
        .arg("-c")
        .arg(&config)
        .args(["query", "--password", "-c", "SELECT 1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until(|| catches_interrupts(&child), "the process is prepared for Ctrl-C");
    // Our own child: the number cannot mean anybody else.
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    wait_until(|| child.try_wait().unwrap().is_some(), "the process ends");
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "\nAborted!\n");
}

/// `SigCgt` of the process has the bit of SIGINT.
fn catches_interrupts(child: &Child) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(caught.trim(), 16).unwrap() & (1 << 1) != 0
}

fn wait_until(mut condition: impl FnMut() -> bool, what: &str) {
    let until = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
