//! What a copy costs a standby, and what people are told.

use super::*;

#[test]
fn a_synchronous_standby_is_released_before_it_is_restarted_for_a_copy() {
    let scene = answered(with_feed(replica()), None, 700).sync(SyncMode::Quorum, "a", &["b", "c"], 1);
    let first = scene.clone().decide();
    assert!(copies(&first).is_empty());
    assert!(first.memory.sync_release_since.is_some(), "it asks, and remembers that it did");
    let later = scene.view(|view| {
        view.memory = first.memory;
        view.memory.sync_release_since = Some(NOW.saturating_sub(view.settings.loop_wait * 2));
    });
    assert_eq!(copies(&later.decide()), feed());
}

#[test]
fn h10_a_person_is_told_what_keeps_a_copy_from_getting_safe() {
    let says = |scene: Scene, code: &str| answered(copied(scene, |_| ()), None, 700).decide().says(code);
    assert!(!says(with_feed(replica()), "feedback_is_off"));
    assert!(says(
        with_feed(replica()).server(|server| server.hot_standby_feedback = false),
        "feedback_is_off"
    ));
    let gone = answered(copied(with_feed(replica()), |_| ()), None, 700);
    let gone = gone.view(|view| drop(view.postgres.leader_slots.as_mut().unwrap().slots.remove("b")));
    assert!(gone.decide().says("slot_missing_on_primary"));
    assert!(!says(with_feed(replica()), "slot_missing_on_primary"));
}

#[test]
fn a_copy_that_was_cancelled_is_made_as_soon_as_it_can() {
    let scene = |outcome: JobOutcome| {
        answered(with_feed(replica()), None, 700)
            .memory(|memory| {
                memory.slot_copies.leader = Some(name("a"));
                memory.slot_copies.copied_at.insert("feed".to_owned(), NOW);
            })
            .ended(JobKind::CopySlots, outcome)
    };
    assert_eq!(copies(&scene(JobOutcome::Cancelled).decide()), feed());
    assert_eq!(copies(&scene(JobOutcome::Succeeded).decide()), BTreeSet::new());
}

#[test]
fn a_logical_slot_must_not_bear_the_name_of_a_member() {
    for member in ["a", "b"] {
        let scene = leader().settings(|settings| {
            let slot = PermanentSlot { kind: SlotKind::Logical(logical()), cluster_type: None };
            settings.slots = [(member.to_owned(), slot)].into();
        });
        let decision = scene.decide();
        assert!(decision.says("slot_name_taken"), "{member}");
        let makes = |action: &Action| matches!(action, Action::CreateLogicalSlots { .. });
        assert!(!decision.actions.iter().any(makes), "{member}");
    }
}

#[test]
fn a_copy_that_a_long_transaction_makes_useless_is_not_repeated() {
    let unusable = |original_xmin: u32| {
        let scene = answered(copied(with_feed(replica()), |_| ()), None, original_xmin);
        scene.view(|view| view.postgres.unusable_slots = feed()).memory(|memory| {
            memory.slot_copies.leader = Some(name("a"));
            memory
                .slot_copies
                .copied_at
                .insert("feed".to_owned(), NOW.saturating_sub(Duration::from_secs(900)));
            memory.slot_copies.copied_xmin.insert("feed".to_owned(), 700);
        })
    };
    let held_back = unusable(700).decide();
    assert!(copies(&held_back).is_empty() && held_back.says("logical_slot_held_back"), "{held_back:#?}");
    assert_eq!(copies(&unusable(701).decide()), feed(), "the original has moved");
    let first = answered(with_feed(replica()), None, 700).decide();
    assert_eq!(first.memory.slot_copies.copied_xmin.get("feed"), Some(&700));
    let gone = answered(with_feed(replica()), None, 700).memory(|memory| {
        memory.slot_copies.leader = Some(name("a"));
        memory.slot_copies.copied_xmin.insert("feed".to_owned(), 700);
    });
    assert_eq!(copies(&gone.decide()), feed(), "there is none at all");
}

#[test]
fn one_standby_after_the_other_is_restarted_for_copies() {
    // `c`, after `b` by its name.
    let scene = || {
        answered(with_feed(Scene::of("c")), None, 700).view(|view| {
            let slots = &mut view.postgres.leader_slots.as_mut().unwrap().slots;
            slots.remove("b");
        })
    };
    let restarting =
        |scene: Scene| scene.member("b", |member| member.state = Some(PostgresState::Restarting));
    let second = Duration::from_secs(1);
    let first = scene().decide();
    assert!(copies(&first).is_empty() && first.says("logical_slots_take_turns"), "{first:#?}");
    let later = |decision: &Decision, by: Duration| {
        let scene = scene().after(decision).later(by);
        scene.view(|view| view.postgres.leader_slots.as_mut().unwrap().asked_at = view.now)
    };
    assert_eq!(copies(&later(&first, 3 * second).decide()), BTreeSet::new());
    assert_eq!(copies(&later(&first, 4 * second).decide()), feed(), "`b` does not want to");
    let other = restarting(later(&first, 4 * second)).decide();
    assert_eq!(copies(&other), BTreeSet::new());
    let back = later(&other, 5 * second).decide();
    assert_eq!(copies(&back), BTreeSet::new(), "`d` might be before us");
    assert_eq!(copies(&later(&back, 9 * second).decide()), feed());
    let stuck = restarting(later(&other, 400 * second)).decide();
    let stuck = restarting(later(&stuck, 404 * second)).decide();
    assert_eq!(copies(&stuck), feed(), "one that does not come up keeps nobody waiting for ever");
    let never = scene().member("b", |member| {
        member.tags = serde_json::from_value(json!({"nofailover": true})).unwrap();
    });
    assert_eq!(copies(&never.decide()), feed(), "`b` gets no copies");
    assert_eq!(copies(&answered(with_feed(replica()), None, 700).decide()), feed(), "`b` is the first");
}
