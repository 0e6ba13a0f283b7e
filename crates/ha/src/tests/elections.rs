//! 6.D: elections, shutdown, switchover.

use std::time::Duration;

use bellwether_types::{Lsn, PostgresState, Role, TimelineId, settings::SyncMode};

use super::{acquires, demotion, promotes, releases};
use crate::{
    Action,
    action::{CallbackEvent, DemoteMode, StartRole},
    testing::{POSITION, Scene, leader, name, orphan, replica, silence, standby, standby_at},
    view::{AsOf, JobKind, JobOutcome, JobPhase, LeaseView, PeerAnswer, PeerReport, Process},
};

const BEFORE: Lsn = Lsn(POSITION.0 - 0x100);
const BEYOND: Lsn = Lsn(POSITION.0 + 0x100);
/// The shutdown checkpoint of these stories and its end.
const CHECKPOINT: JobPhase = JobPhase::ShutdownCheckpoint { checkpoint: POSITION, end: BEYOND };

fn failed() -> JobOutcome {
    JobOutcome::Failed { why: "no".to_owned(), source_unreachable: false }
}

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
}

#[test]
fn a_switchover_never_accepts_the_loss_of_what_a_quorum_acknowledged() {
    let scene =
        |candidate| orphan().request(Some("a"), Some(candidate)).sync(SyncMode::Quorum, "a", &["b", "c"], 1);
    let lagging = scene("b").answers(&[("a", silence()), ("c", standby_at(BEYOND))]).decide();
    assert!(
        lagging.says("peer_ahead") && !acquires(&lagging),
        "the leader died before it had handed over: {lagging:#?}"
    );
    let alone = scene("b").answers(&[("a", silence()), ("c", silence())]).decide();
    assert!(alone.says("quorum_unreachable") && !acquires(&alone), "{alone:#?}");
    let level = scene("b").answers(&[("a", silence()), ("c", standby_at(POSITION))]).decide();
    assert!(acquires(&level), "{level:#?}");

    // The other side of it: nobody waits for a candidate that will not take the lock.
    let behind_me = scene("c").answers(&[("a", silence()), ("c", standby_at(BEFORE))]).decide();
    assert!(acquires(&behind_me), "{behind_me:#?}");
    let outsider = orphan()
        .request(Some("a"), Some("c"))
        .sync(SyncMode::Quorum, "a", &["b"], 0)
        .answers(&[("a", silence()), ("c", standby_at(POSITION))])
        .decide();
    assert!(acquires(&outsider), "{outsider:#?}");
    let failover = orphan().request(None, Some("b")).sync(SyncMode::Quorum, "a", &["b", "c"], 1);
    let failover = failover.answers(&[("a", silence()), ("c", standby_at(BEYOND))]).decide();
    assert!(acquires(&failover), "a failover to a named member accepts the loss: {failover:#?}");
}

#[test]
fn the_writer_of_sync_needs_votes_like_anybody_else() {
    // Since it wrote the list, c may have been promoted by it, and its commits been acknowledged by a.
    let former = orphan().sync(SyncMode::Quorum, "b", &["a", "c"], 1);
    let alone = former.clone().answers(&[("a", silence()), ("c", silence())]).decide();
    assert!(alone.says("quorum_unreachable") && !acquires(&alone), "{alone:#?}");
    let ahead = former.clone().answers(&[("a", standby_at(BEYOND)), ("c", silence())]).decide();
    assert!(!acquires(&ahead), "{ahead:#?}");
    let voted = former.answers(&[("a", standby_at(POSITION)), ("c", silence())]).decide();
    assert!(acquires(&voted), "{voted:#?}");
}

#[test]
fn who_has_followed_a_later_promotion_gives_no_vote_whatever_its_position() {
    let scene = orphan().sync(SyncMode::Quorum, "a", &["b", "c"], 1);
    let later = PeerReport { position: Some(BEFORE), timeline: Some(TimelineId(9)), ..standby() };
    let decision = scene.answers(&[("a", silence()), ("c", PeerAnswer::Answered(later))]).decide();
    assert!(decision.says("quorum_unreachable") && !acquires(&decision), "{decision:#?}");
}

fn earlier(position: Lsn) -> PeerAnswer {
    let as_of = AsOf::Earlier { ago: Duration::from_secs(3) };
    PeerAnswer::Answered(PeerReport { position: Some(position), as_of, ..standby() })
}

#[test]
fn where_a_member_was_before_it_was_asked_is_no_vote() {
    let scene = orphan().sync(SyncMode::Quorum, "a", &["b", "c"], 1);
    let first = scene.clone().answers(&[("a", silence()), ("c", earlier(POSITION))]);
    let again = first.decide();
    assert!(matches!(again.deeds()[..], [Action::PollPeers { .. }]), "{again:#?}");
    // It has stayed so for as long as an answer may take.
    let overdue = first.after(&again).later(Duration::from_secs(2));
    let overdue = overdue.answers(&[("a", silence()), ("c", earlier(POSITION))]).decide();
    assert!(overdue.says("member_position_old") && overdue.says("quorum_unreachable"), "{overdue:#?}");
    assert!(!acquires(&overdue) && overdue.memory.old_positions_since.is_none(), "{overdue:#?}");
    let unsaid = PeerReport { as_of: AsOf::Unsaid, ..standby() };
    let of_patroni = scene.answers(&[("a", silence()), ("c", PeerAnswer::Answered(unsaid))]).decide();
    assert!(acquires(&of_patroni), "{of_patroni:#?}");
}

#[test]
fn where_a_member_was_before_it_was_asked_does_not_show_that_it_is_not_ahead() {
    let first = orphan().answers(&[("a", silence()), ("c", earlier(BEFORE))]);
    let again = first.decide();
    assert!(matches!(again.deeds()[..], [Action::PollPeers { .. }]) && !acquires(&again), "{again:#?}");
    let present =
        first.clone().after(&again).answers(&[("a", silence()), ("c", standby_at(BEYOND))]).decide();
    assert!(present.says("peer_ahead") && !acquires(&present), "{present:#?}");
    let overdue = first.after(&again).later(Duration::from_secs(2));
    let silent = overdue.clone().answers(&[("a", silence()), ("c", earlier(BEFORE))]).decide();
    assert!(acquires(&silent), "who cannot say where it is blocks nobody: {silent:#?}");
    let ahead = overdue.answers(&[("a", silence()), ("c", earlier(BEYOND))]).decide();
    assert!(ahead.says("peer_ahead") && !acquires(&ahead), "it was ahead already then: {ahead:#?}");
}

/// b leads by `/sync` on timeline 2; timeline 1 ended before [`POSITION`], and c has gone on on it.
fn voted_by_a_diverged_member() -> Scene {
    let stale = PeerReport { position: Some(BEYOND), timeline: Some(TimelineId(1)), ..standby() };
    let scene = orphan().sync(SyncMode::Quorum, "b", &["a", "c"], 1).history(2);
    let scene = scene.server(|server| server.timeline = Some(TimelineId(2)));
    scene.answers(&[("a", silence()), ("c", PeerAnswer::Answered(stale))])
}

#[test]
fn wal_that_a_promotion_gave_up_is_no_reason_to_deny_a_vote() {
    let decision = voted_by_a_diverged_member().decide();
    assert!(acquires(&decision) && decision.says("quorum_vote"), "{decision:#?}");
    let unrecorded = voted_by_a_diverged_member().cluster(|cluster| cluster.history = None).decide();
    assert!(!acquires(&unrecorded), "nothing says that c's WAL was given up: {unrecorded:#?}");
}

#[test]
fn without_enough_votes_an_operator_names_who_shall_lead() {
    let alone = |scene: Scene| scene.answers(&[("a", silence()), ("c", silence())]).decide();
    let scene = orphan().sync(SyncMode::Quorum, "a", &["b", "c"], 1);
    let refused = alone(scene.clone());
    let why = refused.reasons.iter().find(|reason| reason.code() == "quorum_unreachable").expect("a reason");
    assert!(!acquires(&refused) && why.sentence().contains("bellwether failover --candidate"), "{why:?}");
    let named = alone(scene.request(None, Some("b")));
    assert!(acquires(&named), "{named:#?}");
}

#[test]
fn the_vote_of_who_stepped_down_counts() {
    let scene = orphan().request(Some("a"), None).sync(SyncMode::Quorum, "a", &["b", "c"], 1);
    let decision = scene.answers(&[("a", standby_at(POSITION)), ("c", silence())]).decide();
    assert!(acquires(&decision), "{decision:#?}");
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
fn a_list_that_asks_for_votes_does_so_in_any_mode() {
    let changed = orphan().sync(SyncMode::On, "a", &["b", "c"], 1);
    let switched = changed.clone().request(Some("a"), Some("b"));
    for scene in [changed, switched] {
        let alone = scene.clone().answers(&[("a", silence()), ("c", silence())]).decide();
        assert!(alone.says("quorum_unreachable") && !acquires(&alone), "{alone:#?}");
        let voted = scene.answers(&[("a", silence()), ("c", standby_at(POSITION))]).decide();
        assert!(acquires(&voted), "{voted:#?}");
    }
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
