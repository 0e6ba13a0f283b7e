//! The decision tables of 2.5: one line per situation.

use std::time::Duration;

use bellwether_types::{PostgresState, Role, TimelineId, TimelineSwitch, settings::SyncMode};

use crate::{
    Action, Reason,
    action::DemoteMode,
    testing::{self, POSITION, Scene, leader, newcomer, orphan, replica, silence, standby_at},
    view::{JobKind, LeaseView, LocalHistory},
};

fn kind(action: &Action) -> String {
    let text = format!("{action:?}");
    text.split([' ', '{', '(']).next().unwrap_or_default().to_owned()
}

/// Each situation with the code of the deciding rule and the kinds of actions beyond the routine ones.
fn check(table: Vec<(&str, Scene, &str, &[&str])>) {
    for (case, scene, code, actions) in table {
        let decision = scene.decide();
        let kinds: Vec<String> = decision.deeds().into_iter().map(kind).collect();
        assert_eq!(
            (decision.code(), kinds),
            (code, actions.iter().map(|kind| (*kind).to_owned()).collect()),
            "{case}: {decision:#?}"
        );
    }
}

#[test]
fn a_postgresql_does_not_run() {
    let fail_fast = |scene: Scene| scene.settings(|settings| settings.primary_start_timeout = Duration::ZERO);
    check(vec![
        ("crashed with the lock", leader().crashed(), "starting_primary", &["Start"]),
        (
            "crashed with the lock, fail over at once, peers unknown",
            fail_fast(leader().crashed()),
            "polling_peers",
            &["PollPeers"],
        ),
        (
            "crashed with the lock, fail over at once, somebody can",
            fail_fast(leader().crashed()).answers(&[("b", standby_at(POSITION)), ("c", silence())]),
            "failing_over_after_crash",
            &["Demote"],
        ),
        (
            "crashed with the lock, fail over at once, nobody can",
            fail_fast(leader().crashed()).answers(&[("b", silence()), ("c", silence())]),
            "starting_primary",
            &["Start"],
        ),
        ("stopped standby with the lock", replica().holding().stopped(), "starting_readonly", &["Start"]),
        ("stopped standby", replica().stopped(), "starting_secondary", &["Start"]),
        ("stopped standby without leader", orphan().stopped(), "starting_secondary", &["Start"]),
        (
            "crashed primary without lock, cluster unlocked",
            leader().crashed().unlocked().lease(LeaseView::NotHeld),
            "crash_recovery",
            &["DisarmGuardian", "CrashRecovery"],
        ),
        (
            "crashed primary, somebody else leads, nothing can be rewound",
            leader().crashed().leader_is("b").lease(LeaseView::NotHeld),
            "starting_secondary",
            &["DisarmGuardian", "SetRole", "Start"],
        ),
    ]);
}

#[test]
fn b_unlocked_cluster() {
    let peers = [("a", silence()), ("c", standby_at(POSITION))];
    let nofailover = |scene: Scene| {
        scene.view(|view| {
            view.me.tags = serde_json::from_value(serde_json::json!({"nofailover": true})).unwrap()
        })
    };
    check(vec![
        ("ask first", orphan(), "polling_peers", &["PollPeers"]),
        ("nobody is better", orphan().answers(&peers), "acquiring_lock", &["AcquireLease"]),
        (
            "unreachable members never block",
            orphan().answers(&[("a", silence()), ("c", silence())]),
            "acquiring_lock",
            &["AcquireLease"],
        ),
        (
            "somebody is ahead",
            orphan().answers(&[("a", silence()), ("c", standby_at(bellwether_types::Lsn(POSITION.0 + 1)))]),
            "not_healthiest",
            &[],
        ),
        (
            "too far behind the last published position",
            orphan().server(|server| server.position = bellwether_types::Lsn(1)).answers(&peers),
            "not_healthiest",
            &[],
        ),
        ("may not lead", nofailover(orphan()), "not_allowed_to_promote", &[]),
        (
            "a primary that nobody contradicts keeps its place",
            leader()
                .unlocked()
                .lease(LeaseView::NotHeld)
                .answers(&[("b", standby_at(POSITION)), ("c", silence())]),
            "acquiring_lock",
            &["AcquireLease"],
        ),
        (
            "a candidate was requested and is fit",
            orphan().request(Some("a"), Some("c")).answers(&peers),
            "not_healthiest",
            &[],
        ),
        (
            "a candidate was requested and is dead",
            orphan().request(Some("a"), Some("c")).answers(&[("a", silence()), ("c", silence())]),
            "acquiring_lock",
            &["AcquireLease"],
        ),
        (
            "who was asked to step down leaves it to others",
            Scene::of("a")
                .unlocked()
                .lease(LeaseView::NotHeld)
                .request(Some("a"), None)
                .view(|view| {
                    view.postgres = Scene::of("b").view.postgres;
                    view.fencing.guardian = crate::view::Guardian::Ready;
                })
                .memory(|memory| memory.announced_role = Some(Role::Replica))
                .server(|server| {
                    server.slots.iter_mut().for_each(|slot| {
                        slot.name = match slot.name.as_str() {
                            "a" => "b".to_owned(),
                            other => other.to_owned(),
                        }
                    })
                })
                .answers(&[("b", standby_at(POSITION)), ("c", silence())]),
            "not_healthiest",
            &[],
        ),
        (
            "too few votes in quorum mode",
            orphan()
                .sync(SyncMode::Quorum, "a", &["b", "c"], 1)
                .answers(&[("a", silence()), ("c", silence())]),
            "not_healthiest",
            &[],
        ),
        (
            "enough votes in quorum mode",
            orphan().sync(SyncMode::Quorum, "a", &["b", "c"], 1).answers(&peers),
            "acquiring_lock",
            &["AcquireLease"],
        ),
    ]);
}

#[test]
fn c_i_own_the_lock() {
    check(vec![
        ("healthy", leader(), "leader_with_the_lock", &[]),
        ("a replica with the lock", replica().holding(), "promoted_having_lock", &["Promote"]),
        ("it does not answer", leader().view(|view| view.postgres.server = None), "postgres_silent", &[]),
        (
            "sync mode was switched off",
            leader().sync(SyncMode::Off, "a", &["b"], 0),
            "leader_with_the_lock",
            &["DeleteSync"],
        ),
        (
            "sync mode was switched off and the key is gone",
            leader().server(|server| server.synchronous_standby_names = "b".to_owned()),
            "leader_with_the_lock",
            &["SetSyncNames"],
        ),
    ]);
}

#[test]
fn d_somebody_else_owns_the_lock() {
    check(vec![
        ("healthy", replica(), "secondary_following", &[]),
        ("another leader", replica().leader_is("c"), "following_new_upstream", &["Follow"]),
        (
            "a running primary",
            leader().leader_is("b").lease(LeaseView::NotHeld),
            "lost_leader_lock",
            &["Demote"],
        ),
        ("just lost the race", replica().memory(|memory| memory.racing = true), "lost_race", &[]),
    ]);
}

#[test]
fn e_the_store_is_silent() {
    let silent = |scene: Scene| scene.silent_for(Duration::from_secs(3));
    check(vec![
        ("a replica", silent(replica()), "store_unreachable", &[]),
        ("a leader whose lease holds", silent(leader()), "store_unreachable", &[]),
        (
            "a primary without lease",
            silent(leader().lease(LeaseView::NotHeld)),
            "lease_running_out",
            &["Demote"],
        ),
        ("nothing runs", silent(replica().stopped()), "store_unreachable", &[]),
        (
            "in pause",
            silent(leader().lease(LeaseView::NotHeld)).settings(|settings| settings.pause = true),
            "store_unreachable",
            &[],
        ),
        (
            "a founder without a store",
            newcomer().silent_for(Duration::from_secs(3)),
            "store_unreachable",
            &[],
        ),
    ]);
}

#[test]
fn f_a_long_action_runs() {
    check(vec![
        ("with the lock", leader().job(JobKind::Restart), "updated_lock_during", &[]),
        ("without", replica().job(JobKind::Clone), "in_progress", &[]),
        ("a checkpoint is no hindrance", leader().job(JobKind::Checkpoint), "leader_with_the_lock", &[]),
        (
            "the lock is lost during a restart",
            leader().job(JobKind::Restart).rejected(),
            "lost_lock_during",
            &["Demote"],
        ),
    ]);
}

#[test]
fn g_postgresql_is_starting() {
    let starting = |scene: Scene| {
        scene.view(|view| {
            view.postgres.process = crate::view::Process::Starting { since: view.now };
            view.postgres.state = PostgresState::Starting;
            view.postgres.server = None;
        })
    };
    check(vec![
        ("a primary with the lock", starting(leader()), "still_starting", &[]),
        ("a primary whose lock was refused", starting(leader()).rejected(), "renewal_rejected", &["Demote"]),
        ("a standby", starting(replica()), "secondary_following", &[]),
    ]);
}

#[test]
fn modes_of_demotion_touch_the_key_or_not() {
    for (mode, released) in [
        (DemoteMode::Immediate, true),
        (DemoteMode::Graceful, true),
        (DemoteMode::ImmediateNoLock, false),
        (DemoteMode::Offline { stop_by: testing::NOW }, false),
    ] {
        let scene = leader().stopped().memory(|memory| {
            memory.demoting = Some(crate::memory::Demoting { mode, since: testing::NOW });
        });
        let scene = scene.answers(&[("b", standby_at(POSITION)), ("c", silence())]);
        assert_eq!(super::releases(&scene.decide()), released, "{mode:?}");
    }
}

#[test]
fn a_finished_timeline_is_added_to_the_history() {
    let on_timeline_two = || {
        leader().history(1).server(|server| server.timeline = Some(TimelineId(2))).view(|view| {
            let switch = |timeline| TimelineSwitch {
                timeline: TimelineId(timeline),
                end: POSITION,
                reason: "no recovery target specified".to_owned(),
            };
            view.postgres.control.as_mut().unwrap().timeline = TimelineId(2);
            view.postgres.local_history = Some(LocalHistory {
                timeline: TimelineId(2),
                switches: vec![switch(1)],
                written_at: "2026-11-22T01:00:00+00:00".to_owned(),
            });
        })
    };
    let decision = on_timeline_two().decide();
    let written = decision.actions.iter().find_map(|action| match action {
        Action::WriteHistory { history } => history.0.first(),
        _ => None,
    });
    let entry = written.unwrap_or_else(|| panic!("{decision:#?}"));
    assert_eq!(entry.new_leader, Some(testing::name("a")));
    assert_eq!(entry.promoted_at.as_deref(), Some("2026-11-22T01:00:00+00:00"));
    let known = on_timeline_two().history(2).decide();
    assert!(!known.actions.iter().any(|action| matches!(action, Action::WriteHistory { .. })), "{known:#?}");
}

#[test]
fn codes_of_reasons_are_snake_case_and_unique() {
    let mut codes = Reason::CODES.to_vec();
    assert!(codes.iter().all(|code| code.chars().all(|c| c.is_ascii_lowercase() || c == '_')));
    codes.sort_unstable();
    let all = codes.len();
    codes.dedup();
    assert_eq!(codes.len(), all);
}

#[test]
fn sentences_are_those_that_people_grep_for() {
    let sentence = |scene: Scene| scene.decide().reasons[0].sentence();
    assert_eq!(sentence(leader()), "no action. I am (a), the leader with the lock");
    assert_eq!(sentence(replica()), "no action. I am (b), a secondary, and following a leader (a)");
    assert_eq!(sentence(leader().rejected()), "demoted self because failed to update leader lock in DCS");
    assert_eq!(sentence(newcomer()), "trying to bootstrap a new cluster");
    assert_eq!(sentence(replica().empty()), "trying to bootstrap from leader 'a'");
}
