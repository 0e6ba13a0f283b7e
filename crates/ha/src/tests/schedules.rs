//! Restarts and switchovers at a given time.

use std::time::Duration;

use bellwether_types::{WallTime, cluster::Schedule};

use super::{
    demotion,
    operators::{answer, restarts},
};
use crate::{
    Action,
    action::{Answer, DemoteMode},
    memory::ScheduledRestart,
    testing::{NOW, POSITION, Scene, leader, replica, standby_at},
    view::{RequestKind, RestartConditions},
};

fn switchover_in(millis: i64) -> Scene {
    let mut scene = leader().request(Some("a"), Some("b")).answers(&[("b", standby_at(POSITION))]);
    let time = WallTime::from_unix_millis(scene.view.wall.unix_millis + millis);
    let request = scene.cluster.failover.as_mut().unwrap().value.as_mut().unwrap();
    request.scheduled_at = Some(Schedule::At { text: "2027-01-15T08:00:00+00:00".to_owned(), time });
    scene
}

#[test]
fn d19_scheduled_switchovers_run_on_time_or_not_at_all() {
    let early = switchover_in(700).decide();
    assert!(early.says("awaiting_scheduled"), "{early:#?}");
    assert_eq!(demotion(&early), None);
    assert!(early.wake_at <= NOW + Duration::from_millis(700));
    assert_eq!(demotion(&switchover_in(0).decide()), Some(DemoteMode::Graceful));
    let late = switchover_in(-1001).decide();
    assert!(late.says("stale_scheduled"), "{late:#?}");
    assert_eq!(demotion(&late), None);
    assert!(late.actions.iter().any(|action| matches!(action, Action::WriteFailover { request: None, .. })));
    let paused = switchover_in(0).settings(|settings| settings.pause = true).decide();
    assert_eq!(demotion(&paused), None, "ignored in pause");
}

#[test]
fn d19_an_unreadable_schedule_is_cleared() {
    let mut scene = switchover_in(0);
    let request = scene.cluster.failover.as_mut().unwrap().value.as_mut().unwrap();
    request.scheduled_at = Some(Schedule::Unparsable { text: "soon".to_owned() });
    let decision = scene.decide();
    assert_eq!(demotion(&decision), None);
    assert!(
        decision.actions.iter().any(|action| matches!(action, Action::WriteFailover { request: None, .. }))
    );
}

fn restart_in(millis: i64) -> Scene {
    replica().view(|view| {
        view.memory.restart_at = Some(ScheduledRestart {
            at: WallTime::from_unix_millis(view.wall.unix_millis + millis),
            text: "2027-01-15T08:00:00+00:00".to_owned(),
            conditions: RestartConditions::default(),
            timeout: None,
            postmaster_started_at: view.postgres.postmaster_started_at.clone(),
        });
    })
}

#[test]
fn d19_scheduled_restarts_run_on_time_or_not_at_all() {
    assert!(!restarts(&restart_in(500).decide()));
    let due = restart_in(0).decide();
    assert!(restarts(&due), "{due:#?}");
    assert_eq!(due.memory.restart_at, None);
    let stale = restart_in(-5000).decide();
    assert!(!restarts(&stale) && stale.memory.restart_at.is_none());
    assert!(!restarts(&restart_in(0).settings(|settings| settings.pause = true).decide()));
}

#[test]
fn d20_a_restart_that_has_happened_already_voids_the_schedule() {
    let decision = restart_in(0)
        .view(|view| {
            view.postgres.postmaster_started_at = Some("2026-11-22 02:00:00.000000+00:00".to_owned())
        })
        .decide();
    assert!(decision.says("scheduled_restart_void"), "{decision:#?}");
    assert!(!restarts(&decision) && decision.memory.restart_at.is_none());
}

#[test]
fn a_schedule_is_kept_and_published() {
    let kind = RequestKind::ScheduleRestart {
        at: WallTime::from_unix_millis(1_900_000_000_000),
        text: "2030-03-17T17:46:40+00:00".to_owned(),
        conditions: RestartConditions::default(),
        timeout: None,
    };
    let decision = replica().asked(kind).decide();
    assert_eq!(answer(&decision), Some(&Answer::Done));
    let published = decision.actions.iter().any(
        |action| matches!(action, Action::PublishMember { member } if member.scheduled_restart.is_some()),
    );
    assert!(published, "{decision:#?}");
    let cancelled = replica().after(&decision).asked(RequestKind::CancelScheduledRestart).decide();
    assert_eq!(cancelled.memory.restart_at, None);
    assert_eq!(answer(&cancelled), Some(&Answer::Done));
}
