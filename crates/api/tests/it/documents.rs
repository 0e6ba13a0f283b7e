//! The bytes of what GET answers.

use std::time::Duration;

use bellwether_types::{
    Alarm, PostgresState, WallTime,
    cluster::{FailoverRequest, Keyed, Schedule},
    settings::SyncMode,
};
use serde_json::json;

use crate::{
    harness::{Agent, config, serve},
    situations::*,
};

const TRAILER: &str = r#""patroni": {"version": "4.1.5", "scope": "demo", "name": "#;

#[tokio::test]
async fn the_status_document_has_known_fields_in_a_known_order() {
    let server = serve(Agent::new(leader()), config()).await;
    let answer = server.get("/patroni").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(answer.header("server").is_some());
    assert_eq!(
        answer.body,
        [
            r#"{"state": "running", "postmaster_start_time": "2026-11-21 09:30:00.250000+00:00", "role": "primary", "#,
            r#""server_version": 150018, "xlog": {"location": 83886336}, "timeline": 3, "#,
            r#""replication": [{"usename": "replicator", "application_name": "b", "client_addr": "127.0.0.1", "#,
            r#""state": "streaming", "sync_state": "async", "sync_priority": 0}], "dcs_last_seen": 1795309200, "#,
            r#""database_system_identifier": "7421833905512378144", "#,
            TRAILER,
            r#""a"}, "observed_ms_ago": 0, "observed_since_asked": true}"#,
        ]
        .concat()
    );
}

#[tokio::test]
async fn a_replica_shows_everything_that_is_special_about_it() {
    let mut status = paused(sync_voter(replica(), SyncMode::On));
    status.tags = serde_json::from_value(json!({"clonefrom": true, "nosync": false, "zone": "ü"})).unwrap();
    status.store.as_mut().unwrap().leader = None;
    status.failsafe_until = Some(NOW + Duration::from_secs(1));
    status.pending_restart = true;
    status.pending_restart_reason = json!({"max_connections": {"old_value": "100", "new_value": "200"}});
    status.scheduled_restart = Some(json!({
        "schedule": "2027-01-01T10:00:00+00:00", "postmaster_start_time": "x", "role": "replica",
    }));
    status.watchdog_failed = true;
    status.server.as_mut().unwrap().replays_own_wal = true;
    let server = serve(Agent::new(status), config()).await;
    assert_eq!(
        server.get("/patroni").await.body,
        [
            r#"{"state": "running", "postmaster_start_time": "2026-11-21 09:30:00.250000+00:00", "role": "replica", "#,
            r#""server_version": 150018, "xlog": {"received_location": 83886336, "replayed_location": 83886080, "#,
            r#""replayed_timestamp": "2026-11-22 01:00:00.000001+00:00", "paused": false}, "sync_standby": true, "#,
            r#""timeline": 3, "replication_state": "streaming", "pause": true, "cluster_unlocked": true, "#,
            r#""failsafe_mode_is_active": true, "dcs_last_seen": 1795309200, "#,
            r#""tags": {"clonefrom": true, "zone": "\u00fc"}, "database_system_identifier": "7421833905512378144", "#,
            r#""pending_restart": true, "#,
            r#""pending_restart_reason": {"max_connections": {"old_value": "100", "new_value": "200"}}, "#,
            TRAILER,
            r#""b"}, "scheduled_restart": {"schedule": "2027-01-01T10:00:00+00:00", "role": "replica"}, "#,
            r#""watchdog_failed": true, "#,
            r#""observed_ms_ago": 0, "observed_since_asked": true, "replays_own_wal": true}"#,
        ]
        .concat()
    );
}

#[tokio::test]
async fn who_is_at_rest_says_so_while_that_is_known() {
    for (seconds_ago, expected) in [(1, true), (14, true), (15, false)] {
        let mut status = replica();
        (status.server, status.at_rest) = (None, true);
        status.taken_at = NOW.saturating_sub(Duration::from_secs(seconds_ago));
        let server = serve(Agent::new(status), config()).await;
        let body = server.get("/patroni").await.body;
        assert_eq!(body.contains(r#""at_rest": true"#), expected, "{seconds_ago} s ago: {body}");
    }
    let body = serve(Agent::new(replica()), config()).await.get("/patroni").await.body;
    assert!(!body.contains("at_rest"), "{body}");
}

#[tokio::test]
async fn who_was_given_the_lock_and_is_no_primary_yet_says_so() {
    let mut elected = replica();
    elected.lease_until = Some(NOW + Duration::from_secs(20));
    let mut stopped = leader();
    stopped.server = None;
    for (case, status, expected) in [
        ("elected", elected, true),
        ("stopped", stopped, true),
        ("a primary", leader(), false),
        ("a replica", replica(), false),
    ] {
        let body = serve(Agent::new(status), config()).await.get("/patroni").await.body;
        assert_eq!(body.contains(r#""holds_lock": true"#), expected, "{case}: {body}");
    }
}

#[tokio::test]
async fn a_log_that_is_behind_is_told() {
    for (backlog, expected) in [
        ((2, 5), ""),
        ((3, 0), r#", "logger_queue_size": 3"#),
        ((3, 5), r#", "logger_queue_size": 3, "logger_records_lost": 5"#),
    ] {
        let server = serve(Agent { log_backlog: backlog, ..Agent::new(leader()) }, config()).await;
        let end = format!(r#""name": "a"}}{expected}}}"#);
        let answer = server.get("/health").await;
        assert!(answer.body.ends_with(&end), "{backlog:?}: {}", answer.body);
    }
}

#[tokio::test]
async fn without_postgresql_only_state_and_role_are_told() {
    let mut hangs = without_store(leader());
    hangs.server = None;
    hangs.store_last_seen = Some(WallTime::from_unix_millis(1_795_309_100_000));
    // No PostgreSQL is no reason to tell nothing of the lock.
    let trailer = format!(
        r#""database_system_identifier": "7421833905512378144", {TRAILER}"a"}}, "holds_lock": true}}"#
    );
    for (status, expected) in [
        (
            down(leader(), PostgresState::CreatingReplica),
            format!(
                r#"{{"state": "creating replica", "role": "primary", "dcs_last_seen": 1795309200, {trailer}"#
            ),
        ),
        (
            hangs,
            format!(
                r#"{{"state": "unknown", "role": "primary", "cluster_unlocked": true, "dcs_last_seen": 1795309100, {trailer}"#
            ),
        ),
    ] {
        let server = serve(Agent::new(status), config()).await;
        assert_eq!(server.get("/patroni/x").await.body, expected);
    }
}

#[tokio::test]
async fn health_checks_answer_with_the_status_document() {
    let server = serve(Agent::new(replica()), config()).await;
    let document = server.get("/patroni").await.body;
    // How old the position is matters to those in a race alone.
    let document = document.replace(r#", "observed_ms_ago": 0, "observed_since_asked": true"#, "");
    for (path, status) in
        [("/", 503), ("/replica?lag=1MB", 200), ("/replica?lag=1", 503), ("/no/such/path", 503)]
    {
        let answer = server.get(path).await;
        assert_eq!((answer.status, answer.body.as_str()), (status, document.as_str()), "{path}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
    for method in ["HEAD", "OPTIONS"] {
        for (path, status) in
            [("/replica", 200), ("/primary", 503), ("/patroni", 503), ("/liveness", 503), ("/readiness", 503)]
        {
            let answer = server.call(method, path, "").await;
            assert_eq!((answer.status, answer.body.as_str()), (status, ""), "{method} {path}");
            assert_eq!(answer.header("content-type"), None);
        }
    }
    for path in ["/liveness", "/readiness"] {
        let answer = server.get(path).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, ""), "{path}");
    }
}

#[tokio::test]
async fn the_cluster_lists_its_members() {
    let mut status = paused(sync_voter(leader(), SyncMode::On));
    let view = status.store.as_mut().unwrap();
    let c = view.members.get_mut(&name("c")).unwrap();
    c.conn_url = None;
    c.api_url = None;
    (c.xlog_location, c.receive_lsn, c.replay_lsn, c.timeline) = (None, None, None, None);
    c.raw = json!({"state": "creating replica", "tags": {"nofailover": true}});
    let time = WallTime::from_unix_millis(1_798_797_600_000);
    let scheduled_at = Some(Schedule::At { text: "2027-01-01T10:00:00+00:00".to_owned(), time });
    let request = FailoverRequest { leader: Some(name("a")), candidate: Some(name("b")), scheduled_at };
    view.failover = Some(Keyed { value: Some(request), revision: Default::default() });
    let server = serve(Agent::new(status), config()).await;
    assert_eq!(
        server.get("/cluster").await.body,
        [
            r#"{"members": [{"name": "a", "role": "leader", "state": "running", "#,
            r#""api_url": "http://127.0.0.1:8008/patroni", "host": "127.0.0.1", "port": 5432, "timeline": 3}, "#,
            r#"{"name": "b", "role": "sync_standby", "state": "streaming", "#,
            r#""api_url": "http://127.0.0.1:8009/patroni", "host": "127.0.0.1", "port": 5433, "timeline": 3, "#,
            r#""receive_lag": 0, "receive_lsn": "0/5000100", "replay_lag": 256, "replay_lsn": "0/5000000", "#,
            r#""lag": 0, "lsn": "0/5000100"}, "#,
            r#"{"name": "c", "role": "replica", "state": "creating replica", "api_url": null, "#,
            r#""tags": {"nofailover": true}, "receive_lag": "unknown", "receive_lsn": "unknown", "#,
            r#""replay_lag": "unknown", "replay_lsn": "unknown", "lag": "unknown", "lsn": "unknown"}], "#,
            r#""pause": true, "#,
            r#""scheduled_switchover": {"at": "2027-01-01T10:00:00+00:00", "from": "a", "to": "b"}, "scope": "demo"}"#,
        ]
        .concat()
    );
}

#[tokio::test]
async fn the_stores_content_is_shown_or_known_to_be_missing() {
    let mut empty = replica();
    let view = empty.store.as_mut().unwrap();
    (view.config, view.history) = (None, None);
    empty.failsafe = None;
    let full = serve(Agent::new(replica()), config()).await;
    let empty = serve(Agent::new(empty), config()).await;
    let blind = serve(Agent::new(without_store(replica())), config()).await;

    assert_eq!(full.get("/config").await.body, r#"{"ttl": 30, "loop_wait": 10, "note": "\u00e9"}"#);
    assert_eq!(
        full.get("/history").await.body,
        [
            r#"[[1, 100, "no recovery target specified"], "#,
            r#"[2, 200, "no recovery target specified", "2026-11-20T10:00:00.123456+00:00", "a"]]"#,
        ]
        .concat()
    );
    assert_eq!(full.get("/failsafe").await.body, r#"{"a": "http://127.0.0.1:8008/patroni"}"#);
    assert_eq!(empty.get("/history").await.body, "[]");
    for (server, path, status) in [
        (&empty, "/config", 502),
        (&empty, "/failsafe", 502),
        (&blind, "/cluster", 503),
        (&blind, "/config", 503),
        (&blind, "/history", 503),
        (&blind, "/failsafe", 200),
    ] {
        assert_eq!(server.get(path).await.status, status, "{path}");
    }
}

#[tokio::test]
async fn metrics_keep_their_names_types_and_order() {
    let server = serve(Agent::new(tagged(replica(), json!({"failover_priority": 5}))), config()).await;
    let answer = server.get("/metrics").await;
    assert_eq!(answer.header("content-type"), Some("text/plain"));
    let labels = r#"{scope="demo",name="b"}"#;
    let samples: Vec<_> = answer.body.lines().filter(|line| !line.starts_with('#')).collect();
    let expected = [
        ("patroni_version", "040105"),
        ("patroni_postgres_running", "1"),
        ("patroni_postmaster_start_time", "1795253400.25"),
        ("patroni_primary", "0"),
        ("patroni_xlog_location", "0"),
        ("patroni_standby_leader", "0"),
        ("patroni_replica", "1"),
        ("patroni_sync_standby", "0"),
        ("patroni_quorum_standby", "0"),
        ("patroni_xlog_received_location", "83886336"),
        ("patroni_xlog_replayed_location", "83886080"),
        ("patroni_xlog_replayed_timestamp", "1795309200.5"),
        ("patroni_xlog_paused", "0"),
        ("patroni_postgres_streaming", "1"),
        ("patroni_postgres_in_archive_recovery", "0"),
        ("patroni_postgres_server_version", "150018"),
        ("patroni_cluster_unlocked", "0"),
        ("patroni_failsafe_mode_is_active", "0"),
        ("patroni_failsafe_mode_enabled", "0"),
        ("patroni_failsafe_member", "0"),
        ("patroni_postgres_timeline", "3"),
        ("patroni_dcs_last_seen", "1795309200"),
        ("patroni_pending_restart", "0"),
        ("patroni_is_paused", "0"),
        ("patroni_postgres_state", "5"),
        ("patroni_failover_priority", "5"),
        ("bellwether_lease_seconds", "0"),
        ("bellwether_status_age_seconds", "1"),
    ];
    let expected: Vec<_> = expected.iter().map(|(name, value)| format!("{name}{labels} {value}")).collect();
    assert_eq!(samples[..expected.len()], expected);
    let alarm =
        |alarm: &Alarm| format!(r#"bellwether_alarm{{scope="demo",name="b",alarm="{}"}} 0"#, alarm.code());
    let mut rest: Vec<_> = Alarm::ALL.iter().map(alarm).collect();
    rest.push(r#"bellwether_reason_info{scope="demo",name="b",code="following"} 1"#.to_owned());
    assert_eq!(samples[expected.len()..], rest);

    let counters: Vec<_> = answer.body.lines().filter(|line| line.ends_with(" counter")).collect();
    assert_eq!(
        counters,
        [
            "# TYPE patroni_xlog_location counter",
            "# TYPE patroni_xlog_received_location counter",
            "# TYPE patroni_xlog_replayed_location counter",
        ]
    );
    let lines: Vec<_> = answer.body.lines().collect();
    let state = lines.iter().position(|line| line.starts_with("# HELP patroni_postgres_state ")).unwrap();
    assert!(lines[state + 1].starts_with("# Values: 0=initdb, 1=initdb_failed, 2=custom_bootstrap, "));
    assert_eq!(lines[state + 2], "# TYPE patroni_postgres_state gauge");
}

#[tokio::test]
async fn metrics_of_a_member_whose_postgresql_is_down_are_complete() {
    let mut hangs = leader();
    hangs.server = None;
    let server = serve(Agent::new(hangs), config()).await;
    let text = server.get("/metrics").await.body;
    let has = |line: &str| text.lines().any(|known| known == line);
    assert!(has(r#"patroni_postgres_state{scope="demo",name="a"} -1"#));
    assert!(has(r#"patroni_postmaster_start_time{scope="demo",name="a"} 0"#));
    assert!(has(r#"bellwether_lease_seconds{scope="demo",name="a"} 20"#));
    assert!(!text.contains("patroni_postgres_streaming"), "unknown without PostgreSQL's answer");
}
