//! 6.D: starts and promotions that fail or take long.

use std::time::Duration;

use bellwether_types::{PostgresState, Role};

use super::{BEFORE, acquires, demotion, failed, promotes, releases};
use crate::{
    Action,
    action::{CallbackEvent, DemoteMode, StartRole},
    testing::{NOW, POSITION, Scene, leader, orphan, replica, silence, standby_at},
    view::{DataDirectory, JobKind, JobOutcome, LeaseView, Process},
};

#[test]
fn d10_a_primary_that_crashed_a_moment_ago_starts_as_primary() {
    let decision = leader().crashed().decide();
    assert_eq!(decision.code(), "starting_primary");
    assert!(
        matches!(decision.deeds()[..], [Action::Start { role: StartRole::Primary { .. } }]),
        "{decision:#?}"
    );
    let with_signal = leader().crashed().view(|view| {
        view.postgres.control.as_mut().unwrap().has_recovery_signal = true;
    });
    assert_eq!(with_signal.decide().code(), "starting_readonly");
    let old = leader().stopped().view(|view| view.postgres.role = Role::Demoted);
    assert_eq!(old.decide().code(), "starting_readonly");
}

fn starting_for(seconds: u64) -> Scene {
    leader().view(|view| {
        let since = view.now.saturating_sub(Duration::from_secs(seconds));
        view.postgres.process = Process::Starting { since };
        view.postgres.state = PostgresState::Starting;
        view.postgres.server = None;
    })
}

#[test]
fn d11_a_slow_primary_keeps_the_lock_while_nobody_can_take_over() {
    assert_eq!(starting_for(10).decide().code(), "still_starting");
    let alone = starting_for(301).answers(&[("b", silence()), ("c", silence())]).decide();
    assert_eq!(alone.code(), "start_timeout_no_failover");
    assert_eq!(demotion(&alone), None);
    let not_alone = starting_for(301).answers(&[("b", standby_at(POSITION)), ("c", silence())]).decide();
    assert_eq!(demotion(&not_alone), Some(DemoteMode::Immediate));
}

#[test]
fn d11_a_manual_failover_is_honoured_meanwhile() {
    let asked = starting_for(10).request(None, Some("b")).answers(&[("b", standby_at(POSITION))]).decide();
    assert_eq!(asked.code(), "failover_demoting");
    assert_eq!(demotion(&asked), Some(DemoteMode::Graceful));
}

#[test]
fn d12_crash_recovery_is_bounded_while_the_lock_is_held() {
    let recovering = |seconds| {
        leader().crashed().job(JobKind::CrashRecovery).view(|view| {
            view.job.as_mut().unwrap().since = view.now.saturating_sub(Duration::from_secs(seconds));
        })
    };
    assert_eq!(recovering(10).decide().code(), "updated_lock_during");
    let late = recovering(301).answers(&[("b", standby_at(POSITION)), ("c", silence())]).decide();
    assert_eq!(late.code(), "crash_recovery_timed_out");
    assert_eq!(demotion(&late), Some(DemoteMode::Immediate));
}

#[test]
fn d13_a_failed_start_is_not_repeated_at_once() {
    let after_failure = replica().stopped().ended(JobKind::Start, failed());
    let decision = after_failure.decide();
    assert_eq!(decision.code(), "waiting_to_retry");
    assert_eq!(decision.deeds(), Vec::<&Action>::new());
    let later = after_failure.later(Duration::from_millis(1001)).decide();
    assert_eq!(later.code(), "starting_secondary", "{later:#?}");
}

#[test]
fn d13_a_primary_that_does_not_start_gives_the_lock_up() {
    let first = leader().crashed().decide();
    for outcome in [failed(), JobOutcome::Succeeded] {
        let decision = leader().crashed().after(&first).ended(JobKind::Start, outcome.clone()).decide();
        assert_eq!(decision.code(), "released_after_failed_start", "{outcome:?}");
        assert!(releases(&decision));
    }
}

#[test]
fn d14_a_failed_start_tells_the_callbacks_before_anything_can_fail() {
    let first = leader().crashed().decide();
    let decision = leader().crashed().after(&first).ended(JobKind::Start, failed()).decide();
    let callback = Action::RunCallback { event: CallbackEvent::OnRoleChange, role: Role::Demoted };
    assert_eq!(decision.actions.first(), Some(&callback), "{decision:#?}");
}

#[test]
fn d8_after_a_failed_pre_promote_the_member_stays_out_for_a_ttl() {
    let scene = replica().holding().view(|view| view.me.has_pre_promote = true);
    let decision = scene.ended(JobKind::Promote, failed()).decide();
    assert_eq!(decision.code(), "pre_promote_failed");
    assert!(releases(&decision) && !promotes(&decision));
    let answers = [("a", silence()), ("c", standby_at(BEFORE))];
    let out = orphan().after(&decision).later(Duration::from_millis(4999)).answers(&answers).decide();
    assert!(out.says("pre_promote_backoff") && !acquires(&out), "{out:#?}");
    let back = orphan().after(&decision).later(Duration::from_secs(5)).answers(&answers).decide();
    assert!(acquires(&back), "{back:#?}");
}

#[test]
fn d8_a_pre_promote_that_failed_once_is_tried_again_under_the_next_lock() {
    let after_failure = || {
        let scene = replica().holding().view(|view| view.me.has_pre_promote = true);
        scene.ended(JobKind::Promote, failed())
    };
    let decision = after_failure().decide();
    let later = |time| after_failure().after(&decision).later(time).holding().decide();
    let out = later(Duration::from_millis(4999));
    assert!(releases(&out) && !promotes(&out), "{out:#?}");
    // The last job is still the promotion that failed.
    let again = later(Duration::from_secs(5));
    assert!(promotes(&again), "{again:#?}");
}

/// Seed 70042599 of the simulator: PostgreSQL froze as it was promoted, and a second promotion failed.
#[test]
fn d8_a_server_that_was_promoted_keeps_the_lock_though_its_last_answer_says_standby() {
    let hooked = || replica().holding().view(|view| view.me.has_pre_promote = true);
    for (role, is_given_up) in [(Role::Replica, true), (Role::Promoted, false), (Role::Primary, false)] {
        let scene = hooked().view(|view| view.postgres.role = role).ended(JobKind::Promote, failed());
        let decision = scene.decide();
        assert_eq!(releases(&decision), is_given_up, "{role:?}: {decision:#?}");
    }
}

/// Seed 70046521 of the simulator: it failed within a millisecond, ten thousand times.
#[test]
fn d8_a_promotion_that_failed_is_tried_again_after_a_breath() {
    let first = replica().holding().ended(JobKind::Promote, failed());
    let waits = first.decide();
    assert!(!promotes(&waits) && !releases(&waits), "{waits:#?}");
    assert_eq!(waits.code(), "waiting_to_retry");
    assert!(waits.wake_at <= NOW + Duration::from_millis(500));
    let again = first.after(&waits).later(Duration::from_millis(500)).decide();
    assert!(promotes(&again), "{again:#?}");
}

/// Seed 70042599: the first promotion succeeded as PostgreSQL froze, so nothing is newer than an answer of the standby that it was.
#[test]
fn d8_a_promotion_that_succeeded_is_not_begun_again_because_the_last_answer_is_older() {
    let promoted = |answered: Duration| {
        let scene = replica().holding().ended(JobKind::Promote, JobOutcome::Succeeded);
        scene.hanging_for(answered).view(|view| view.postgres.role = Role::Primary)
    };
    let waits = promoted(Duration::ZERO).decide();
    assert!(!promotes(&waits) && !releases(&waits), "{waits:#?}");
    assert_eq!(waits.code(), "promotion_under_way");
    let paused = promoted(Duration::ZERO).settings(|settings| settings.pause = true).decide();
    assert!(!promotes(&paused) && !releases(&paused), "{paused:#?}");
    // It may write once it wakes up: it is stopped when the right to do so ends.
    let without = promoted(Duration::ZERO).rejected().decide();
    assert!(demotion(&without).is_some(), "{without:#?}");
    let newer = promoted(Duration::ZERO).later(Duration::from_secs(1)).decide();
    assert!(promotes(&newer), "a standby all the same: {newer:#?}");
}

/// The answer to a release was lost, and the lease that the key hangs on is renewed for ever.
#[test]
fn a14_a_lock_that_was_given_up_and_is_still_there_is_given_up_again() {
    let unable = [
        DataDirectory::Missing,
        DataDirectory::Unreadable("Input/output error".to_owned()),
        DataDirectory::Invalid("no control file".to_owned()),
        DataDirectory::Interrupted { by: JobKind::Rewind },
    ];
    for data in unable {
        let left = || {
            leader().crashed().lease(LeaseView::NotHeld).view(|view| {
                view.postgres.data = data.clone();
                if matches!(data, DataDirectory::Invalid(_)) {
                    view.postgres.system_id = None;
                }
            })
        };
        assert!(releases(&left().decide()), "{data:?}: {:#?}", left().decide());
        let just_now = left().view(|view| view.memory.released_at = Some(NOW));
        assert!(!releases(&just_now.decide()), "{data:?}: the store has not told us yet");
        assert!(!releases(&left().leader_is("b").decide()), "{data:?}: it is somebody else's");
    }
    let decision = leader().crashed().lease(LeaseView::NotHeld).ended(JobKind::Start, failed()).decide();
    assert!(releases(&decision), "{decision:#?}");
}
