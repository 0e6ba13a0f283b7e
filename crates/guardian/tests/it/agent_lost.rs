//! The agent freezes, dies, or goes in peace.

use std::{
    io::{BufRead as _, BufReader, Lines},
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use bellwether_guardian::{Mode, boottime};
use rustix::process::Signal;

use crate::tree::{FAMILY_SIZE, Node, PUNCTUAL, Tree, lives, signal, stand_in, wait_for};

const LEASE: Duration = Duration::from_secs(1);

/// A process that extends its guardian ten times per lease.
struct Agent {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    guardian: i32,
}

impl Agent {
    fn start(node: &Node, tree: &Tree) -> Self {
        let mut process = Command::new(stand_in())
            .arg("agent")
            .args([node.data_dir(), node.runtime_dir()])
            .args([tree.root().pid.to_string(), LEASE.as_millis().to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let guardian = lines.next().unwrap().unwrap().parse().unwrap();
        Self { process, lines, guardian }
    }

    fn next_line(&mut self) -> String {
        self.lines.next().expect("the agent runs").unwrap()
    }

    fn pid(&self) -> i32 {
        self.process.id() as i32
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn an_agent_that_is_frozen_or_killed_cannot_keep_its_primary() {
    for lost_by in [Signal::STOP, Signal::KILL] {
        let node = Node::new();
        let tree = Tree::family(&node);
        let mut agent = Agent::start(&node, &tree);
        // Two leases long all is well.
        for _ in 0..20 {
            assert_eq!(agent.next_line(), "extended", "{lost_by:?}");
        }
        assert_eq!(tree.living().len(), FAMILY_SIZE, "{lost_by:?}");
        assert!(!node.has_fired(), "{lost_by:?}");

        signal(agent.pid(), lost_by);
        let lost = boottime();
        wait_for("the tree to be gone", || tree.living().is_empty());
        let firing = node.firing();
        // The last extension came at the latest when the agent was lost.
        assert!(firing.deadline <= lost + LEASE + PUNCTUAL, "{lost_by:?}: {firing:?}");
        assert!(firing.fired.since(firing.deadline) < PUNCTUAL, "{lost_by:?}: {firing:?}");
        assert_eq!(firing.killed, FAMILY_SIZE as u32, "{lost_by:?}");
        assert_eq!(firing.agent_connected, lost_by == Signal::STOP, "{lost_by:?}");

        if lost_by == Signal::STOP {
            // Woken, it learns that it leads no more, and ends; then its guardian has no more to guard.
            signal(agent.pid(), Signal::CONT);
            let mut line = agent.next_line();
            while line == "extended" {
                line = agent.next_line();
            }
            assert!(line.starts_with("refused: NotArmed"), "{line}");
        }
        wait_for("the guardian to exit", || !lives(agent.guardian));
    }
}

#[test]
fn a_guardian_that_is_not_armed_goes_with_its_agent() {
    let node = Node::new();
    let tree = Tree::family(&node);
    let guardian = node.guardian(Mode::Fence);
    let pid = guardian.pid();
    guardian.arm(boottime() + LEASE).unwrap();
    guardian.disarm().unwrap();
    drop(guardian);
    wait_for("the guardian to exit", || !lives(pid));
    assert!(!node.runtime_dir().join(format!("guardian.{pid}.pid")).exists());
    assert_eq!(tree.living().len(), FAMILY_SIZE);
}

#[test]
fn a_dismissed_guardian_goes_whatever_its_deadline() {
    let node = Node::new();
    let tree = Tree::family(&node);
    let guardian = node.guardian(Mode::Fence);
    let deadline = boottime() + Duration::from_millis(500);
    guardian.arm(deadline).unwrap();
    guardian.dismiss().unwrap();
    assert!(!guardian.is_alive());
    assert!(!lives(guardian.pid()));
    wait_for("the deadline to pass", || boottime() > deadline + PUNCTUAL);
    assert_eq!(tree.living().len(), FAMILY_SIZE);
    assert!(!node.has_fired());
}
