//! 6.P: what the core contributes to the management of PostgreSQL.

use bellwether_types::{PostgresState, Role};

use crate::{
    Action,
    action::CallbackEvent,
    testing::{NOW, POSITION, leader, orphan, replica, silence, standby_at},
    view::{JobKind, JobOutcome},
};

#[test]
fn p11_a_server_stopped_in_pause_stays_stopped_and_keeps_its_upstream() {
    let paused = |scene: crate::testing::Scene| scene.settings(|settings| settings.pause = true);
    for scene in [replica().stopped(), replica().crashed(), leader().stopped()] {
        let decision = paused(scene).decide();
        assert!(
            !decision.actions.iter().any(|action| matches!(action, Action::Start { .. })),
            "{decision:#?}"
        );
    }
    let unlocked = paused(replica().without_leader()).decide();
    assert!(!unlocked.actions.iter().any(|action| matches!(action, Action::Follow { .. })), "{unlocked:#?}");
}

#[test]
fn p12_a_paused_replay_is_resumed_on_versions_that_pause_by_themselves() {
    let resumes = |version| {
        let scene = replica().server(|server| server.replay_paused = true);
        scene
            .view(|view| view.postgres.server_version = version)
            .decide()
            .actions
            .contains(&Action::ResumeReplay)
    };
    assert!(resumes(140_000));
    assert!(!resumes(130_012));
}

#[test]
fn p19_on_start_is_told_on_attach_and_a_change_of_role_once() {
    let attached = replica().memory(|memory| {
        memory.callback_fired = false;
        memory.announced_role = None;
    });
    let first = attached.decide();
    let expected = Action::RunCallback { event: CallbackEvent::OnStart, role: Role::Replica };
    assert!(first.actions.contains(&expected), "{first:#?}");
    let second = attached.after(&first).decide();
    assert!(!second.actions.iter().any(|action| matches!(action, Action::RunCallback { .. })), "{second:#?}");
    let promoted = leader().memory(|memory| memory.announced_role = Some(Role::Replica)).decide();
    let expected = Action::RunCallback { event: CallbackEvent::OnRoleChange, role: Role::Primary };
    assert!(promoted.actions.contains(&expected));
}

#[test]
fn p19_a_restart_in_the_same_role_is_told_as_a_restart() {
    let scene =
        replica().memory(|memory| memory.recovering = true).ended(JobKind::Restart, JobOutcome::Succeeded);
    let expected = Action::RunCallback { event: CallbackEvent::OnRestart, role: Role::Replica };
    assert!(scene.decide().actions.contains(&expected), "{:#?}", scene.decide());
}

#[test]
fn p19_a_stop_is_told() {
    let expected = Action::RunCallback { event: CallbackEvent::OnStop, role: Role::Primary };
    for scene in [leader().rejected(), leader().view(|view| view.stopping = true)] {
        assert!(scene.decide().actions.contains(&expected), "{:#?}", scene.decide());
    }
    let planned = leader().request(Some("a"), Some("b")).answers(&[("b", standby_at(POSITION))]).decide();
    let expected = Action::RunCallback { event: CallbackEvent::OnStop, role: Role::Demoted };
    assert!(planned.actions.contains(&expected), "{planned:#?}");
}

#[test]
fn a_standby_that_was_started_is_told_of_before_it_leads() {
    let started = || orphan().memory(|memory| (memory.callback_fired, memory.announced_role) = (false, None));
    let racing = started().answers(&[("a", silence()), ("c", standby_at(POSITION))]).decide();
    let expected = Action::RunCallback { event: CallbackEvent::OnStart, role: Role::Replica };
    assert!(racing.actions.contains(&expected), "{racing:#?}");
    let again = orphan().after(&racing).answers(&[("a", silence()), ("c", standby_at(POSITION))]).decide();
    assert!(!again.actions.contains(&expected), "once: {again:#?}");
}

#[test]
fn the_last_word_of_a_stopped_member_is_that_it_is_stopped() {
    for scene in [leader(), replica()] {
        let ended = scene.stopped().view(|view| {
            view.stopping = true;
            view.postgres.state = PostgresState::Stopping;
        });
        let decision = ended.decide();
        let place = |wanted: fn(&Action) -> bool| decision.actions.iter().position(wanted);
        let stopped = place(|action| *action == Action::SetState { state: PostgresState::Stopped });
        let told = place(|action| matches!(action, Action::PublishMember { .. }));
        let ended = place(|action| matches!(action, Action::Exit { .. }));
        // Whatever comes after the end is not done.
        assert!(stopped < told && told < ended && told.is_some(), "{decision:#?}");
    }
}

#[test]
fn p20_a_server_that_is_gone_is_not_called_running() {
    let gone = replica().crashed().view(|view| view.postgres.state = PostgresState::Running);
    let decision = gone.decide();
    assert!(decision.actions.contains(&Action::SetState { state: PostgresState::Crashed }), "{decision:#?}");
    let in_pause = gone.settings(|settings| settings.pause = true).decide();
    assert!(in_pause.actions.contains(&Action::SetState { state: PostgresState::Stopped }));
}

#[test]
fn the_member_key_says_what_was_decided() {
    let quiet = leader().cluster(|cluster| cluster.failsafe = None).memory(|memory| {
        memory.attempts.insert(crate::memory::Attempt::PublishMember, NOW);
        memory.attempts.insert(crate::memory::Attempt::WriteStatus, NOW);
    });
    let silent = quiet.clone().decide();
    assert_eq!(silent.actions, [], "nothing changed and nothing is due");
    let paused =
        quiet.later(std::time::Duration::from_millis(200)).settings(|settings| settings.pause = true);
    let paused = paused.view(|view| view.fencing.guardian = crate::view::Guardian::Ready).decide();
    let [Action::PublishMember { member }] = &paused.actions[..] else { panic!("{paused:#?}") };
    assert!(member.pause);
}
