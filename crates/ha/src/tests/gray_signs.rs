//! What is no sign of trouble, or is none for whom, and when: each line here is a line of [`crate::gray`] that nothing else holds.

use std::time::Duration;

use bellwether_types::{Alarm, settings::WalDiskMode};

use super::{
    demotion,
    gray::{GB, SECOND, alarms, disks, frozen, since, stalled, with_heirs},
};
use crate::{
    Action, Decision,
    testing::{POSITION, Scene, leader, replica, silence},
    view::{JobKind, LeaseView, health::Activity},
};

fn exhausted(scene: Scene) -> Scene {
    scene.view(|view| {
        view.health.activity = Some(Activity { clients: 97, clients_allowed: 97, ..Activity::default() });
    })
}

fn full(scene: Scene) -> Scene {
    scene.view(disks(|disks| disks.wal.free = GB / 64))
}

fn filling(scene: Scene, left: Duration) -> Scene {
    scene.view(disks(|disks| disks.wal.full_in = Some(left)))
}

/// Looked at twice, a minute apart, so that whatever lasts is an alarm.
fn lasting(scene: impl Fn() -> Scene, alarm: Alarm) -> Vec<&'static str> {
    alarms(&since(scene(), alarm, 60 * SECOND).decide())
}

#[test]
fn some_signs_mean_something_on_a_leader_alone() {
    assert!(lasting(|| exhausted(replica()), Alarm::ConnectionsExhausted).is_empty());
    assert!(lasting(|| filling(replica(), 60 * SECOND), Alarm::WalDiskFilling).is_empty());
    assert!(lasting(|| stalled(replica(), 60 * SECOND), Alarm::CommitsStall).is_empty());
    let stopped = || frozen(replica().stopped());
    assert!(lasting(stopped, Alarm::PostgresFrozen).is_empty(), "nothing runs that could be frozen");
    let both = || frozen(stalled(leader(), 60 * SECOND));
    assert_eq!(lasting(both, Alarm::PostgresFrozen), ["postgres_frozen"], "of course nothing is committed");
}

#[test]
fn disks_are_judged_as_the_guard_is_set() {
    let off = |scene: Scene| scene.settings(|settings| settings.wal_disk_guard.mode = WalDiskMode::Off);
    assert_eq!(lasting(|| full(leader()), Alarm::WalDiskFull), ["wal_disk_full"]);
    assert!(lasting(|| off(full(leader())), Alarm::WalDiskFull).is_empty());
    let day = Duration::from_secs(86_400);
    assert!(lasting(|| filling(leader(), day), Alarm::WalDiskFilling).is_empty(), "that is far away");
    let data = || leader().view(disks(|disks| disks.data.free = GB / 64));
    assert_eq!(lasting(data, Alarm::DataDiskFull), ["data_disk_full"]);
    let wal = || leader().view(disks(|disks| disks.wal.read_only = true));
    assert_eq!(lasting(wal, Alarm::DiskReadOnly), ["disk_read_only"]);
}

#[test]
fn what_may_be_over_in_a_moment_is_no_alarm_yet() {
    let read_only = || leader().view(disks(|disks| disks.data.read_only = true));
    for (case, scene) in [("exhausted", exhausted(leader())), ("read-only", read_only())] {
        assert!(alarms(&scene.decide()).is_empty(), "{case}");
    }
    assert!(alarms(&stalled(leader(), SECOND).decide()).is_empty(), "a slow commit");
    let slow_loop = |lasts: Duration| {
        let scene = leader().settings(|settings| settings.loop_wait = 10 * SECOND);
        alarms(&stalled(scene, lasts).decide())
    };
    assert!(slow_loop(9 * SECOND).is_empty());
    assert_eq!(slow_loop(10 * SECOND), ["commits_stall"]);
}

#[test]
fn who_is_busy_hands_over_nothing_beside_it() {
    let scene = || since(with_heirs(stalled(leader(), 12 * SECOND)), Alarm::CommitsStall, 10 * SECOND);
    assert!(demotion(&scene().decide()).is_some());
    assert_eq!(demotion(&scene().job(JobKind::Restart).decide()), None);
}

#[test]
fn commits_are_tried_by_who_may_write() {
    let tries = |decision: &Decision| decision.actions.contains(&Action::ProbeCommit);
    let first = leader().decide();
    let busy = |scene: Scene| scene.after(&first).later(SECOND).server(|server| server.position.0 += 20_000);
    assert!(tries(&busy(leader()).decide()));
    assert!(!tries(&busy(leader().lease(LeaseView::NotHeld)).decide()), "without the lock");
    assert!(!tries(&busy(replica()).decide()), "a standby");
}

#[test]
fn a_slot_is_given_up_only_if_that_frees_something() {
    let dropped = |held_back: u64, is_full: bool| {
        let scene = leader().settings(|settings| settings.wal_disk_guard.mode = WalDiskMode::EvictSlots);
        let scene = if is_full { full(scene) } else { scene };
        let scene = scene.server(move |server| {
            server.position.0 += GB;
            for slot in &mut server.slots {
                slot.active = slot.name == "c";
                slot.restart_lsn = Some(bellwether_types::Lsn(server.position.0 - held_back));
            }
        });
        let foreign = scene.slot("by_hand", |slot| (slot.active, slot.restart_lsn) = (false, Some(POSITION)));
        let scene = if is_full { since(foreign, Alarm::WalDiskFull, 3 * SECOND) } else { foreign };
        let decision = scene.answers(&[("b", silence()), ("c", silence())]).decide();
        decision.actions.iter().any(|action| match action {
            Action::DropSlots { slots } => slots.values().any(|why| *why == crate::action::DropWhy::DiskFull),
            _ => false,
        })
    };
    assert!(dropped(GB / 2, true));
    assert!(!dropped(GB / 2, false), "there is room");
    assert!(!dropped(1 << 20, true), "it holds back nothing worth a copy");
}
