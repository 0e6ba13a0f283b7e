//! What operators ask for: restart, reinitialize, switchover. What is to happen later is in `schedules`.

use std::time::Duration;

use bellwether_types::{PostgresState, Role, settings::SyncMode};

use super::{demotion, releases};
use crate::{
    Action, Decision,
    action::{Answer, CallbackEvent, CopyBy, DemoteMode},
    testing::{self, NOW, POSITION, Scene, leader, replica, standby_at},
    view::{Guardian, JobKind, JobOutcome, LeaseView, Process, RequestKind, RestartConditions},
};

fn restart(conditions: RestartConditions) -> RequestKind {
    RequestKind::Restart { conditions, timeout: None }
}

pub(super) fn answer(decision: &Decision) -> Option<&Answer> {
    decision.actions.iter().find_map(|action| match action {
        Action::Answer { request: 7, answer } => Some(answer),
        _ => None,
    })
}

pub(super) fn restarts(decision: &Decision) -> bool {
    decision.actions.iter().any(|action| matches!(action, Action::Restart { .. }))
}

fn refusal(decision: &Decision) -> Option<&str> {
    match answer(decision)? {
        Answer::Refused { why } => Some(why),
        _ => None,
    }
}

fn stop_limit(scene: Scene, timeout: Option<Duration>) -> Duration {
    let kind = RequestKind::Restart { conditions: RestartConditions::default(), timeout };
    let decision = scene.asked(kind).decide();
    let limit = decision.actions.iter().find_map(|action| match action {
        Action::Restart { stop_limit, .. } => Some(*stop_limit),
        _ => None,
    });
    limit.unwrap_or_else(|| panic!("{decision:#?}"))
}

#[test]
fn the_stop_of_a_restart_has_a_limit() {
    let seconds = Duration::from_secs;
    let limited = |stop, start| {
        leader().settings(|settings| {
            settings.primary_stop_timeout = seconds(stop);
            settings.primary_start_timeout = seconds(start);
        })
    };
    for (case, scene, timeout, expected) in [
        ("the setting for it", limited(7, 300), Some(seconds(60)), seconds(7)),
        ("else the time given to the restart", limited(0, 300), Some(seconds(60)), seconds(60)),
        ("else that of every start", limited(0, 300), None, seconds(300)),
        ("no start time at all is no stop time", limited(0, 0), None, seconds(10)),
    ] {
        assert_eq!(stop_limit(scene, timeout), expected, "{case}");
    }
}

#[test]
fn a_restart_that_does_not_come_up_in_its_time_gives_the_lock_up() {
    let begun = leader()
        .asked(RequestKind::Restart {
            conditions: RestartConditions::default(),
            timeout: Some(Duration::from_secs(30)),
        })
        .decide();
    let starting = |waited| {
        let mut scene = leader()
            .after(&begun)
            .job(JobKind::Restart)
            .answers(&[("b", standby_at(POSITION)), ("c", standby_at(POSITION))]);
        scene.view.postgres.server = None;
        scene.view.postgres.process = Process::Starting { since: NOW.saturating_sub(waited) };
        scene.decide()
    };
    assert_eq!(starting(Duration::from_secs(29)).code(), "still_starting");
    let late = starting(Duration::from_secs(30));
    assert_eq!(late.code(), "start_timeout_stopped", "{late:#?}");
}

#[test]
fn a_restart_is_no_crash_where_a_crash_means_a_failover_at_once() {
    let impatient = || leader().settings(|settings| settings.primary_start_timeout = Duration::ZERO);
    let begun = impatient().asked(restart(RestartConditions::default())).decide();
    let mut scene = impatient()
        .after(&begun)
        .job(JobKind::Restart)
        .answers(&[("b", standby_at(POSITION)), ("c", standby_at(POSITION))]);
    scene.view.postgres.server = None;
    scene.view.postgres.process = Process::Starting { since: NOW.saturating_sub(Duration::from_secs(5)) };
    let decision = scene.decide();
    assert_eq!(decision.code(), "still_starting", "{decision:#?}");
}

#[test]
fn a_restart_is_answered_and_begun() {
    for scene in [replica(), leader()] {
        let decision = scene.asked(restart(RestartConditions::default())).decide();
        assert_eq!(decision.code(), "restart_initiated");
        assert_eq!(answer(&decision), Some(&Answer::Started));
        assert!(restarts(&decision), "{decision:#?}");
    }
}

#[test]
fn in_pause_a_restart_brings_up_a_stopped_standby_but_no_former_primary() {
    let asked = |scene: Scene| {
        let paused = scene.settings(|settings| settings.pause = true);
        paused.asked(restart(RestartConditions::default())).decide()
    };
    let decision = asked(replica().stopped());
    assert!(restarts(&decision), "{decision:#?}");
    assert_eq!(answer(&decision), Some(&Answer::Started));
    for (case, former) in [
        ("by its control file", replica().as_primary().stopped()),
        ("rewound by hand", replica().stopped().view(|view| view.postgres.role = Role::Primary)),
    ] {
        let decision = asked(former);
        assert_eq!(refusal(&decision), Some("PostgreSQL is not running"), "{case}: {decision:#?}");
    }
}

#[test]
fn every_condition_of_a_restart_must_hold() {
    let asked = |conditions| replica().asked(restart(conditions)).decide();
    for (case, conditions, allowed) in [
        ("role", RestartConditions { role: Some(Role::Primary), ..Default::default() }, false),
        ("same role", RestartConditions { role: Some(Role::Replica), ..Default::default() }, true),
        ("version reached", RestartConditions { version_below: Some(150_018), ..Default::default() }, false),
        ("version above", RestartConditions { version_below: Some(150_019), ..Default::default() }, true),
        ("pending", RestartConditions { pending: true, ..Default::default() }, false),
    ] {
        let decision = asked(conditions);
        let why = refusal(&decision);
        assert_eq!(why.is_none(), allowed, "{case}: {decision:#?}");
        assert!(why.is_none_or(|why| why == "restart conditions are not satisfied"));
    }
}

#[test]
fn one_long_action_at_a_time() {
    let busy = replica().job(JobKind::Reinitialize).asked(restart(RestartConditions::default())).decide();
    assert_eq!(refusal(&busy), Some("reinitialize already in progress"));
    let errand = leader().job(JobKind::Checkpoint).asked(restart(RestartConditions::default())).decide();
    assert!(errand.actions.contains(&Action::CancelJob { kind: JobKind::Checkpoint }), "{errand:#?}");
    assert_eq!(answer(&errand), None, "it will be answered when the checkpoint has made way");
}

#[test]
fn a_primary_is_not_restarted_without_its_guardian() {
    let decision = leader()
        .view(|view| view.fencing.guardian = Guardian::Ready)
        .asked(restart(RestartConditions::default()))
        .decide();
    assert!(!decision.actions.iter().any(|action| matches!(action, Action::Restart { .. })), "{decision:#?}");
    assert!(decision.actions.iter().any(|action| matches!(action, Action::ArmGuardian { .. })));
}

#[test]
fn a_failed_restart_of_the_leader_gives_the_lock_up() {
    let begun = leader().asked(restart(RestartConditions::default())).decide();
    let failed = JobOutcome::Failed { why: "no".to_owned(), source_unreachable: false };
    let scene = leader().after(&begun).crashed().ended(JobKind::Restart, failed);
    let decision = scene.view(|view| view.postgres.state = PostgresState::RestartFailed).decide();
    assert_eq!(decision.code(), "released_after_failed_start");
    assert!(releases(&decision));
}

#[test]
fn a_synchronous_standby_asks_to_be_released_first() {
    let asked = || replica().sync(SyncMode::On, "a", &["b"], 0).asked(restart(RestartConditions::default()));
    let first = asked().decide();
    assert_eq!(first.code(), "releasing_sync_duty");
    let published = first
        .actions
        .iter()
        .any(|action| matches!(action, Action::PublishMember { member } if member.release_sync));
    assert!(published, "{first:#?}");
    let released = asked().after(&first).sync(SyncMode::On, "a", &["c"], 0).decide();
    assert_eq!(released.code(), "restart_initiated");
    let unheard = asked().after(&first).later(Duration::from_secs(2)).decide();
    assert_eq!(unheard.code(), "restart_initiated", "a courtesy, not a guarantee");
}

#[test]
fn reinitializing_is_for_replicas_of_a_leader() {
    let kind = || RequestKind::Reinitialize { force: false, from_leader: true };
    let refused = |scene: Scene| {
        let decision = scene.asked(kind()).decide();
        refusal(&decision).map(str::to_owned)
    };
    assert_eq!(refused(leader()).as_deref(), Some("I am the leader, can not reinitialize"));
    let unlocked = replica().unlocked();
    assert_eq!(refused(unlocked).as_deref(), Some("Cluster has no leader, can not reinitialize"));
    let decision = replica().asked(kind()).decide();
    assert_eq!(answer(&decision), Some(&Answer::Started));
    let copy = Action::Reinitialize { from: testing::upstream("a", "b"), by: CopyBy::Basebackup };
    assert!(decision.actions.contains(&copy), "the leader, and nothing but it: {decision:#?}");
    let told = Action::RunCallback { event: CallbackEvent::OnStop, role: Role::Replica };
    assert!(decision.actions.contains(&told), "it is a stop, too: {decision:#?}");
}

#[test]
fn a_reinitialized_member_runs_again_even_in_pause() {
    let paused = |scene: Scene| scene.settings(|settings| settings.pause = true);
    let begun =
        paused(replica()).asked(RequestKind::Reinitialize { force: false, from_leader: true }).decide();
    assert!(begun.actions.iter().any(|action| matches!(action, Action::Reinitialize { .. })), "{begun:#?}");
    let done = paused(replica()).after(&begun).stopped().ended(JobKind::Reinitialize, JobOutcome::Succeeded);
    assert_eq!(done.decide().code(), "starting_secondary");
}

#[test]
fn a_reload_is_done_and_told() {
    let decision = replica().asked(RequestKind::Reload).decide();
    assert_eq!(answer(&decision), Some(&Answer::Done));
    assert!(decision.actions.contains(&Action::Reload));
    let callback = Action::RunCallback { event: CallbackEvent::OnReload, role: Role::Replica };
    assert!(decision.actions.contains(&callback));
}

#[test]
fn a_stopped_server_is_left_to_recovery_and_not_restarted() {
    let stopped = || leader().stopped().asked(restart(RestartConditions::default()));
    for (case, scene) in [
        ("a former primary without lock", stopped().lease(LeaseView::NotHeld).leader_is("b")),
        ("a lease that has just ended, and a silent store", {
            stopped()
                .lease(testing::held(NOW.saturating_sub(Duration::from_secs(4))))
                .silent_for(Duration::from_secs(4))
        }),
        ("in pause", stopped().settings(|settings| settings.pause = true)),
    ] {
        let decision = scene.decide();
        assert!(!restarts(&decision), "{case}: {decision:#?}");
        assert_eq!(refusal(&decision), Some("PostgreSQL is not running"), "{case}");
    }
}

/// A planned stop has ended with the lock still ours, and the others have answered so.
fn stepped_down(b: bellwether_types::Lsn) -> Scene {
    leader()
        .stopped()
        .request(Some("a"), None)
        .memory(|memory| {
            memory.demoting = Some(crate::memory::Demoting { mode: DemoteMode::Graceful, since: NOW });
        })
        .answers(&[("b", standby_at(b)), ("c", testing::silence())])
}

#[test]
fn a_planned_stop_has_a_limit() {
    let seconds = Duration::from_secs;
    for (case, stop, start, expected) in [
        ("the setting for it", 7, 300, 7),
        ("else as long as a promotion", 0, 300, 300),
        ("a ttl at least", 0, 0, 30),
    ] {
        let scene = leader().request(Some("a"), None).settings(|settings| {
            settings.ttl = seconds(30);
            settings.primary_stop_timeout = seconds(stop);
            settings.primary_start_timeout = seconds(start);
        });
        let decision = scene.answers(&[("b", standby_at(POSITION)), ("c", standby_at(POSITION))]).decide();
        let limit = decision.actions.iter().find_map(|action| match action {
            Action::Demote { stop_limit, .. } => Some(*stop_limit),
            _ => None,
        });
        assert_eq!(limit, Some(Some(seconds(expected))), "{case}: {decision:#?}");
    }
}

#[test]
fn after_a_planned_stop_that_ended_like_a_crash_nobody_can_be_shown_to_have_everything() {
    let crashed = |scene: Scene| {
        scene.view(|view| {
            view.postgres.control.as_mut().unwrap().state = crate::view::ControlState::InProduction
        })
    };
    let beyond = bellwether_types::Lsn(POSITION.0 + 8);
    assert!(releases(&stepped_down(beyond).decide()), "with a shutdown checkpoint it can");
    let again = crashed(stepped_down(beyond)).decide();
    assert_eq!(again.code(), "no_heir_starting_again", "{again:#?}");
    assert!(!releases(&again));
    // With synchronous replication those who elect the next leader have it.
    let synchronous = crashed(stepped_down(beyond).sync(SyncMode::On, "a", &["b"], 0)).decide();
    assert!(synchronous.actions.contains(&Action::ReleaseLease { optime: None }), "{synchronous:#?}");
}

#[test]
fn a_switchover_that_nobody_can_inherit_leaves_the_leader_leading() {
    let behind = bellwether_types::Lsn(POSITION.0 - 8);
    let again = stepped_down(behind).decide();
    assert_eq!(again.code(), "no_heir_starting_again");
    assert!(!releases(&again), "{again:#?}");
    let is_start =
        |action: &Action| matches!(action, Action::Start { role: crate::action::StartRole::Primary { .. } });
    assert!(again.actions.iter().any(is_start), "{again:#?}");
    assert!(again.actions.iter().any(|action| matches!(action, Action::WriteFailover { request: None, .. })));

    assert!(releases(&stepped_down(POSITION).decide()), "b has everything");
    let forced = stepped_down(behind).request(None, Some("b"));
    assert!(releases(&forced.decide()), "a failover to a named member accepts the loss");
}

#[test]
fn a_switchover_waits_for_a_candidate_on_the_timeline_of_the_leader() {
    let asked = |theirs: u32| {
        leader()
            .request(Some("a"), Some("b"))
            .server(|server| server.timeline = Some(bellwether_types::TimelineId(2)))
            .answers(&[(
                "b",
                crate::view::PeerAnswer::Answered(crate::view::PeerReport {
                    timeline: Some(bellwether_types::TimelineId(theirs)),
                    ..testing::standby()
                }),
            )])
    };
    assert_eq!(demotion(&asked(1).decide()), None);
    assert_eq!(demotion(&asked(2).decide()), Some(DemoteMode::Graceful));
    let early = asked(2).memory(|memory| {
        memory.checkpoint_after_promote = crate::memory::Checkpoint::Running;
    });
    let early = early.job(JobKind::Checkpoint).decide();
    assert_eq!(demotion(&early), None);
    assert!(early.says("checkpoint_before_step_down"), "{early:#?}");
}

#[test]
fn a_primary_is_restarted_with_the_fence_of_its_lease_and_a_standby_without() {
    let fence_of = |scene: Scene| {
        let decision = scene.asked(restart(RestartConditions::default())).decide();
        decision.actions.into_iter().find_map(|action| match action {
            Action::Restart { fence, .. } => Some(fence),
            _ => None,
        })
    };
    assert!(fence_of(leader()).expect("restarts").is_some());
    assert_eq!(fence_of(replica()), Some(None));
    assert_eq!(fence_of(leader().settings(|settings| settings.pause = true)), Some(None), "A22");
}

#[test]
fn requests_are_refused_while_the_server_is_being_stopped() {
    let decision = leader().job(JobKind::Demote).asked(restart(RestartConditions::default())).decide();
    assert_eq!(refusal(&decision), Some("demote already in progress"));
}
