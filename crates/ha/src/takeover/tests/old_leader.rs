//! What becomes of the leader that was replaced.

use super::*;

fn taken_by_b(scene: Scene) -> Scene {
    let taken = Some(Taken { by: name("b"), from: name("a"), timeline: TimelineId(2) });
    with_epoch(scene, Takeover { state: EpochState::Taken, taken, ..epoch() })
}

#[test]
fn a_leader_whose_key_bears_another_name_stops_before_its_renewal_is_refused() {
    // The key keeps the revision of its creation when it changes hands.
    let decision = leader()
        .cluster(|cluster| {
            let leader = cluster.leader.as_mut().unwrap();
            leader.name = name("b");
            leader.revision = Revision(500);
        })
        .decide();
    assert_eq!(decision.code(), "lost_leader_lock", "{decision:#?}");
}

#[test]
fn by_a_view_from_before_its_take_over_a_successor_follows_nobody() {
    let crate::view::LeaseView::Held { until, demote_at, term, .. } = crate::testing::held(NOW) else {
        unreachable!()
    };
    let revision = Revision(OPENED.0 + 1);
    let given = crate::view::LeaseView::Held { until, demote_at, term, revision, unavailable_since: None };
    let tries = bound_for(Duration::from_millis(50)).answers(&[("c", answer(promised(POSITION)))]);
    let has_it = bound_for(Duration::from_millis(50)).lease(given);
    for (case, before) in [("it has tried", tries.decide()), ("it was given the lock", has_it.decide())] {
        // It gave the lock up without having read the store since; what it sees still names the leader that it replaced.
        let without = with_epoch(silent_for(voter(), LONG_AGO), epoch()).after(&before).view(|view| {
            view.memory.released_at = None;
            view.now = view.now + Duration::from_millis(20);
        });
        let blind = without.decide();
        assert!(blind.says("view_older_than_our_lock") && !attaches(&blind), "{case}: {blind:#?}");
        assert!(blind.deeds().is_empty(), "{case}: {blind:#?}");
        // Read since: it is as it seems.
        let read = without.clone().later(Duration::from_millis(1)).decide();
        assert!(!read.says("view_older_than_our_lock"), "{case}: {read:#?}");
        let later = without.leader_is("a").cluster(|cluster| cluster.revision = Revision(900)).decide();
        assert!(!later.says("view_older_than_our_lock"), "{case}: {later:#?}");
    }
}

#[test]
fn i7_who_was_replaced_does_not_take_the_lock_as_it_runs() {
    let answers = [("b", answer(standby())), ("c", answer(standby()))];
    let stale = |scene: Scene| {
        let scene = scene.sync(SyncMode::Quorum, "a", &["b", "c"], 1).unlocked();
        scene.lease(crate::view::LeaseView::NotHeld).answers(&answers)
    };
    assert!(stale(leader()).decide().actions.iter().any(|a| matches!(a, Action::AcquireLease { .. })));
    let decision = taken_by_b(stale(leader())).decide();
    assert!(decision.says("replaced_by_takeover"), "{decision:#?}");
    assert!(!decision.actions.iter().any(|a| matches!(a, Action::AcquireLease { .. })));
    let paused = taken_by_b(stale(leader()).settings(|settings| settings.pause = true)).decide();
    assert!(paused.says("replaced_by_takeover"), "{paused:#?}");
    assert!(!paused.actions.iter().any(|a| matches!(a, Action::AcquireLease { .. })));
}

// --- off ---
