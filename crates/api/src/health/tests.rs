use std::time::Duration;

use bellwether_types::{Lsn, PostgresState, status::NodeStatus};
use serde_json::json;

use super::*;

use crate::situations::*;
use bellwether_types::settings::SyncMode;

fn code(status: &NodeStatus, path: &str, query: &str) -> u16 {
    check(&Facts::new(status, NOW), path, &Query::parse(query))
}

fn ready(status: &NodeStatus, query: &str) -> bool {
    readiness(&Facts::new(status, NOW), &Query::parse(query)).is_ok()
}

/// Each situation of a member against each health path: `x` = 200.
#[test]
fn every_situation_has_its_codes() {
    let promoting = NodeStatus { lease_until: leader().lease_until, ..replica() };
    let unlocked = NodeStatus { lease_until: None, ..leader() };
    let mut failsafe = without_store(leader());
    failsafe.failsafe_until = Some(NOW + Duration::from_secs(20));
    let lease_lapsed = NodeStatus { lease_until: Some(NOW), ..leader() };
    let mut archive = replica();
    archive.server.as_mut().unwrap().replication_state = Some(ReplicationState::InArchiveRecovery);
    let hung = NodeStatus { server: None, ..leader() };
    let steps_down = |state| NodeStatus { state, role: Role::Demoted, ..leader() };
    let old = NodeStatus { taken_at: NOW.saturating_sub(Duration::from_secs(31)), ..leader() };
    let old_replica = NodeStatus { taken_at: old.taken_at, ..replica() };
    let old_paused = paused(without_store(old.clone()));
    let mut drained = replica();
    drained.settings.routing.insert(drained.me.clone(), bellwether_types::Duty::Drain);
    let noloadbalance = tagged(replica(), json!({"noloadbalance": true}));

    let paths = [
        "/primary",
        "/leader",
        "/standby-leader",
        "/replica",
        "/read-only",
        "/sync",
        "/async",
        "/quorum",
        "/read-only-sync",
        "/read-only-quorum",
        "/health",
        "/readiness",
    ];
    // primary leader standby-leader replica | read-only sync async quorum | ro-sync ro-quorum health readiness
    for (situation, status, expected) in [
        ("leader", leader(), "xx-- x--- xxxx"),
        ("leader, paused", paused(leader()), "xx-- x--- xxxx"),
        ("leader, PostgreSQL crashed", down(leader(), PostgresState::Crashed), "xx-- x--- xx-x"),
        ("leader, PostgreSQL restarts", down(leader(), PostgresState::Restarting), "xx-- x--- xx-x"),
        ("leader that steps down", steps_down(PostgresState::Stopping), "---- ---- ----"),
        (
            "leader that stepped down, lock not released yet",
            steps_down(PostgresState::Stopped),
            "---- ---- ----",
        ),
        ("leader, PostgreSQL hangs", hung, "xx-- x--- xx-x"),
        ("took the lock, not promoted yet", promoting.clone(), "xx-x x-x- xxxx"),
        ("took the lock, was sync standby", sync_voter(promoting, SyncMode::On), "xx-x xx-- xxxx"),
        ("leader, store lost, failsafe accepted", failsafe, "xx-- x--- --xx"),
        ("primary, paused, store lost, lease valid", paused(without_store(leader())), "xx-- x--- --xx"),
        (
            "primary, paused, store lost, lease gone",
            paused(without_store(unlocked.clone())),
            "xx-- x--- --x-",
        ),
        ("primary without the lock, paused", paused(unlocked.clone()), "---- ---- --x-"),
        ("primary without the lock", unlocked, "---- ---- --x-"),
        ("primary whose lease ends this instant", lease_lapsed, "---- ---- --x-"),
        ("standby leader", standby_leader(), "-xx- x--- xxxx"),
        ("streaming replica", replica(), "---x x-x- --xx"),
        ("sync standby", sync_voter(replica(), SyncMode::On), "---x xx-- x-xx"),
        ("quorum standby", sync_voter(replica(), SyncMode::Quorum), "---x x--x -xxx"),
        ("voter while sync mode is off", sync_voter(replica(), SyncMode::Off), "---x x-x- --xx"),
        ("sync standby, store lost", without_store(sync_voter(replica(), SyncMode::On)), "---x x--- --xx"),
        ("replica, noloadbalance", noloadbalance, "---- ---- --xx"),
        ("replica, drained", drained, "---- ---- --xx"),
        ("replica in archive recovery", archive, "---x x-x- --x-"),
        ("replica starting", down(replica(), PostgresState::Starting), "---- ---- ----"),
        ("replica stopped", down(replica(), PostgresState::Stopped), "---- ---- ----"),
        ("bootstrapping", down(replica(), PostgresState::CreatingReplica), "---- ---- ----"),
        ("cascading replica of a standby cluster", in_standby_cluster(replica()), "---x x-x- --xx"),
        ("leader whose agent hangs", old, "---- ---- ----"),
        ("replica whose agent hangs", old_replica, "---- ---- ----"),
        ("paused primary whose agent hangs", old_paused, "---- ---- ----"),
    ] {
        let answer = |path: &&str| match *path {
            "/readiness" => ready(&status, ""),
            path => code(&status, path, "") == 200,
        };
        let got: String = paths.iter().map(|path| if answer(path) { 'x' } else { '-' }).collect();
        assert_eq!(got, expected.replace(' ', ""), "{situation}: {paths:?}");
    }
}

#[test]
fn paths_have_many_spellings() {
    let (leader, replica, standby) = (leader(), replica(), standby_leader());
    for (path, on_leader, on_replica, on_standby_leader) in [
        ("/", 200, 503, 503),
        ("", 200, 503, 503),
        ("//", 200, 503, 503),
        ("/master", 200, 503, 503),
        ("/read-write", 200, 503, 503),
        ("/xprimaryx/y", 200, 503, 503),
        ("/leader", 200, 503, 200),
        ("/standby_leader", 503, 503, 200),
        ("/standby-leader", 503, 503, 200),
        ("/replica/x", 503, 200, 503),
        ("/readonly-replica", 503, 200, 503),
        ("/healthz", 200, 200, 200),
        ("/asynchronous", 503, 200, 503),
        ("/async/x", 503, 503, 503),
        ("/synchronous", 503, 503, 503),
        ("/read-only-synchronous", 200, 503, 200),
        ("/liveness", 503, 503, 503),
        ("/readiness", 503, 503, 503),
        ("/patroni", 503, 503, 503),
        ("/nonsense", 503, 503, 503),
    ] {
        let got = [&leader, &replica, &standby].map(|status| code(status, path, ""));
        assert_eq!(got, [on_leader, on_replica, on_standby_leader], "{path}");
    }
}

#[test]
fn filters_narrow_replica_checks() {
    // 0x100 = 256 bytes behind the leader.
    let status = tagged(replica(), json!({"zone": "fr", "weight": 1.4, "backup": true}));
    for (path, query, expected) in [
        ("/replica", "lag=256", 200),
        ("/replica", "lag=255", 503),
        ("/replica", "lag=0.25kB", 200),
        ("/replica", "lag=1KB", 200),
        ("/replica", "lag=-1", 503),
        ("/async", "lag=255", 503),
        ("/read-only", "lag=255", 503),
        ("/health", "lag=1", 200),
        ("/replica", "replication_state=streaming", 200),
        ("/replica", "replication_state=in+archive%20recovery", 503),
        ("/replica", "tag_zone=fr&tag_weight=1.4&tag_backup=true", 200),
        ("/replica", "tag_zone=us", 503),
        ("/replica", "tag_zone=fr&tag_zone=us", 200),
        ("/replica", "tag_backup=True", 503),
        ("/replica", "tag_missing=", 200),
        ("/replica", "tag_missing=x", 503),
        ("/health", "tag_zone=us", 503),
        ("/async", "tag_zone=us", 503),
    ] {
        assert_eq!(code(&status, path, query), expected, "{path}?{query}");
    }
    assert_eq!(code(&leader(), "/primary", "tag_zone=us&lag=0"), 200, "leader checks know no filter");

    let mut blind = without_store(replica());
    blind.server.as_mut().unwrap().latest_end_lsn = None;
    assert_eq!(code(&blind, "/replica", "lag=0"), 200, "an unknown leader position is no lag");
}

#[test]
fn readiness_goes_by_lag() {
    let mut status = replica();
    status.settings.maximum_lag_on_failover = 255;
    assert!(!ready(&status, ""), "the default limit is maximum_lag_on_failover");
    assert!(ready(&status, "lag=256"));
    assert!(ready(&status, "mode=write"), "everything is received");
    assert!(!ready(&status, "mode=apply"));
    assert!(!ready(&status, "lag=nonsense"), "an unparsable limit is the default one");
    let reason = readiness(&Facts::new(&status, NOW), &Query::default()).unwrap_err();
    assert_eq!(reason, "Replication apply lag 256 exceeds maximum allowable 255");

    let mut blind = without_store(replica());
    let server = blind.server.as_mut().unwrap();
    server.latest_end_lsn = None;
    assert!(!ready(&blind, ""));
    blind.failsafe_until = Some(NOW + Duration::from_secs(1));
    assert!(ready(&blind, ""), "a leader in failsafe mode vouches");

    let mut behind = replica();
    behind.server.as_mut().unwrap().latest_end_lsn = Some(Lsn(TIP + 10_000_000));
    assert!(!ready(&behind, ""), "the upstream may have announced more than the store knows");
}

#[test]
fn liveness_is_the_loop() {
    let live = |status: &NodeStatus| liveness(&Facts::new(status, NOW));
    let late = NodeStatus { next_tick_by: NOW, ..replica() };
    assert_eq!(live(&replica()), 200);
    assert_eq!(live(&late), 503);
    assert_eq!(live(&paused(late)), 200);
}
