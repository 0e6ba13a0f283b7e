//! Who promises, what that forbids, and for how long.

use super::*;

#[test]
fn a_promise_is_made_for_a_live_epoch_on_own_evidence() {
    let decision = with_epoch(sure(), epoch()).decide();
    let promised = Action::DetachAndPromise { revision: OPENED, epoch: 1, leader: name("a") };
    assert!(decision.actions.contains(&promised), "{decision:#?}");
    assert!(!attaches(&decision) && taking(&decision).is_none());

    for (case, scene) in [
        ("hears the leader", with_epoch(voter(), epoch())),
        (
            "the leader's agent answers",
            with_epoch(
                silent_for(voter(), LONG_AGO)
                    .answers(&[("a", answer(standby())), ("c", answer(deaf(1_300)))]),
                epoch(),
            ),
        ),
        ("leader changed", with_epoch(sure(), Takeover { leader_revision: Revision(99), ..epoch() })),
        ("/sync changed", with_epoch(sure(), Takeover { sync_revision: Revision(119), ..epoch() })),
        (
            "accepted by failsafe",
            with_epoch(sure(), epoch())
                .settings(|settings| settings.failsafe_mode = true)
                .view(|view| view.failsafe.accepted = accepted()),
        ),
        ("hangs", with_epoch(sure(), epoch()).hanging_for(Duration::from_secs(9))),
        (
            "was restarted, and does not know yet how much it has",
            with_epoch(sure(), epoch()).server(|server| server.has_read_own_wal = false),
        ),
    ] {
        assert!(!promises(&scene.decide()), "{case}: {:#?}", scene.decide());
    }
}

#[test]
fn of_two_members_with_one_name_neither_is_counted() {
    let with_namesake = |scene: Scene| {
        scene.cluster(|cluster| {
            let mut namesake = cluster.members[&name("c")].clone();
            namesake.name = name("C");
            cluster.members.insert(name("C"), namesake);
        })
    };
    let bound = bound_for(Duration::from_millis(150));
    let bound = bound.answers(&[("c", answer(promised(POSITION))), ("C", answer(promised(POSITION)))]);
    let decision = with_namesake(bound).decide();
    assert!(taking(&decision).is_none() && decision.says("takeover_too_few"), "{decision:#?}");
}

#[test]
fn who_may_not_lead_may_promise() {
    assert!(promises(&tagged(with_epoch(sure(), epoch())).decide()));
}

#[test]
fn who_streams_from_another_standby_may_promise_and_opens_nothing() {
    let elsewhere = |scene: Scene| {
        scene.view(|view| {
            view.takeover.hearing = Some(Hearing { upstream: name("c"), heard_at: view.now });
        })
    };
    assert!(promises(&elsewhere(with_epoch(sure(), epoch())).decide()));
    let decision = elsewhere(sure()).decide();
    assert!(!opens(&decision) && decision.deeds().is_empty(), "{decision:#?}");
}

#[test]
fn a_promise_binds_until_the_store_shows_that_the_epoch_is_over() {
    let scene = bound_for(Duration::from_millis(50)).answers(&[("c", answer(deaf(1_300)))]);
    let bound = scene.decide();
    assert!(!attaches(&bound) && !forgets(&bound), "{bound:#?}");
    assert_eq!(bound.code(), "bound_by_promise");

    for (case, scene) in [
        ("closed", with_epoch(scene.clone(), Takeover { state: EpochState::Closed, ..epoch() })),
        ("the key is gone", scene.clone().cluster(|cluster| cluster.takeover = None)),
        (
            "/sync changed",
            scene.clone().sync(SyncMode::Quorum, "a", &["b"], 0).cluster(|cluster| {
                cluster.sync.as_mut().unwrap().revision = Revision(301);
            }),
        ),
        (
            "the lock was resumed",
            scene.clone().cluster(|cluster| {
                cluster.leader.as_mut().unwrap().revision = Revision(301);
            }),
        ),
        ("somebody else leads", scene.clone().leader_is("c")),
    ] {
        let decision = scene.decide();
        assert!(forgets(&decision) && attaches(&decision), "{case}: {decision:#?}");
        let order = |wanted: fn(&Action) -> bool| decision.actions.iter().position(wanted).unwrap();
        assert!(
            order(|action| matches!(action, Action::ForgetPromise { .. }))
                < order(|action| matches!(action, Action::Follow { .. })),
            "{case}"
        );
    }
}

#[test]
fn a_view_from_before_the_promise_frees_nobody() {
    let scene = bound_for(Duration::from_millis(50)).cluster(|cluster| cluster.takeover = None);
    let stale = scene.view(|view| {
        view.store.confirmed_at = view.now.saturating_sub(Duration::from_millis(60));
    });
    let decision = stale.decide();
    assert!(!forgets(&decision) && !attaches(&decision), "{decision:#?}");
}

#[test]
fn a_silent_store_frees_nobody() {
    for silence in [Duration::from_millis(500), Duration::from_secs(60)] {
        let decision = bound_for(Duration::from_secs(70)).silent_for(silence).decide();
        assert!(!forgets(&decision) && !attaches(&decision), "{silence:?}: {decision:#?}");
    }
}

#[test]
fn a_server_that_ends_while_bound_is_started_as_a_standby_of_nobody() {
    let decision = bound_for(Duration::from_millis(50)).stopped().decide();
    let start = Action::Start { role: StartRole::Standby { upstream: None } };
    assert!(decision.actions.contains(&start), "{decision:#?}");
    let missing = bound_for(Duration::from_millis(50)).stopped().empty().decide();
    assert!(!attaches(&missing), "{missing:#?}");
}

#[test]
fn a_bound_member_is_not_made_anew() {
    let scene = bound_for(Duration::from_millis(50));
    let scene = scene.asked(RequestKind::Reinitialize { force: true, from_leader: true });
    assert!(!attaches(&scene.decide()), "{:#?}", scene.decide());
}
