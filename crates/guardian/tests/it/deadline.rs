//! The deadline itself: who dies, when, and who does not.

use std::{fs, os::unix::fs::MetadataExt as _, process::Command, time::Duration};

use bellwether_guardian::{ControlError, Mode, Target, boottime};
use rustix::process::Signal;

use crate::tree::{FAMILY_SIZE, Node, PUNCTUAL, Tree, lives, signal, wait_for};

const SOON: Duration = Duration::from_millis(300);
const LATER: Duration = Duration::from_secs(600);

#[test]
fn everybody_in_the_data_directory_dies_at_the_deadline_and_not_before() {
    for (case, named) in [("postmaster named", true), ("found by the directory alone", false)] {
        let node = Node::new();
        let tree = Tree::family(&node);
        let guardian = node.guardian(Mode::Fence);
        if named {
            guardian.target(Some(tree.root())).unwrap();
        }
        let deadline = boottime() + SOON;
        assert_eq!(guardian.arm(deadline).unwrap().armed, Some(deadline), "{case}");
        // Whoever was missing in a look that ended before the deadline was killed too early.
        let early = loop {
            let living = tree.living().len();
            if boottime() >= deadline {
                break FAMILY_SIZE;
            }
            if living < FAMILY_SIZE {
                break living;
            }
        };
        assert_eq!(early, FAMILY_SIZE, "{case}: nobody dies before the deadline");

        wait_for("the tree to be gone", || tree.living().is_empty());
        let firing = node.firing();
        assert_eq!(firing.deadline, deadline, "{case}");
        assert!(firing.fired >= deadline && firing.fired.since(deadline) < PUNCTUAL, "{case}: {firing:?}");
        assert_eq!((firing.killed, firing.left), (FAMILY_SIZE as u32, 0), "{case}");
        assert_eq!(firing.postmaster, named.then(|| tree_root_pid(&tree)), "{case}");
        assert!(firing.agent_connected && !firing.rehearsal, "{case}");

        // It stays with its agent, disarmed.
        assert!(guardian.is_alive(), "{case}");
        let refused = guardian.extend(boottime() + LATER);
        assert!(matches!(refused, Err(ControlError::NotArmed { firings: 1 })), "{case}: {refused:?}");
        assert_eq!(guardian.arm(boottime() + LATER).unwrap().firings, 1, "{case}");
    }
}

fn tree_root_pid(tree: &Tree) -> i32 {
    tree.root().pid
}

#[test]
fn a_postmaster_that_replaces_its_dead_children_gets_no_chance_to() {
    // Each death is answered with a new child and a mark in a file, as a postmaster restarts after a crash.
    let node = Node::new();
    let marks = node.runtime_dir().join("restarts");
    let script = format!("while :; do sleep 1000 & wait $!; echo again >> {}; done", marks.display());
    let tree = node.tree(&script);
    tree.wait_for_size(2);
    let guardian = node.guardian(Mode::Fence);
    guardian.target(Some(tree.root())).unwrap();
    guardian.arm(boottime() + SOON).unwrap();
    wait_for("the tree to be gone", || tree.living().is_empty());
    assert_eq!(node.firing().killed, 2);
    assert!(!marks.exists(), "it was stopped before its child was killed");
}

#[test]
fn an_extension_in_time_keeps_the_server_and_disarming_lets_it_be() {
    let node = Node::new();
    let tree = Tree::family(&node);
    let guardian = node.guardian(Mode::Fence);
    let first = boottime() + SOON;
    guardian.arm(first).unwrap();
    guardian.extend(first + SOON).unwrap();
    wait_for("the first deadline to pass", || boottime() > first);
    assert_eq!(guardian.extend(boottime() + LATER).unwrap().firings, 0);
    let second = boottime() + SOON;
    guardian.arm(second).unwrap();
    assert_eq!(guardian.disarm().unwrap().armed, None);
    wait_for("the second deadline to pass", || boottime() > second + SOON);
    assert_eq!(guardian.target(None).unwrap().firings, 0);
    assert_eq!(tree.living().len(), FAMILY_SIZE);
    guardian.dismiss().unwrap();
}

#[test]
fn an_extension_that_was_queued_too_late_does_not_save_the_server() {
    // A guardian that does not get the processor, or a machine that was suspended, wakes after the deadline and finds both the
    // expired timer and a message.
    let node = Node::new();
    let tree = Tree::family(&node);
    let guardian = node.guardian(Mode::Fence);
    let deadline = boottime() + SOON;
    guardian.arm(deadline).unwrap();
    signal(guardian.pid(), Signal::STOP);
    let queued = guardian.extend(boottime() + LATER);
    assert!(matches!(queued, Err(ControlError::Timeout { .. })), "{queued:?}");
    wait_for("the deadline to pass", || boottime() > deadline);
    assert_eq!(tree.living().len(), FAMILY_SIZE, "the guardian is stopped");
    signal(guardian.pid(), Signal::CONT);
    wait_for("the tree to be gone", || tree.living().is_empty());
    assert_eq!(node.firing().deadline, deadline);
    // The late answer to the queued request is not taken for the answer to this one.
    assert_eq!(guardian.disarm().unwrap().firings, 1);
}

#[test]
fn a_deadline_in_the_past_is_refused() {
    let node = Node::new();
    let tree = Tree::family(&node);
    let guardian = node.guardian(Mode::Fence);
    let refused = guardian.arm(boottime());
    assert!(matches!(refused, Err(ControlError::DeadlinePassed { armed: None })), "{refused:?}");
    assert_eq!(tree.living().len(), FAMILY_SIZE);
}

#[test]
fn a_process_that_only_has_the_number_of_the_postmaster_lives() {
    let node = Node::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let innocent = Tree::new(elsewhere.path(), "exec sleep 1000");
    innocent.wait_for_size(1);
    let tree = Tree::family(&node);
    let guardian = node.guardian(Mode::Fence);
    let mistaken = Target { start_ticks: innocent.root().start_ticks + 1, ..innocent.root() };
    let refused = guardian.target(Some(mistaken));
    assert!(
        matches!(refused, Err(ControlError::NoSuchProcess { target }) if target == mistaken),
        "{refused:?}"
    );
    guardian.arm(boottime() + SOON).unwrap();
    wait_for("the tree to be gone", || tree.living().is_empty());
    assert_eq!(node.firing().postmaster, None);
    assert!(lives(innocent.root().pid));
}

#[test]
fn a_postmaster_outside_the_directory_dies_with_its_children() {
    // The name is enough: a child that changed its directory is found by its parent.
    let node = Node::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let tree = Tree::new(elsewhere.path(), "sleep 1000 & sleep 1000 & wait");
    tree.wait_for_size(3);
    let guardian = node.guardian(Mode::Fence);
    guardian.target(Some(tree.root())).unwrap();
    guardian.arm(boottime() + SOON).unwrap();
    wait_for("the tree to be gone", || tree.living().is_empty());
    assert_eq!(node.firing().killed, 3);
}

/// The file systems that databases are kept on give the number of a removed inode to the next file.
#[test]
fn a_directory_that_inherited_the_inode_is_a_strangers() {
    let node = Node::new();
    let inode = fs::metadata(node.data_dir()).unwrap().ino();
    let guardian = node.guardian(Mode::Fence);
    guardian.arm(boottime() + 5 * SOON).unwrap();
    fs::remove_dir(node.data_dir()).unwrap();
    let candidates = (0..2000).map(|number| node.data_dir().with_file_name(number.to_string()));
    let heir = candidates
        .inspect(|path| fs::create_dir(path).unwrap())
        .find(|path| fs::metadata(path).unwrap().ino() == inode);
    // A file system that does not do this has nothing to show, and nothing to fear.
    let Some(heir) = heir else { return };
    let innocent = Tree::new(&heir, "exec sleep 1000");
    innocent.wait_for_size(1);
    assert_eq!(node.firing().killed, 0);
    assert!(lives(innocent.root().pid));
}

#[test]
fn the_directory_may_come_to_be_another_one() {
    let node = Node::new();
    fs::remove_dir(node.data_dir()).unwrap();
    let guardian = node.guardian(Mode::Fence);
    // Made after the start, seen at the arming; moved away while armed, as after a failed clone; and made anew.
    fs::create_dir(node.data_dir()).unwrap();
    let first = Tree::family(&node);
    let old = first.living();
    guardian.arm(boottime() + SOON + SOON).unwrap();
    fs::rename(node.data_dir(), node.runtime_dir().join("old")).unwrap();
    fs::create_dir(node.data_dir()).unwrap();
    let second = Tree::family(&node);
    wait_for("the old tree to be gone", || !old.iter().any(|&pid| lives(pid)));
    wait_for("the new tree to be gone", || second.living().is_empty());
    assert_eq!(node.firing().killed, 2 * FAMILY_SIZE as u32);
}

#[test]
fn a_rehearsal_counts_and_kills_nobody() {
    let node = Node::new();
    let tree = Tree::family(&node);
    let guardian = node.guardian(Mode::Rehearse);
    guardian.target(Some(tree.root())).unwrap();
    guardian.arm(boottime() + SOON).unwrap();
    let firing = node.firing();
    assert!(firing.rehearsal);
    assert_eq!(
        (firing.killed, firing.left, firing.postmaster),
        (FAMILY_SIZE as u32, 0, Some(tree.root().pid))
    );
    assert_eq!(tree.living().len(), FAMILY_SIZE);
}

#[test]
fn our_own_binary_is_spared_wherever_it_stands() {
    let node = Node::new();
    let tree = Tree::family(&node);
    let mut agent = Command::new(crate::tree::stand_in())
        .arg("agent")
        .args([node.data_dir(), node.runtime_dir()])
        .args([tree.root().pid.to_string(), "300000".to_owned()])
        .current_dir(node.data_dir())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    tree.wait_for_size(FAMILY_SIZE + 1);
    let guardian = node.guardian(Mode::Fence);
    guardian.arm(boottime() + SOON).unwrap();
    let firing = node.firing();
    assert_eq!((firing.killed, firing.left), (FAMILY_SIZE as u32, 0));
    assert!(lives(agent.id() as i32));
    agent.kill().unwrap();
    agent.wait().unwrap();
    guardian.dismiss_others().unwrap();
}
