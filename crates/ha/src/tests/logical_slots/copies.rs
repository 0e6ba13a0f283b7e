//! When slots are made and copied, and how copies move on.

use super::*;

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
