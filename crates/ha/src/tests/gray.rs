//! Trouble of a server that runs: alarms, and when a leader steps down.

use std::time::Duration;

use bellwether_types::{
    Alarm, Lsn, MemberName,
    settings::{SyncMode, WalDiskMode},
};

use super::{acquires, demotion, releases};
use crate::{
    Action, Decision,
    action::{DemoteMode, DropWhy},
    gray::REST,
    memory::Demoting,
    testing::{NOW, POSITION, Scene, held, leader, name, orphan, replica, silence, standby, standby_at},
    view::{
        Guardian, JobKind, JobPhase, LeaseView, PeerAnswer, PeerReport, Standby,
        health::{Activity, Disk, Disks, Probe, ProbeFailure, ProbeStage, Stopped},
    },
};

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const GB: u64 = 1 << 30;

/// A commit is being tried for so long.
pub(super) fn stalled(scene: Scene, lasts: Duration) -> Scene {
    scene.view(|view| {
        let began_at = view.now.saturating_sub(lasts);
        view.health.probe = Some(Probe { began_at, stage: ProbeStage::Committing, at: Some(POSITION) });
    })
}

fn waiting_for_standbys(scene: Scene, lasts: Duration) -> Scene {
    stalled(scene, lasts).view(|view| {
        view.health.activity = Some(Activity { probe_waits_for_standbys: true, ..Activity::default() });
    })
}

/// Every process of it is stopped.
pub(super) fn frozen(scene: Scene) -> Scene {
    scene.view(|view| view.health.stopped = Stopped::Everything)
}

pub(super) fn disks(change: impl FnOnce(&mut Disks)) -> impl FnOnce(&mut crate::View) {
    move |view| {
        let roomy = Disk { size: 100 * GB, free: 50 * GB, read_only: false, full_in: None };
        let mut disks = Disks { looked_at: view.now, wal: roomy.clone(), data: roomy };
        change(&mut disks);
        view.health.disks = Some(disks);
    }
}

pub(super) fn with_heirs(scene: Scene) -> Scene {
    scene.answers(&[("b", standby_at(POSITION)), ("c", standby_at(POSITION))])
}

/// The sign has been there without a break since so long ago.
pub(super) fn since(scene: Scene, alarm: Alarm, lasts: Duration) -> Scene {
    let began_at = scene.view.now.saturating_sub(lasts);
    scene.memory(|memory| {
        memory.gray.signs.insert(alarm, began_at);
    })
}

pub(super) fn alarms(decision: &Decision) -> Vec<&'static str> {
    decision.memory.gray.alarms.keys().map(|alarm| alarm.code()).collect()
}

/// In the order in which things are looked at: the sign appears, lasts, and is answered.
fn troubled(scene: impl Fn() -> Scene, alarm: Alarm, lasts: Duration) -> Decision {
    since(with_heirs(scene()), alarm, lasts).decide()
}

#[test]
fn a_healthy_leader_has_no_alarm() {
    let decision = leader().view(disks(|_| {})).decide();
    assert_eq!((alarms(&decision), decision.code()), (vec![], "leader_with_the_lock"));
}

#[test]
fn each_trouble_is_an_alarm_and_some_end_in_a_hand_over() {
    let limit = 10 * SECOND;
    let exhausted = Activity { clients: 97, clients_allowed: 97, ..Activity::default() };
    let failed = |why: ProbeFailure| {
        move |view: &mut crate::View| {
            view.health.probe =
                Some(Probe { began_at: view.now, stage: ProbeStage::Failed { why: why.clone() }, at: None });
        }
    };
    type Case<'a> = (&'a str, Box<dyn Fn() -> Scene + 'a>, Alarm, Option<DemoteMode>);
    let cases: Vec<Case<'_>> = vec![
        (
            "stalled",
            Box::new(|| stalled(leader(), 12 * SECOND)),
            Alarm::CommitsStall,
            Some(DemoteMode::Immediate),
        ),
        (
            "hangs",
            Box::new(|| leader().hanging_for(12 * SECOND)),
            Alarm::CommitsStall,
            Some(DemoteMode::Immediate),
        ),
        (
            "frozen",
            Box::new(|| leader().view(|view| view.health.stopped = Stopped::Postmaster)),
            Alarm::PostmasterFrozen,
            Some(DemoteMode::Graceful),
        ),
        ("frozen whole", Box::new(|| frozen(leader())), Alarm::PostgresFrozen, None),
        (
            "frozen whole, with voters",
            Box::new(|| frozen(leader().sync(SyncMode::Quorum, "a", &["b", "c"], 1))),
            Alarm::PostgresFrozen,
            Some(DemoteMode::Immediate),
        ),
        (
            "takes no connection",
            Box::new(move || leader().view(failed(ProbeFailure::NoConnection))),
            Alarm::PostmasterFrozen,
            Some(DemoteMode::Graceful),
        ),
        (
            "full",
            Box::new(|| leader().view(disks(|disks| disks.wal.free = GB / 64))),
            Alarm::WalDiskFull,
            Some(DemoteMode::Graceful),
        ),
        (
            "full by its own words",
            Box::new(move || leader().view(failed(ProbeFailure::DiskFull))),
            Alarm::WalDiskFull,
            Some(DemoteMode::Graceful),
        ),
        (
            "read-only",
            Box::new(|| leader().view(disks(|disks| disks.data.read_only = true))),
            Alarm::DiskReadOnly,
            Some(DemoteMode::Immediate),
        ),
        (
            "filling",
            Box::new(|| leader().view(disks(|disks| disks.wal.full_in = Some(60 * SECOND)))),
            Alarm::WalDiskFilling,
            None,
        ),
        (
            "exhausted",
            Box::new(|| leader().view(|view| view.health.activity = Some(exhausted.clone()))),
            Alarm::ConnectionsExhausted,
            None,
        ),
        (
            "not even for superusers",
            Box::new(move || leader().view(failed(ProbeFailure::NoConnectionLeft))),
            Alarm::ConnectionsExhausted,
            None,
        ),
        (
            "rotten",
            Box::new(|| leader().view(|view| view.health.checksum_failures = 1)),
            Alarm::ChecksumFailures,
            None,
        ),
        (
            "waits for a standby",
            Box::new(|| waiting_for_standbys(leader(), 12 * SECOND)),
            Alarm::CommitsWaitForStandby,
            None,
        ),
    ];
    for (case, scene, alarm, mode) in cases {
        let decision = troubled(&scene, alarm, limit);
        assert_eq!(alarms(&decision), [alarm.code()], "{case}");
        assert_eq!(demotion(&decision), mode, "{case}: {decision:#?}");
        if mode.is_some() {
            assert_eq!(decision.code(), "trouble_handing_over", "{case}");
        }
        let first = with_heirs(scene()).decide();
        assert_eq!(demotion(&first), None, "not at once: {case}");
    }
}

#[test]
fn a_frozen_server_is_given_up_within_a_second_and_by_nobody_else_than_a_leader() {
    let at = |scene: Scene, lasts: Duration| {
        since(with_heirs(frozen(scene)), Alarm::PostgresFrozen, lasts).decide()
    };
    let voters = || leader().sync(SyncMode::Quorum, "a", &["b", "c"], 1);
    let early = at(voters(), SECOND - Duration::from_millis(1));
    assert_eq!((demotion(&early), alarms(&early)), (None, vec![]), "somebody may look into it");
    let due = at(voters(), SECOND);
    assert_eq!((demotion(&due), alarms(&due)), (Some(DemoteMode::Immediate), vec!["postgres_frozen"]));
    assert_eq!(due.memory.gray.gave_up_at, None, "it is started anew, and may lead again soon");
    let standby = at(replica(), SECOND);
    assert_eq!((demotion(&standby), alarms(&standby)), (None, vec!["postgres_frozen"]));
    assert!(Alarm::PostgresFrozen.makes_unfit());
    let never = voters().settings(|settings| settings.gray_failure_timeout = Some(Duration::ZERO));
    assert_eq!(demotion(&at(never, SECOND)), None);
    // Received a moment after the last look at it, and acknowledged to nobody.
    let behind = || standby_at(Lsn(POSITION.0 - 8));
    let scene = frozen(voters()).answers(&[("b", behind()), ("c", behind())]);
    let decision = since(scene, Alarm::PostgresFrozen, SECOND).decide();
    assert_eq!(demotion(&decision), Some(DemoteMode::Immediate), "the votes decide: {decision:#?}");
}

#[test]
fn others_are_asked_again_soon_at_first_and_seldom_later() {
    let asked_a_second_ago = |lasts: Duration| {
        let voters = leader().sync(SyncMode::Quorum, "a", &["b", "c"], 1);
        let scene = since(with_heirs(frozen(voters)), Alarm::PostgresFrozen, lasts);
        let at = scene.view.now.saturating_sub(SECOND);
        demotion(&scene.memory(|memory| memory.gray.no_heir_at = Some(at)).decide())
    };
    assert_eq!(
        asked_a_second_ago(3 * SECOND),
        Some(DemoteMode::Immediate),
        "who was just started anew can now"
    );
    assert_eq!(asked_a_second_ago(20 * SECOND), None, "only each five seconds");
}

#[test]
fn nobody_steps_down_for_somebody_who_is_no_better_off() {
    let scene = |b: PeerAnswer, c: PeerAnswer| {
        let scene = stalled(leader(), 12 * SECOND).answers(&[("b", b), ("c", c)]);
        since(scene, Alarm::CommitsStall, 10 * SECOND)
    };
    let unfit = || PeerAnswer::Answered(PeerReport { unfit: true, ..standby() });
    let behind = || standby_at(Lsn(POSITION.0 - 8));
    for (case, b, c) in
        [("silent", silence(), silence()), ("in trouble", unfit(), unfit()), ("behind", behind(), silence())]
    {
        let decision = scene(b, c).decide();
        assert_eq!(demotion(&decision), None, "{case}: {decision:#?}");
        assert!(decision.says("trouble_without_heir"), "{case}");
        // They are not asked in every tick.
        let next = scene(silence(), silence()).after(&decision).decide();
        assert!(!next.actions.iter().any(|action| matches!(action, Action::PollPeers { .. })), "{case}");
    }
    let one = scene(unfit(), standby_at(POSITION)).decide();
    assert_eq!(demotion(&one), Some(DemoteMode::Immediate));
    let votes = scene(standby_at(POSITION), silence()).sync(SyncMode::Quorum, "a", &["b", "c"], 1).decide();
    assert_eq!(demotion(&votes), None, "the heir would lack a vote: {votes:#?}");
    let both = scene(standby_at(POSITION), behind()).sync(SyncMode::Quorum, "a", &["b", "c"], 1).decide();
    assert_eq!(demotion(&both), Some(DemoteMode::Immediate));
}

#[test]
fn who_was_killed_and_waits_for_a_hanging_disk_keeps_the_lock_from_nobody() {
    let stopping = |mode: DemoteMode, phase: JobPhase, scene: Scene| {
        let demoting = Demoting { mode, since: NOW };
        scene.job_in(JobKind::Demote, phase).memory(|memory| memory.demoting = Some(demoting))
    };
    let armed = |scene: Scene, lease: LeaseView| {
        let until = NOW + 3 * SECOND;
        scene.view(|view| (view.lease, view.fencing.guardian) = (lease, Guardian::Armed { until }))
    };
    let at_once = |phase: JobPhase, scene: Scene| stopping(DemoteMode::Immediate, phase, scene).decide();
    assert!(!releases(&at_once(JobPhase::Working, leader())), "something may still act");
    assert!(releases(&at_once(JobPhase::Harmless, leader())));
    let paused = leader().settings(|settings| settings.pause = true);
    assert!(!releases(&at_once(JobPhase::Harmless, paused)));
    // Without synchronous replication a planned stop must not lose what was acknowledged last.
    let planned = |scene: Scene| stopping(DemoteMode::Graceful, JobPhase::Harmless, scene).decide();
    assert!(!releases(&planned(leader())));
    assert!(releases(&planned(leader().sync(SyncMode::Quorum, "a", &["b", "c"], 1))));

    let disarms = |decision: Decision| decision.actions.contains(&Action::DisarmGuardian);
    assert!(!disarms(at_once(JobPhase::Harmless, armed(leader(), held(NOW)))), "the lock is still ours");
    assert!(
        disarms(at_once(JobPhase::Harmless, armed(leader(), LeaseView::NotHeld))),
        "it has nothing to do"
    );
    assert!(!disarms(at_once(JobPhase::Working, armed(leader(), LeaseView::NotHeld))));
}

#[test]
fn nobody_steps_down_in_pause_or_where_it_is_switched_off() {
    let scene = || since(with_heirs(stalled(leader(), 12 * SECOND)), Alarm::CommitsStall, 10 * SECOND);
    assert!(demotion(&scene().decide()).is_some());
    assert_eq!(demotion(&scene().settings(|settings| settings.pause = true).decide()), None);
    let never = scene().settings(|settings| settings.gray_failure_timeout = Some(Duration::ZERO)).decide();
    assert_eq!((demotion(&never), alarms(&never)), (None, vec!["commits_stall"]));
    let patient = scene().settings(|settings| settings.gray_failure_timeout = Some(60 * SECOND)).decide();
    assert_eq!(demotion(&patient), None);
}

#[test]
fn who_has_stepped_down_is_no_heir_for_a_while() {
    let decision = troubled(|| stalled(leader(), 12 * SECOND), Alarm::CommitsStall, 10 * SECOND);
    let gray = decision.memory.gray;
    let later = |by: Duration| replica().memory(|memory| memory.gray = gray.clone()).later(by).decide();
    assert_eq!(alarms(&later(20 * SECOND)), ["gave_up_leading"]);
    assert!(Alarm::GaveUpLeading.makes_unfit());
    assert!(alarms(&later(REST)).is_empty());
}

#[test]
fn who_is_in_trouble_leaves_a_free_lock_to_others_for_a_moment() {
    let scene = || {
        let scene = orphan().answers(&[("a", silence()), ("c", standby_at(POSITION))]);
        scene.memory(|memory| memory.gray.gave_up_at = Some(NOW))
    };
    let first = scene().decide();
    assert!(first.says("standing_back") && !acquires(&first), "{first:#?}");
    let named = scene().request(None, Some("b")).decide();
    assert!(!named.says("standing_back"), "an operator wants it: {named:#?}");
    let later = scene().memory(|memory| memory.unlocked_since = Some(NOW.saturating_sub(SECOND))).decide();
    assert!(acquires(&later), "somebody must lead: {later:#?}");
    let well = scene().memory(|memory| memory.gray.gave_up_at = None).decide();
    assert!(acquires(&well), "{well:#?}");
}

#[test]
fn a_slow_commit_now_and_then_does_not_add_up() {
    let slow = stalled(leader(), 3 * SECOND).decide();
    assert_eq!(alarms(&slow), ["commits_stall"]);
    let later = |decision: &Decision, by: Duration| {
        leader().after(decision).later(by).view(|view| view.lease = held(view.now))
    };
    let fine = later(&slow, SECOND).decide();
    assert!(fine.memory.gray.signs.is_empty());
    assert_eq!(alarms(&fine), ["commits_stall"], "told once");
    let again = stalled(with_heirs(later(&fine, 9 * SECOND)), 3 * SECOND).decide();
    assert_eq!(demotion(&again), None, "{again:#?}");
    let over = later(&fine, 12 * SECOND).decide();
    assert!(alarms(&over).is_empty());
}

#[test]
fn a_commit_is_tried_only_where_others_commit() {
    let tries = |decision: &Decision| decision.actions.contains(&Action::ProbeCommit);
    let first = leader().decide();
    assert!(!tries(&first), "an idle cluster writes nothing because of this");
    let after =
        |written: u64| leader().after(&first).later(SECOND).server(|server| server.position.0 += written);
    assert!(!tries(&after(4_000).decide()), "housekeeping");
    let busy = after(20_000).decide();
    assert!(tries(&busy));
    let next = after(20_200).after(&busy).later(2 * SECOND).decide();
    assert!(!tries(&next), "its own record is no sign of life");
    let waiting = leader().after(&first).view(|view| {
        view.health.activity = Some(Activity { flushing: 1, ..Activity::default() });
    });
    assert!(tries(&waiting.clone().decide()));
    assert!(!tries(&stalled(waiting.clone(), SECOND).decide()), "one at a time");
    assert!(!tries(&waiting.clone().settings(|settings| settings.commit_probe = false).decide()));
    assert!(!tries(&replica().server(|server| server.position.0 += 20_000).decide()));
}

#[test]
fn a_standby_that_keeps_commits_waiting_is_left_out_until_it_has_caught_up() {
    let row = |member: &str, flush: Lsn| Standby {
        application_name: member.to_owned(),
        connection: member.to_owned(),
        state: "streaming".to_owned(),
        sync_state: "quorum".to_owned(),
        write: Some(flush),
        flush: Some(flush),
        replay: Some(flush),
    };
    let scene = |b: Lsn| {
        let scene = waiting_for_standbys(leader().sync(SyncMode::Quorum, "a", &["b", "c"], 1), 12 * SECOND);
        scene.server(|server| server.standbys = vec![row("b", b), row("c", POSITION)])
    };
    let behind = Lsn(POSITION.0 - 0x100);
    let early = since(scene(behind), Alarm::CommitsWaitForStandby, 5 * SECOND).decide();
    assert!(early.memory.gray.stuck.is_empty());
    let late = since(scene(behind), Alarm::CommitsWaitForStandby, 10 * SECOND).decide();
    assert_eq!(late.memory.gray.stuck.keys().collect::<Vec<_>>(), ["b"]);
    assert!(late.says("standby_left_out"));
    assert_eq!(demotion(&late), None, "no reason to step down");
    let replicas = |scene: Scene| {
        let view = scene.after(&late).build();
        let cluster = view.store.cluster.clone().unwrap();
        let replicas = crate::sync::replicas(&view, &cluster, view.server().unwrap());
        replicas.into_iter().map(|replica| replica.name).collect::<Vec<MemberName>>()
    };
    assert_eq!(replicas(scene(behind)), [name("c")]);
    assert_eq!(replicas(scene(POSITION)).len(), 2, "it has caught up");
}

#[test]
fn slots_of_absent_members_are_given_up_only_where_that_is_asked_for() {
    let full = |mode: WalDiskMode| {
        let scene = leader()
            .view(disks(|disks| disks.wal.free = GB / 64))
            .settings(move |settings| settings.wal_disk_guard.mode = mode)
            .server(|server| {
                server.position = Lsn(POSITION.0 + GB);
                for slot in &mut server.slots {
                    slot.active = slot.name == "c";
                    slot.restart_lsn = Some(POSITION);
                }
            })
            .slot("by_hand", |slot| slot.active = false);
        since(scene, Alarm::WalDiskFull, 3 * SECOND)
    };
    let dropped = |decision: &Decision| {
        decision.actions.iter().find_map(|action| match action {
            Action::DropSlots { slots } => Some(slots.clone()),
            _ => None,
        })
    };
    let silent = |scene: Scene| scene.answers(&[("b", silence()), ("c", silence())]).decide();
    let decision = silent(full(WalDiskMode::EvictSlots));
    let evicting = dropped(&decision).expect("something is dropped");
    assert!(decision.actions.contains(&Action::Checkpoint), "the space is wanted now");
    assert_eq!(evicting.get("b"), Some(&DropWhy::DiskFull), "{evicting:?}");
    assert!(!evicting.contains_key("c"), "it is in use");
    let kept_anyway = full(WalDiskMode::EvictSlots).server(|server| server.kept_wal = GB);
    let nothing = dropped(&silent(kept_anyway)).unwrap_or_default();
    assert!(!nothing.contains_key("b"), "a copy for no space at all: {nothing:?}");
    let only_alarm = dropped(&silent(full(WalDiskMode::Alarm))).unwrap_or_default();
    assert!(!only_alarm.contains_key("b"), "{only_alarm:?}");
}
