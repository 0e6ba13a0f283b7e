//! Rules F1 and F2: in which order names and key change, and from when on a standby counts.

use std::time::Duration;

use bellwether_types::{
    Lsn, Revision, Timestamp,
    cluster::{Keyed, SyncState},
    settings::SyncMode,
};

use super::scenes::{assigns, next, prepare, primary, process, proven, standby, standby_at, voters, writes};
use crate::{
    Action, Decision,
    testing::{NOW, POSITION, Scene, replica},
    view::Process,
};

#[test]
fn f1_a_standby_is_added_to_the_names_first_and_removed_from_the_key_first() {
    for mode in [SyncMode::On, SyncMode::Quorum] {
        let method = if mode == SyncMode::On { "" } else { "ANY 1 (" };
        let close = if mode == SyncMode::On { "" } else { ")" };
        let joins = process(&primary(mode, "", &[standby("b", "async")]).sync(mode, "a", &[], 0));
        assert_eq!(
            (assigns(&joins), writes(&joins)),
            (Some(&*format!("{method}b{close}")), None),
            "{mode:?}"
        );
        let leaves = proven(primary(mode, &format!("{method}b{close}"), &[]).sync(mode, "a", &["b"], 0));
        let leaves = process(&leaves);
        assert_eq!((assigns(&leaves), voters(&leaves)), (None, Some(vec![])), "{mode:?}");
    }
}

#[test]
fn f1_a_write_says_which_revision_it_was_decided_on() {
    let state = |expect: Option<Revision>| {
        let scene = primary(SyncMode::Quorum, "", &[]);
        let scene = scene.cluster(|cluster| {
            cluster.sync = expect.map(|revision| Keyed { value: SyncState::default(), revision });
        });
        process(&scene).actions.into_iter().find_map(|action| match action {
            Action::WriteSync { expect, .. } => Some(expect),
            _ => None,
        })
    };
    assert_eq!(state(None), Some(None));
    assert_eq!(state(Some(Revision(77))), Some(Some(Revision(77))));
}

#[test]
fn f1_a_write_that_may_yet_land_keeps_the_names_from_changing_under_it() {
    let beyond = Lsn(POSITION.0 + 8);
    let standbys = [standby_at("b", "quorum", beyond), standby_at("c", "quorum", beyond)];
    let scene = primary(SyncMode::Quorum, "ANY 1 (b,c)", &standbys).sync(SyncMode::Quorum, "a", &[], 0);
    let scene = proven(scene);
    let tried = process(&scene);
    assert_eq!(voters(&tried), Some(vec!["b", "c"]));
    // The outcome is unknown, and meanwhile both standbys are lost: the names must not be emptied yet.
    let scene = next(scene, &tried).server(|server| server.standbys.clear());
    let decision = process(&scene);
    assert_eq!(assigns(&decision), None, "{decision:#?}");
    assert_eq!(voters(&decision), Some(vec![]), "the present value is written again: {decision:#?}");
}

#[test]
fn f1_a_new_process_moves_the_revision_on_before_it_changes_the_names() {
    let scene = primary(SyncMode::Quorum, "", &[standby("b", "async")]).sync(SyncMode::Quorum, "a", &[], 0);
    let scene = scene.memory(|memory| memory.sync.term = None);
    let first = process(&scene);
    assert_eq!((assigns(&first), voters(&first)), (None, Some(vec![])), "{first:#?}");
    let written = next(scene, &first).cluster(|cluster| {
        cluster.sync.as_mut().expect("/sync").revision = Revision(121);
    });
    assert_eq!(assigns(&process(&written)), Some("ANY 1 (b)"));
}

#[test]
fn f2_a_standby_counts_only_beyond_the_position_at_which_it_was_named() {
    for (mode, names, state) in [(SyncMode::On, "b", "sync"), (SyncMode::Quorum, "ANY 1 (b)", "quorum")] {
        let behind = standby_at("b", state, Lsn(POSITION.0 - 1));
        let scene = proven(primary(mode, names, &[behind]).sync(mode, "a", &[], 0));
        assert_eq!(voters(&process(&scene)), None, "{mode:?}: it is behind the gate");
        let passed =
            scene.server(|server| server.standbys = vec![standby_at("b", state, Lsn(POSITION.0 + 8))]);
        // The walsender proves first that it acts by the names; the gate is taken after that.
        let passed = proven(passed);
        let decision = process(&passed);
        assert_eq!(voters(&decision), Some(vec!["b"]), "{mode:?}: {decision:#?}");
    }
}

/// b is shown as synchronous and has sent all there is, and this is known of the checkpointer.
fn named(mode: SyncMode, read_at: Option<Timestamp>) -> Scene {
    let (names, state) = if mode == SyncMode::On { ("b", "sync") } else { ("ANY 1 (b)", "quorum") };
    let beyond = standby_at("b", state, Lsn(POSITION.0 + 8));
    let scene = primary(mode, names, &[beyond]).sync(mode, "a", &[], 0);
    scene.view(|view| view.postgres.checkpointer_read_at = read_at)
}

fn proves(decision: &Decision) -> bool {
    decision.actions.contains(&Action::ProveNamesInForce)
}

#[test]
fn f2_names_that_the_checkpointer_may_not_have_read_make_nobody_count() {
    for mode in [SyncMode::On, SyncMode::Quorum] {
        let before = Some(NOW.saturating_sub(Duration::from_millis(1)));
        for (case, read_at) in [("never", None), ("before they were shown", before)] {
            let scene = named(mode, read_at);
            assert!(proves(&process(&scene)), "{mode:?}, {case}");
            let late = process(&proven(scene));
            assert_eq!(writes(&late), None, "{mode:?}, {case}: commits may not wait at all: {late:#?}");
            assert!(late.says("sync_names_not_in_force"), "{mode:?}, {case}: {late:#?}");
        }
        let read = process(&proven(named(mode, Some(NOW))));
        assert_eq!(voters(&read), Some(vec!["b"]), "{mode:?}: {read:#?}");
    }
}

#[test]
fn f2_what_the_checkpointer_of_an_earlier_postmaster_read_counts_no_more() {
    let scene = proven(named(SyncMode::On, Some(NOW))).view(|view| {
        view.postgres.process = Process::Running { since: view.now };
    });
    let restarted = process(&next(scene.clone(), &process(&scene)));
    assert_eq!(writes(&restarted), None, "{restarted:#?}");
    assert!(proves(&restarted) && restarted.memory.sync.gate.is_none(), "{restarted:#?}");
}

#[test]
fn f2_from_one_text_that_names_somebody_to_the_next_commits_go_on_waiting() {
    let scene = proven(named(SyncMode::Quorum, Some(NOW)));
    let scene = scene.server(|server| server.synchronous_standby_names = "ANY 1 (\"b\")".to_owned());
    let scene = proven(scene);
    assert_eq!(voters(&process(&scene)), Some(vec!["b"]), "proven once: {:#?}", process(&scene));
    // Emptied and set again: what was proven before says nothing.
    let scene = proven(scene.server(|server| server.synchronous_standby_names.clear()));
    let scene = proven(scene.server(|server| server.synchronous_standby_names = "ANY 1 (b)".to_owned()));
    assert_eq!(writes(&process(&scene)), None, "{:#?}", process(&scene));
}

#[test]
fn a_promotion_waits_until_its_first_commit_would_wait() {
    let scene = replica()
        .holding()
        .settings(|settings| settings.synchronous_mode = SyncMode::Quorum)
        .sync(SyncMode::Quorum, "a", &["b", "c"], 1)
        .server(|server| server.synchronous_standby_names = "ANY 1 (a,c)".to_owned());
    let is_ready =
        |read_at| prepare(&scene.clone().view(|view| view.postgres.checkpointer_read_at = read_at));
    assert!(is_ready(Some(NOW)).0);
    let (ready, first) = is_ready(None);
    assert!(!ready && proves(&first), "{first:#?}");
    let releases = |by: Duration| {
        let late =
            scene.clone().view(|view| view.postgres.checkpointer_read_at = None).after(&first).later(by);
        let decision = prepare(&late).1;
        decision.actions.iter().any(|action| matches!(action, Action::ReleaseLease { .. }))
    };
    let patience = scene.view.settings.loop_wait;
    assert!(!releases(patience - Duration::from_millis(1)), "a moment is no reason");
    assert!(releases(patience), "somebody else may have a checkpointer that reads");
}

#[test]
fn f2_a_standby_whose_walsender_may_not_have_read_the_names_does_not_count() {
    // Nothing was sent since the names were first seen: by all that is known the walsender is stopped.
    let standbys = [standby("b", "quorum"), standby("c", "quorum")];
    let scene = primary(SyncMode::Quorum, "ANY 2 (b,c)", &standbys)
        .sync(SyncMode::Quorum, "a", &["b", "c"], 1)
        .settings(|settings| settings.synchronous_node_count = 2);
    let scene = proven(scene);
    assert_eq!(writes(&process(&scene)), None, "the quorum is kept");
    let scene = proven(scene.server(|server| {
        server.standbys[0] = standby_at("b", "quorum", Lsn(POSITION.0 + 8));
        server.standbys[1] = standby_at("c", "quorum", Lsn(POSITION.0 + 8));
    }));
    assert_eq!(writes(&process(&scene)).map(|state| state.quorum), Some(0), "both act by the new names");
}
