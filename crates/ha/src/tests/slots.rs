//! 6.H: replication slots.

use std::{collections::BTreeSet, time::Duration};

use bellwether_types::Lsn;
use serde_json::json;

use crate::{
    Action, Decision,
    testing::{self, NOW, POSITION, Scene, leader, name, orphan, replica},
};

fn created(decision: &Decision) -> BTreeSet<String> {
    let created = decision.actions.iter().find_map(|action| match action {
        Action::CreateSlots { names } => Some(names.clone()),
        _ => None,
    });
    created.unwrap_or_default()
}

fn dropped(decision: &Decision) -> BTreeSet<String> {
    let dropped = decision.actions.iter().find_map(|action| match action {
        Action::DropSlots { names } => Some(names.clone()),
        _ => None,
    });
    dropped.unwrap_or_default()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn tagged(scene: Scene, member: &str, tags: serde_json::Value) -> Scene {
    scene.member(member, |member| member.tags = serde_json::from_value(tags).unwrap())
}

/// A slot of a member that was last seen so long ago.
fn absent_for(age: Duration) -> Scene {
    leader().slot("gone", |slot| slot.active = false).memory(|memory| {
        let _ = memory.retained_slots.insert("gone".to_owned(), NOW.saturating_sub(age));
    })
}

const TTL: Duration = Duration::from_secs(30 * 60);

#[test]
fn h2_what_is_in_use_or_not_ours_is_never_dropped() {
    let gone = |change: fn(&mut crate::view::Slot)| {
        dropped(&absent_for(TTL).server(|server| server.slots.iter_mut().for_each(change)).decide())
    };
    assert_eq!(gone(|_| ()), set(&["gone"]));
    assert_eq!(gone(|slot| slot.active = true), set(&[]));
    assert_eq!(gone(|slot| slot.temporary = true), set(&[]));
    assert_eq!(gone(|slot| slot.physical = false), set(&[]));
    let foreign = leader().slot("somebody_elses", |slot| slot.active = false).decide();
    assert_eq!(dropped(&foreign), set(&[]));
    let paused = absent_for(TTL).settings(|settings| settings.pause = true).decide();
    assert_eq!(dropped(&paused), set(&[]));
}

#[test]
fn h3_the_slot_of_an_absent_member_is_kept_for_its_time() {
    let kept = absent_for(TTL - Duration::from_secs(1)).decide();
    assert_eq!(dropped(&kept), set(&[]));
    assert_eq!(dropped(&absent_for(TTL).decide()), set(&["gone"]));
}

#[test]
fn h3_every_candidate_keeps_a_slot_for_every_other_member() {
    let bare = |scene: Scene| scene.server(|server| server.slots.clear());
    assert_eq!(created(&bare(leader()).decide()), set(&["b", "c"]));
    assert_eq!(created(&bare(replica()).decide()), set(&["a", "c"]));
    let nofailover = bare(replica()).view(|view| {
        view.me.tags = serde_json::from_value(json!({"nofailover": true})).unwrap();
    });
    assert_eq!(created(&nofailover.decide()), set(&[]));
    let at_once = |scene: Scene| bare(scene).settings(|settings| settings.member_slots_ttl = Duration::ZERO);
    assert_eq!(created(&at_once(leader()).decide()), set(&["b", "c"]));
    assert_eq!(created(&at_once(replica()).decide()), set(&[]));
}

#[test]
fn h3_the_leader_publishes_which_slots_are_to_be_kept() {
    let decision = absent_for(Duration::from_secs(60)).decide();
    let status = decision.actions.iter().find_map(|action| match action {
        Action::WriteStatus { status } => Some(status),
        _ => None,
    });
    let status = status.unwrap_or_else(|| panic!("{decision:#?}"));
    assert_eq!(status.retain_slots, Some(set(&["a", "b", "c", "gone"])), "its own slot included");
    let listed = replica().cluster(|cluster| {
        cluster.status.as_mut().unwrap().value.retain_slots = Some(set(&["b", "gone"]));
    });
    assert_eq!(created(&listed.decide()), set(&["gone"]), "never one for itself");
}

#[test]
fn h3_a_promotion_restarts_the_clocks() {
    let decision = replica()
        .holding()
        .slot("gone", |slot| slot.active = false)
        .memory(|memory| {
            let _ = memory.retained_slots.insert("gone".to_owned(), NOW.saturating_sub(TTL));
        })
        .decide();
    assert_eq!(decision.memory.retained_slots.get("gone"), Some(&NOW));
}

#[test]
fn h4_an_idle_slot_that_holds_back_vacuum_is_made_anew_once_a_leader_leads() {
    let frozen = |scene: Scene| {
        scene.server(|server| {
            for slot in server.slots.iter_mut().filter(|slot| slot.name == "c") {
                slot.has_xmin = true;
            }
        })
    };
    assert_eq!(dropped(&frozen(replica()).decide()), set(&["c"]));
    let answers = [("a", testing::silence()), ("c", testing::silence())];
    assert_eq!(dropped(&frozen(orphan()).answers(&answers).decide()), set(&[]));
    assert_eq!(dropped(&frozen(replica().holding()).decide()), set(&[]), "still in recovery");
}

#[test]
fn h8_slots_that_lost_their_wal_are_made_anew() {
    let broken = |change: fn(&mut crate::view::Slot)| {
        let scene = replica().server(|server| {
            server.slots.iter_mut().filter(|slot| slot.name == "c").for_each(change);
        });
        dropped(&scene.decide())
    };
    assert_eq!(broken(|slot| slot.wal_status_lost = true), set(&["c"]));
    assert_eq!(broken(|slot| slot.restart_lsn = None), set(&["c"]));
    assert_eq!(broken(|_| ()), set(&[]));
}

#[test]
fn h12_nobody_keeps_a_slot_for_itself_or_for_who_does_not_stream() {
    let bare = |scene: Scene| scene.server(|server| server.slots.clear());
    let nostream = tagged(bare(leader()), "c", json!({"nostream": true})).decide();
    assert_eq!(created(&nostream), set(&["b"]));
    let cycle = tagged(bare(leader()), "b", json!({"replicatefrom": "b"})).decide();
    assert_eq!(created(&cycle), set(&["b", "c"]), "who names itself streams from the leader");
    let twin = bare(leader()).cluster(|cluster| {
        let member = crate::testing::member("A", bellwether_types::Role::Replica);
        cluster.members.insert(name("A"), member);
    });
    assert_eq!(created(&twin.decide()), set(&["b", "c"]), "under no spelling");
}

#[test]
fn h14_a_cascading_standby_keeps_the_slots_of_its_followers_without_a_leader() {
    let answers = [("a", testing::silence()), ("c", testing::silence())];
    let scene = tagged(orphan(), "c", json!({"replicatefrom": "b"}))
        .settings(|settings| settings.member_slots_ttl = Duration::ZERO)
        .server(|server| server.slots.clear())
        .answers(&answers);
    assert_eq!(created(&scene.decide()), set(&["c"]));
}

#[test]
fn an_idle_slot_follows_the_leader_but_never_passes_what_is_replayed_here() {
    let behind = |replayed| {
        let decision = replica()
            .server(|server| {
                server.replayed = replayed;
                for slot in &mut server.slots {
                    slot.restart_lsn = Some(Lsn(POSITION.0 - 64));
                }
            })
            .decide();
        decision.actions.iter().find_map(|action| match action {
            Action::AdvanceSlots { to } => to.get("c").copied(),
            _ => None,
        })
    };
    assert_eq!(behind(POSITION), Some(POSITION));
    assert_eq!(behind(Lsn(POSITION.0 - 8)), Some(Lsn(POSITION.0 - 8)));
    assert_eq!(behind(Lsn(POSITION.0 - 64)), None);
}
