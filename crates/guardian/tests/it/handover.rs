//! The next agent takes over from the guardian of the last.

use std::time::Duration;

use bellwether_guardian::{Mode, boottime, dismiss_previous};
use rustix::process::Signal;

use crate::tree::{FAMILY_SIZE, Node, Tree, lives, signal, wait_for};

const SOON: Duration = Duration::from_secs(1);
const LATER: Duration = Duration::from_secs(600);

#[test]
fn the_new_guardian_is_armed_before_the_old_one_goes() {
    let node = Node::new();
    let tree = Tree::family(&node);
    let old = node.guardian(Mode::Fence);
    let old_deadline = boottime() + SOON;
    old.arm(old_deadline).unwrap();
    let old_id = old.id();
    // The agent dies; PostgreSQL and the guardian stay.
    drop(old);

    let new = node.guardian(Mode::Fence);
    new.target(Some(tree.root())).unwrap();
    new.arm(boottime() + LATER).unwrap();
    assert!(lives(old_id.pid), "armed: it stays without its agent");
    let dismissed = new.dismiss_others().unwrap();
    assert_eq!(dismissed.iter().map(|one| (one.guardian, one.exited)).collect::<Vec<_>>(), [(old_id, true)]);
    assert!(!lives(old_id.pid));

    wait_for("the old deadline to pass", || boottime() > old_deadline + SOON / 2);
    assert_eq!(tree.living().len(), FAMILY_SIZE);
    assert!(new.is_alive(), "it has not dismissed itself");
    assert_eq!(new.dismiss_others().unwrap(), [], "nobody is left");
    new.dismiss().unwrap();
}

#[test]
fn of_two_guardians_the_earlier_deadline_wins() {
    let node = Node::new();
    let tree = Tree::family(&node);
    let (late, early) = (node.guardian(Mode::Fence), node.guardian(Mode::Fence));
    late.arm(boottime() + LATER).unwrap();
    early.arm(boottime() + SOON / 2).unwrap();
    wait_for("the tree to be gone", || tree.living().is_empty());
    late.dismiss().unwrap();
}

#[test]
fn an_agent_without_a_guardian_can_send_the_old_one_away() {
    let node = Node::new();
    let old = node.guardian(Mode::Fence);
    old.arm(boottime() + LATER).unwrap();
    let dismissed = dismiss_previous(&node.runtime_dir()).unwrap();
    assert!(matches!(dismissed[..], [one] if one.guardian == old.id() && one.exited), "{dismissed:?}");
    assert_eq!(dismiss_previous(&node.runtime_dir()).unwrap(), []);
}

#[test]
fn a_guardian_that_was_killed_leaves_nothing_that_disturbs() {
    let node = Node::new();
    let old = node.guardian(Mode::Fence);
    signal(old.pid(), Signal::KILL);
    wait_for("the guardian to be dead", || !old.is_alive());
    let file = node.runtime_dir().join(format!("guardian.{}.pid", old.pid()));
    assert!(file.exists());
    assert_eq!(dismiss_previous(&node.runtime_dir()).unwrap(), []);
    assert!(!file.exists());
}
