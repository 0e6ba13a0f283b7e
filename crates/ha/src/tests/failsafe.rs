//! 6.E: failsafe mode.

use std::{collections::BTreeMap, time::Duration};

use bellwether_types::{
    Lsn, Revision, Role,
    cluster::{Cluster, PeerProtocol},
};

use super::{acquires, demotion, promotes};
use crate::{
    Action, Decision,
    action::DemoteMode,
    testing::{NOW, POSITION, Scene, leader, member, name, orphan, replica, silence, standby},
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

/// The mode was switched off, and all that led were members of ours.
fn switched_off(scene: Scene) -> Scene {
    let scene = scene.settings(|settings| settings.failsafe_mode = false);
    scene.memory(|memory| {
        let mut last = (**memory.last_healthy.as_ref().expect("a leader was seen")).clone();
        for member in last.members.values_mut() {
            member.bellwether = Some(PeerProtocol { version: "0.1.0".to_owned(), level: 1 });
        }
        memory.last_healthy = Some(last.into());
    })
}

/// Seed 72012780 of the simulator: `a` is cut off, and goes on by a list that names it alone. It does not hear of the change.
#[test]
fn e2_the_list_counts_until_a_leader_has_emptied_it_whatever_the_configuration_says() {
    let alone = |cluster: &mut Cluster| {
        cluster.failsafe.as_mut().unwrap().value.0.retain(|member, _| *member == name("a"));
    };
    let silent = [("a", silence()), ("c", silence())];
    let cut_off = switched_off(orphan()).cluster(alone).answers(&silent);
    let decision = cut_off.decide();
    assert!(decision.says("not_in_failsafe") && !acquires(&decision), "{decision:#?}");
    let back = switched_off(stranger(standby())).decide();
    assert!(acquires(&back), "all that it names follow: {back:#?}");
    let emptied = cut_off.clone().cluster(|cluster| cluster.failsafe.as_mut().unwrap().value.0.clear());
    assert!(acquires(&emptied.decide()), "{:#?}", emptied.decide());
    let listed = switched_off(orphan()).answers(&silent).decide();
    assert!(acquires(&listed), "who is asked may refuse, and lead: {listed:#?}");
}

#[test]
fn e2_an_operator_who_names_a_member_answers_for_those_in_the_list_once_the_mode_is_off() {
    let named = |leader, candidate| {
        let barred = orphan().answers(&[("a", silence()), ("c", silence())]);
        barred.request(leader, Some(candidate)).cluster(|cluster| {
            cluster.failsafe.as_mut().unwrap().value.0.retain(|member, _| *member == name("a"));
        })
    };
    let failover = switched_off(named(None, "b"));
    assert!(acquires(&failover.decide()), "{:#?}", failover.decide());
    for (case, scene) in [
        ("another member is named", switched_off(named(None, "c"))),
        ("a switchover", switched_off(named(Some("a"), "b"))),
        ("the mode is on", failsafe(named(None, "b"))),
    ] {
        assert!(!acquires(&scene.decide()), "{case}: {:#?}", scene.decide());
    }
}

#[test]
fn e2_a_patroni_that_led_leaves_its_list_behind() {
    let left = switched_off(orphan())
        .cluster(|cluster| drop(cluster.failsafe.as_mut().unwrap().value.0.remove(&name("b"))))
        .answers(&[("a", silence()), ("c", silence())]);
    let by_ours = left.clone().decide();
    assert!(!acquires(&by_ours), "{by_ours:#?}");
    let by_patroni = left
        .memory(|memory| {
            let mut last = (**memory.last_healthy.as_ref().unwrap()).clone();
            last.members.get_mut(&name("a")).unwrap().bellwether = None;
            memory.last_healthy = Some(last.into());
        })
        .decide();
    assert!(acquires(&by_patroni), "{by_patroni:#?}");
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
fn e5_a_promise_is_kept_though_the_mode_was_switched_off_since() {
    let decision = switched_off(orphan())
        .view(|view| view.failsafe.accepted = Some(accepted(Duration::from_secs(4), BTreeMap::new())))
        .answers(&[("a", silence()), ("c", silence())])
        .decide();
    assert!(decision.says("leader_alive_by_failsafe") && !acquires(&decision), "{decision:#?}");
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

/// The map that was to be written, if any.
fn written(decision: &Decision) -> Option<Vec<&str>> {
    decision.actions.iter().find_map(|action| match action {
        Action::WriteFailsafe { map } => Some(map.0.keys().map(|name| name.as_str()).collect()),
        _ => None,
    })
}

#[test]
fn a_leader_empties_the_map_when_the_mode_is_off() {
    let off = leader().decide();
    assert_eq!(written(&off), Some(vec![]), "{off:#?}");
    let emptied = leader().cluster(|cluster| cluster.failsafe.as_mut().unwrap().value.0.clear());
    assert_eq!(written(&emptied.decide()), None);
    assert_eq!(written(&leader().cluster(|cluster| cluster.failsafe = None).decide()), None);
    assert_eq!(written(&replica().decide()), None);
    let silent = leader().silent_for(Duration::from_millis(1)).decide();
    assert_eq!(written(&silent), None, "whom it asks must not change any more: {silent:#?}");
}

/// The leader that is cut off does not know whether its last write took effect: whoever it may have named since may lead, and is asked.
#[test]
fn e1_who_was_named_in_a_write_that_was_not_seen_is_asked_too() {
    let joined = |scene: Scene| {
        failsafe(scene).cluster(|cluster| drop(cluster.members.insert(name("d"), member("d", Role::Replica))))
    };
    let asked = |decision: &Decision| {
        decision.actions.iter().find_map(|action| match action {
            Action::AskFailsafe { members, .. } => Some(members.keys().cloned().collect::<Vec<_>>()),
            _ => None,
        })
    };
    let wrote = joined(leader()).decide();
    assert_eq!(written(&wrote), Some(vec!["a", "b", "c", "d"]));
    let cut_off = joined(leader()).silent_for(Duration::from_millis(1)).after(&wrote).decide();
    assert_eq!(asked(&cut_off), Some(vec![name("b"), name("c"), name("d")]), "{cut_off:#?}");

    let emptied = leader().decide();
    let cut_off = failsafe(leader()).silent_for(Duration::from_millis(1)).after(&emptied).decide();
    assert_eq!(asked(&cut_off), None, "nobody may be barred any more: {cut_off:#?}");

    let later = leader().after(&emptied).later(Duration::from_secs(2));
    let again = failsafe(later).decide();
    assert_eq!(written(&again), Some(vec!["a", "b", "c"]), "it looks current, and may not be: {again:#?}");
    let seen = failsafe(leader()).after(&again).later(Duration::from_secs(3)).cluster(|cluster| {
        cluster.failsafe.as_mut().unwrap().revision = Revision(109);
    });
    let seen = seen.decide();
    assert_eq!((written(&seen), &seen.memory.failsafe_written), (None, &None));
}
