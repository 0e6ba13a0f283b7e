//! Table H: the pause.

use bellwether_types::Revision;

use super::{acquires, demotion, promotes, releases};
use crate::{
    Action,
    action::DemoteMode,
    memory::RewindState,
    testing::{POSITION, Scene, leader, orphan, replica, silence, standby_at},
    view::{JobKind, JobOutcome, LeaseView},
};

fn paused(scene: Scene) -> Scene {
    scene.settings(|settings| settings.pause = true)
}

#[test]
fn a_leader_whose_server_does_not_run_gives_the_lock_up() {
    let decision = paused(leader().stopped()).decide();
    assert_eq!(decision.code(), "paused_released_not_running");
    assert!(releases(&decision));
    assert_eq!(paused(replica().stopped()).decide().code(), "paused_not_running");
}

#[test]
fn a_leader_whose_server_is_no_primary_gives_the_lock_up() {
    let decision = paused(replica().holding()).decide();
    assert_eq!(decision.code(), "paused_released_not_primary");
    assert!(releases(&decision) && !promotes(&decision));
}

#[test]
fn the_requested_candidate_takes_the_lock_and_is_promoted() {
    let request = |scene: Scene| paused(scene).request(None, Some("b"));
    let answers = [("a", silence()), ("c", standby_at(POSITION))];
    let racing = request(orphan()).answers(&answers).decide();
    assert!(acquires(&racing), "{racing:#?}");
    let holding = request(replica().holding()).after(&racing).decide();
    assert!(promotes(&holding), "{holding:#?}");
    assert!(!holding.actions.iter().any(|action| matches!(action, Action::WriteFailover { .. })));
    let leading = request(replica().holding().as_primary()).after(&holding).decide();
    let clear = Action::WriteFailover { expect: Revision(130), request: None };
    assert!(leading.actions.contains(&clear), "{leading:#?}");
}

/// A rewind was under way when the pause began, and ended without success.
#[test]
fn nothing_is_removed_in_pause() {
    let diverged = replica()
        .stopped()
        .settings(|settings| settings.remove_data_directory_on_diverged_timelines = true)
        .memory(|memory| {
            memory.start_wanted = true;
            memory.rewind = RewindState::Need;
        })
        .view(|view| view.postgres.control.as_mut().unwrap().rewindable = false);
    let wipes = |scene: &Scene| {
        scene.decide().actions.iter().any(|action| matches!(action, Action::WipeDataDirectory { .. }))
    };
    assert!(wipes(&diverged), "{:#?}", diverged.decide());
    let decision = paused(diverged.clone()).decide();
    assert!(!wipes(&paused(diverged)) && decision.says("reinitializing_diverged"), "{decision:#?}");
}

#[test]
fn nobody_else_takes_the_lock() {
    let answers = [("a", silence()), ("c", standby_at(POSITION))];
    for (case, scene) in [
        ("no request", orphan()),
        ("a request for another", orphan().request(None, Some("c"))),
        ("a request without candidate", orphan().request(Some("a"), None)),
    ] {
        let decision = paused(scene).answers(&answers).decide();
        assert!(!acquires(&decision), "{case}: {decision:#?}");
    }
}

#[test]
fn a_running_primary_of_this_cluster_may_take_the_lock() {
    let free = || paused(leader().unlocked().lease(LeaseView::NotHeld));
    assert!(acquires(&free().decide()));
    assert!(acquires(&free().cluster(|cluster| cluster.initialize = None).decide()));
    let for_another = free().request(None, Some("b")).decide();
    assert!(!acquires(&for_another), "{for_another:#?}");
}

#[test]
fn a_switchover_needs_a_candidate() {
    let without = paused(leader()).request(Some("a"), None).decide();
    assert!(without.says("request_needs_candidate"), "{without:#?}");
    assert_eq!(demotion(&without), None);
    let with =
        paused(leader()).request(Some("a"), Some("b")).answers(&[("b", standby_at(POSITION))]).decide();
    assert_eq!(demotion(&with), Some(DemoteMode::Graceful));
}

#[test]
fn a_member_that_was_demoted_on_request_runs_again() {
    let decided =
        paused(leader()).request(Some("a"), Some("b")).answers(&[("b", standby_at(POSITION))]).decide();
    let stopped = paused(leader()).after(&decided).stopped().ended(JobKind::Demote, JobOutcome::Succeeded);
    let stopped = stopped.answers(&[("b", standby_at(POSITION)), ("c", silence())]);
    let released = stopped.decide();
    assert!(releases(&released), "{released:#?}");
    let again = stopped.after(&released).lease(LeaseView::NotHeld).leader_is("b").decide();
    assert_eq!(again.code(), "starting_secondary", "{again:#?}");
}

#[test]
fn a_standby_switches_to_the_leader_there_is() {
    let decision = paused(replica().leader_is("c")).decide();
    assert_eq!(decision.code(), "following_new_upstream", "{decision:#?}");
}

#[test]
fn an_agent_that_ends_leaves_everything_as_it_is() {
    let decision = paused(leader()).view(|view| view.stopping = true).decide();
    assert_eq!(decision.code(), "shutdown_paused");
    assert!(!releases(&decision));
    assert!(decision.actions.contains(&Action::DisarmGuardian), "its guardian must not act for a dead agent");
    assert!(!decision.actions.iter().any(|action| matches!(action, Action::Stop { .. })));
}

#[test]
fn an_empty_directory_stays_empty() {
    let decision = paused(replica().empty()).decide();
    assert_eq!(decision.code(), "paused_empty_data_dir");
    assert_eq!(decision.deeds(), Vec::<&Action>::new());
}

#[test]
fn nobody_races_a_silent_leader_that_never_saw_the_end_of_the_pause() {
    let paused = |a: crate::view::PeerAnswer| {
        let mut scene = orphan().answers(&[("a", a), ("c", standby_at(POSITION))]);
        let mut last = replica().cluster;
        last.members.get_mut(&crate::testing::name("a")).unwrap().pause = true;
        scene.view.memory.last_healthy = Some(std::sync::Arc::new(last));
        scene
    };
    let silent = paused(silence()).decide();
    assert!(!acquires(&silent) && silent.says("former_leader_may_be_paused"), "{silent:#?}");
    let named = paused(silence()).request(None, Some("b")).decide();
    assert!(acquires(&named), "the operator knows that it is down: {named:#?}");
    let answers = paused(standby_at(POSITION)).decide();
    assert!(acquires(&answers), "it says that it is no primary");
}
