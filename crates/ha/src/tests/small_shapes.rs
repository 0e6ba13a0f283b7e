//! Two servers, or two sites of two servers, and a witness that only votes in the store: what is left decides alone.

use std::time::Duration;

use bellwether_types::{
    Role,
    cluster::PeerProtocol,
    settings::SyncMode::{Off, On, Quorum},
};

use super::{acquires, demotion, promotes};
use crate::{
    Action,
    testing::{NOW, POSITION, Scene, held, leader, member, name, orphan, replica, silence, standby_at},
    view::{Hearing, LeaseView},
};

/// `a` and `b`, and nobody else.
fn two(scene: Scene) -> Scene {
    scene.cluster(|cluster| {
        cluster.members.remove(&name("c"));
        cluster.failsafe.as_mut().map(|failsafe| failsafe.value.0.remove(&name("c")));
    })
}

/// `a` and `c` are one site, `b` and `d` the other one.
fn two_sites(scene: Scene) -> Scene {
    scene.cluster(|cluster| drop(cluster.members.insert(name("d"), member("d", Role::Replica))))
}

#[test]
fn who_is_left_of_two_leads_if_it_has_all_that_was_acknowledged() {
    // As c was known before, it is asked, too.
    let lost = |scene: Scene| two(scene).answers(&[("a", silence()), ("c", silence())]);
    for (case, scene, leads, reason) in [
        ("it votes", lost(orphan().sync(Quorum, "a", &["b"], 0)), true, "acquiring_lock"),
        (
            "the leader went on without it",
            lost(orphan().sync(Quorum, "a", &[], 0)),
            false,
            "quorum_unreachable",
        ),
        ("it is the synchronous one", lost(orphan().sync(On, "a", &["b"], 0)), true, "acquiring_lock"),
        ("nobody was synchronous", lost(orphan().sync(On, "a", &[], 0)), false, "not_synchronous"),
        ("asynchronous", lost(orphan().settings(|s| s.synchronous_mode = Off)), true, "acquiring_lock"),
    ] {
        let decision = scene.decide();
        assert!(acquires(&decision) == leads && decision.says(reason), "{case}: {decision:#?}");
    }
}

#[test]
fn the_only_voter_takes_over_alone() {
    let deaf = |voters: &[&str]| {
        let mut scene = two(replica().sync(Quorum, "a", voters, 0)).settings(|s| s.quorum_takeover = true);
        for member in scene.cluster.members.values_mut() {
            member.bellwether = Some(PeerProtocol { version: "0.1.0".to_owned(), level: 1 });
        }
        let scene = scene.view(|view| {
            let heard_at = view.now.saturating_sub(Duration::from_millis(1_200));
            view.takeover.hearing = Some(Hearing { upstream: name("a"), heard_at });
        });
        scene.answers(&[("a", silence())]).decide()
    };
    let opens = |actions: &[Action]| actions.iter().any(|action| matches!(action, Action::OpenEpoch { .. }));
    let voter = deaf(&["b"]);
    assert!(opens(&voter.actions), "{voter:#?}");
    let dropped = deaf(&[]);
    assert!(!opens(&dropped.actions), "the leader goes on without it: {dropped:#?}");
}

#[test]
fn a_site_leads_if_each_commit_had_to_reach_it() {
    let lost = |quorum| {
        let scene = two_sites(orphan()).sync(Quorum, "a", &["b", "c", "d"], quorum);
        scene.answers(&[("a", silence()), ("c", silence()), ("d", standby_at(POSITION))]).decide()
    };
    // `synchronous_node_count: 1`: c alone may have confirmed what was acknowledged last, and is gone with its site.
    let neighbour = lost(2);
    assert!(neighbour.says("quorum_unreachable") && !acquires(&neighbour), "{neighbour:#?}");
    // `synchronous_node_count: 2`: at least one of the two is b or d.
    let across = lost(1);
    assert!(acquires(&across), "{across:#?}");
}

#[test]
fn without_the_witness_and_the_other_site_nobody_is_promoted() {
    let silent = Duration::from_secs(10);
    for (case, scene) in [
        ("of two", two(replica()).sync(Quorum, "a", &["b"], 0)),
        ("of two sites", two_sites(replica()).sync(Quorum, "a", &["b", "c", "d"], 1)),
    ] {
        let decision = scene.silent_for(silent).answers(&[("a", silence()), ("c", silence())]).decide();
        assert!(!acquires(&decision) && !promotes(&decision), "{case}: {decision:#?}");
    }
    // A leader stops before its lease is over, when the site of all others does not answer.
    let LeaseView::Held { demote_at, .. } = held(NOW) else { unreachable!() };
    for failsafe_mode in [false, true] {
        let scene = two(leader()).sync(Quorum, "a", &["b"], 0);
        let scene = scene.settings(|settings| settings.failsafe_mode = failsafe_mode);
        let scene = scene.view(|view| view.now = demote_at).silent_for(Duration::from_millis(1));
        let decision = scene.answers(&[("b", silence())]).decide();
        assert!(demotion(&decision).is_some(), "failsafe_mode {failsafe_mode}: {decision:#?}");
    }
}
