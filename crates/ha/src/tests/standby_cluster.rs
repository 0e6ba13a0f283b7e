//! A cluster that follows another one (2.17): its leader, its other members, and the way in and out.

use std::time::Duration;

use bellwether_types::{
    Lsn, Role, TimelineId, TimelineSwitch,
    cluster::{Initialize, Keyed},
    settings::StandbyCluster,
};
use serde_json::{Value, json};

use super::{acquires, demotion, promotes, releases};
use crate::{
    Action, Decision,
    action::{CallbackEvent, DemoteMode, StartRole},
    memory::{BootstrapStage, Demoting, RewindState},
    testing::{self, NOW, POSITION, Scene, leader, newcomer, orphan, replica, silence, standby_at},
    view::{ArchiveRecovery, ControlState, DataDirectory, Guardian, JobKind, JobOutcome, JobPhase, Upstream},
};

fn section() -> StandbyCluster {
    StandbyCluster {
        host: Some("far".to_owned()),
        port: Some("5433".to_owned()),
        primary_slot_name: Some("From-B".to_owned()),
        restore_command: Some("fetch %f %p".to_owned()),
        archive_cleanup_command: Some("tidy %r".to_owned()),
        recovery_min_apply_delay: Some("1h".to_owned()),
        create_replica_methods: None,
    }
}

/// The scene in a standby cluster, with `a` as its leader if `a` leads.
fn follows_another(scene: Scene) -> Scene {
    let scene = scene.settings(|settings| settings.standby_cluster = Some(section()));
    scene.cluster(|cluster| {
        for member in cluster.members.values_mut().filter(|member| member.role == Some(Role::Primary)) {
            member.role = Some(Role::StandbyLeader);
        }
    })
}

fn remote() -> Upstream {
    Upstream {
        member: testing::name("remote_member"),
        conn_url: "postgres://far:5433".to_owned(),
        slot: Some("from_b".to_owned()),
        is_remote: true,
        archive: ArchiveRecovery {
            restore_command: Some("fetch %f %p".to_owned()),
            archive_cleanup_command: Some("tidy %r".to_owned()),
            min_apply_delay: Some("1h".to_owned()),
        },
    }
}

/// `b`, the leader of a standby cluster, in every respect.
fn standby_leader() -> Scene {
    follows_another(replica().holding()).member("b", |member| member.role = Some(Role::StandbyLeader)).view(
        |view| {
            view.postgres.role = Role::StandbyLeader;
            view.postgres.upstream = Some(remote());
            view.fencing.guardian = Guardian::Ready;
            view.memory.announced_role = Some(Role::StandbyLeader);
            view.memory.followed = None;
            view.memory.claimed = None;
        },
    )
}

fn followed(decision: &Decision) -> Option<Option<Upstream>> {
    decision.actions.iter().find_map(|action| match action {
        Action::Follow { upstream } => Some(upstream.clone()),
        _ => None,
    })
}

/// The role that `on_stop` is called with.
fn told_stop(decision: &Decision) -> Option<Role> {
    decision.actions.iter().find_map(|action| match action {
        Action::RunCallback { event: CallbackEvent::OnStop, role } => Some(*role),
        _ => None,
    })
}

fn tagged(scene: Scene, tags: Value) -> Scene {
    scene.view(|view| view.me.tags = serde_json::from_value(tags).unwrap())
}

#[test]
fn the_holder_of_the_lock_follows_the_remote_member_and_needs_no_fences() {
    let decision = follows_another(replica().holding()).decide();
    assert_eq!(decision.code(), "standby_leader_having_lock");
    assert!(!promotes(&decision), "{decision:#?}");
    assert_eq!(
        decision.deeds(),
        [
            &Action::DisarmGuardian,
            &Action::SetRole { role: Role::StandbyLeader },
            &Action::Follow { upstream: Some(remote()) },
        ]
    );
    let told = Action::RunCallback { event: CallbackEvent::OnRoleChange, role: Role::StandbyLeader };
    assert!(decision.actions.contains(&told), "{decision:#?}");
    let settled = standby_leader().decide();
    assert_eq!(settled.code(), "standby_leader_with_the_lock");
    assert_eq!(settled.deeds(), Vec::<&Action>::new());
}

#[test]
fn in_a_pause_the_leader_keeps_the_lock_and_its_upstream() {
    let decision = follows_another(replica().holding()).settings(|settings| settings.pause = true).decide();
    assert!(!releases(&decision) && followed(&decision).is_none(), "{decision:#?}");
    assert!(decision.actions.contains(&Action::SetRole { role: Role::StandbyLeader }), "{decision:#?}");
}

#[test]
fn the_other_members_follow_the_standby_leader_with_its_archive_but_not_its_delay() {
    let decision = follows_another(replica()).decide();
    let upstream = followed(&decision).flatten().expect("the archive is new");
    assert_eq!((upstream.member.as_str(), upstream.is_remote), ("a", false));
    assert_eq!(upstream.archive, ArchiveRecovery { min_apply_delay: None, ..remote().archive });
    let settled = follows_another(replica()).view(|view| view.postgres.upstream = Some(upstream)).decide();
    assert_eq!(settled.code(), "secondary_of_standby_leader");
    assert_eq!(settled.deeds(), Vec::<&Action>::new());
    let cascading = tagged(follows_another(replica()), json!({"replicatefrom": "c"})).decide();
    assert_eq!(followed(&cascading).flatten().expect("another upstream").member.as_str(), "c");
}

#[test]
fn without_a_leader_everybody_follows_the_remote_member() {
    let unlocked =
        || follows_another(orphan()).answers(&[("a", silence()), ("c", standby_at(Lsn(POSITION.0 + 1)))]);
    let decision = unlocked().decide();
    assert_eq!(decision.code(), "not_healthiest");
    assert_eq!(followed(&decision), Some(Some(remote())));
    let paused = unlocked().settings(|settings| settings.pause = true).decide();
    assert_eq!(followed(&paused), None);
    let archive_only = tagged(unlocked(), json!({"nostream": true})).decide();
    assert_eq!(followed(&archive_only), Some(None));
}

#[test]
fn the_race_looks_at_wal_and_not_at_timelines_and_takes_no_number() {
    let scene = follows_another(orphan())
        .history(3)
        .settings(|settings| settings.check_timeline = true)
        .answers(&[("a", silence()), ("c", standby_at(POSITION))]);
    let decision = scene.decide();
    let lock = Action::AcquireLease { sync: None, timeline: None };
    assert!(decision.actions.contains(&lock), "{decision:#?}");
    let won = follows_another(replica().holding()).after(&decision).decide();
    assert_eq!(won.code(), "standby_leader_by_acquiring_lock");
    let lagging = follows_another(orphan())
        .settings(|settings| settings.maximum_lag_on_failover = 10)
        .server(|server| server.position = Lsn(POSITION.0 - 100))
        .answers(&[("a", silence()), ("c", silence())]);
    assert!(!acquires(&lagging.decide()));
}

#[test]
fn no_primary_may_run() {
    let decision = follows_another(leader()).decide();
    assert_eq!(decision.code(), "primary_in_standby_cluster");
    assert_eq!(demotion(&decision), Some(DemoteMode::DemoteCluster));
    assert_eq!(told_stop(&decision), Some(Role::Demoted));
    let paused = follows_another(leader()).settings(|settings| settings.pause = true).decide();
    assert_eq!(demotion(&paused), None, "{paused:#?}");
    // Nobody else leads: it takes the lock first, so that the others have a standby leader to follow.
    let unlocked = follows_another(leader().unlocked().lease(crate::view::LeaseView::NotHeld))
        .answers(&[("b", standby_at(POSITION)), ("c", standby_at(POSITION))]);
    assert!(acquires(&unlocked.decide()));
}

#[test]
fn a_demoted_cluster_keeps_its_leader_unless_somebody_else_has_everything() {
    let stopping = |archives: bool, at: u64| {
        follows_another(leader())
            .job_in(JobKind::Demote, JobPhase::ShutdownCheckpoint { checkpoint: POSITION, end: POSITION })
            .memory(|memory| {
                memory.demoting = Some(Demoting { mode: DemoteMode::DemoteCluster, since: NOW });
            })
            .view(|view| view.postgres.archives_wal = archives)
            .answers(&[("b", standby_at(Lsn(at))), ("c", silence())])
            .decide()
    };
    assert!(releases(&stopping(false, POSITION.0)));
    assert!(!releases(&stopping(false, POSITION.0 - 1)), "nobody has the shutdown checkpoint");
    assert!(!releases(&stopping(true, POSITION.0)), "its last WAL is not archived yet");
    let stopped =
        follows_another(leader().stopped()).ended(JobKind::Demote, JobOutcome::Succeeded).memory(|memory| {
            memory.demoting = Some(Demoting { mode: DemoteMode::DemoteCluster, since: NOW });
        });
    let decision = stopped.decide();
    assert!(!releases(&decision), "{decision:#?}");
    let start = Action::Start { role: StartRole::StandbyLeader { upstream: Some(remote()) } };
    assert!(decision.actions.contains(&start), "{decision:#?}");
    assert_eq!(decision.code(), "starting_standby_leader");
}

#[test]
fn a_server_that_is_down_comes_up_as_a_standby_whatever_it_was() {
    let crashed = |scene: Scene| {
        scene.view(|view| {
            let control = view.postgres.control.as_mut().unwrap();
            control.has_backup_label = false;
            view.memory.crash_recovery_tried = true;
        })
    };
    for (case, scene, expected) in [
        ("the leader", standby_leader().stopped(), true),
        ("a crashed primary with the lock", crashed(follows_another(leader()).crashed()), true),
        ("a member without a leader", follows_another(orphan()).stopped(), false),
    ] {
        let decision = scene.memory(|memory| memory.rewind = RewindState::NotNeed).decide();
        let upstream = Some(remote());
        let role = match expected {
            true => StartRole::StandbyLeader { upstream },
            false => StartRole::Standby { upstream },
        };
        assert!(decision.actions.contains(&Action::Start { role }), "{case}: {decision:#?}");
    }
}

#[test]
fn a_promoted_cluster_is_led_by_its_standby_leader() {
    let promoted = || standby_leader().settings(|settings| settings.standby_cluster = None);
    let decision = promoted().decide();
    assert_eq!(decision.code(), "arming_guardian", "fences first: {decision:#?}");
    let fenced = promoted().view(|view| {
        view.fencing.guardian = Guardian::Armed { until: NOW + Duration::from_secs(4) };
        view.memory.claimed = Some(crate::memory::Claimed { timeline: TimelineId(2), used: false });
    });
    let decision = fenced.decide();
    assert_eq!(decision.code(), "promoted_having_lock");
    assert!(promotes(&decision));
}

#[test]
fn members_are_rewound_from_the_remote_member() {
    let diverged = || {
        standby_leader()
            .settings(|settings| settings.use_pg_rewind = true)
            .memory(|memory| memory.rewind = RewindState::Check { since: NOW })
    };
    let asks = diverged().decide();
    assert!(asks.actions.contains(&Action::CheckDivergence { leader: remote() }), "{asks:#?}");
    let found = |leader_is_primary: bool| {
        diverged()
            .divergence(|found| {
                found.leader = testing::name("remote_member");
                found.leader_is_primary = leader_is_primary;
                found.leader_timeline = TimelineId(2);
                let end = Lsn(POSITION.0 - 100);
                let reason = "no recovery target specified".to_owned();
                found.leader_history = vec![TimelineSwitch { timeline: TimelineId(1), end, reason }];
            })
            .decide()
    };
    assert!(found(true).actions.contains(&Action::Rewind { source: remote() }), "{:#?}", found(true));
    assert!(!found(false).actions.contains(&Action::Rewind { source: remote() }));
    // So are the others: their leader does not know better.
    let other = follows_another(replica())
        .settings(|settings| settings.use_pg_rewind = true)
        .memory(|memory| memory.rewind = RewindState::Check { since: NOW })
        .decide();
    assert!(other.actions.contains(&Action::CheckDivergence { leader: remote() }), "{other:#?}");
}

#[test]
fn data_are_removed_only_where_another_member_leads() {
    let failed = |scene: Scene| {
        let decision = scene
            .settings(|settings| {
                settings.use_pg_rewind = true;
                settings.remove_data_directory_on_rewind_failure = true;
                settings.remove_data_directory_on_diverged_timelines = true;
            })
            .stopped()
            .memory(|memory| memory.rewind = RewindState::Failed)
            .decide();
        decision.actions.iter().any(|action| matches!(action, Action::WipeDataDirectory { .. }))
    };
    assert!(!failed(standby_leader()), "the remote member may be a wrong one");
    assert!(failed(follows_another(replica())));
}

#[test]
fn the_first_member_copies_the_remote_member_and_leads_without_fences() {
    let decision = follows_another(newcomer()).decide();
    assert_eq!(decision.code(), "bootstrap_standby_leader");
    assert_eq!(decision.deeds(), [&Action::ClaimInitialize, &Action::BootstrapStandby { from: remote() }]);
    let mut copied = follows_another(newcomer())
        .cluster(|cluster| {
            cluster.initialize =
                Some(Keyed { value: Initialize::InProgress, revision: bellwether_types::Revision(5) });
        })
        .view(|view| view.store.owns_claim = true)
        .ended(JobKind::Bootstrap, JobOutcome::Succeeded);
    copied.view.postgres = standby_leader().view.postgres;
    copied.view.postgres.data = DataDirectory::Interrupted { by: JobKind::Bootstrap };
    copied.view.postgres.founding = Some("a-1".to_owned());
    let copied = copied.memory(|memory| memory.bootstrapping = Some(BootstrapStage::Creating));
    let decision = copied.decide();
    assert!(
        matches!(decision.deeds()[..], [Action::WriteInitialize { .. }]),
        "no roles are made: {decision:#?}"
    );
    let known = |scene: Scene| {
        scene.cluster(|cluster| {
            let whole = leader().cluster;
            let revision = whole.initialize.as_ref().expect("an identity").revision;
            cluster.founder = Some(Keyed { value: "a-1".to_owned(), revision });
            (cluster.initialize, cluster.config) = (whole.initialize, whole.config);
        })
    };
    // Every copy of the remote cluster has its identifier.
    let overtaken = known(copied.clone())
        .cluster(|cluster| cluster.founder.as_mut().unwrap().value = "c-1".to_owned())
        .memory(|memory| memory.bootstrapping = Some(BootstrapStage::Publishing))
        .decide();
    assert_eq!(overtaken.code(), "bootstrap_overtaken");
    assert!(!acquires(&overtaken), "{overtaken:#?}");
    let unlocked =
        known(copied.clone()).memory(|memory| memory.bootstrapping = Some(BootstrapStage::Publishing));
    assert!(acquires(&unlocked.decide()), "{:#?}", unlocked.decide());
    let led = unlocked.lease(testing::held(NOW)).decide();
    assert_eq!(led.code(), "initialized");
    assert!(led.actions.contains(&Action::FinishBootstrap));
    let told = Action::RunCallback { event: CallbackEvent::OnStart, role: Role::StandbyLeader };
    assert!(led.actions.contains(&told), "{led:#?}");
    let waits = follows_another(newcomer()).view(|view| view.me.may_bootstrap = false).decide();
    assert_eq!(waits.code(), "waiting_for_standby_leader");
}

#[test]
fn a_standby_leader_steps_down_when_it_is_asked_to() {
    let decision =
        standby_leader().request(Some("b"), Some("c")).answers(&[("c", standby_at(POSITION))]).decide();
    assert_eq!(decision.code(), "switchover_demoting");
    assert_eq!(demotion(&decision), Some(DemoteMode::Graceful));
    assert_eq!(told_stop(&decision), Some(Role::StandbyLeader), "it was no primary");
    let stopped = standby_leader()
        .stopped()
        .ended(JobKind::Demote, JobOutcome::Succeeded)
        .view(|view| view.postgres.control.as_mut().unwrap().state = ControlState::ShutDownInRecovery)
        .memory(|memory| memory.demoting = Some(Demoting { mode: DemoteMode::Graceful, since: NOW }));
    assert!(stopped.decide().actions.contains(&Action::ReleaseLease { optime: None }));
}

#[test]
fn the_other_cluster_may_have_several_hosts_or_only_an_archive() {
    for (host, port, url) in [
        (Some("a,b"), Some("5433"), "postgres://a:5433,b:5433"),
        (Some("a, b"), Some("1,2"), "postgres://a:1,b:2"),
        (Some("::1"), None, "postgres://[::1]:5432"),
        (None, Some("5433"), "postgres://:5433"),
        (None, None, ""),
    ] {
        let scene = follows_another(replica().holding()).settings(|settings| {
            let section = settings.standby_cluster.as_mut().unwrap();
            (section.host, section.port) = (host.map(str::to_owned), port.map(str::to_owned));
        });
        let upstream = followed(&scene.decide()).flatten().expect("the remote member");
        assert_eq!(upstream.conn_url, url);
        let slotless = scene.settings(|settings| {
            settings.standby_cluster.as_mut().unwrap().primary_slot_name = None;
        });
        assert_eq!(followed(&slotless.decide()).flatten().expect("the same").slot, None);
    }
}
