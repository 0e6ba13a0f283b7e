//! Who takes over, and who waits for whom.

use super::*;

#[test]
fn whoever_covers_enough_promises_takes_over() {
    let scene = bound_for(Duration::from_millis(50)).answers(&[("c", answer(promised(POSITION)))]);
    let decision = scene.decide();
    let over = taking(&decision).unwrap_or_else(|| panic!("{decision:#?}"));
    assert_eq!((over.opened_at, over.leader, over.sync), (OPENED, Revision(100), Revision(120)));
    assert_eq!(over.timeline.timeline, TimelineId(2));
    let taken = Some(Taken { by: name("b"), from: name("a"), timeline: TimelineId(2) });
    assert_eq!(over.takeover, Takeover { state: EpochState::Taken, taken, ..epoch() });
    assert_eq!(decision.code(), "taking_over");
}

#[test]
fn too_few_promises_are_no_election() {
    let earlier = PeerReport {
        takeover: Word {
            heard: None,
            promise: Some(Promise { revision: Revision(299), ..promise(POSITION) }),
        },
        ..standby()
    };
    let later_timeline = PeerReport {
        takeover: Word {
            heard: None,
            promise: Some(Promise {
                position: WalPosition { timeline: TimelineId(2), lsn: Lsn(1) },
                ..promise(POSITION)
            }),
        },
        ..standby()
    };
    for (case, report) in [
        ("no promise", deaf(1_300)),
        ("a promise for an earlier epoch", earlier),
        ("beyond this member", promised(Lsn(POSITION.0 + 1))),
        ("on another timeline", later_timeline),
    ] {
        let decision = bound_for(Duration::from_secs(1)).answers(&[("c", answer(report))]).decide();
        assert!(taking(&decision).is_none() && decision.says("takeover_too_few"), "{case}: {decision:#?}");
    }
    // Promises of members that do not elect count for nothing.
    let stranger = bound_for(Duration::from_secs(1)).answers(&[("d", answer(promised(POSITION)))]).decide();
    assert!(taking(&stranger).is_none(), "{stranger:#?}");
    let leader = bound_for(Duration::from_secs(1)).answers(&[("a", answer(promised(POSITION)))]).decide();
    assert!(taking(&leader).is_none(), "{leader:#?}");
}

/// Seed 9010806 of the simulator: the leader came back, and shrank `/sync` to another voter while promises were collected.
#[test]
fn an_epoch_that_is_over_is_not_won_by_the_sync_that_ended_it() {
    let scene = bound_for(Duration::from_millis(50)).answers(&[("c", answer(promised(POSITION)))]);
    assert!(taking(&scene.decide()).is_some());
    for voters in [&["b"][..], &["c"], &["b", "c"]] {
        let changed = scene.clone().sync(SyncMode::Quorum, "a", voters, 0).cluster(|cluster| {
            cluster.sync.as_mut().unwrap().revision = Revision(301);
        });
        // Heard of by a watch, so that the view is not known to be newer than the promise.
        let decision = changed
            .view(|view| view.store.confirmed_at = view.now.saturating_sub(Duration::from_millis(60)))
            .decide();
        assert!(taking(&decision).is_none() && !forgets(&decision), "{voters:?}: {decision:#?}");
        assert_eq!(decision.code(), "bound_by_promise");
    }
}

#[test]
fn the_best_one_is_waited_for_but_not_for_ever() {
    let wide = |since| {
        let mut scene = bound_for(since).sync(SyncMode::Quorum, "a", &["b", "c", "d"], 1);
        scene.cluster.sync.as_mut().unwrap().revision = Revision(120);
        scene
    };
    let more = Lsn(POSITION.0 + 0x100);
    let first = |since, c: PeerReport, d: PeerReport| {
        let decision = wide(since).answers(&[("c", answer(c)), ("d", answer(d))]).decide();
        (taking(&decision).is_some(), decision.says("takeover_left_to"))
    };
    let soon = Duration::from_millis(150);
    let late = Duration::from_millis(350);
    assert_eq!(first(soon, promised(more), promised(POSITION)), (false, true), "c has more");
    assert_eq!(first(late, promised(more), promised(POSITION)), (true, false), "b and d suffice without it");
    let favoured = PeerReport { failover_priority: 2, ..promised(POSITION) };
    assert_eq!(first(soon, favoured, promised(POSITION)), (false, true), "c is preferred");
    assert_eq!(first(soon, promised(POSITION), promised(POSITION)), (true, false), "b comes first by name");
    let barred = PeerReport { nofailover: true, ..promised(more) };
    assert_eq!(first(soon, barred, promised(POSITION)), (true, false), "c may not lead");
    let alone = promised(Lsn(more.0 + 1));
    assert_eq!(first(late, promised(more), alone), (false, false), "both have more: b does not suffice");
}

#[test]
fn those_who_have_not_promised_yet_are_waited_for_a_moment() {
    let wide = |since| {
        let mut scene = bound_for(since).sync(SyncMode::Quorum, "a", &["b", "c", "d"], 1);
        scene.cluster.sync.as_mut().unwrap().revision = Revision(120);
        let answers = [("c", answer(promised(POSITION))), ("d", answer(deaf(1_300)))];
        scene.answers(&answers).decide()
    };
    assert!(taking(&wide(Duration::from_millis(20))).is_none());
    assert!(taking(&wide(Duration::from_millis(120))).is_some());
}

#[test]
fn who_lacks_what_it_promised_or_a_timeline_does_not_lead() {
    let scene = || bound_for(Duration::from_millis(50)).answers(&[("c", answer(promised(POSITION)))]);
    for (case, scene, reason) in [
        ("lost WAL", scene().server(|server| server.position = Lsn(POSITION.0 - 1)), "takeover_not_replayed"),
        ("a newer timeline was taken", scene().claimed(2, "a"), "timeline_behind"),
        (
            "the leader published a newer one",
            scene().member("a", |member| member.timeline = Some(TimelineId(2))),
            "timeline_behind",
        ),
        ("nofailover", tagged(scene()), "not_allowed_to_promote"),
    ] {
        let decision = scene.decide();
        assert!(taking(&decision).is_none() && decision.says(reason), "{case}: {decision:#?}");
    }
}

#[test]
fn an_attempt_that_leads_nowhere_is_closed() {
    for (case, scene) in [
        ("nobody won", bound_for(Duration::from_millis(2_100)).answers(&[("c", answer(deaf(1_300)))])),
        ("c hears the leader", bound_for(Duration::from_millis(50)).answers(&[("c", answer(deaf(100)))])),
        ("pause", bound_for(Duration::from_millis(50)).settings(|settings| settings.pause = true)),
        ("the mode", bound_for(Duration::from_millis(50)).settings(|s| s.synchronous_mode = SyncMode::On)),
        ("switched off", bound_for(Duration::from_millis(50)).settings(|s| s.quorum_takeover = false)),
    ] {
        let decision = scene.decide();
        assert!(closes(&decision) && !attaches(&decision) && !forgets(&decision), "{case}: {decision:#?}");
        assert!(taking(&decision).is_none(), "{case}");
    }
}

#[test]
fn whoever_was_given_the_lock_is_bound_no_more() {
    let mut scene = bound_for(Duration::from_millis(50)).holding();
    scene.cluster.leader = crate::testing::leader().cluster.leader;
    scene.cluster.leader.as_mut().unwrap().revision = Revision(100);
    let decision = scene.decide();
    assert!(forgets(&decision) && decision.code() != "bound_by_promise", "{decision:#?}");
}
