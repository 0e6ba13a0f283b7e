//! 6.E: failsafe mode.

use std::{collections::BTreeMap, time::Duration};

use bellwether_types::{Lsn, Role};

use super::{acquires, demotion, promotes};
use crate::{
    Action,
    action::DemoteMode,
    testing::{NOW, POSITION, Scene, leader, name, orphan, replica, silence, standby},
    view::{AsOf, FailsafeAcceptance, FailsafeRound, LeaseView, PeerAnswer, PeerReport},
};

fn failsafe(scene: Scene) -> Scene {
    scene.settings(|settings| settings.failsafe_mode = true)
}

fn accepted(until: Duration, slots: BTreeMap<String, Lsn>) -> FailsafeAcceptance {
    FailsafeAcceptance {
        leader: name("a"),
        conn_url: "postgres://a:5432/postgres".to_owned(),
        api_url: "http://a:8008/patroni".to_owned(),
        until: NOW + until,
        slots,
    }
}

fn round(asked: &[&str], accepted: &[&str]) -> FailsafeRound {
    let set = |names: &[&str]| names.iter().map(|text| name(text)).collect();
    let good_for = Duration::from_secs(5);
    let (asked, accepted) = (set(asked), set(accepted));
    FailsafeRound { began_at: NOW, asked, accepted, good_for, running: false, positions: BTreeMap::new() }
}

#[test]
fn e1_every_other_member_is_asked_from_the_first_silence_on() {
    let silent = failsafe(leader()).silent_for(Duration::from_millis(1)).decide();
    let asked = silent.actions.iter().find_map(|action| match action {
        Action::AskFailsafe { members, rely_on } => {
            assert_eq!(*rely_on, Duration::from_secs(5), "no longer than the lease would be");
            Some(members)
        }
        _ => None,
    });
    let asked = asked.unwrap_or_else(|| panic!("{silent:#?}"));
    assert!(asked.keys().map(|name| name.as_str()).eq(["b", "c"]));
    assert_eq!(demotion(&silent), None);
    let again = failsafe(leader()).silent_for(Duration::from_millis(500)).after(&silent);
    let at_once = again.clone().later(Duration::from_millis(500)).decide();
    assert!(
        !at_once.actions.iter().any(|action| matches!(action, Action::AskFailsafe { .. })),
        "{at_once:#?}"
    );
    let later = again.later(Duration::from_secs(1)).decide();
    assert!(later.actions.iter().any(|action| matches!(action, Action::AskFailsafe { .. })));
}

#[test]
fn e1_nobody_is_asked_when_the_mode_is_off_or_the_map_does_not_know_us() {
    let asks = |scene: Scene| {
        let decision = scene.silent_for(Duration::from_millis(1)).decide();
        decision.actions.iter().any(|action| matches!(action, Action::AskFailsafe { .. }))
    };
    assert!(!asks(leader()));
    assert!(!asks(failsafe(leader()).cluster(|cluster| {
        cluster.failsafe.as_mut().unwrap().value.0.remove(&name("a"));
    })));
    assert!(!asks(failsafe(leader()).cluster(|cluster| cluster.failsafe = None)));
}

#[test]
fn e1_one_refusal_and_the_leader_stops_when_its_lease_ends() {
    let LeaseView::Held { demote_at, .. } = crate::testing::held(NOW) else { unreachable!() };
    let refused = failsafe(leader())
        .silent_for(Duration::from_secs(3))
        .view(|view| {
            view.now = demote_at;
            view.failsafe.round = Some(round(&["b", "c"], &["b"]));
        })
        .decide();
    assert!(matches!(demotion(&refused), Some(DemoteMode::Offline { .. })), "{refused:#?}");
}

#[test]
fn e1_with_every_acceptance_the_leader_goes_on() {
    let confirmed = failsafe(leader())
        .silent_for(Duration::from_secs(3))
        .view(|view| view.failsafe.round = Some(round(&["b", "c"], &["b", "c"])))
        .decide();
    assert_eq!(confirmed.code(), "continue_by_failsafe");
    assert_eq!(demotion(&confirmed), None);
}

#[test]
fn e1_an_acceptance_is_believed_no_longer_than_it_was_promised() {
    let decided = |promised| {
        failsafe(leader())
            .silent_for(Duration::from_secs(3))
            .view(|view| {
                let mut round = round(&["b", "c"], &["b", "c"]);
                round.began_at = NOW.saturating_sub(Duration::from_secs(2));
                round.good_for = promised;
                view.failsafe.round = Some(round);
            })
            .decide()
    };
    assert_eq!(decided(Duration::from_secs(3)).code(), "continue_by_failsafe");
    assert_eq!(decided(Duration::from_secs(2)).code(), "store_unreachable");
}

#[test]
fn e2_a_member_unknown_to_failsafe_never_leads() {
    let stranger = |scene: Scene| {
        failsafe(scene)
            .cluster(|cluster| drop(cluster.failsafe.as_mut().unwrap().value.0.remove(&name("b"))))
            .answers(&[("a", silence()), ("c", silence())])
            .decide()
    };
    let decision = stranger(orphan());
    assert!(decision.says("not_in_failsafe") && !acquires(&decision), "{decision:#?}");
}

/// `b` is not in `/failsafe`, and nobody leads.
fn stranger(a: PeerReport) -> Scene {
    failsafe(orphan())
        .cluster(|cluster| drop(cluster.failsafe.as_mut().unwrap().value.0.remove(&name("b"))))
        .answers(&[("a", PeerAnswer::Answered(a)), ("c", PeerAnswer::Answered(standby()))])
}

#[test]
fn e2_failsafe_bars_nobody_once_all_that_it_names_answer_as_standbys() {
    let decision = stranger(standby()).decide();
    assert!(acquires(&decision), "{decision:#?}");
}

#[test]
fn e2_who_has_no_server_and_no_lock_bars_nobody() {
    let at_rest = PeerReport { position: None, at_rest: true, ..standby() };
    for role in [Role::Replica, Role::Demoted, Role::Primary, Role::StandbyLeader] {
        let decision = stranger(PeerReport { role, ..at_rest.clone() }).decide();
        assert!(acquires(&decision), "{role:?}: {decision:#?}");
    }
    let contradicts_itself = PeerReport { is_running_primary: true, ..at_rest };
    assert!(!acquires(&stranger(contradicts_itself).decide()));
}

#[test]
fn e2_whoever_may_go_on_by_failsafe_bars_a_stranger() {
    let earlier = AsOf::Earlier { ago: Duration::from_millis(1) };
    for (case, a) in [
        ("it runs as primary", PeerReport { is_running_primary: true, role: Role::Primary, ..standby() }),
        ("it is being restarted", PeerReport { position: None, role: Role::Primary, ..standby() }),
        ("its server is down, and it may hold the lock", PeerReport { position: None, ..standby() }),
        ("it is being promoted", PeerReport { role: Role::Promoted, ..standby() }),
        ("that was before it was asked", PeerReport { as_of: earlier, ..standby() }),
        ("a Patroni does not say when that was", PeerReport { as_of: AsOf::Unsaid, ..standby() }),
    ] {
        let decision = stranger(a).decide();
        assert!(!acquires(&decision), "{case}: {decision:#?}");
    }
}

#[test]
fn e2_a_stranger_that_runs_as_primary_stops() {
    let decision = stranger(standby()).server(|server| server.in_recovery = false).decide();
    assert!(decision.says("not_in_failsafe") && demotion(&decision).is_some(), "{decision:#?}");
}

#[test]
fn e4_failsafe_state_is_cleared_on_promotion_and_when_the_store_works_again() {
    let with_promise = |scene: Scene| {
        failsafe(scene)
            .view(|view| view.failsafe.accepted = Some(accepted(Duration::from_secs(4), BTreeMap::new())))
    };
    let promoted = with_promise(replica().holding()).decide();
    assert!(promotes(&promoted) && promoted.actions.contains(&Action::ClearFailsafe), "{promoted:#?}");
    let leading = failsafe(leader()).view(|view| view.failsafe.round = Some(round(&["b"], &["b"])));
    assert!(leading.decide().actions.contains(&Action::ClearFailsafe));
    assert!(!leading.silent_for(Duration::from_secs(1)).decide().actions.contains(&Action::ClearFailsafe));
}

#[test]
fn e5_a_leader_that_says_it_lives_is_not_raced() {
    let promised = |until| {
        failsafe(orphan())
            .view(|view| view.failsafe.accepted = Some(accepted(until, BTreeMap::new())))
            .answers(&[("a", silence()), ("c", silence())])
            .decide()
    };
    let bound = promised(Duration::from_secs(4));
    assert!(bound.says("leader_alive_by_failsafe") && !acquires(&bound), "{bound:#?}");
    assert!(acquires(&promised(Duration::ZERO)));
}

#[test]
fn e5_a_standby_that_starts_meanwhile_follows_that_leader() {
    let decision = failsafe(orphan())
        .stopped()
        .view(|view| view.failsafe.accepted = Some(accepted(Duration::from_secs(4), BTreeMap::new())))
        .decide();
    let started = decision.actions.iter().find_map(|action| match action {
        Action::Start { role: crate::action::StartRole::Standby { upstream } } => upstream.clone(),
        _ => None,
    });
    assert_eq!(started, Some(crate::testing::upstream("a", "b")), "{decision:#?}");
}

#[test]
fn e6_slots_keep_moving_without_the_store() {
    let ahead = Lsn(POSITION.0 - 8);
    let decision = failsafe(replica())
        .silent_for(Duration::from_secs(3))
        .server(|server| {
            for slot in &mut server.slots {
                slot.restart_lsn = Some(Lsn(POSITION.0 - 64));
            }
        })
        .view(|view| {
            let slots = [("c".to_owned(), ahead)].into();
            view.failsafe.accepted = Some(accepted(Duration::from_secs(4), slots));
        })
        .decide();
    let expected = Action::AdvanceSlots { to: [("c".to_owned(), ahead)].into() };
    assert!(decision.actions.contains(&expected), "{decision:#?}");
}

#[test]
fn the_map_of_members_is_kept_current() {
    let stale = failsafe(leader()).cluster(|cluster| drop(cluster.members.remove(&name("c")))).decide();
    let written = stale.actions.iter().find_map(|action| match action {
        Action::WriteFailsafe { map } => Some(map.0.len()),
        _ => None,
    });
    assert_eq!(written, Some(2), "{stale:#?}");
    let current = failsafe(leader()).decide();
    assert!(!current.actions.iter().any(|action| matches!(action, Action::WriteFailsafe { .. })));
}
