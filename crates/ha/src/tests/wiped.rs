//! A store that has lost the keys of a running cluster: who writes them anew, and who never does.

use std::time::Duration;

use bellwether_types::{
    Role, SystemId, TimelineId,
    cluster::{Cluster, Initialize, Keyed},
    settings::SyncMode,
    takeover::{Promise, Word},
};

use super::{demotion, promotes};
use crate::{
    Action, Decision,
    action::{DemoteMode, LostKeys},
    testing::{NOW, POSITION, Scene, held, leader, name, newcomer, orphan, silence, standby, standby_at},
    view::{LeaseView, PeerAnswer, PeerReport},
};

const NO_LOCK: Option<DemoteMode> = Some(DemoteMode::ImmediateNoLock);

/// `remove`, or an empty store in the place of the old one.
fn wiped(scene: Scene) -> Scene {
    scene.cluster(|cluster| {
        *cluster = Cluster { revision: 300.into_revision(), ..Cluster::default() };
    })
}

trait IntoRevision {
    fn into_revision(self) -> bellwether_types::Revision;
}

impl IntoRevision for u64 {
    fn into_revision(self) -> bellwether_types::Revision {
        bellwether_types::Revision(self)
    }
}

fn answer(report: PeerReport) -> PeerAnswer {
    PeerAnswer::Answered(report)
}

fn well() -> [(&'static str, PeerAnswer); 2] {
    [("b", standby_at(POSITION)), ("c", standby_at(POSITION))]
}

/// The renewal was refused, and the last confirmation is good for as long as the lease of `held`.
fn refused(scene: Scene) -> Scene {
    let LeaseView::Held { demote_at, .. } = held(NOW) else { unreachable!() };
    scene.lease(LeaseView::Rejected { at: NOW, good_until: demote_at })
}

fn restores(decision: &Decision) -> Option<&LostKeys> {
    decision.actions.iter().find_map(|action| match action {
        Action::RestoreKeys(keys) => Some(&**keys),
        _ => None,
    })
}

/// `a` again, as a standby: it was stopped when its renewal was refused, or its store was silent for too long.
fn former_leader() -> Scene {
    let mut scene = leader().lease(LeaseView::NotHeld).server(|server| {
        server.in_recovery = true;
        server.streaming = false;
    });
    scene.view.postgres.role = Role::Replica;
    scene.view.fencing.guardian = crate::view::Guardian::Ready;
    if let Some(control) = &mut scene.view.postgres.control {
        control.has_recovery_signal = true;
    }
    scene
}

#[test]
fn a11_the_leader_of_a_wiped_store_asks_everybody_and_goes_on_meanwhile() {
    for scene in [wiped(leader()), refused(wiped(leader()))] {
        let decision = scene.decide();
        assert_eq!(decision.code(), "store_wiped", "{decision:#?}");
        assert_eq!(demotion(&decision), None);
        let polls = decision.actions.iter().find_map(|action| match action {
            Action::PollPeers { members, .. } => Some(members.keys().cloned().collect::<Vec<_>>()),
            _ => None,
        });
        assert_eq!(polls, Some(vec![name("b"), name("c")]), "as the store named them last");
        assert!(restores(&decision).is_none());
    }
}

#[test]
fn a11_once_everybody_agrees_all_keys_come_back_with_the_lock() {
    let known = leader().sync(SyncMode::Quorum, "a", &["b", "c"], 1).history(3).claimed(3, "a");
    let known = known.server(|server| server.timeline = Some(TimelineId(3)));
    let cluster = known.cluster.clone();
    let known = known.memory(|memory| memory.last_healthy = Some(std::sync::Arc::new(cluster.clone())));
    for scene in [wiped(known.clone()), refused(wiped(known))] {
        let decision = scene.answers(&well()).decide();
        assert_eq!(decision.code(), "restoring_keys", "{decision:#?}");
        assert_eq!(demotion(&decision), None);
        let keys = restores(&decision).expect("decided");
        assert_eq!(keys.initialize, None, "it must be absent");
        assert!(keys.config);
        assert_eq!(keys.sync.as_ref(), cluster.sync.as_ref().map(|sync| &sync.value));
        assert_eq!(keys.history.as_ref(), cluster.history.as_ref().map(|history| &history.value));
        assert_eq!(keys.status.as_ref(), cluster.status.as_ref().map(|status| &status.value));
        assert_eq!(keys.failsafe.as_ref(), cluster.failsafe.as_ref().map(|failsafe| &failsafe.value));
        assert_eq!(keys.claimed.as_ref().map(|claim| claim.timeline), Some(TimelineId(3)));
        assert_eq!(keys.timeline, None, "it goes on with its timeline");
    }
}

#[test]
fn a11_what_others_tell_decides_whether_the_keys_come_back() {
    let promise = Promise {
        revision: 90.into_revision(),
        epoch: 1,
        leader: name("a"),
        position: bellwether_types::WalPosition { timeline: TimelineId(1), lsn: POSITION },
    };
    let promised = Word { promise: Some(promise), ..Word::default() };
    let foreign: SystemId = "7000000000000000001".parse().unwrap();
    let newcomer = PeerReport {
        role: Role::Uninitialized,
        position: None,
        timeline: None,
        system_id: None,
        ..standby()
    };
    let cases = [
        ("it is well", standby(), "restoring_keys", false),
        ("it has no data", newcomer, "restoring_keys", false),
        ("it lags", PeerReport { position: Some(super::BEFORE), ..standby() }, "restoring_keys", false),
        (
            "its PostgreSQL is down",
            PeerReport { position: None, timeline: None, ..standby() },
            "store_wiped",
            false,
        ),
        ("it says no identity", PeerReport { system_id: None, ..standby() }, "store_wiped", false),
        ("it has promised", PeerReport { takeover: promised, ..standby() }, "store_wiped", false),
        (
            "it is a primary",
            PeerReport { is_running_primary: true, ..standby() },
            "store_wiped_demoting",
            true,
        ),
        ("it has the lock", PeerReport { holds_lock: true, ..standby() }, "store_wiped_demoting", true),
        ("it is foreign", PeerReport { system_id: Some(foreign), ..standby() }, "store_wiped_demoting", true),
        (
            "it is on a later timeline",
            PeerReport { timeline: Some(TimelineId(2)), ..standby() },
            "store_wiped_demoting",
            true,
        ),
    ];
    for (case, report, code, stops) in cases {
        for scene in [wiped(leader()), refused(wiped(leader()))] {
            let answers = [("b", standby_at(POSITION)), ("c", answer(report.clone()))];
            let decision = scene.answers(&answers).decide();
            assert_eq!(decision.code(), code, "{case}: {decision:#?}");
            assert_eq!(demotion(&decision).is_some(), stops, "{case}");
            assert_eq!(restores(&decision).is_some(), code == "restoring_keys", "{case}");
        }
    }
}

#[test]
fn a11_silence_is_waited_for_as_long_as_the_last_confirmation_is_good() {
    let silent = || [("b", standby_at(POSITION)), ("c", silence())];
    let scene = refused(wiped(leader())).answers(&silent());
    let decision = scene.decide();
    assert_eq!(decision.code(), "store_wiped");
    assert!(decision.says("keys_wait_for") && restores(&decision).is_none(), "{decision:#?}");
    let LeaseView::Held { demote_at, .. } = held(NOW) else { unreachable!() };
    assert!(decision.wake_at < demote_at, "it asks again");

    let over = scene.later(demote_at.since(NOW)).decide();
    assert_eq!((over.code(), demotion(&over)), ("renewal_rejected", NO_LOCK), "{over:#?}");
    let still_held = wiped(leader()).answers(&silent()).later(demote_at.since(NOW)).decide();
    assert_eq!(still_held.code(), "lease_running_out", "{still_held:#?}");
}

#[test]
fn a11_whom_the_store_named_lately_must_agree_though_the_keys_did_not_go_at_once() {
    // The members' keys went first, and were seen to be missing under the old lock.
    let first = leader().decide();
    let second = leader().after(&first).cluster(|cluster| {
        cluster.members.clear();
        cluster.revision = 299.into_revision();
    });
    let second = second.decide();
    let third = wiped(leader()).after(&second).decide();
    let asked = third.actions.iter().any(
        |action| matches!(action, Action::PollPeers { members, .. } if members.contains_key(&name("c"))),
    );
    assert!(asked, "{third:#?}");

    // Who was gone for a whole `ttl` before is not waited for.
    let later = leader().after(&second).cluster(|cluster| {
        cluster.members.remove(&name("c"));
        cluster.revision = 299.into_revision();
    });
    let later = later.later(Duration::from_secs(6)).lease(held(NOW + Duration::from_secs(6))).decide();
    assert!(later.memory.lately_seen.keys().eq([&name("b")]), "{:?}", later.memory.lately_seen);
}

#[test]
fn a11_a_refused_renewal_stops_at_once_unless_the_store_is_empty() {
    let with = |change: fn(&mut Cluster)| refused(leader().cluster(change).answers(&well())).decide();
    for (case, decision) in [
        ("only the lock is gone", with(|cluster| cluster.leader = None)),
        (
            "somebody else has it",
            with(|cluster| {
                cluster.initialize = None;
                cluster.leader.as_mut().unwrap().name = name("b");
            }),
        ),
        ("it has never led", refused(wiped(leader())).memory(|memory| memory.last_healthy = None).decide()),
        (
            "what is empty was not read yet",
            refused(wiped(leader())).silent_for(Duration::from_secs(3)).decide(),
        ),
        ("the time is over", wiped(leader()).rejected().answers(&well()).decide()),
    ] {
        assert_eq!(demotion(&decision), NO_LOCK, "{case}: {decision:#?}");
    }
}

#[test]
fn a11_a_former_leader_takes_the_lock_of_a_wiped_store_like_any_other_with_all_keys() {
    let decision = wiped(former_leader()).answers(&well()).decide();
    assert_eq!(decision.code(), "restoring_keys", "{decision:#?}");
    let keys = restores(&decision).expect("decided");
    assert_eq!(keys.timeline.map(|next| next.timeline), Some(TimelineId(2)), "it will be promoted");
    assert!(!promotes(&decision), "not before it has the lock");

    for (case, answers) in [
        ("silent", [("b", standby_at(POSITION)), ("c", silence())]),
        ("ahead", [("b", standby_at(POSITION)), ("c", standby_at(super::BEYOND))]),
        (
            "later",
            [
                ("b", standby_at(POSITION)),
                ("c", answer(PeerReport { timeline: Some(TimelineId(2)), ..standby() })),
            ],
        ),
    ] {
        let decision = wiped(former_leader()).answers(&answers).decide();
        assert!(restores(&decision).is_none(), "{case}: {decision:#?}");
    }
}

#[test]
fn a11_whom_an_operator_names_may_write_the_keys_without_waiting_for_anybody() {
    let named = |scene: Scene| wiped(scene).request(None, Some("b"));
    let answers = [("a", silence()), ("c", standby_at(POSITION))];
    let decision = named(orphan()).answers(&answers).decide();
    assert_eq!(decision.code(), "restoring_keys", "{decision:#?}");
    assert_eq!(
        restores(&decision).and_then(|keys| keys.timeline).map(|next| next.timeline),
        Some(TimelineId(2))
    );

    let others =
        named(Scene::of("c").without_leader()).answers(&[("a", silence()), ("b", standby_at(POSITION))]);
    assert!(restores(&others.decide()).is_none(), "only the one that was named");
    let primary = answer(PeerReport { is_running_primary: true, ..standby() });
    let vetoed = named(orphan()).answers(&[("a", primary), ("c", standby_at(POSITION))]).decide();
    assert!(restores(&vetoed).is_none() && vetoed.says("primary_alive"), "{vetoed:#?}");
    let switchover = wiped(orphan()).request(Some("a"), Some("b")).answers(&answers).decide();
    assert!(restores(&switchover).is_none(), "a switchover accepts no loss");
}

#[test]
fn a11_a_claim_of_somebody_without_data_does_not_keep_the_leader_from_its_keys() {
    let claimed = wiped(leader()).cluster(|cluster| {
        cluster.initialize = Some(Keyed { value: Initialize::InProgress, revision: 301.into_revision() });
    });
    let decision = claimed.answers(&well()).decide();
    assert_eq!(
        restores(&decision).map(|keys| keys.initialize),
        Some(Some(301.into_revision())),
        "{decision:#?}"
    );
}

#[test]
fn nobody_founds_a_cluster_beside_members_that_have_data() {
    let beside = |state| {
        newcomer().cluster(|cluster| {
            let mut other = crate::testing::member("b", Role::Replica);
            other.state = Some(state);
            cluster.members.insert(other.name.clone(), other);
        })
    };
    let waits = beside(bellwether_types::PostgresState::Running).decide();
    assert_eq!(waits.code(), "waiting_for_leader", "{waits:#?}");
    assert!(waits.says("members_have_data"));
    let founds = beside(bellwether_types::PostgresState::Stopped).decide();
    assert_eq!(founds.code(), "bootstrap_started");
}

#[test]
fn in_pause_the_primary_of_a_wiped_store_takes_the_lock_with_all_keys() {
    let paused = || refused(wiped(leader())).settings(|settings| settings.pause = true);
    let decision = paused().decide();
    assert_eq!(decision.code(), "restoring_keys", "{decision:#?}");
    assert!(restores(&decision).is_some_and(|keys| keys.config), "the pause among them");
    assert_eq!(demotion(&decision), None);
}

#[test]
fn a_leader_that_is_being_restarted_does_not_go_on() {
    let scene = refused(wiped(leader())).view(|view| {
        view.job = Some(crate::view::Job {
            kind: crate::view::JobKind::Restart,
            phase: crate::view::JobPhase::Working,
            since: NOW,
        });
    });
    let decision = scene.decide();
    assert_eq!(demotion(&decision), NO_LOCK, "a restart is no time to ask: {decision:#?}");
}
