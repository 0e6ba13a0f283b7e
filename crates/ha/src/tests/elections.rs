//! 6.D: elections: who races, who waits, and who wins.

use std::time::Duration;

use bellwether_types::{Lsn, PostgresState, Role, TimelineId, settings::SyncMode};

use super::{BEFORE, BEYOND, acquires, promotes};
use crate::{
    Action,
    testing::{POSITION, Scene, name, orphan, replica, silence, standby, standby_at},
    view::{JobKind, JobOutcome, PeerAnswer, PeerReport, Process},
};

#[test]
fn d4_a_former_leader_that_is_ahead_does_not_block_a_synchronous_standby() {
    let answers = [("a", standby_at(BEYOND)), ("c", silence())];
    let sync = orphan().sync(SyncMode::On, "a", &["b"], 0).answers(&answers);
    assert!(acquires(&sync.decide()), "{:#?}", sync.decide());
    assert!(sync.decide().says("former_leader_ahead"));
    let off = orphan().answers(&answers).decide();
    assert!(off.says("peer_ahead") && !acquires(&off), "{off:#?}");
}

#[test]
fn who_cannot_lead_does_not_keep_the_others_from_it() {
    // Both were found as clusters in which nobody ever led again.
    let ahead = [("a", silence()), ("c", standby_at(BEYOND))];
    let stranger = orphan().answers(&ahead).settings(|settings| settings.failsafe_mode = true);
    assert!(stranger.clone().decide().says("peer_ahead"), "c is listed in /failsafe");
    let stranger = stranger
        .cluster(|cluster| drop(cluster.failsafe.as_mut().unwrap().value.0.remove(&name("c"))))
        .decide();
    assert!(acquires(&stranger) && stranger.says("member_not_promotable"), "{stranger:#?}");

    let newer = orphan().history(2).server(|server| server.timeline = Some(TimelineId(2))).answers(&ahead);
    let given_up = newer.clone().decide();
    assert!(acquires(&given_up), "`/history` says that it ended before: {given_up:#?}");
    let newer = newer.settings(|settings| settings.check_timeline = true).decide();
    assert!(acquires(&newer) && newer.says("member_timeline_behind"), "{newer:#?}");
}

#[test]
fn wal_that_a_promotion_gave_up_does_not_come_back() {
    let answers = [("a", silence()), ("c", silence())];
    let end = Lsn(0x300_0001);
    let at = |position| {
        let scene = orphan().history(2).cluster(|cluster| cluster.status = None).answers(&answers);
        scene.server(|server| (server.position, server.timeline) = (position, Some(TimelineId(1)))).decide()
    };
    let beyond = at(Lsn(end.0 + 1));
    assert!(beyond.says("timeline_behind") && !acquires(&beyond), "{beyond:#?}");
    assert!(acquires(&at(end)), "{:#?}", at(end));

    // Seed 889158950: the switchover was asked for before this member's leader died and another one was promoted.
    let named = |leader| {
        let scene = orphan().history(2).cluster(|cluster| cluster.status = None).answers(&answers);
        let scene = scene.request(leader, Some("b"));
        scene.server(|server| (server.position, server.timeline) = (BEYOND, Some(TimelineId(1)))).decide()
    };
    let switchover = named(Some("a"));
    assert!(switchover.says("timeline_behind") && !acquires(&switchover), "{switchover:#?}");
    assert!(acquires(&named(None)), "who asks for a failover to a named member accepts the loss");
    // Seed 4877: the only member on the last timeline had lost its disk.
    let checks = |leader| {
        let scene = orphan().history(2).cluster(|cluster| cluster.status = None).answers(&answers);
        let scene = scene.request(leader, Some("b")).settings(|settings| settings.check_timeline = true);
        scene.server(|server| (server.position, server.timeline) = (end, Some(TimelineId(1)))).decide()
    };
    assert!(!acquires(&checks(Some("a"))) && acquires(&checks(None)), "{:#?}", checks(None));

    // Seed 9109053: nobody else can lead, and the one that stepped down came to lead without an election.
    let stepped_down = |position| {
        let scene = orphan().history(2).cluster(|cluster| cluster.status = None).answers(&answers);
        let scene = scene.request(Some("b"), None).settings(|settings| settings.check_timeline = false);
        scene.server(|server| (server.position, server.timeline) = (position, Some(TimelineId(1)))).decide()
    };
    let beyond = stepped_down(BEYOND);
    assert!(beyond.says("timeline_behind") && !acquires(&beyond), "{beyond:#?}");
    let before = stepped_down(end);
    assert!(acquires(&before), "{before:#?}");
}

#[test]
fn wal_that_a_promotion_gave_up_keeps_nobody_from_leading() {
    let end = Lsn(0x300_0001);
    let stale =
        PeerReport { position: Some(Lsn(POSITION.0 + 0x1000)), timeline: Some(TimelineId(1)), ..standby() };
    let answers = [("a", silence()), ("c", PeerAnswer::Answered(stale))];
    let me = orphan().history(2).answers(&answers);
    let decision = me.server(|server| server.timeline = Some(TimelineId(2))).decide();
    assert!(POSITION > end && acquires(&decision), "{decision:#?}");
    assert!(decision.says("member_timeline_behind"), "{decision:#?}");
}

#[test]
fn d5_nor_does_its_higher_priority() {
    let favoured = PeerAnswer::Answered(PeerReport { failover_priority: 9, ..standby() });
    let former = orphan().answers(&[("a", favoured.clone()), ("c", silence())]).decide();
    assert!(acquires(&former), "{former:#?}");
    let other = orphan().answers(&[("a", silence()), ("c", favoured)]).decide();
    assert!(other.says("peer_priority") && !acquires(&other));
}

#[test]
fn d6_the_members_of_the_last_healthy_view_are_asked_too() {
    let decision = orphan().decide();
    let [Action::PollPeers { members, .. }] = decision.deeds()[..] else { panic!("{decision:#?}") };
    assert!(members.keys().map(|name| name.as_str()).eq(["a", "c"]), "{members:?}");
}

#[test]
fn d7_a_starting_server_does_not_race() {
    let decision = orphan()
        .view(|view| {
            view.postgres.process = Process::Starting { since: view.now };
            view.postgres.state = PostgresState::Starting;
            view.postgres.server = None;
        })
        .decide();
    assert!(decision.says("postgres_starting"), "{decision:#?}");
    assert!(!acquires(&decision));
}

#[test]
fn d9_in_sync_mode_only_synchronous_members_race() {
    let answers = [("a", silence()), ("c", silence())];
    for (case, scene) in
        [("race", orphan()), ("switchover without target", orphan().request(Some("a"), None))]
    {
        let outsider = scene.clone().sync(SyncMode::On, "a", &["c"], 0).answers(&answers).decide();
        assert!(outsider.says("not_synchronous") && !acquires(&outsider), "{case}: {outsider:#?}");
        let voter = scene.sync(SyncMode::On, "a", &["b"], 0).answers(&answers).decide();
        assert!(acquires(&voter), "{case}");
    }
}

#[test]
fn d17_an_explicit_nofailover_false_beats_a_priority_of_zero() {
    let tags = |value| serde_json::from_value::<bellwether_types::Tags>(value).unwrap();
    let answers = [("a", silence()), ("c", silence())];
    let explicit = serde_json::json!({"nofailover": false, "failover_priority": 0});
    let scene = orphan().view(|view| view.me.tags = tags(explicit)).answers(&answers);
    assert!(acquires(&scene.decide()));
    let plain = orphan().view(|view| view.me.tags = tags(serde_json::json!({"failover_priority": 0})));
    assert_eq!(plain.answers(&answers).decide().code(), "not_allowed_to_promote");
}

#[test]
fn the_winner_of_a_race_arms_and_promotes() {
    let decision = replica().holding().memory(|memory| memory.racing = true).decide();
    assert_eq!(decision.code(), "promoted_by_acquiring_lock");
    let Action::Promote { fence, .. } = decision.deeds()[0] else { panic!("{decision:#?}") };
    assert_eq!(fence.term.0, 150);
}

#[test]
fn a_promotion_that_was_asked_for_is_not_asked_for_again() {
    let first = replica().holding().decide();
    let scene = replica().holding().after(&first).ended(JobKind::Promote, JobOutcome::Succeeded);
    let decision = scene.view(|view| view.postgres.role = Role::Promoted).decide();
    assert_eq!(decision.code(), "promotion_under_way");
    assert!(!promotes(&decision) && decision.wake_at.since(crate::testing::NOW) <= Duration::from_millis(20));
}

#[test]
fn answers_given_to_an_earlier_question_do_not_count() {
    let stale = orphan().answers(&[("a", silence()), ("c", silence())]).later(Duration::from_secs(3));
    let stale = stale.memory(|memory| memory.need_peers_since = None).decide();
    assert!(matches!(stale.deeds()[..], [Action::PollPeers { .. }]), "{stale:#?}");
}

#[test]
fn peers_are_asked_once_while_the_answers_are_on_their_way() {
    let first = orphan().decide();
    let second = orphan().after(&first).later(Duration::from_millis(100)).decide();
    assert_eq!(second.code(), "polling_peers");
    assert_eq!(second.deeds(), Vec::<&Action>::new());
    let overdue = orphan().after(&second).later(Duration::from_secs(2)).decide();
    assert!(matches!(overdue.deeds()[..], [Action::PollPeers { .. }]));
}

#[test]
fn a_race_backoff_lasts_while_the_old_primary_still_sends() {
    let backoff = |scene: Scene| {
        scene.settings(|settings| settings.primary_race_backoff = Duration::from_secs(10)).memory(|memory| {
            memory.previous_position = Some(BEFORE);
            memory.position_seen_at = crate::testing::NOW;
        })
    };
    let answers = [("a", silence()), ("c", silence())];
    let first = backoff(orphan()).decide();
    assert_eq!(first.code(), "race_backoff");
    let moving = backoff(orphan().after(&first)).later(Duration::from_millis(1500)).decide();
    assert_eq!(moving.code(), "race_backoff");
    let still = backoff(orphan().after(&first))
        .memory(|memory| memory.previous_position = Some(POSITION))
        .later(Duration::from_millis(1500))
        .answers(&answers);
    assert!(acquires(&still.decide()), "{:#?}", still.decide());
    let over = backoff(orphan().after(&first)).later(Duration::from_secs(11)).answers(&answers);
    assert!(acquires(&over.decide()));
}
