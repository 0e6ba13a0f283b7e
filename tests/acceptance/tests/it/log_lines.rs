//! Under the name `patroni` the log is what scripts around Patroni read: one line per cycle, in the shape that `log` asks for,
//! which a reload changes.

use std::{
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Stdio},
};

use bellwether_acceptance::{Cluster, Node, Options, PATIENCE, binary, processes, wait::until};
use rustix::process::Signal;
use serde_json::{Value, json};

/// `patroni FILE`, killed at the end of the test at the latest.
struct Patroni(Child);

impl Patroni {
    fn start(node: &Node) -> Self {
        let log = std::fs::File::create(node.log()).expect("a log file");
        let mut command = binary::bellwether(node.account);
        command.arg0("patroni").arg(node.configuration()).current_dir(&node.dir).env("HOME", &node.dir);
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file can be opened twice")).stderr(log);
        Self(command.spawn().expect("the binary can be started"))
    }

    fn send(&self, signal: Signal) {
        assert!(processes::send(self.0.id().try_into().expect("a process id"), signal), "it is there");
    }
}

impl Drop for Patroni {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How many lines are exactly this: 23 characters of time, then level and message.
fn count(node: &Node, line: &str) -> usize {
    let text = node.log_text();
    text.lines().filter(|told| told.get(24..) == Some(line) && is_time(&told[..23])).count()
}

/// `2026-11-22 01:02:03,004`.
fn is_time(text: &str) -> bool {
    let pattern = "0000-00-00 00:00:00,000";
    text.chars().zip(pattern.chars()).all(|(c, p)| if p == '0' { c.is_ascii_digit() } else { c == p })
}

fn json_lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    // The last line may be on its way.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| serde_json::from_str(line).expect("each line is an object")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_has_the_lines_and_the_shapes_that_scripts_know() {
    let fast = json!({"bootstrap": {"dcs": {"ttl": 20, "loop_wait": 1, "retry_timeout": 3}}});
    let cluster = Cluster::prepare(&Options::nodes(1).with(fast)).await;
    let node = &cluster.nodes[0];
    let mut agent = Patroni::start(node);
    cluster.whole().await;

    let heartbeat = "INFO: no action. I am (node1), the leader with the lock";
    until("every cycle is told", PATIENCE, || count(node, heartbeat) >= 3).await;
    for line in ["INFO: trying to bootstrap a new cluster", "INFO: Lock owner: None; I am node1"] {
        assert!(count(node, line) >= 1, "`{line}` in:\n{}", node.log_text());
    }
    assert!(node.log_text().contains(" INFO: postmaster pid="), "{}", node.log_text());

    assert_eq!(node.api.patch("/config", json!({"pause": true})).await.status, 200);
    let paused = "INFO: PAUSE: no action. I am (node1), the leader with the lock";
    until("the pause is told", PATIENCE, || count(node, paused) >= 1).await;

    let mut document = node.document.clone();
    let dir = node.dir.join("logs");
    document["log"] = json!({
        "type": "json",
        "dir": dir,
        "format": [{"asctime": "time"}, "levelname", "message"],
        "static_fields": {"app": "pg"},
    });
    node.rewrite(&document);
    agent.send(Signal::HUP);
    let is_heartbeat = |line: &Value| {
        let message = line["message"].as_str().unwrap_or_default();
        message.starts_with("PAUSE: no action") && is_time(line["time"].as_str().unwrap_or_default())
    };
    until("the new shape is in force", PATIENCE, || {
        let lines = json_lines(&dir.join("patroni.log"));
        lines.iter().any(|line| is_heartbeat(line) && line["levelname"] == "INFO" && line["app"] == "pg")
    })
    .await;

    agent.send(Signal::TERM);
    until("the agent ends", PATIENCE, || agent.0.try_wait().expect("a child").is_some()).await;
    let last = "Leader key is not deleted and Postgresql is not stopped due paused state";
    let lines = json_lines(&dir.join("patroni.log"));
    assert!(
        lines.iter().any(|line| line["message"].as_str().is_some_and(|text| text.contains(last))),
        "{lines:#?}"
    );
}
