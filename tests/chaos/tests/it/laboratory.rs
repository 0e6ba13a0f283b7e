//! The programs on real hosts in namespaces: short, so that they never rot, and with generous limits, since the machine is shared.

use std::{
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

/// Whether this machine lets us make hosts: an ordinary user may not, nor root in most containers.
fn may_make_hosts() -> bool {
    let namespaces =
        || Command::new("unshare").args(["--net", "--mount", "--pid", "--fork", "true"]).status();
    rustix::process::geteuid().is_root()
        && Path::new("/dev/net/tun").exists()
        && namespaces().is_ok_and(|status| status.success())
}

/// Runs the program and gives what it reported; `None` where no hosts can be made.
#[expect(clippy::print_stderr, reason = "whoever runs the tests should know what they did not do")]
pub(crate) fn chaos(arguments: &[&str]) -> Option<Value> {
    if !may_make_hosts() {
        eprintln!("no namespaces (root) or no /dev/net/tun: nothing was tested");
        return None;
    }
    let out = tempfile::tempdir().expect("a temporary directory");
    let program = Path::new(env!("CARGO_BIN_EXE_bellwether-chaos"));
    let output: Output =
        Command::new(program).args(arguments).current_dir(out.path()).output().expect("the program runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let report = serde_json::from_slice(&output.stdout);
    let report: Value = report.unwrap_or_else(|error| panic!("no report ({error}): {said}"));
    if !output.status.success() {
        let kept = out.keep();
        panic!("{}: {report:#}\n{said}\nits files are in {}", output.status, kept.display());
    }
    Some(report)
}

#[test]
fn a_few_faults_on_the_embedded_store_lose_nothing() {
    let arguments = [
        "run",
        "--rounds",
        "4",
        "--seed",
        "5",
        "--faults",
        "power-off-unsynced,isolated,store-split,clock-behind",
    ];
    let Some(report) = chaos(&arguments) else { return };
    assert_eq!(report["rounds"].as_array().map(Vec::len), Some(4), "{report:#}");
    assert_eq!(report["verdict"]["findings"], Value::Array(vec![]), "{report:#}");
    assert!(report["verdict"]["acknowledged"].as_u64() > Some(100), "{report:#}");
}

#[test]
fn outages_are_measured_and_nothing_is_lost() {
    let events = "switchover,postgres-killed,power-off";
    let arguments = ["bench-one", "--stack", "bellwether-etcd", "--rounds", "1", "--events", events];
    let Some(report) = chaos(&arguments) else { return };
    assert_eq!(report["lost"], 0, "{report:#}");
    let measured = report["measured"].as_array().expect("events");
    assert_eq!(measured.len(), 3, "{report:#}");
    for event in measured {
        let outage = event["outage_ms"].as_u64().expect("an outage");
        assert!((1..20_000).contains(&outage), "{event}");
    }
    let lost_host = &measured[2];
    assert_eq!(lost_host["leader_changed"], true, "{lost_host}");
    assert!(lost_host["steps"]["detect"].is_u64(), "the journal tells where the time went: {lost_host}");
}
