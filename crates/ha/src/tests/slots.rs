//! 6.H: replication slots.

use std::{collections::BTreeSet, time::Duration};

use bellwether_types::{
    Lsn,
    slots::{PermanentSlot, SlotClusterType, SlotKind, SlotMatcher},
};
use serde_json::json;

use crate::{
    Action, Decision,
    action::DropWhy,
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
        Action::DropSlots { slots } => Some(slots.keys().cloned().collect()),
        _ => None,
    });
    dropped.unwrap_or_default()
}

fn why(decision: &Decision, slot: &str) -> Option<DropWhy> {
    decision.actions.iter().find_map(|action| match action {
        Action::DropSlots { slots } => slots.get(slot).copied(),
        _ => None,
    })
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
    assert_eq!(gone(|slot| slot.failover = true), set(&[]));
    let strange = || leader().slot("strange", |slot| slot.active = false);
    assert_eq!(why(&strange().decide(), "strange"), Some(DropWhy::Unknown));
    let ignored = |matcher: SlotMatcher| {
        dropped(&strange().settings(|settings| settings.ignore_slots = vec![matcher]).decide())
    };
    assert_eq!(ignored(SlotMatcher::named("strange")), set(&[]));
    assert_eq!(ignored(SlotMatcher::named("other")), set(&["strange"]));
    assert_eq!(ignored(SlotMatcher::default()), set(&[]), "what names nothing takes all");
    for (case, unknown) in [
        ("no configuration", strange().cluster(|cluster| cluster.config = None)),
        ("no status", strange().cluster(|cluster| cluster.status = None)),
    ] {
        assert_eq!(dropped(&unknown.decide()), set(&[]), "{case}: what is wanted is not known");
    }
    let paused = absent_for(TTL).settings(|settings| settings.pause = true).decide();
    assert_eq!(dropped(&paused), set(&[]));
}

#[test]
fn without_use_slots_none_is_made_and_those_that_are_there_go() {
    let without = |scene: Scene| scene.settings(|settings| settings.use_slots = false);
    let bare = without(leader()).server(|server| server.slots.clear()).decide();
    assert_eq!(created(&bare), set(&[]));
    // No member uses them any more, so nobody would ever move them on.
    let left =
        without(leader()).server(|server| server.slots.iter_mut().for_each(|slot| slot.active = false));
    assert_eq!(dropped(&left.clone().decide()), set(&["b", "c"]));
    let recent = left.memory(|memory| {
        let _ = memory.retained_slots.insert("b".to_owned(), NOW);
    });
    assert_eq!(dropped(&recent.decide()), set(&["b", "c"]), "not even for its time");
    assert_eq!(dropped(&without(leader()).decide()), set(&[]), "in use");
}

#[test]
fn h3_the_slot_of_an_absent_member_is_kept_for_its_time() {
    let kept = absent_for(TTL - Duration::from_secs(1)).decide();
    assert_eq!(dropped(&kept), set(&[]));
    let with_feedback = absent_for(TTL - Duration::from_secs(1))
        .server(|server| {
            server.slots.iter_mut().filter(|slot| slot.name == "gone").for_each(|slot| slot.has_xmin = true);
        })
        .cluster(|cluster| {
            cluster.status.as_mut().unwrap().value.retain_slots = Some(set(&["gone"]));
        });
    assert_eq!(dropped(&with_feedback.decide()), set(&[]), "what it holds back is what the member will need");
    let ttl = TTL;
    assert_eq!(why(&absent_for(TTL).decide(), "gone"), Some(DropWhy::Expired { ttl }));
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
fn h2_slots_with_which_citus_moves_shards_are_left_alone_on_a_primary() {
    let kept = |name: &str, plugin: &str, database: &str| {
        let scene = leader().slot(name, |slot| {
            slot.active = false;
            slot.physical = false;
            (slot.plugin, slot.database) = (Some(plugin.to_owned()), Some(database.to_owned()));
        });
        let scene = scene.settings(|settings| settings.citus_database = Some("db".to_owned()));
        dropped(&scene.decide()).is_empty()
    };
    for (slot, plugin, database, is_kept) in [
        ("citus_shard_move_slot_12_1", "pgoutput", "db", true),
        ("citus_shard_move_slot_12_1_34", "pgoutput", "db", true),
        ("citus_shard_split_slot_5_67_8", "citus", "db", true),
        ("citus_shard_move_slot_12", "pgoutput", "db", false),
        ("citus_shard_move_slot_1_2_3_4", "pgoutput", "db", false),
        ("citus_shard_move_slot_0_1", "pgoutput", "db", false),
        ("citus_shard_move_slot_1_", "pgoutput", "db", false),
        ("citus_shard_move_slot_12_1", "citus", "db", false),
        ("citus_shard_split_slot_5_67", "pgoutput", "db", false),
        ("citus_shard_move_slot_12_1", "pgoutput", "other", false),
    ] {
        assert_eq!(kept(slot, plugin, database), is_kept, "{slot} {plugin} {database}");
    }
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
    let permanent = absent_for(Duration::from_secs(60))
        .settings(|settings| settings.slots = [permanent("c", None), permanent("a", None)].into())
        .decide();
    let retained = permanent.actions.iter().find_map(|action| match action {
        Action::WriteStatus { status } => status.retain_slots.clone(),
        _ => None,
    });
    assert_eq!(retained, Some(set(&["b", "gone"])), "what is kept anyhow needs no retention");
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

fn permanent(name: &str, cluster_type: Option<SlotClusterType>) -> (String, PermanentSlot) {
    (name.to_owned(), PermanentSlot { kind: SlotKind::Physical, cluster_type })
}

#[test]
fn permanent_slots_are_on_every_member_that_may_lead() {
    let with = |scene: Scene| {
        let slots = [permanent("always", None), permanent("b", None)].into();
        scene.settings(|settings| settings.slots = slots)
    };
    assert_eq!(created(&with(leader()).decide()), set(&["always"]));
    assert_eq!(created(&with(replica()).decide()), set(&["always"]), "none for itself");
    let nofailover = |scene: Scene| {
        scene.view(|view| view.me.tags = serde_json::from_value(json!({"nofailover": true})).unwrap())
    };
    assert_eq!(created(&nofailover(with(replica())).decide()), set(&[]));
    assert_eq!(created(&nofailover(with(leader())).decide()), set(&["always"]), "it leads");
    let old = with(replica()).view(|view| view.postgres.server_version = 100_000);
    assert_eq!(created(&old.decide()), set(&[]), "there it could not be moved");
    let there = with(leader()).slot("always", |slot| slot.active = false).decide();
    assert_eq!(dropped(&there), set(&[]));
}

#[test]
fn the_kind_of_cluster_counts_where_there_are_only_physical_slots() {
    let slots = || {
        [
            permanent("any", None),
            permanent("here", Some(SlotClusterType::Primary)),
            permanent("there", Some(SlotClusterType::Standby)),
        ]
    };
    let with = |scene: Scene| scene.settings(|settings| settings.slots = slots().into());
    assert_eq!(created(&with(replica()).decide()), set(&["any", "here", "there"]), "as Patroni does");
    let silent = with(replica()).view(|view| {
        view.me.tags = serde_json::from_value(json!({"nostream": true})).unwrap();
    });
    assert_eq!(created(&silent.decide()), set(&["any", "here"]));
    let standby = with(replica()).settings(|settings| {
        settings.standby_cluster = Some(bellwether_types::settings::StandbyCluster::default());
    });
    assert_eq!(created(&standby.decide()), set(&["any", "there"]));
}

#[test]
fn what_is_published_of_slots_depends_on_whether_they_are_kept() {
    let scene = || {
        leader()
            .settings(|settings| settings.slots = [permanent("always", None)].into())
            .slot("always", |slot| slot.active = false)
            .slot("logical", |slot| {
                slot.physical = false;
                slot.confirmed_flush_lsn = Some(Lsn(7));
            })
            .slot("passing", |slot| slot.temporary = true)
    };
    let of = |scene: Scene| crate::published_slots(&scene.view);
    let all = [("a", POSITION), ("b", POSITION), ("c", POSITION), ("always", POSITION), ("logical", Lsn(7))];
    let all = all.map(|(name, lsn)| (name.to_owned(), lsn));
    assert_eq!(of(scene()), Some(all.into()));
    let at_once = |scene: Scene| scene.settings(|settings| settings.member_slots_ttl = Duration::ZERO);
    assert_eq!(of(at_once(scene())), Some([("always".to_owned(), POSITION)].into()));
    assert_eq!(of(at_once(leader())), None);
    assert_eq!(of(scene().view(|view| view.postgres.server_version = 100_000)), None);
}

#[test]
fn h13_an_old_leader_publishes_no_member_slots_so_members_tell_themselves() {
    let ahead = Lsn(POSITION.0 + 64);
    let advanced = |version: &str| {
        let scene = replica()
            .server(|server| server.replayed = Lsn(POSITION.0 + 128))
            .member("c", |member| member.xlog_location = Some(ahead))
            .member("a", |member| member.version = Some(version.to_owned()));
        scene.decide().actions.iter().find_map(|action| match action {
            Action::AdvanceSlots { to } => to.get("c").copied(),
            _ => None,
        })
    };
    assert_eq!(advanced("3.3.0"), Some(ahead));
    assert_eq!(advanced("4.1.0"), None);
}

#[test]
fn members_that_share_a_slot_name_are_complained_about() {
    let scene = leader().cluster(|cluster| {
        let member = crate::testing::member("B", bellwether_types::Role::Replica);
        cluster.members.insert(name("B"), member);
    });
    assert!(scene.decide().says("slot_name_shared"));
    assert!(!leader().decide().says("slot_name_shared"));
}

#[test]
fn e6_without_the_store_cascading_members_tell_the_leader_where_they_are() {
    let advanced = |told: bool| {
        let behind = Lsn(POSITION.0 - 64);
        let scene = tagged(leader(), "c", json!({"replicatefrom": "b"}))
            .member("c", |member| member.xlog_location = Some(behind))
            .cluster(|cluster| cluster.status.as_mut().unwrap().value.slots = None)
            .server(|server| {
                for slot in server.slots.iter_mut().filter(|slot| slot.name == "c") {
                    (slot.active, slot.restart_lsn) = (false, Some(behind));
                }
            })
            .view(|view| {
                view.failsafe.round = Some(crate::view::FailsafeRound {
                    began_at: NOW,
                    asked: [name("b"), name("c")].into(),
                    accepted: [name("b"), name("c")].into(),
                    good_for: Duration::from_secs(5),
                    running: false,
                    positions: told.then(|| (name("c"), POSITION)).into_iter().collect(),
                });
            });
        scene.decide().actions.iter().find_map(|action| match action {
            Action::AdvanceSlots { to } => to.get("c").copied(),
            _ => None,
        })
    };
    assert_eq!(advanced(true), Some(POSITION));
    assert_eq!(advanced(false), None);
}

#[test]
fn a_member_that_joins_a_moment_after_another_gets_its_slot_at_once() {
    let joined = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        leader().server(|server| server.slots.clear()).cluster(move |cluster| {
            for member in &names {
                let mut new = cluster.members[&name("c")].clone();
                new.name = name(member);
                cluster.members.insert(new.name.clone(), new);
            }
        })
    };
    let first = joined(&[]).decide();
    assert_eq!(created(&first).len(), 2, "{first:#?}");
    let again = joined(&[]).after(&first).later(Duration::from_millis(200)).decide();
    assert!(created(&again).is_empty(), "there may be no room for it: {again:#?}");
    let second = joined(&["d"]).after(&again).later(Duration::from_millis(300)).decide();
    assert!(created(&second).contains("d"), "{second:#?}");
    let both = joined(&["d"]).after(&second).later(Duration::from_millis(400)).decide();
    assert!(created(&both).is_empty(), "{both:#?}");
    let repeated = joined(&["d"]).after(&both).later(Duration::from_millis(1_400)).decide();
    assert_eq!(created(&repeated).len(), 3);
}
