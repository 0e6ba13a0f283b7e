//! No two promotions give their timelines one number.

use std::time::Duration;

use bellwether_types::{Lsn, Revision, TimelineId, TimelineSwitch};

use crate::{
    Action, Decision,
    action::{NextTimeline, TakenTimelines},
    memory::Claimed,
    testing::{POSITION, Scene, leader, name, orphan, replica, silence, standby},
    view::{JobKind, JobOutcome, LocalHistory, PeerAnswer, PeerReport, Process},
};

const SECOND: Duration = Duration::from_secs(1);
const SHORTLY: Duration = Duration::from_millis(200);

fn at(timeline: u32) -> PeerAnswer {
    PeerAnswer::Answered(PeerReport { timeline: Some(TimelineId(timeline)), ..standby() })
}

/// `b` after the death of `a`, with nobody in its way.
fn racing() -> Scene {
    orphan().answers(&[("a", silence()), ("c", silence())])
}

/// Three finished timelines, all at the position that everybody has.
fn known_history(scene: Scene) -> Scene {
    scene.history(4).cluster(|cluster| {
        cluster.history.as_mut().unwrap().value.0.iter_mut().for_each(|entry| entry.end = POSITION);
    })
}

fn claim(decision: &Decision) -> Option<NextTimeline> {
    let found = decision.actions.iter().find_map(|action| match action {
        Action::AcquireLease { timeline, .. } => Some(*timeline),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("no attempt to take the lock: {decision:#?}"))
}

fn taken(scene: &Scene) -> Option<(u32, u32)> {
    let decision = scene.decide();
    let found = decision.actions.iter().find_map(|action| match action {
        Action::Promote { taken, .. } => Some(*taken),
        _ => None,
    });
    let found = found.unwrap_or_else(|| panic!("no promotion: {decision:#?}"));
    found.map(|TakenTimelines { after, through }| (after.0, through.0))
}

#[test]
fn the_lock_is_taken_together_with_a_number_that_nobody_may_have_used() {
    for (case, scene, timeline) in [
        ("nobody has told of another one", racing(), 2),
        ("/history", known_history(racing()), 5),
        ("the last winner, who may have died at once", racing().claimed(2, "c"), 3),
        ("this member itself, in a life before", racing().claimed(2, "b"), 3),
        ("a member key", racing().member("c", |member| member.timeline = Some(TimelineId(6))), 7),
        ("an answer", racing().answers(&[("a", silence()), ("c", at(3))]), 4),
        (
            "a number written by mistake",
            racing().member("c", |member| member.timeline = Some(TimelineId(9_999))),
            2,
        ),
    ] {
        let decision = scene.decide();
        let claim = claim(&decision).unwrap_or_else(|| panic!("{case}: no number"));
        assert_eq!(claim.timeline, TimelineId(timeline), "{case}: {decision:#?}");
        let expect = scene.cluster.timeline_claim.as_ref().map(|claim| claim.revision);
        assert_eq!(claim.expect, expect, "{case}: taken only if nobody took one meanwhile");
        assert_eq!(decision.says("timeline_not_believed"), case.contains("mistake"), "{case}");
    }
}

#[test]
fn the_last_view_with_a_leader_counts_too() {
    let before = leader().member("a", |member| member.timeline = Some(TimelineId(3))).cluster;
    let scene = racing().memory(|memory| memory.last_healthy = Some(std::sync::Arc::new(before)));
    assert_eq!(claim(&scene.decide()).unwrap().timeline, TimelineId(4));
}

#[test]
fn what_cannot_be_read_is_replaced_and_keeps_nobody_from_leading() {
    let scene = racing().claimed(2, "c").cluster(|cluster| {
        cluster.timeline_claim.as_mut().unwrap().value = None;
    });
    let claim = claim(&scene.decide()).unwrap();
    assert_eq!((claim.timeline, claim.expect), (TimelineId(2), Some(Revision(140))));
}

#[test]
fn a_primary_that_takes_the_lock_goes_on_with_its_timeline() {
    let scene = leader().unlocked().lease(crate::view::LeaseView::NotHeld);
    let scene = scene.answers(&[("b", PeerAnswer::Answered(standby())), ("c", silence())]);
    assert_eq!(claim(&scene.decide()), None);
}

#[test]
fn a_promotion_names_the_numbers_that_are_taken() {
    let ours = |timeline| {
        move |memory: &mut crate::Memory| {
            memory.claimed = Some(Claimed { timeline: TimelineId(timeline), used: false });
        }
    };
    let winner = || replica().holding();
    for (case, scene, expected) in [
        ("PostgreSQL finds the number by itself", winner().claimed(2, "b").memory(ours(2)), None),
        ("the view is older than the lock", winner().memory(ours(2)), None),
        ("another one was taken before ours", winner().claimed(3, "b").memory(ours(3)), Some((1, 2))),
        ("and the view is older than the lock", winner().claimed(2, "c").memory(ours(3)), Some((1, 2))),
        ("a history", winner().history(3).memory(ours(4)), Some((1, 3))),
        (
            "news since the lock was taken",
            winner()
                .claimed(2, "b")
                .memory(ours(2))
                .member("c", |member| member.timeline = Some(TimelineId(2))),
            Some((1, 2)),
        ),
    ] {
        assert_eq!(taken(&scene), expected, "{case}");
    }
}

/// The number that is taken under the lock.
fn takes(decision: &Decision) -> Option<(u32, Option<Revision>)> {
    let promotes = decision.actions.iter().any(|action| matches!(action, Action::Promote { .. }));
    let taken = decision.actions.iter().find_map(|action| match action {
        Action::TakeTimeline { next } => Some((next.timeline.0, next.expect)),
        _ => None,
    });
    assert_ne!(promotes, taken.is_some(), "{decision:#?}");
    taken
}

#[test]
fn a_lock_without_an_unused_number_needs_one_before_a_promotion() {
    let holder = || replica().holding().memory(|memory| memory.claimed = None);
    let seen = Some(Revision(140));
    for (case, scene, expected) in [
        ("a lock of Patroni", holder(), (2, None)),
        ("and a history", holder().history(3), (4, None)),
        (
            "what the agent before this one took may be used",
            holder().claimed(3, "b").leader_is("b"),
            (4, seen),
        ),
    ] {
        assert_eq!(takes(&scene.decide()), Some(expected), "{case}");
    }
}

#[test]
fn who_promotes_again_after_a_crash_takes_another_number() {
    let promoted = replica().holding().claimed(2, "b").decide();
    assert_eq!(takes(&promoted), None);
    let slow = replica().holding().claimed(2, "b").after(&promoted).later(SHORTLY);
    let slow = slow.ended(JobKind::Promote, JobOutcome::Succeeded);
    assert_eq!(takes(&slow.decide()), None, "the same server is told again");
    // It ended and was started as a standby: on its disk there may be a timeline 2 that nobody else has heard of.
    let again = slow.later(SHORTLY).view(|view| view.postgres.process = Process::Running { since: view.now });
    let taking = again.decide();
    assert_eq!(takes(&taking), Some((3, Some(Revision(140)))));
    let unseen = again.clone().after(&taking).later(2 * SECOND);
    assert_eq!(takes(&unseen.decide()), Some((3, Some(Revision(140)))), "nothing shows that it was taken");
    let seen = again.claimed(3, "b").after(&taking);
    assert_eq!(takes(&seen.decide()), None);
    assert_eq!(taken(&seen), Some((1, 2)), "2 is skipped");
}

#[test]
fn a_number_is_used_up_by_the_order_to_promote_and_not_by_a_hook_that_refused() {
    let hooked = |scene: Scene| scene.view(|view| view.me.has_pre_promote = true);
    let first = hooked(racing()).decide();
    assert_eq!(claim(&first).unwrap().timeline, TimelineId(2));
    let promoted = hooked(replica().holding().claimed(2, "b")).after(&first).decide();
    let refused = JobOutcome::Failed { why: "pre_promote refused".into(), source_unreachable: false };
    let after = |outcome| {
        let ended =
            hooked(replica().holding().claimed(2, "b")).after(&promoted).ended(JobKind::Promote, outcome);
        let given_up = ended.decide();
        racing().claimed(2, "b").memory(|memory| memory.claimed = given_up.memory.claimed)
    };
    assert_eq!(claim(&after(refused).decide()).unwrap().timeline, TimelineId(2), "the server was not told");
    assert_eq!(
        claim(&after(JobOutcome::Cancelled).decide()).unwrap().timeline,
        TimelineId(3),
        "it may have been"
    );
}

#[test]
fn a_primary_has_no_number_in_store() {
    let scene =
        leader().memory(|memory| memory.claimed = Some(Claimed { timeline: TimelineId(2), used: true }));
    assert_eq!(scene.decide().memory.claimed, None);
}

#[test]
fn the_history_tells_of_numbers_that_were_passed_over() {
    let switch =
        |timeline, end| TimelineSwitch { timeline: TimelineId(timeline), end, reason: "promoted".into() };
    let scene = leader().history(2).server(|server| server.timeline = Some(TimelineId(5))).view(|view| {
        view.postgres.local_history = Some(LocalHistory {
            timeline: TimelineId(5),
            switches: vec![switch(1, Lsn(0x400_0000)), switch(3, POSITION)],
            written_at: "2026-11-22T01:00:00+00:00".to_owned(),
        });
    });
    let decision = scene.decide();
    let history = decision.actions.iter().find_map(|action| match action {
        Action::WriteHistory { history } => Some(history.clone()),
        _ => None,
    });
    let history = history.unwrap_or_else(|| panic!("{decision:#?}"));
    let told: Vec<_> =
        history.0.iter().map(|entry| (entry.timeline.0, entry.end, entry.new_leader.clone())).collect();
    let a = || Some(name("a"));
    assert_eq!(
        told,
        [(1, Lsn(0x400_0000), None), (2, Lsn::ZERO, None), (3, POSITION, a()), (4, Lsn::ZERO, a())],
        "nothing of a skipped timeline is part of the present one"
    );
    assert_eq!(history.timeline(), TimelineId(5));
    let known = scene.cluster(|cluster| cluster.history.as_mut().unwrap().value = history);
    let again = known.decide();
    assert!(!again.actions.iter().any(|action| matches!(action, Action::WriteHistory { .. })), "{again:#?}");
}

#[test]
fn who_is_on_a_timeline_that_was_passed_over_neither_leads_nor_keeps_others_from_it() {
    let passed_over = |scene: Scene| {
        scene.history(3).cluster(|cluster| cluster.history.as_mut().unwrap().value.0[1].end = Lsn::ZERO)
    };
    let on_it = passed_over(racing()).server(|server| server.timeline = Some(TimelineId(2)));
    assert!(on_it.decide().says("timeline_behind"), "{:#?}", on_it.decide());
    let ahead =
        PeerReport { position: Some(Lsn(POSITION.0 + 1)), timeline: Some(TimelineId(2)), ..standby() };
    let scene = passed_over(racing()).server(|server| server.timeline = Some(TimelineId(3)));
    let scene = scene.answers(&[("a", silence()), ("c", PeerAnswer::Answered(ahead))]);
    assert_eq!(scene.decide().code(), "acquiring_lock", "{:#?}", scene.decide());
}
