//! PostgreSQL hangs: it runs and does not answer.

use std::time::Duration;

use bellwether_types::{Lsn, Role, settings::SyncMode};

use super::{acquires, demotion, promotes};
use crate::{
    Action,
    action::DemoteMode,
    testing::{POSITION, Scene, leader, orphan, replica, silence, standby_at},
    view::{JobKind, JobOutcome},
};

const SECOND: Duration = Duration::from_secs(1);

fn with_heirs(scene: Scene) -> Scene {
    scene.answers(&[("a", silence()), ("b", standby_at(POSITION)), ("c", standby_at(POSITION))])
}

#[test]
fn a_member_whose_server_hangs_does_not_race() {
    let race = |hanging| with_heirs(orphan()).hanging_for(hanging).decide();
    assert!(acquires(&race(2 * SECOND)), "so long a busy server may take");
    let unfit = race(2 * SECOND + Duration::from_millis(1));
    assert!(!acquires(&unfit) && unfit.says("postgres_silent"), "{unfit:#?}");
    let patient = with_heirs(orphan()).settings(|settings| settings.loop_wait = 10 * SECOND);
    assert!(acquires(&patient.hanging_for(9 * SECOND).decide()), "it is asked once per loop_wait");
}

#[test]
fn a_primary_that_hangs_keeps_its_lease_and_decides_nothing_by_what_it_said_last() {
    let hanging = leader()
        .sync(SyncMode::Quorum, "a", &["b", "c"], 1)
        .server(|server| server.synchronous_standby_names = "ANY 1 (b)".to_owned())
        .hanging_for(3 * SECOND)
        .decide();
    assert_eq!(hanging.code(), "postgres_silent");
    assert_eq!(demotion(&hanging), None);
    let by_old_news = |action: &Action| {
        matches!(
            action,
            Action::WriteSync { .. }
                | Action::SetSyncNames { .. }
                | Action::WriteStatus { .. }
                | Action::WriteHistory { .. }
                | Action::DropSlots { .. }
        )
    };
    assert!(!hanging.actions.iter().any(by_old_news), "{hanging:#?}");
}

#[test]
fn a_lock_holder_that_does_not_become_primary_in_time_leaves_the_lock_to_others() {
    let holding = |waited: Duration| {
        let scene = with_heirs(replica().holding()).settings(|settings| {
            settings.primary_start_timeout = 10 * SECOND;
        });
        let since = scene.view.now.saturating_sub(waited);
        scene.memory(|memory| memory.promoting_since = Some(since))
    };
    let hanging = |waited: Duration| holding(waited).hanging_for(waited).decide();
    let patient = hanging(9 * SECOND);
    assert_eq!((patient.code(), demotion(&patient)), ("postgres_silent", None), "{patient:#?}");
    let late = hanging(10 * SECOND);
    assert_eq!(late.code(), "promotion_timed_out");
    assert_eq!(demotion(&late), Some(DemoteMode::Immediate), "down before the lock is free: {late:#?}");

    // It answers, and stays in recovery.
    let stuck = holding(10 * SECOND)
        .view(|view| view.postgres.role = Role::Promoted)
        .ended(JobKind::Promote, JobOutcome::Succeeded)
        .decide();
    assert_eq!(stuck.code(), "promotion_timed_out", "{stuck:#?}");

    let alone = holding(10 * SECOND).answers(&[("a", silence()), ("c", silence())]).decide();
    assert!(alone.says("start_timeout_no_failover") && promotes(&alone), "{alone:#?}");
    let paused = holding(10 * SECOND).settings(|settings| settings.pause = true).decide();
    assert_eq!(demotion(&paused), None, "{paused:#?}");
}

#[test]
fn without_a_start_timeout_a_promotion_has_a_ttl() {
    let holding = |waited: Duration| {
        let scene = with_heirs(replica().holding())
            .settings(|settings| settings.primary_start_timeout = Duration::ZERO);
        let since = scene.view.now.saturating_sub(waited);
        scene.memory(|memory| memory.promoting_since = Some(since)).decide()
    };
    assert!(promotes(&holding(4 * SECOND)));
    assert_eq!(holding(5 * SECOND).code(), "promotion_timed_out");
}

#[test]
fn a_crashed_primary_with_much_to_replay_leaves_the_lock_to_a_voter() {
    let crashed = |behind: u64, mode: SyncMode| {
        let scene = with_heirs(leader()).sync(mode, "a", &["b", "c"], 1).crashed();
        let scene = scene.settings(|settings| settings.primary_start_timeout = 300 * SECOND);
        let end = scene.cluster.optime();
        scene.view(|view| {
            let control = view.postgres.control.as_mut().expect("it has crashed");
            control.checkpoint = Lsn(end.0 - behind);
        })
    };
    let starts = |scene: Scene| {
        let decision = scene.decide();
        assert_eq!((decision.code(), demotion(&decision)), ("starting_primary", None), "{decision:#?}");
    };
    let much = POSITION.0;
    starts(crashed(60 << 20, SyncMode::Quorum));
    starts(crashed(much, SyncMode::Off));
    let handed_over = crashed(much, SyncMode::Quorum).decide();
    assert_eq!(demotion(&handed_over), Some(DemoteMode::Immediate), "{handed_over:#?}");
    assert_eq!(handed_over.code(), "failing_over_after_crash");
    starts(crashed(much, SyncMode::Quorum).answers(&[("b", silence()), ("c", silence())]));
}
