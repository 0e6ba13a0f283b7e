//! Which copies may be used after a promotion, and what that takes.

use super::*;

#[test]
fn h10_a_copy_is_safe_once_the_primary_keeps_what_it_needs() {
    let ready = |kept: Option<u32>, original: u32, recorded: Option<u32>| {
        let scene = answered(copied(with_feed(replica()), |_| ()), kept, original).memory(|memory| {
            memory.slot_copies.leader = Some(name("a"));
            memory.slot_copies.recorded =
                recorded.map(|xmin| ("feed".to_owned(), xmin)).into_iter().collect();
        });
        let decision = scene.decide();
        let is_ready = decision.says("logical_slot_ready");
        assert_eq!(asks(&decision), !is_ready, "it is looked at until it is known");
        (is_ready, decision.memory.slot_copies.recorded.get("feed").copied())
    };
    assert_eq!(ready(None, 700, Some(700)), (false, None), "the primary keeps nothing for us: all anew");
    assert_eq!(ready(Some(690), 700, None), (false, Some(700)), "rows between may be gone");
    assert_eq!(ready(Some(690), 705, Some(700)), (false, Some(700)));
    assert_eq!(ready(Some(700), 705, Some(700)), (true, None));
    assert_eq!(ready(Some(700), 700, None), (true, None), "nothing went by in between");
    assert_eq!(ready(Some(701), 705, Some(700)), (false, Some(700)), "more than the copy needs is gone");
    let wrapped =
        answered(copied(with_feed(replica()), |slot| slot.catalog_xmin = Some(5)), Some(5), u32::MAX - 3);
    assert!(wrapped.decide().says("logical_slot_ready"), "numbers wrap around");
}

#[test]
fn h10_a_promotion_tells_which_copies_may_not_be_safe() {
    let promoted = |is_ready: bool| {
        let scene = copied(with_feed(replica()), |_| ()).holding().memory(|memory| {
            memory.slot_copies.leader = Some(name("a"));
            memory.slot_copies.ready = if is_ready { feed() } else { BTreeSet::new() };
        });
        let decision = scene.decide();
        assert!(decision.actions.iter().any(|action| matches!(action, Action::Promote { .. })));
        decision.says("logical_slots_not_ready")
    };
    assert!(promoted(false) && !promoted(true));
}

#[test]
fn another_leader_means_that_all_copies_must_prove_themselves_anew() {
    let scene = copied(with_feed(replica()), |_| ()).memory(|memory| {
        memory.slot_copies.leader = Some(name("c"));
        memory.slot_copies.ready = feed();
    });
    let decision = scene.decide();
    assert!(asks(&decision) && decision.memory.slot_copies.ready.is_empty());
    let same = copied(with_feed(replica()), |_| ()).memory(|memory| {
        memory.slot_copies.leader = Some(name("a"));
        memory.slot_copies.ready = feed();
    });
    assert!(!asks(&same.decide()), "a healthy day asks nothing");
}

#[test]
fn h11_feedback_is_forced_on_along_the_whole_way() {
    let forced = |scene: Scene| {
        let scene = scene.view(|view| view.postgres.feedback_forced = false);
        scene.decide().actions.contains(&Action::ForceFeedback { on: true })
    };
    assert!(forced(with_feed(replica())));
    assert!(!forced(replica()));
    let nofailover = |scene: Scene| {
        scene.view(|view| view.me.tags = serde_json::from_value(json!({"nofailover": true})).unwrap())
    };
    assert!(!forced(nofailover(with_feed(replica()))));
    let cascading = |tags: serde_json::Value| {
        nofailover(with_feed(replica()))
            .member("c", |member| member.tags = serde_json::from_value(tags).unwrap())
    };
    assert!(forced(cascading(json!({"replicatefrom": "b"}))), "c has the slot, and streams from here");
    assert!(!forced(cascading(json!({"replicatefrom": "b", "nofailover": true}))));
    let back = replica().view(|view| view.postgres.feedback_forced = true).decide();
    assert!(back.actions.contains(&Action::ForceFeedback { on: false }), "the user's again");
}

#[test]
fn h9_a_failover_slot_of_a_former_primary_makes_way_for_the_server() {
    let stale = |version: u32, change: fn(&mut Slot)| {
        let scene = copied(replica(), |slot| {
            slot.failover = true;
            change(slot);
        });
        let decision = scene.view(|view| view.postgres.server_version = version).decide();
        decision.actions.iter().find_map(|action| match action {
            Action::DropSlots { slots } => slots.get("feed").copied(),
            _ => None,
        })
    };
    assert_eq!(stale(170_005, |_| ()), Some(DropWhy::NotSynced));
    assert_eq!(stale(170_005, |slot| slot.synced = true), None);
    assert_eq!(stale(160_005, |_| ()), None);
    let at_primary = copied(leader(), |slot| slot.failover = true).decide();
    assert!(!at_primary.actions.iter().any(|action| matches!(action, Action::DropSlots { .. })));
}

#[test]
fn a_slot_of_another_kind_under_the_same_name_is_made_anew() {
    let other = copied(with_feed(leader()), |slot| slot.plugin = Some("test_decoding".to_owned())).decide();
    let why = other.actions.iter().find_map(|action| match action {
        Action::DropSlots { slots } => slots.get("feed").copied(),
        _ => None,
    });
    assert_eq!(why, Some(DropWhy::Changed));
}
