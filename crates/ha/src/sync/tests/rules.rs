//! The rules of synchronous replication, one test per rule, named after its number. F1 and F2 are in `counting`; F1 and F20 are also held
//! against whole stories in `model`; F5 is with the text in `names`; F8 is the operator's part; F17, F18 and F19 are the executor's.

use std::time::Duration;

use bellwether_types::{Lsn, PLACEHOLDER, Role, cluster::SyncState, settings::SyncMode};
use serde_json::json;

use super::scenes::{
    assigns, next, prepare, primary, process, proven, standby, standby_at, tag, voters, writes,
};
use crate::{
    Action, Reason,
    draft::Draft,
    sync,
    testing::{POSITION, Scene, name, replica},
};

#[test]
fn f3_wal_is_made_for_standbys_to_pass_the_gate() {
    let decision = process(&primary(SyncMode::Quorum, "ANY 1 (b)", &[standby("b", "quorum")]));
    assert!(decision.actions.contains(&Action::GenerateWal), "{decision:#?}");
}

#[test]
fn f4_names_that_somebody_else_changed_are_noticed() {
    let b = [standby("b", "async")];
    let on = process(&primary(SyncMode::On, "x", &b).sync(SyncMode::On, "a", &["b"], 0));
    assert_eq!(voters(&on), Some(vec![]), "commits do not wait for b any more: {on:#?}");
    let quorum = process(&primary(SyncMode::Quorum, "", &b).sync(SyncMode::Quorum, "a", &["b", "c"], 1));
    assert_eq!(voters(&quorum), Some(vec![]), "{quorum:#?}");
    let anybody = process(&primary(SyncMode::On, "*", &b).sync(SyncMode::On, "a", &[], 0));
    assert_eq!(assigns(&anybody), Some("b"), "a star is replaced");
}

#[test]
fn f6_names_are_joined_without_regard_to_case() {
    let decision =
        process(&primary(SyncMode::On, "", &[standby("B", "async")]).sync(SyncMode::On, "a", &[], 0));
    assert_eq!(assigns(&decision), Some("b"));
    let settled = primary(SyncMode::Quorum, "ANY 1 (B)", &[standby("B", "quorum")]);
    let settled = proven(settled.sync(SyncMode::Quorum, "a", &["b"], 0));
    let decision = process(&settled);
    assert_eq!((assigns(&decision), writes(&decision)), (None, None), "{decision:#?}");
}

#[test]
fn f7_a_walsender_named_like_the_primary_is_no_standby() {
    for impostor in ["a", "A"] {
        let scene = primary(SyncMode::Quorum, "", &[standby(impostor, "async")]);
        let decision = process(&scene.sync(SyncMode::Quorum, "a", &[], 0));
        assert_eq!((assigns(&decision), writes(&decision)), (None, None), "{impostor}");
    }
}

#[test]
fn f8_a_stranger_is_never_named() {
    let scene = primary(SyncMode::Quorum, "", &[standby("pg_receivewal", "async"), standby("b", "async")]);
    assert_eq!(assigns(&process(&scene.sync(SyncMode::Quorum, "a", &[], 0))), Some("ANY 1 (b)"));
}

#[test]
fn f9_the_mode_is_activated_without_any_replica() {
    for mode in [SyncMode::On, SyncMode::Quorum] {
        let decision = process(&primary(mode, "", &[]));
        let expected = SyncState { leader: Some(name("a")), ..SyncState::default() };
        assert_eq!(writes(&decision), Some(&expected), "{mode:?}");
        assert!(decision.says("sync_enabled"));
    }
}

#[test]
fn f10_strict_mode_falls_back_to_the_old_voters_or_to_nobody() {
    let any_placeholder = format!("ANY 1 ({PLACEHOLDER})");
    for (mode, shown, voters, quorum, expected) in [
        (SyncMode::On, "", &[] as &[&str], 0, Some(PLACEHOLDER)),
        (SyncMode::On, "x", &["b"], 0, None),
        (SyncMode::On, "b", &["b"], 0, None),
        (SyncMode::Quorum, "", &[], 0, Some(any_placeholder.as_str())),
        (SyncMode::Quorum, "ANY 1 (b,c)", &["b", "c"], 1, None),
        (SyncMode::Quorum, "ANY 1 (b,c,d)", &["b", "c"], 0, None),
        (SyncMode::Quorum, "ANY 1 (b,c)", &[], 0, Some(any_placeholder.as_str())),
    ] {
        let scene = primary(mode, shown, &[]).sync(mode, "a", voters, quorum);
        let decision = process(&scene.settings(|settings| settings.synchronous_mode_strict = true));
        assert_eq!(assigns(&decision), expected, "{mode:?} {shown:?}: {decision:#?}");
    }
}

#[test]
fn f10_strict_mode_survives_a_promotion() {
    let strict = |mode, voters: &[&str]| {
        let scene = replica().holding().sync(mode, "a", voters, 0);
        scene.settings(|settings| settings.synchronous_mode_strict = true)
    };
    let (ready, decision) = prepare(&strict(SyncMode::On, &["b", "c"]));
    assert_eq!((ready, voters(&decision)), (false, Some(vec!["a", "c"])));
    let (ready, decision) = prepare(&strict(SyncMode::On, &["b"]).sync(SyncMode::On, "b", &["a"], 0));
    assert_eq!((ready, assigns(&decision)), (false, Some("a")));
    let (ready, decision) = prepare(&strict(SyncMode::On, &[]).sync(SyncMode::On, "b", &[], 0));
    assert_eq!((ready, assigns(&decision)), (false, Some(PLACEHOLDER)));
}

#[test]
fn f11_no_promotion_before_the_key_says_so() {
    let scene = replica().holding().sync(SyncMode::On, "a", &["b"], 0);
    let (ready, decision) = prepare(&scene);
    assert!(!ready);
    assert_eq!(voters(&decision), Some(vec![]));
    assert_eq!(writes(&decision).and_then(|state| state.leader.clone()), Some(name("b")));
    let (ready, decision) = prepare(&scene.sync(SyncMode::On, "b", &[], 0));
    assert!(ready && decision.actions.is_empty(), "{decision:#?}");
}

#[test]
fn f12_the_old_leader_stays_in_the_electorate_until_replicas_are_back() {
    let scene = replica().holding().sync(SyncMode::Quorum, "a", &["b", "c"], 1);
    let (ready, decision) = prepare(&scene);
    assert_eq!((ready, assigns(&decision), writes(&decision)), (false, Some("ANY 1 (a,c)"), None));
    let named = scene.server(|server| server.synchronous_standby_names = "ANY 1 (a,c)".to_owned());
    assert!(prepare(&named).0);
    let promoted = process(&named.as_primary());
    assert_eq!(voters(&promoted), Some(vec!["a", "c"]), "{promoted:#?}");
    assert_eq!(writes(&promoted).map(|state| state.quorum), Some(1));
}

#[test]
fn f12_before_a_promotion_as_many_are_named_as_it_takes_to_meet_the_old_electorate() {
    for (case, me, voters, quorum, expected) in [
        ("the only voter", "b", &["b"] as &[&str], 0, "ANY 1 (a)"),
        ("one of two, either elects", "b", &["b", "c"], 0, "ANY 2 (a,c)"),
        ("one of two, both elect", "b", &["b", "c"], 1, "ANY 1 (a,c)"),
        ("no voter", "c", &["b"], 0, "ANY 2 (a,b)"),
        ("nobody was recorded", "b", &[], 0, "ANY 1 (a)"),
        ("the former leader again", "a", &["b", "c"], 1, "ANY 1 (b,c)"),
    ] {
        let scene = Scene::of(me).holding().sync(SyncMode::Quorum, "a", voters, quorum);
        let scene = scene.server(|server| server.in_recovery = true);
        assert_eq!(assigns(&prepare(&scene).1), Some(expected), "{case}");
    }
}

#[test]
fn f13_rows_without_a_position_are_ignored() {
    let mut backup = standby("b", "async");
    (backup.write, backup.flush, backup.replay) = (None, None, None);
    let decision = process(&primary(SyncMode::Quorum, "", &[backup]).sync(SyncMode::Quorum, "a", &[], 0));
    assert_eq!(assigns(&decision), None);
}

#[test]
fn f14_a_standby_that_may_lead_is_preferred() {
    let standbys = [standby_at("b", "sync", Lsn(POSITION.0 + 9)), standby("c", "async")];
    let scene = primary(SyncMode::On, "", &standbys).sync(SyncMode::On, "a", &[], 0);
    let scene = tag(scene, "b", "nofailover", json!(true));
    assert_eq!(assigns(&process(&scene)), Some("c"));
    let quorum = scene.sync(SyncMode::Quorum, "a", &[], 0);
    assert_eq!(
        assigns(&process(&quorum)),
        Some("ANY 1 (c)"),
        "it is taken only where there are too few others"
    );
}

#[test]
fn f15_a_lagging_standby_is_swapped_only_against_a_threshold() {
    let behind = Lsn(POSITION.0 - 2000);
    let standbys = [standby_at("b", "sync", behind), standby("c", "async")];
    let scene = |limit| {
        let scene = primary(SyncMode::On, "b", &standbys).sync(SyncMode::On, "a", &["b"], 0);
        scene.settings(|settings| settings.maximum_lag_on_syncnode = limit)
    };
    for (limit, expected) in [(None, None), (Some(2000), None), (Some(1999), Some(vec![]))] {
        assert_eq!(voters(&process(&scene(limit))), expected, "{limit:?}");
    }
}

#[test]
fn f16_a_foreign_leader_in_the_key_is_replaced() {
    let b = [standby("b", "sync")];
    let on = process(&primary(SyncMode::On, "b", &b).sync(SyncMode::On, "old-a", &["b"], 0));
    assert_eq!((voters(&on), writes(&on).and_then(|s| s.leader.clone())), (Some(vec![]), Some(name("a"))));
    let quorum = primary(SyncMode::Quorum, "ANY 1 (b)", &b).sync(SyncMode::Quorum, "old-a", &["b"], 0);
    let quorum = process(&quorum);
    assert_eq!(
        (voters(&quorum), writes(&quorum).and_then(|s| s.leader.clone())),
        (Some(vec!["b"]), Some(name("a")))
    );
}

#[test]
fn f19_with_the_mode_off_the_users_own_names_are_left_alone() {
    // Ours are taken back, whoever wrote them; what is shown then is the user's.
    let users = primary(SyncMode::Off, "ANY 1 (my_standby)", &[]);
    let decision = process(&users);
    assert_eq!(assigns(&decision), Some(""), "{decision:#?}");
    let left_alone = process(&next(users, &decision));
    assert_eq!(assigns(&left_alone), None, "{left_alone:#?}");
    let ours = primary(SyncMode::Off, "ANY 1 (b,c)", &[]).sync(SyncMode::Off, "a", &["b", "c"], 1);
    let first = process(&ours);
    assert!(first.actions.iter().any(|action| matches!(action, Action::DeleteSync { .. })), "{first:#?}");
    assert_eq!(assigns(&first), None, "the key goes first");
    let ours = next(ours, &first).cluster(|cluster| cluster.sync = None);
    let second = process(&ours);
    assert_eq!(assigns(&second), Some(""));
    // The user happens to want the same: that is no reason to try for ever.
    assert_eq!(assigns(&process(&next(ours, &second))), None);
}

/// Seed 70036765 of the simulator: the voters had left for good when `/sync` was removed, and every commit waited for them.
#[test]
fn f19_names_of_voters_that_have_left_are_taken_back() {
    let left = primary(SyncMode::Off, "ANY 2 (x,y)", &[]);
    assert_eq!(assigns(&process(&left)), Some(""));
}

#[test]
fn f21_a_wiped_store_means_activation_anew() {
    let b = [standby("b", "quorum")];
    let scene = primary(SyncMode::Quorum, "ANY 1 (b)", &b);
    assert_eq!(voters(&process(&scene)), Some(vec![]));
    let no_leader = scene.cluster(|cluster| cluster.leader = None);
    assert!(process(&no_leader).actions.is_empty(), "not before the lock shows");
}

#[test]
fn a_member_that_should_cascade_does_not_count() {
    let standbys = [standby("b", "async"), standby("c", "async")];
    let scene = primary(SyncMode::Quorum, "", &standbys).sync(SyncMode::Quorum, "a", &[], 0);
    let fed_by_b = tag(scene.clone(), "c", "replicatefrom", json!("b"));
    assert_eq!(assigns(&process(&fed_by_b)), Some("ANY 1 (b)"));
    let circle = tag(fed_by_b, "b", "replicatefrom", json!("c"));
    assert_eq!(assigns(&process(&circle)), Some("ANY 1 (b,c)"), "a circle feeds nobody");
    let fed_by_me = tag(scene, "c", "replicatefrom", json!("a"));
    assert_eq!(assigns(&process(&fed_by_me)), Some("ANY 1 (b,c)"));
}

#[test]
fn who_does_not_want_to_or_cannot_does_not_count() {
    let standbys = [standby("b", "async"), standby("c", "async")];
    let scene = primary(SyncMode::Quorum, "", &standbys).sync(SyncMode::Quorum, "a", &[], 0);
    let nosync = tag(scene.clone(), "c", "nosync", json!(true));
    assert_eq!(assigns(&process(&nosync)), Some("ANY 1 (b)"));
    let starting = scene.clone().cluster(|cluster| {
        cluster.members.insert(name("c"), crate::testing::member("c", Role::Replica));
        cluster.members.get_mut(&name("c")).expect("c").state = None;
    });
    assert_eq!(assigns(&process(&starting)), Some("ANY 1 (b)"));
    let catching_up = scene.server(|server| server.standbys[1].state = "catchup".to_owned());
    assert_eq!(assigns(&process(&catching_up)), Some("ANY 1 (b)"));
}

#[test]
fn the_order_of_preference_is_priority_then_state_then_position() {
    let ahead = Lsn(POSITION.0 + 100);
    for (case, b, c, priority, expected) in [
        ("further", standby("b", "async"), standby_at("c", "async", ahead), 1, "c"),
        ("synchronous already", standby("b", "sync"), standby_at("c", "async", ahead), 1, "b"),
        ("higher priority", standby("b", "sync"), standby("c", "async"), 2, "c"),
        ("by name", standby("b", "async"), standby("c", "async"), 1, "b"),
    ] {
        let scene = primary(SyncMode::On, "", &[b, c]).sync(SyncMode::On, "a", &[], 0);
        assert_eq!(
            assigns(&process(&tag(scene, "c", "sync_priority", json!(priority)))),
            Some(expected),
            "{case}"
        );
    }
}

#[test]
fn a_replica_forgets_the_names_of_an_earlier_leadership() {
    let scene = replica().sync(SyncMode::Quorum, "a", &["b"], 0);
    let view = scene.server(|server| server.synchronous_standby_names = "ANY 1 (c)".to_owned()).build();
    let mut draft = Draft::new(&view);
    sync::clear_on_replica(&view, &mut draft);
    assert_eq!(assigns(&draft.finish(Reason::Paused)), Some(""));
}

#[test]
fn an_answer_from_before_a_change_of_ours_decides_nothing() {
    let scene = primary(SyncMode::Quorum, "", &[standby("b", "async")]).sync(SyncMode::Quorum, "a", &[], 0);
    let first = process(&scene);
    assert_eq!(assigns(&first), Some("ANY 1 (b)"));
    let same_answer = process(&scene.after(&first).later(Duration::from_millis(50)));
    assert!(same_answer.actions.is_empty(), "{same_answer:#?}");
}
