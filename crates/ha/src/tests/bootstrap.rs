//! Founding a cluster and joining one (2.6).

use std::time::Duration;

use bellwether_types::{
    Revision, Role,
    cluster::{Initialize, Keyed, Leader},
};

use super::acquires;
use crate::{
    Action,
    action::{CallbackEvent, Exit, StopMode},
    memory::BootstrapStage,
    testing::{self, NOW, Scene, leader, newcomer, replica, upstream},
    view::{JobKind, JobOutcome, LeaseView},
};

fn failed() -> JobOutcome {
    JobOutcome::Failed { why: "no".to_owned(), source_unreachable: false }
}

fn claimed(scene: Scene) -> Scene {
    scene.cluster(|cluster| {
        cluster.initialize = Some(Keyed { value: Initialize::InProgress, revision: Revision(5) });
    })
}

/// A cluster in the making, on the member that makes it.
fn founding(stage: BootstrapStage) -> Scene {
    let mut scene = claimed(newcomer()).ended(JobKind::Bootstrap, JobOutcome::Succeeded);
    scene.view.postgres = leader().view.postgres;
    scene.memory(|memory| memory.bootstrapping = Some(stage))
}

#[test]
fn the_first_member_claims_the_cluster_and_founds_it() {
    let decision = newcomer().decide();
    assert_eq!(decision.code(), "bootstrap_started");
    assert_eq!(decision.deeds(), [&Action::ClaimInitialize, &Action::Bootstrap]);
    let twice = newcomer().after(&decision).decide();
    assert_eq!(twice.deeds(), Vec::<&Action>::new(), "the claim may yet show");
}

#[test]
fn who_may_not_found_a_cluster_waits() {
    for (case, scene) in [
        ("no bootstrap section", newcomer().view(|view| view.me.may_bootstrap = false)),
        (
            "nofailover",
            newcomer().view(|view| {
                view.me.tags = serde_json::from_value(serde_json::json!({"nofailover": true})).unwrap();
            }),
        ),
        ("another member is founding it", claimed(newcomer())),
        (
            "P13: even if it could clone without a leader",
            claimed(newcomer()).view(|view| view.me.clones_without_leader = true),
        ),
    ] {
        let decision = scene.decide();
        assert_eq!(decision.code(), "waiting_for_leader", "{case}");
        assert_eq!(decision.deeds(), Vec::<&Action>::new(), "{case}");
    }
}

#[test]
fn a_founded_cluster_gets_hooks_identity_configuration_and_leader_in_this_order() {
    let fresh = claimed(newcomer()).ended(JobKind::Bootstrap, JobOutcome::Succeeded);
    let mut fresh = fresh;
    fresh.view.postgres = leader().view.postgres;
    let hooks = fresh.decide();
    assert_eq!(hooks.deeds(), [&Action::PostBootstrap]);

    let done = founding(BootstrapStage::PostBootstrap).ended(JobKind::PostBootstrap, JobOutcome::Succeeded);
    let identity = done.decide();
    assert_eq!(identity.deeds(), [&Action::WriteInitialize { expect: Some(Revision(5)) }], "{identity:#?}");

    let mut named = done.after(&identity).later(Duration::from_secs(1));
    named.cluster.initialize = leader().cluster.initialize;
    let config = named.decide();
    assert_eq!(config.deeds(), [&Action::WriteConfig { expect: None }], "{config:#?}");

    named.cluster.config = leader().cluster.config;
    let lock = named.after(&config);
    assert!(acquires(&lock.decide()));

    let led = lock.lease(testing::held(NOW + Duration::from_secs(1)));
    let end = led.decide();
    assert_eq!(end.code(), "initialized");
    let callback = Action::RunCallback { event: CallbackEvent::OnStart, role: Role::Primary };
    assert!(end.actions.contains(&callback), "{end:#?}");
    assert_eq!(end.memory.bootstrapping, None);
}

#[test]
fn a_failed_bootstrap_gives_the_claim_back_and_ends() {
    let down =
        |scene: Scene| scene.empty().view(|view| view.postgres.data = crate::view::DataDirectory::Present);
    let scene = down(founding(BootstrapStage::Creating)).ended(JobKind::Bootstrap, failed());
    let decision = scene.decide();
    assert_eq!(decision.code(), "bootstrap_failed");
    assert_eq!(
        decision.deeds(),
        [
            &Action::SetDataDirectoryAside,
            &Action::RemoveInitialize,
            &Action::Exit { exit: Exit::BootstrapFailed }
        ]
    );
    let running = founding(BootstrapStage::PostBootstrap).ended(JobKind::PostBootstrap, failed()).decide();
    assert_eq!(running.deeds(), [&Action::Stop { mode: StopMode::Immediate }], "{running:#?}");
}

#[test]
fn recovery_after_a_custom_bootstrap_is_waited_for() {
    let decision = founding(BootstrapStage::Creating).server(|server| server.in_recovery = true).decide();
    assert_eq!(decision.code(), "bootstrap_in_recovery");
    assert_eq!(decision.deeds(), Vec::<&Action>::new());
}

#[test]
fn an_empty_member_clones_from_who_offers_itself_else_from_the_leader() {
    let empty = replica().empty();
    let from_leader = empty.decide();
    assert_eq!(from_leader.code(), "clone_from_leader");
    assert!(
        from_leader.actions.contains(&Action::Clone { from: Some(upstream("a", "b")) }),
        "{from_leader:#?}"
    );
    let offered = empty.member("c", |member| {
        member.tags = serde_json::from_value(serde_json::json!({"clonefrom": true})).unwrap();
    });
    assert_eq!(offered.decide().code(), "clone_from_replica");
    let stopped = offered.member("c", |member| member.state = Some(bellwether_types::PostgresState::Stopped));
    assert_eq!(stopped.decide().code(), "clone_from_leader", "P13: never from a member that does not run");
}

#[test]
fn nobody_clones_itself() {
    let decision = leader().empty().lease(LeaseView::NotHeld).decide();
    assert!(!decision.actions.iter().any(|action| matches!(action, Action::Clone { .. })), "{decision:#?}");
}

#[test]
fn a_failed_clone_is_repeated_but_not_at_once() {
    let scene = replica().empty().ended(JobKind::Clone, failed());
    assert_eq!(scene.decide().code(), "waiting_to_retry");
    assert_eq!(scene.later(Duration::from_millis(1001)).decide().code(), "clone_from_leader");
}

#[test]
fn without_a_leader_only_a_method_that_needs_none_clones() {
    let scene = replica().empty().unlocked();
    assert_eq!(scene.decide().code(), "waiting_for_leader");
    let able = scene.view(|view| view.me.clones_without_leader = true).decide();
    assert!(able.actions.contains(&Action::Clone { from: None }), "{able:#?}");
}

#[test]
fn a_founder_that_was_overtaken_follows_the_rules_of_every_member() {
    let scene = founding(BootstrapStage::Publishing).cluster(|cluster| {
        cluster.leader = Some(Leader {
            name: testing::name("c"),
            term: bellwether_types::Term(9),
            revision: Revision(9),
            lease: None,
        });
    });
    let decision = scene.lease(LeaseView::NotHeld).decide();
    assert_eq!(decision.memory.bootstrapping, None);
    assert!(!acquires(&decision), "{decision:#?}");
}
