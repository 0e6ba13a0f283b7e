//! 6.D: handing leadership over: a planned stop, the candidate of a switchover, and who stepped down.

use std::time::Duration;

use bellwether_types::{Lsn, settings::SyncMode};

use super::{BEFORE, BEYOND, acquires, demotion, releases};
use crate::{
    Action,
    action::DemoteMode,
    testing::{POSITION, Scene, leader, name, orphan, replica, silence, standby, standby_at},
    view::{JobKind, JobPhase, LeaseView, PeerAnswer, PeerReport},
};

/// The shutdown checkpoint of these stories and its end.
const CHECKPOINT: JobPhase = JobPhase::ShutdownCheckpoint { checkpoint: POSITION, end: BEYOND };

/// The leader in the middle of a planned stop, its shutdown checkpoint on disk.
fn handing_over(request: impl Fn(Scene) -> Scene) -> Scene {
    let ready = [("b", standby_at(POSITION)), ("c", standby_at(POSITION))];
    let decided = request(leader()).answers(&ready).decide();
    assert_eq!(demotion(&decided), Some(DemoteMode::Graceful), "{decided:#?}");
    request(leader()).after(&decided).job_in(JobKind::Demote, CHECKPOINT)
}

#[test]
fn d1_the_key_is_released_early_only_to_a_peer_that_has_the_shutdown_checkpoint() {
    let scene = handing_over(|scene| scene.request(Some("a"), None));
    let asking = scene.decide();
    assert!(matches!(asking.deeds()[..], [Action::PollPeers { .. }]), "{asking:#?}");
    let none = scene.clone().answers(&[("b", standby_at(POSITION)), ("c", silence())]).decide();
    assert!(!releases(&none), "{none:#?}");
    assert_eq!(none.code(), "waiting_for_checkpoint_at_peer");
    let one = scene.answers(&[("b", standby_at(BEYOND)), ("c", silence())]).decide();
    assert_eq!(one.code(), "handed_over");
    assert!(releases(&one));
}

#[test]
fn d1_a_shutdown_of_the_agent_hands_over_in_the_same_way() {
    let scene = leader().view(|view| view.stopping = true).job_in(JobKind::Stop, CHECKPOINT);
    let waiting = scene.clone().answers(&[("b", standby_at(POSITION)), ("c", silence())]).decide();
    assert!(!releases(&waiting), "{waiting:#?}");
    let proven = scene.answers(&[("b", silence()), ("c", standby_at(BEYOND))]).decide();
    assert!(releases(&proven));
}

#[test]
fn d2_with_a_requested_candidate_only_its_position_counts() {
    let scene = handing_over(|scene| scene.request(Some("a"), Some("b")));
    let other = scene.clone().answers(&[("b", standby_at(POSITION)), ("c", standby_at(BEYOND))]).decide();
    assert!(!releases(&other), "{other:#?}");
    let candidate = scene.answers(&[("b", standby_at(BEYOND)), ("c", standby_at(BEFORE))]).decide();
    assert!(releases(&candidate));
}

#[test]
fn d3_the_last_position_is_published_with_the_release() {
    let early =
        handing_over(|scene| scene.request(Some("a"), Some("b"))).answers(&[("b", standby_at(BEYOND))]);
    assert!(early.decide().actions.contains(&Action::ReleaseLease { optime: Some(POSITION) }));
    let late = leader().view(|view| view.stopping = true).stopped().decide();
    assert!(late.actions.contains(&Action::ReleaseLease { optime: Some(POSITION) }), "{late:#?}");
}

#[test]
fn d9_a_switchover_goes_to_a_synchronous_member_and_a_failover_anywhere() {
    let asked = |leader_named: Option<&str>| {
        leader()
            .sync(SyncMode::On, "a", &["c"], 0)
            .request(leader_named, Some("b"))
            .answers(&[("b", standby_at(POSITION))])
            .decide()
    };
    let switchover = asked(Some("a"));
    assert_eq!(demotion(&switchover), None);
    assert!(switchover.says("request_not_in_sync"), "{switchover:#?}");
    assert_eq!(demotion(&asked(None)), Some(DemoteMode::Graceful));
}

#[test]
fn d15_an_unfit_candidate_never_makes_the_leader_step_down() {
    let answered = |report| PeerAnswer::Answered(report);
    for (case, answer) in [
        ("unreachable", silence()),
        ("nofailover", answered(PeerReport { nofailover: true, ..standby() })),
        ("watchdog", answered(PeerReport { watchdog_failed: true, ..standby() })),
        ("down", answered(PeerReport { position: None, ..standby() })),
        ("lagging", standby_at(Lsn(1))),
    ] {
        let decision = leader().request(Some("a"), Some("b")).answers(&[("b", answer)]).decide();
        assert_eq!(demotion(&decision), None, "{case}");
        assert!(decision.says("request_no_healthy_members"), "{case}: {decision:#?}");
    }
}

#[test]
fn d16_before_a_planned_demotion_enough_voters_are_healthy() {
    let asked = |candidate| {
        leader()
            .sync(SyncMode::Quorum, "a", &["b", "c"], 1)
            .request(Some("a"), candidate)
            .answers(&[("b", standby_at(POSITION)), ("c", silence())])
            .decide()
    };
    assert_eq!(demotion(&asked(None)), None, "{:#?}", asked(None));
    assert_eq!(
        demotion(&asked(Some("b"))),
        Some(DemoteMode::Graceful),
        "an explicit candidate skips the count"
    );
}

#[test]
fn d18_requests_are_cleared_by_compare_and_set() {
    let expect = bellwether_types::Revision(130);
    let clear = Action::WriteFailover { expect, request: None };
    for scene in [leader().request(Some("b"), None), leader().request(None, Some("a"))] {
        assert!(scene.decide().actions.contains(&clear), "{:#?}", scene.decide());
    }
    let raced = orphan().request(Some("a"), Some("b")).answers(&[("a", silence()), ("c", silence())]);
    let won = replica().holding().request(Some("a"), Some("b")).after(&raced.decide());
    assert!(won.decide().actions.contains(&clear), "{:#?}", won.decide());
    let newer = won.cluster(|cluster| cluster.failover.as_mut().unwrap().revision.0 = 131);
    let newer = newer.decide();
    assert!(!newer.actions.iter().any(|action| matches!(action, Action::WriteFailover { .. })), "{newer:#?}");
}

#[test]
fn the_candidate_of_a_switchover_is_waited_for_no_longer_than_a_ttl() {
    let answers = [("a", silence()), ("c", standby_at(POSITION))];
    let asked = |leader| {
        let scene = orphan().request(leader, Some("c")).sync(SyncMode::Quorum, "a", &["b", "c"], 1);
        scene.memory(|memory| memory.unlocked_since = Some(crate::testing::NOW))
    };
    let first = asked(Some("a")).answers(&answers).decide();
    assert!(first.says("leaving_it_to_candidate") && !acquires(&first), "{first:#?}");
    let late = |leader| {
        let scene = asked(leader);
        let ttl = scene.view.settings.ttl;
        scene.later(ttl).answers(&answers).decide()
    };
    assert!(acquires(&late(Some("a"))), "{:#?}", late(Some("a")));
    assert!(!acquires(&late(None)), "an operator's failover goes to whom it names: {:#?}", late(None));
}

#[test]
fn a_candidate_that_has_what_was_handed_over_goes_first_for_a_moment() {
    let handed_over = || {
        let scene = orphan().request(Some("a"), Some("c")).sync(SyncMode::Quorum, "a", &["b", "c"], 1);
        let scene = scene.cluster(|cluster| cluster.status.as_mut().unwrap().value.optime = BEFORE);
        scene.answers(&[("a", silence()), ("c", standby_at(BEFORE))])
    };
    let first = handed_over().decide();
    assert!(first.says("leaving_it_to_candidate") && !acquires(&first), "{first:#?}");
    let since = handed_over().memory(|memory| memory.unlocked_since = Some(crate::testing::NOW));
    let late = since.later(Duration::from_secs(2)).answers(&[("a", silence()), ("c", standby_at(BEFORE))]);
    assert!(acquires(&late.decide()), "{:#?}", late.decide());
}

#[test]
fn a_leader_that_stepped_down_leaves_the_lock_to_others_for_a_while() {
    let released = handing_over(|scene| scene.request(Some("a"), None))
        .answers(&[("b", standby_at(BEYOND)), ("c", silence())]);
    let decision = released.decide();
    let follower = || {
        Scene::of("a").unlocked().lease(LeaseView::NotHeld).after(&decision).view(|view| {
            view.postgres = replica().view.postgres;
            view.postgres.upstream = None;
        })
    };
    let soon = follower().later(Duration::from_secs(1)).memory(|memory| memory.demoting = None).decide();
    assert!(soon.says("released_shortly_ago"), "{soon:#?}");
}

#[test]
fn who_stepped_down_races_again_when_nobody_else_has_won_for_a_ttl() {
    // Each of the others is fit, but c alone would have to elect either, and it lacks what b has.
    let answers = [("a", standby_at(BEFORE)), ("c", standby_at(BEFORE))];
    let scene = orphan().request(Some("b"), None).sync(SyncMode::Quorum, "b", &["a", "c"], 2);
    let scene = scene.memory(|memory| memory.unlocked_since = Some(crate::testing::NOW));
    let first = scene.clone().answers(&answers).decide();
    assert!(first.says("stepped_down") && !acquires(&first), "{first:#?}");
    let ttl = scene.view.settings.ttl;
    let late = scene.later(ttl).answers(&answers).decide();
    assert!(acquires(&late), "{late:#?}");
}

/// Seed 70044538 of the simulator: the leader had stepped down for a member that had everything, and both were gone a moment later.
#[test]
fn who_is_far_behind_does_not_lead_by_a_switchover_that_was_left() {
    let behind = |by: u64| {
        let scene = orphan().request(Some("a"), None).answers(&[("a", silence()), ("c", silence())]);
        scene.server(|server| server.position = Lsn(POSITION.0 - by))
    };
    let far = behind(1_048_577).decide();
    assert!(far.says("lag_too_high") && !acquires(&far), "{far:#?}");
    assert!(acquires(&behind(1_048_576).decide()), "no further than `maximum_lag_on_failover` allows");
    let listed = behind(1_048_577).sync(SyncMode::On, "a", &["b"], 0).decide();
    assert!(acquires(&listed), "it has all that was acknowledged: {listed:#?}");
}

#[test]
fn who_stepped_down_does_not_leave_the_lock_to_members_unknown_to_failsafe() {
    let stepped_down = |known: bool| {
        let scene = orphan().request(Some("b"), None).settings(|settings| settings.failsafe_mode = true);
        let scene = scene.cluster(|cluster| {
            if !known {
                cluster.failsafe.as_mut().unwrap().value.0.retain(|member, _| *member == name("b"));
            }
        });
        scene.answers(&[("a", standby_at(POSITION)), ("c", standby_at(POSITION))]).decide()
    };
    assert!(stepped_down(true).says("stepped_down"), "{:#?}", stepped_down(true));
    assert!(acquires(&stepped_down(false)), "{:#?}", stepped_down(false));
}
