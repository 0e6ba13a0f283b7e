//! Founding a cluster and joining one (2.6).

use std::time::Duration;

use bellwether_types::{
    Revision, Role,
    cluster::{Cluster, Initialize, Keyed, Leader},
    settings::SyncMode,
};

use super::acquires;
use crate::{
    Action,
    action::{CallbackEvent, Earlier, Exit, StopMode},
    lease,
    memory::BootstrapStage,
    testing::{self, NOW, Scene, leader, newcomer, replica, upstream},
    view::{DataDirectory, FailedBootstraps, Guardian, JobKind, JobOutcome, LeaseView},
};

fn failed() -> JobOutcome {
    JobOutcome::Failed { why: "no".to_owned(), source_unreachable: false }
}

/// Somebody's claim.
fn claimed(scene: Scene) -> Scene {
    scene.cluster(|cluster| {
        cluster.initialize = Some(Keyed { value: Initialize::InProgress, revision: Revision(5) });
    })
}

/// The claim of this process.
fn claimed_by_us(scene: Scene) -> Scene {
    claimed(scene).view(|view| view.store.owns_claim = true)
}

fn in_the_making() -> DataDirectory {
    DataDirectory::Interrupted { by: JobKind::Bootstrap }
}

/// The whole cluster, founded by the bootstrap of that name.
fn founded_by(cluster: &mut Cluster, founding: &str) {
    let initialize = leader().cluster.initialize.expect("an identity");
    cluster.founder = Some(Keyed { value: founding.to_owned(), revision: initialize.revision });
    cluster.initialize = Some(initialize);
}

/// A cluster in the making, on the member that makes it.
fn founding(stage: BootstrapStage) -> Scene {
    let mut scene = claimed_by_us(newcomer()).ended(JobKind::Bootstrap, JobOutcome::Succeeded);
    scene.view.postgres = leader().view.postgres;
    scene.view.postgres.data = in_the_making();
    scene.view.postgres.founding = Some("a-1".to_owned());
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
    let fresh = claimed_by_us(newcomer()).ended(JobKind::Bootstrap, JobOutcome::Succeeded);
    let mut fresh = fresh;
    fresh.view.postgres = leader().view.postgres;
    let hooks = fresh.decide();
    assert_eq!(hooks.deeds(), [&Action::PostBootstrap]);

    let done = founding(BootstrapStage::PostBootstrap).ended(JobKind::PostBootstrap, JobOutcome::Succeeded);
    let identity = done.decide();
    assert_eq!(identity.deeds(), [&Action::WriteInitialize { expect: Some(Revision(5)) }], "{identity:#?}");

    let mut named = done.after(&identity).later(Duration::from_secs(1));
    founded_by(&mut named.cluster, "a-1");
    let config = named.decide();
    assert_eq!(config.deeds(), [&Action::WriteConfig { expect: None }], "{config:#?}");

    named.cluster.config = leader().cluster.config;
    let named = named.after(&config);
    let fences = named.decide();
    let until = lease::limits(NOW + Duration::from_secs(1), Duration::from_secs(5)).until;
    assert_eq!(fences.deeds(), [&Action::ArmGuardian { until }], "armed before it leads: {fences:#?}");

    let lock = named.after(&fences).view(|view| view.fencing.guardian = Guardian::Armed { until });
    assert!(acquires(&lock.decide()));
    let half_gone = lock.clone().later(Duration::from_secs(3)).decide();
    let armed_again =
        |action: &Action| matches!(action, Action::ArmGuardian { until: later } if *later > until);
    assert!(half_gone.actions.iter().any(armed_again), "{half_gone:#?}");

    let led = lock.lease(testing::held(NOW + Duration::from_secs(1)));
    let end = led.decide();
    assert_eq!(end.code(), "initialized");
    assert!(end.actions.contains(&Action::FinishBootstrap), "{end:#?}");
    let callback = Action::RunCallback { event: CallbackEvent::OnStart, role: Role::Primary };
    assert!(end.actions.contains(&callback), "{end:#?}");
    assert_eq!(end.memory.bootstrapping, None);
}

#[test]
fn a_failed_bootstrap_gives_the_claim_back_and_ends() {
    let down = |scene: Scene| scene.empty().view(|view| view.postgres.data = in_the_making());
    let scene = down(founding(BootstrapStage::Creating)).ended(JobKind::Bootstrap, failed());
    let decision = scene.decide();
    assert_eq!(decision.code(), "bootstrap_failed");
    assert_eq!(
        decision.deeds(),
        [
            &Action::RemoveInitialize { expect: Revision(5) },
            &Action::SetDataDirectoryAside { earlier: Earlier::Remove },
            &Action::Exit { exit: Exit::BootstrapFailed }
        ],
        "the claim first: if it is not ours any more, the data stay where they are"
    );
    let running = founding(BootstrapStage::PostBootstrap).ended(JobKind::PostBootstrap, failed()).decide();
    assert_eq!(running.deeds(), [&Action::Stop { mode: StopMode::Immediate }], "{running:#?}");
}

/// It does not come to an end by itself, so it must not look as if it would.
#[test]
fn a_server_that_does_not_let_its_agent_in_is_not_called_one_in_recovery() {
    let refuses = founding(BootstrapStage::Creating).view(|view| {
        view.postgres.server = None;
        view.postgres.refuses_login = Some("no pg_hba.conf entry".to_owned());
    });
    let decision = refuses.decide();
    assert_eq!((decision.code(), decision.deeds()), ("login_refused", vec![]));
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
fn a_voter_that_has_lost_its_data_copies_the_leader_alone() {
    let offered = |scene: Scene| {
        scene.empty().member("c", |member| {
            member.tags = serde_json::from_value(serde_json::json!({"clonefrom": true})).unwrap();
        })
    };
    assert_eq!(offered(replica()).decide().code(), "clone_from_replica", "it does not vote");
    for (case, leader, voters) in
        [("it votes", "a", vec!["b"]), ("it led and wrote the list", "b", vec!["c"])]
    {
        let scene = offered(replica()).sync(SyncMode::Quorum, leader, &voters, 0);
        let decision = scene.decide();
        assert_eq!(decision.code(), "clone_from_leader", "{case}: {decision:#?}");
    }
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
fn a_claim_whose_outcome_was_unknown_is_taken_up() {
    let decision = claimed_by_us(newcomer()).decide();
    assert_eq!(decision.code(), "bootstrap_started");
    assert_eq!(decision.deeds(), [&Action::Bootstrap]);
}

#[test]
fn a_founder_that_was_overtaken_begins_anew_as_everybody_else() {
    let lost = |change: fn(&mut Cluster)| {
        founding(BootstrapStage::PostBootstrap).view(|view| view.store.owns_claim = false).cluster(change)
    };
    let founded =
        || Keyed { value: Initialize::Done("7421833905512378199".parse().unwrap()), revision: Revision(9) };
    for (case, scene) in [
        ("by somebody's claim", lost(|_| {})),
        (
            "by another identity",
            founding(BootstrapStage::Publishing).cluster(|cluster| cluster.initialize = Some(founded())),
        ),
        (
            "by another copy of the same backup",
            founding(BootstrapStage::Publishing).cluster(|cluster| founded_by(cluster, "c-1")),
        ),
        (
            "by another copy, before this one was whole",
            founding(BootstrapStage::Creating).cluster(|cluster| founded_by(cluster, "c-1")),
        ),
        (
            "by somebody who does not say so, with the same backup",
            founding(BootstrapStage::Publishing).cluster(|cluster| {
                cluster.initialize = leader().cluster.initialize;
            }),
        ),
        (
            "and what is left of our own founding does not count",
            founding(BootstrapStage::Publishing).cluster(|cluster| {
                founded_by(cluster, "a-1");
                cluster.founder.as_mut().unwrap().revision = Revision(1);
            }),
        ),
        (
            "by another leader",
            founding(BootstrapStage::Publishing).cluster(|cluster| {
                let (term, revision) = (bellwether_types::Term(9), Revision(9));
                cluster.leader = Some(Leader { name: testing::name("c"), term, revision, lease: None });
            }),
        ),
    ] {
        let decision = scene.decide();
        assert_eq!(decision.code(), "bootstrap_overtaken", "{case}: {decision:#?}");
        assert_eq!(decision.deeds(), [&Action::Stop { mode: StopMode::Immediate }], "{case}");
        let stopped = scene.after(&decision).stopped().ended(JobKind::Stop, JobOutcome::Succeeded);
        let aside = stopped.decide();
        assert!(
            aside.actions.contains(&Action::SetDataDirectoryAside { earlier: Earlier::Remove }),
            "{case}: {aside:#?}"
        );
        let exits = |action: &Action| matches!(action, Action::Exit { .. } | Action::RemoveInitialize { .. });
        assert!(!aside.actions.iter().any(exits), "{case}: {aside:#?}");
    }
}

#[test]
fn a_claim_that_went_with_its_lease_is_made_good_by_the_identity() {
    let vanished = founding(BootstrapStage::Publishing)
        .view(|view| view.store.owns_claim = false)
        .cluster(|cluster| cluster.initialize = None)
        .decide();
    assert_eq!(vanished.deeds(), [&Action::WriteInitialize { expect: None }], "{vanished:#?}");
    // Our lease was replaced, and the claim still hangs on the one before.
    let known = founding(BootstrapStage::Publishing)
        .memory(|memory| memory.claim = Some(Revision(5)))
        .view(|view| view.store.owns_claim = false)
        .decide();
    assert_eq!(known.deeds(), [&Action::WriteInitialize { expect: Some(Revision(5)) }], "{known:#?}");
}

#[test]
fn what_an_earlier_agent_left_unfinished_is_set_aside() {
    let found = |scene: Scene| {
        let mut scene = claimed(scene);
        scene.view.postgres = leader().view.postgres;
        scene.view.postgres.data = in_the_making();
        scene
    };
    let running = found(newcomer());
    let decision = running.decide();
    assert_eq!(decision.code(), "bootstrap_leftover");
    assert!(decision.actions.contains(&Action::Stop { mode: StopMode::Immediate }), "{decision:#?}");
    let stopped = running.after(&decision).stopped().ended(JobKind::Stop, JobOutcome::Succeeded).decide();
    assert_eq!(stopped.code(), "bootstrap_leftover");
    assert!(
        stopped.actions.contains(&Action::SetDataDirectoryAside { earlier: Earlier::Remove }),
        "{stopped:#?}"
    );

    // Its identity is in the store, which is written when the roles exist.
    let published = restarted("a-1").decide();
    assert!(published.actions.contains(&Action::FinishBootstrap), "{published:#?}");
    assert!(!published.actions.contains(&Action::SetDataDirectoryAside { earlier: Earlier::Remove }));
}

/// The agent came back to its unfinished bootstrap `a-1`, PostgreSQL is down, and the identity in the store is that of the data.
fn restarted(founder: &str) -> Scene {
    let scene = leader().stopped().lease(LeaseView::NotHeld).unlocked();
    scene.cluster(|cluster| founded_by(cluster, founder)).view(|view| {
        view.memory = crate::Memory::default();
        view.postgres.data = in_the_making();
        view.postgres.founding = Some("a-1".to_owned());
    })
}

#[test]
fn who_founded_the_cluster_is_not_told_by_the_identity() {
    let ours = restarted("a-1").decide();
    assert!(ours.actions.contains(&Action::FinishBootstrap), "{ours:#?}");

    let anonymous = restarted("a-1").cluster(|cluster| cluster.founder = None);
    let by_an_older_agent = restarted("a-1").view(|view| view.postgres.founding = None);
    let led = restarted("c-1").cluster(|cluster| {
        let (term, revision) = (bellwether_types::Term(9), Revision(9));
        cluster.leader = Some(Leader { name: testing::name("c"), term, revision, lease: None });
    });
    let nobody_leads = restarted("c-1");
    for (case, scene) in [
        ("another restored the same backup", nobody_leads),
        ("and leads", led),
        ("nobody says who", anonymous),
        ("a mark without a name", by_an_older_agent),
    ] {
        let decision = scene.decide();
        assert_eq!(decision.code(), "bootstrap_leftover", "{case}");
        assert!(
            decision.actions.contains(&Action::SetDataDirectoryAside { earlier: Earlier::Remove }),
            "{case}: {decision:#?}"
        );
        let keeps = |action: &Action| {
            matches!(
                action,
                Action::FinishBootstrap | Action::WipeDataDirectory { .. } | Action::Start { .. }
            )
        };
        assert!(!decision.actions.iter().any(keeps), "{case}: {decision:#?}");
    }
}

#[test]
fn a_founder_whose_answer_got_lost_knows_its_own_founding() {
    let published = founding(BootstrapStage::Publishing).cluster(|cluster| founded_by(cluster, "a-1"));
    assert_eq!(published.decide().deeds(), [&Action::WriteConfig { expect: None }]);
    // PostgreSQL dies before the lock is taken: the data stay the cluster's.
    let down = published.stopped().decide();
    assert!(down.actions.contains(&Action::FinishBootstrap), "{down:#?}");
    // Also if that was taken for a failure by a view from before the identity.
    let unseen = founding(BootstrapStage::Publishing).stopped().decide();
    assert_eq!(unseen.code(), "bootstrap_failed");
    let seen = founding(BootstrapStage::Publishing).cluster(|cluster| founded_by(cluster, "a-1"));
    let later = seen.stopped().after(&unseen).later(Duration::from_secs(2)).decide();
    assert!(later.actions.contains(&Action::FinishBootstrap), "{later:#?}");
}

#[test]
fn a_bootstrap_that_failed_is_not_begun_again_at_once_and_a_cluster_that_is_there_is_copied() {
    let failed = |times: u32, ago: u64| {
        newcomer().view(|view| {
            let last_at = NOW.saturating_sub(Duration::from_secs(ago));
            view.me.failed_bootstraps = Some(FailedBootstraps { times, last_at });
        })
    };
    let begins = |scene: Scene| scene.decide().actions.contains(&Action::Bootstrap);
    for (times, pause) in [(1, 60), (2, 120), (6, 1920), (7, 3600), (u32::MAX, 3600)] {
        assert!(!begins(failed(times, pause - 1)), "{times}");
        assert!(begins(failed(times, pause)), "{times}");
    }
    let waiting = failed(2, 30).settings(|settings| settings.loop_wait = Duration::from_secs(600)).decide();
    assert_eq!(waiting.code(), "bootstrap_has_failed_before");
    assert_eq!(waiting.wake_at, NOW + Duration::from_secs(90), "as soon as it may");
    let led = replica().empty().view(|view| {
        view.me.failed_bootstraps = Some(FailedBootstraps { times: 3, last_at: NOW });
    });
    assert!(led.decide().actions.iter().any(|action| matches!(action, Action::Clone { .. })));
}
