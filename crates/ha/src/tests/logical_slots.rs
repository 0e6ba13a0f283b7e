//! 6.H: logical slots on standbys.

use std::{collections::BTreeSet, time::Duration};

use bellwether_types::{
    Lsn, PostgresState,
    settings::SyncMode,
    slots::{LogicalSlot, PermanentSlot, SlotKind},
};
use serde_json::json;

use crate::{
    Action, Decision,
    action::{DropWhy, LogicalAdvance},
    testing::{NOW, POSITION, Scene, leader, name, replica},
    view::{FailsafeAcceptance, JobKind, JobOutcome, LeaderSlot, LeaderSlots, Slot},
};

fn logical() -> LogicalSlot {
    LogicalSlot { database: "shop".to_owned(), plugin: "pgoutput".to_owned(), failover: false }
}

/// The configuration has the permanent logical slot `feed`.
fn with_feed(scene: Scene) -> Scene {
    scene
        .settings(|settings| {
            let slot = PermanentSlot { kind: SlotKind::Logical(logical()), cluster_type: None };
            settings.slots = [("feed".to_owned(), slot)].into();
        })
        .view(|view| view.postgres.feedback_forced = true)
        .cluster(|cluster| {
            let slots = cluster.status.as_mut().unwrap().value.slots.as_mut().unwrap();
            slots.insert("feed".to_owned(), POSITION);
        })
}

fn copied(scene: Scene, change: impl FnOnce(&mut Slot)) -> Scene {
    scene.slot("feed", |slot| {
        slot.physical = false;
        slot.active = false;
        slot.database = Some("shop".to_owned());
        slot.plugin = Some("pgoutput".to_owned());
        slot.confirmed_flush_lsn = Some(POSITION);
        slot.catalog_xmin = Some(700);
        change(slot);
    })
}

/// The primary keeps `kept` for this standby, and the original slot is at `original`.
fn answered(scene: Scene, kept: Option<u32>, original: u32) -> Scene {
    scene.view(|view| {
        let feed = LeaderSlot {
            database: Some("shop".to_owned()),
            plugin: Some("pgoutput".to_owned()),
            catalog_xmin: Some(original),
            failover: false,
            has_state: true,
        };
        let mine = LeaderSlot { catalog_xmin: kept, ..LeaderSlot::default() };
        let slots = [("feed".to_owned(), feed), ("b".to_owned(), mine)].into();
        view.postgres.leader_slots = Some(LeaderSlots { asked_at: view.now, leader: name("a"), slots });
    })
}

fn original(scene: Scene, change: impl FnOnce(&mut LeaderSlot)) -> Scene {
    scene.view(|view| {
        let answer = view.postgres.leader_slots.as_mut().expect("an answer");
        change(answer.slots.get_mut("feed").expect("it tells of the slot"));
    })
}

fn copies(decision: &Decision) -> BTreeSet<String> {
    let copied = decision.actions.iter().find_map(|action| match action {
        Action::CopySlots { names, .. } => Some(names.clone()),
        _ => None,
    });
    copied.unwrap_or_default()
}

fn asks(decision: &Decision) -> bool {
    decision.actions.iter().any(|action| matches!(action, Action::AskLeaderSlots { .. }))
}

fn feed() -> BTreeSet<String> {
    ["feed".to_owned()].into()
}

#[test]
fn a_primary_makes_the_slot_and_a_standby_does_not() {
    let makes = |decision: &Decision| {
        decision.actions.iter().find_map(|action| match action {
            Action::CreateLogicalSlots { slots } => slots.get("feed").cloned(),
            _ => None,
        })
    };
    assert_eq!(makes(&with_feed(leader()).decide()), Some(logical()));
    assert_eq!(makes(&with_feed(replica()).decide()), None);
    assert_eq!(makes(&copied(with_feed(leader()), |_| ()).decide()), None, "it is there");
}

#[test]
fn h7_a_standby_asks_first_and_copies_what_fits() {
    let first = with_feed(replica()).decide();
    assert!(asks(&first) && copies(&first).is_empty(), "{first:#?}");
    let missing = || answered(with_feed(replica()), None, 700);
    let decision = missing().decide();
    assert_eq!(copies(&decision), feed());
    assert_eq!(decision.reasons[0].sentence(), "Copying logical slots ['feed'] from the primary");

    let other = original(missing(), |slot| slot.plugin = Some("test_decoding".to_owned())).decide();
    assert!(copies(&other).is_empty() && other.says("logical_slot_mismatch"), "{other:#?}");
    for (case, scene) in [
        ("the servers do it", original(missing(), |slot| slot.failover = true)),
        ("the state file did not come", original(missing(), |slot| slot.has_state = false)),
        ("paused", missing().settings(|settings| settings.pause = true)),
        (
            "it does not exist on the primary",
            missing().cluster(|cluster| {
                cluster.status.as_mut().unwrap().value.slots = None;
            }),
        ),
        (
            "an old answer",
            missing().view(|view| {
                view.postgres.leader_slots.as_mut().unwrap().asked_at =
                    NOW.saturating_sub(Duration::from_secs(60));
            }),
        ),
        (
            "an answer of another",
            missing().view(|view| {
                view.postgres.leader_slots.as_mut().unwrap().leader = name("c");
            }),
        ),
        (
            "just copied",
            missing().memory(|memory| {
                memory.slot_copies.leader = Some(name("a"));
                memory.slot_copies.copied_at.insert("feed".to_owned(), NOW);
            }),
        ),
        (
            "never to lead",
            missing().view(|view| {
                view.me.tags = serde_json::from_value(json!({"nofailover": true})).unwrap();
            }),
        ),
        (
            "behind one who does not stream",
            missing()
                .view(|view| {
                    view.me.tags = serde_json::from_value(json!({"replicatefrom": "c"})).unwrap();
                })
                .member("c", |member| {
                    member.tags = serde_json::from_value(json!({"nostream": true})).unwrap()
                }),
        ),
    ] {
        assert_eq!(copies(&scene.decide()), BTreeSet::new(), "{case}");
    }
}

#[test]
fn e7_nothing_is_copied_while_failsafe_holds() {
    let scene = answered(with_feed(replica()), None, 700)
        .settings(|settings| settings.failsafe_mode = true)
        .view(|view| {
            view.failsafe.accepted = Some(FailsafeAcceptance {
                leader: name("a"),
                conn_url: String::new(),
                api_url: String::new(),
                until: NOW + Duration::from_secs(30),
                slots: [("feed".to_owned(), POSITION)].into(),
            });
        });
    assert_eq!(copies(&scene.decide()), BTreeSet::new());
}

#[test]
fn a_server_that_would_not_start_with_the_copy_gets_none() {
    let missing = || answered(with_feed(replica()), None, 700);
    for (case, scene) in [
        ("wal_level", missing().server(|server| server.wal_level = "replica".to_owned())),
        ("max_replication_slots", missing().server(|server| server.max_replication_slots = 2)),
    ] {
        let decision = scene.decide();
        assert!(copies(&decision).is_empty() && decision.says("logical_slots_have_no_room"), "{case}");
    }
    assert_eq!(copies(&missing().server(|server| server.max_replication_slots = 3).decide()), feed());
}

#[test]
fn h7_a_copy_that_lost_its_wal_is_copied_again_but_not_in_a_hurry() {
    let unusable = |ago: Duration| {
        let scene = answered(copied(with_feed(replica()), |_| ()), None, 700);
        scene.view(|view| view.postgres.unusable_slots = feed()).memory(|memory| {
            memory.slot_copies.leader = Some(name("a"));
            memory.slot_copies.copied_at.insert("feed".to_owned(), NOW.saturating_sub(ago));
        })
    };
    assert_eq!(copies(&unusable(Duration::from_secs(10)).decide()), BTreeSet::new());
    assert_eq!(copies(&unusable(Duration::from_secs(300)).decide()), feed());
    let lost = copied(with_feed(replica()), |slot| slot.wal_status_lost = true).decide();
    let why = lost.actions.iter().find_map(|action| match action {
        Action::DropSlots { slots } => slots.get("feed").copied(),
        _ => None,
    });
    assert_eq!(why, Some(DropWhy::Lost));
}

#[test]
fn h5_a_copy_follows_its_consumer_but_never_passes_what_is_replayed_here() {
    let to = |replayed: Lsn, change: fn(&mut Slot)| {
        let scene = copied(with_feed(replica()), |slot| {
            slot.confirmed_flush_lsn = Some(Lsn(POSITION.0 - 64));
            change(slot);
        });
        let decision = scene.server(|server| server.replayed = replayed).decide();
        decision.actions.iter().find_map(|action| match action {
            Action::AdvanceLogicalSlots { to } => to.get("feed").cloned(),
            _ => None,
        })
    };
    let advance = |to: Lsn| Some(LogicalAdvance { database: "shop".to_owned(), to });
    assert_eq!(to(POSITION, |_| ()), advance(POSITION));
    assert_eq!(to(Lsn(POSITION.0 - 8), |_| ()), advance(Lsn(POSITION.0 - 8)));
    assert_eq!(to(Lsn(POSITION.0 - 64), |_| ()), None);
    assert_eq!(to(POSITION, |slot| slot.synced = true), None, "the server does it");
    assert_eq!(to(POSITION, |slot| slot.active = true), None);
}

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
