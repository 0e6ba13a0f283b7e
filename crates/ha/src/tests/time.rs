//! 6.B: time, watchdog, guardian.

use std::time::Duration;

use bellwether_types::{Lsn, Timestamp};

use super::{demotion, promotes, releases};
use crate::{
    Action,
    action::DemoteMode,
    memory::{Attempt, Demoting},
    testing::{NOW, Scene, leader, orphan, replica, silence, standby},
    view::{Guardian, Job, JobKind, JobPhase, LeaseView, PeerAnswer, PeerReport, Watchdog},
};

fn watched(scene: Scene, watchdog: Watchdog) -> Scene {
    scene.view(|view| view.fencing.watchdog = watchdog)
}

#[test]
fn b2_the_guardian_is_armed_before_a_promotion() {
    let unarmed = |guardian| replica().holding().view(|view| view.fencing.guardian = guardian).decide();
    for guardian in [Guardian::Ready, Guardian::Armed { until: NOW }] {
        let decision = unarmed(guardian);
        assert_eq!(decision.code(), "arming_guardian");
        assert!(
            matches!(decision.deeds()[..], [Action::ArmGuardian { until }] if *until > NOW),
            "{decision:#?}"
        );
    }
    let dead = unarmed(Guardian::Dead);
    assert!(dead.actions.contains(&Action::RespawnGuardian) && !promotes(&dead));
    assert!(promotes(&replica().holding().decide()));
    assert!(promotes(&unarmed(Guardian::Off)), "a rehearsal holds nothing up");
}

#[test]
fn b2_a_primary_that_stays_unguarded_gives_up() {
    for (guardian, remedy) in [
        (Guardian::Dead, Action::RespawnGuardian),
        (Guardian::Ready, Action::ArmGuardian { until: held_until(NOW) }),
        (Guardian::Armed { until: NOW }, Action::ArmGuardian { until: held_until(NOW) }),
    ] {
        let unguarded = leader().view(|view| view.fencing.guardian = guardian);
        let first = unguarded.decide();
        assert!(first.actions.contains(&remedy), "{first:#?}");
        assert_eq!(demotion(&first), None, "{guardian:?}");
        let later =
            unguarded.after(&first).later(Duration::from_millis(1001)).lease(crate::testing::held(NOW));
        assert_eq!(demotion(&later.decide()), Some(DemoteMode::Immediate), "{guardian:?}");
        assert_eq!(later.decide().code(), "guardian_stays_dead");
    }
}

#[test]
fn what_is_due_in_a_moment_does_not_wake_the_loop_by_itself() {
    let tried = |before: Duration| {
        let scene = watched(leader(), Watchdog::Optional { active: false });
        scene.memory(|memory| {
            memory.attempts.insert(Attempt::Watchdog, NOW.saturating_sub(before));
        })
    };
    let loop_wait = leader().view.settings.loop_wait;
    for (early, is_done) in [(0, true), (6, true), (1_000, false)] {
        let decision = tried(loop_wait.saturating_sub(Duration::from_millis(early))).decide();
        assert_eq!(decision.actions.contains(&Action::ActivateWatchdog), is_done, "{early} ms early");
    }
}

fn held_until(sent_at: Timestamp) -> Timestamp {
    match crate::testing::held(sent_at) {
        LeaseView::Held { until, .. } => until,
        _ => unreachable!(),
    }
}

#[test]
fn b3_a_server_that_can_commit_no_more_and_leads_no_more_is_not_reset() {
    let told = |lease, phase| {
        let job = Job { kind: JobKind::Demote, since: NOW, phase };
        let demoting = Demoting { mode: DemoteMode::Graceful, since: NOW };
        let decision = watched(leader(), Watchdog::Optional { active: true })
            .lease(lease)
            .view(|view| view.job = Some(job))
            .memory(|memory| memory.demoting = Some(demoting))
            .decide();
        decision.actions.contains(&Action::DisableWatchdog)
    };
    let written = JobPhase::ShutdownCheckpoint { checkpoint: Lsn(100), end: Lsn(100) };
    assert!(told(LeaseView::NotHeld, written.clone()), "it may archive for as long as it likes");
    assert!(!told(LeaseView::NotHeld, JobPhase::Working), "a backend may still commit");
    assert!(!told(crate::testing::held(NOW), written), "renewals keep it quiet");
}

#[test]
fn b5_leadership_is_refused_when_a_required_watchdog_is_unusable() {
    let unusable = Watchdog::Required { usable: false, active: false };
    let replica = watched(replica().holding(), unusable).decide();
    assert_eq!(replica.code(), "watchdog_unusable_replica");
    assert!(releases(&replica) && !promotes(&replica));
    let primary = watched(leader(), unusable).decide();
    assert_eq!(demotion(&primary), Some(DemoteMode::Immediate));
    let racing = watched(orphan(), unusable).answers(&[("a", silence()), ("c", silence())]).decide();
    assert!(racing.says("watchdog_not_usable"));
}

#[test]
fn b5_a_required_watchdog_is_active_before_a_promotion() {
    let idle = watched(replica().holding(), Watchdog::Required { usable: true, active: false }).decide();
    assert!(matches!(idle.deeds()[..], [Action::ActivateWatchdog]), "{idle:#?}");
    let active = watched(replica().holding(), Watchdog::Required { usable: true, active: true }).decide();
    assert!(promotes(&active));
    assert!(promotes(&watched(replica().holding(), Watchdog::Optional { active: false }).decide()));
}

#[test]
fn b5_peers_do_not_wait_for_a_member_without_its_watchdog() {
    let broken = PeerAnswer::Answered(PeerReport {
        watchdog_failed: true,
        position: Some(bellwether_types::Lsn(u64::MAX)),
        ..standby()
    });
    let decision = orphan().answers(&[("a", silence()), ("c", broken)]).decide();
    assert_eq!(decision.code(), "acquiring_lock", "{decision:#?}");
}

#[test]
fn b6_nothing_is_armed_in_pause() {
    let paused = |scene: Scene| scene.settings(|settings| settings.pause = true);
    let armed = paused(watched(leader(), Watchdog::Optional { active: true })).decide();
    assert!(armed.actions.contains(&Action::DisarmGuardian), "{armed:#?}");
    assert!(armed.actions.contains(&Action::DisableWatchdog));
    let ready = paused(leader()).view(|view| view.fencing.guardian = Guardian::Ready).decide();
    assert!(!ready.actions.iter().any(|action| matches!(action, Action::ArmGuardian { .. })));
}

#[test]
fn b6_after_the_pause_the_lease_comes_before_the_guardian() {
    let resumed = |lease| {
        leader()
            .lease(lease)
            .view(|view| view.fencing.guardian = Guardian::Ready)
            .memory(|memory| memory.was_paused = true)
            .decide()
    };
    let without = resumed(LeaseView::NotHeld);
    assert!(
        !without.actions.iter().any(|action| matches!(action, Action::ArmGuardian { .. })),
        "{without:#?}"
    );
    let with = resumed(crate::testing::held(NOW));
    assert!(with.actions.iter().any(|action| matches!(action, Action::ArmGuardian { .. })));
}

#[test]
fn b5_an_optional_watchdog_is_tried_last() {
    let decision = watched(leader(), Watchdog::Optional { active: false }).decide();
    let at = decision.actions.iter().position(|action| *action == Action::ActivateWatchdog);
    let published = |action: &Action| matches!(action, Action::PublishMember { .. });
    assert!(at.is_some_and(|at| decision.actions[at + 1..].iter().all(published)), "{decision:#?}");
}

#[test]
fn b2_a_standby_has_a_guardian_ready() {
    let decision = replica().view(|view| view.fencing.guardian = Guardian::Dead).decide();
    assert!(decision.actions.contains(&Action::RespawnGuardian), "{decision:#?}");
}

#[test]
fn b11_leadership_is_a_matter_of_the_monotonic_clock() {
    let back = leader().view(|view| view.wall.unix_millis -= 86_400_000).decide();
    let forth = leader().view(|view| view.wall.unix_millis += 86_400_000).decide();
    assert_eq!(back.code(), "leader_with_the_lock");
    assert_eq!(back.deeds(), forth.deeds());
}

#[test]
fn a_leader_is_woken_before_it_must_step_down() {
    let LeaseView::Held { demote_at, .. } = crate::testing::held(NOW) else { unreachable!() };
    let scene = leader().settings(|settings| settings.loop_wait = Duration::from_secs(60));
    assert!(scene.decide().wake_at <= demote_at);
}

#[test]
fn a_standby_is_not_guarded_any_more() {
    let decision = replica().view(|view| view.fencing.guardian = Guardian::Armed { until: NOW }).decide();
    assert!(decision.actions.contains(&Action::DisarmGuardian), "{decision:#?}");
    assert!(!decision.says("lease_running_out"));
}
