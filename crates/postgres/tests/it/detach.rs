//! A standby that left its upstream acknowledges nothing, and has what it acknowledged.
//!
//! With `--no-capture` the tests tell how long each step took.

#![expect(clippy::print_stdout, reason = "how long each step took is what people look at these tests for")]

use std::{
    path::Path,
    time::{Duration, Instant},
};

use bellwether_postgres::{
    config::ConfigPlan,
    detach::{self, DetachError},
    postmaster::StopMode,
    receiver::Receiver,
    walsenders,
};
use bellwether_types::{Lsn, TimelineId, WalPosition};
use rustix::process::{Pid, Signal, kill_process};
use tokio::task::JoinHandle;

use crate::server_under_test::{PATIENCE, TestServer, run, settings, until};

const WAITING: &str = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
const STREAMING: &str = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";

async fn number(of: &TestServer, query: &str) -> i64 {
    of.client().await.query_one(query, &[]).await.unwrap().get(0)
}

async fn lsn(of: &TestServer, function: &str) -> Lsn {
    let query = format!("SELECT {function}()::text");
    let text: String = of.client().await.query_one(&query, &[]).await.unwrap().get(0);
    text.parse().unwrap()
}

/// The process of this kind.
async fn pid_of(server: &TestServer, backend_type: &str) -> Pid {
    let query = format!("SELECT pid FROM pg_stat_activity WHERE backend_type = '{backend_type}'");
    let pid: i32 = server.client().await.query_one(&query, &[]).await.unwrap().get(0);
    Pid::from_raw(pid).unwrap()
}

/// A primary with a table whose commits wait for `names`, and its standbys.
async fn cluster(root: &Path, names: &str, standbys: &[&str]) -> (TestServer, Vec<TestServer>) {
    let mut primary = TestServer::primary(settings(root, "a")).await;
    primary.sql("CREATE TABLE t (i int)").await;
    let mut all = Vec::new();
    for name in standbys {
        all.push(TestServer::standby(settings(root, name), &primary).await);
    }
    let expected = i64::try_from(standbys.len()).unwrap();
    until("all stream", async || number(&primary, STREAMING).await == expected).await;
    wait_for(&mut primary, names).await;
    (primary, all)
}

async fn wait_for(primary: &mut TestServer, names: &str) {
    let plan = ConfigPlan { synchronous_standby_names: Some(names.to_owned()), ..ConfigPlan::primary() };
    primary.server.apply_config(&plan).await.unwrap();
    primary.server.reload(primary.postmaster()).unwrap();
    let id = primary.postmaster().id().clone();
    primary.observe_until(|seen| seen.synchronous_standby_names == names).await;
    until("it is in force", async || {
        let monitor = &mut primary.monitor;
        bellwether_postgres::checkpointer::read_configuration(monitor, &id).await.unwrap()
            && walsenders::read_configuration(monitor, &id).await.unwrap()
    })
    .await;
}

async fn detach(standby: &mut TestServer) -> Result<WalPosition, DetachError> {
    detach_within(standby, PATIENCE).await
}

async fn detach_within(standby: &mut TestServer, limit: Duration) -> Result<WalPosition, DetachError> {
    let began = Instant::now();
    let postmaster = standby.postmaster().clone();
    let plan = ConfigPlan::standby(None);
    let end = detach::detach(&standby.server, &mut standby.monitor, &postmaster, &plan, limit).await;
    println!("{}: detach took {:?}: {end:?}", standby.settings().member, began.elapsed());
    end
}

async fn reattach(standby: &mut TestServer, to: &TestServer) {
    let (postmaster, plan) = (standby.postmaster().clone(), standby.follow(to));
    detach::reattach(&standby.server, &mut standby.monitor, &postmaster, &plan).await.unwrap();
}

/// A commit that has been asked for and waits for standbys.
async fn waiting_commit(primary: &TestServer, row: i32) -> JoinHandle<Result<(), tokio_postgres::Error>> {
    let client = primary.client().await;
    let commit =
        tokio::spawn(async move { client.batch_execute(&format!("INSERT INTO t VALUES ({row})")).await });
    until("the commit waits", async || number(primary, WAITING).await > 0).await;
    assert!(!commit.is_finished());
    commit
}

/// Nothing more arrives, though the primary goes on.
async fn assert_receives_nothing(standby: &TestServer, primary: &TestServer, after: Lsn) {
    primary
        .sql("SELECT pg_logical_emit_message(false, 'x', repeat('x', 100000)); SELECT pg_switch_wal()")
        .await;
    until("the primary has no walsender for it", async || {
        let query = format!(
            "SELECT count(*) FROM pg_stat_replication WHERE application_name = '{}'",
            standby.settings().member
        );
        number(primary, &query).await == 0
    })
    .await;
    let received = lsn(standby, "pg_last_wal_receive_lsn").await;
    assert!(received <= after, "received {received} after the promise of {after}");
}

#[test]
fn what_a_detached_standby_acknowledged_is_in_its_promise_and_survives_a_restart() {
    run(async |root| {
        let (primary, mut standbys) = cluster(&root, "ANY 1 (b)", &["b"]).await;
        let mut b = standbys.remove(0);
        primary.sql("SET synchronous_commit = remote_write; INSERT INTO t VALUES (1)").await;
        primary.sql("INSERT INTO t VALUES (2)").await;
        let acknowledged = lsn(&primary, "pg_current_wal_flush_lsn").await;
        until("it has all of that", async || lsn(&b, "pg_last_wal_receive_lsn").await >= acknowledged).await;

        let promised = detach(&mut b).await.unwrap();
        assert!(promised.lsn >= acknowledged, "{promised:?} < {acknowledged}");
        assert_eq!(promised.timeline, TimelineId(1));
        let commit = waiting_commit(&primary, 3).await;
        assert_receives_nothing(&b, &primary, promised.lsn).await;
        assert_eq!(detach(&mut b).await.unwrap(), promised, "once more changes nothing");

        b.stop(StopMode::Immediate).await;
        b.start(&ConfigPlan::standby(None)).await;
        let again = detach(&mut b).await.unwrap();
        assert!(b.observe().await.receiver.is_none());
        until("what was acknowledged is there", async || b.count("t").await == 2).await;
        assert!(again.lsn <= promised.lsn, "a restarted standby has received nothing");
        assert!(!commit.is_finished(), "nobody has acknowledged it");

        let began = Instant::now();
        reattach(&mut b, &primary).await;
        commit.await.unwrap().unwrap();
        println!("acknowledged {:?} after the reload that re-attached it", began.elapsed());
        until("it is there, too", async || b.count("t").await == 3).await;
    });
}

#[test]
fn a_replay_that_is_paused_or_held_up_by_a_query_does_not_keep_a_standby_attached() {
    run(async |root| {
        let (primary, mut standbys) = cluster(&root, "", &["b", "c"]).await;
        let (mut c, mut b) = (standbys.pop().unwrap(), standbys.pop().unwrap());
        b.sql("SELECT pg_wal_replay_pause()").await;
        // A reader that needs the table, whose removal cannot be replayed while it reads.
        primary.sql("CREATE TABLE gone (i int)").await;
        until("the table is there", async || c.client().await.query("SELECT 1 FROM gone", &[]).await.is_ok())
            .await;
        let reader = c.client().await;
        reader.batch_execute("BEGIN; SELECT * FROM gone").await.unwrap();
        primary.sql("DROP TABLE gone; INSERT INTO t VALUES (1)").await;
        let held_up = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'startup' AND wait_event_type = 'Lock'";
        until("the replay is held up", async || number(&c, held_up).await == 1).await;
        let sent = lsn(&primary, "pg_current_wal_flush_lsn").await;
        for standby in [&b, &c] {
            until("all is received", async || lsn(standby, "pg_last_wal_receive_lsn").await >= sent).await;
        }

        for standby in [&mut b, &mut c] {
            let promised = detach(standby).await.unwrap();
            assert!(promised.lsn >= sent, "received, though not replayed: {promised:?} < {sent}");
            assert_receives_nothing(standby, &primary, promised.lsn).await;
        }
        b.sql("SELECT pg_wal_replay_resume()").await;
        reader.batch_execute("ROLLBACK").await.unwrap();
        for standby in [&mut b, &mut c] {
            until("the row is replayed", async || standby.count("t").await == 1).await;
            assert!(standby.observe().await.receiver.is_none(), "nor does it attach when the replay goes on");
        }
    });
}

#[test]
fn a_standby_whose_startup_process_is_stopped_promises_nothing() {
    run(async |root| {
        let (primary, mut standbys) = cluster(&root, "ANY 1 (b)", &["b"]).await;
        let mut b = standbys.remove(0);
        let startup = pid_of(&b, "startup").await;
        kill_process(startup, Signal::STOP).unwrap();
        let error = detach_within(&mut b, Duration::from_millis(300)).await.unwrap_err();
        assert!(matches!(error, DetachError::Unproved { .. }), "{error}");
        primary.sql("INSERT INTO t VALUES (1)").await;
        kill_process(startup, Signal::CONT).unwrap();
        detach(&mut b).await.unwrap();
        waiting_commit(&primary, 2).await.abort();
    });
}

#[test]
fn a_standby_that_was_restarted_promises_nothing_before_it_has_read_its_own_wal() {
    run(async |root| {
        let (primary, mut standbys) = cluster(&root, "ANY 1 (b)", &["b"]).await;
        let mut b = standbys.remove(0);
        // As a long replay would be: what it acknowledges is on its disk, and not replayed.
        let delayed = |plan: ConfigPlan| ConfigPlan {
            recovery_overrides: [("recovery_min_apply_delay".to_owned(), "1h".to_owned())].into(),
            ..plan
        };
        b.stop(StopMode::Fast).await;
        let plan = delayed(b.follow(&primary));
        b.start(&plan).await;
        until("it streams", async || number(&primary, STREAMING).await == 1).await;
        primary.sql("INSERT INTO t VALUES (1)").await;
        let acknowledged = lsn(&primary, "pg_current_wal_flush_lsn").await;
        until("it has all of that", async || lsn(&b, "pg_last_wal_receive_lsn").await >= acknowledged).await;
        assert!(b.observe().await.has_read_own_wal, "what streams is told");

        b.stop(StopMode::Fast).await;
        let alone = delayed(ConfigPlan::standby(None));
        b.start(&alone).await;
        let seen = b.observe().await;
        assert!(!seen.has_read_own_wal && lsn(&b, "pg_last_wal_replay_lsn").await < acknowledged, "{seen:?}");
        let (postmaster, limit) = (b.postmaster().clone(), Duration::from_millis(300));
        let refused = detach::detach(&b.server, &mut b.monitor, &postmaster, &alone, limit).await;
        assert!(matches!(refused, Err(DetachError::OwnWalUnread { .. })), "{refused:?}");

        // Without the delay.
        let promised = detach(&mut b).await.unwrap();
        assert!(promised.lsn >= acknowledged, "{promised:?} < {acknowledged}");
        b.observe_until(|seen| seen.has_read_own_wal).await;
    });
}

#[test]
fn standbys_behind_a_detached_one_stay_and_go_with_it() {
    run(async |root| {
        let (primary, mut standbys) = cluster(&root, "", &["b"]).await;
        let mut b = standbys.remove(0);
        let mut c = TestServer::standby(settings(&root, "c"), &b).await;
        let before = c
            .observe_until(|seen| seen.receiver.as_ref().is_some_and(|seen| seen.status == "streaming"))
            .await;
        primary.sql("INSERT INTO t VALUES (1)").await;
        until("the row came through", async || c.count("t").await == 1).await;
        detach(&mut b).await.unwrap();
        let after = c.observe().await;
        assert_eq!(before.receiver.unwrap().pid, after.receiver.unwrap().pid, "it stays attached");

        b.server.promote(b.postmaster()).await.unwrap();
        b.observe_until(|seen| !seen.in_recovery).await;
        b.sql("INSERT INTO t VALUES (2)").await;
        until("the row of the new timeline", async || c.count("t").await == 2).await;
        // Received on timeline 2; the control file knows only the first yet.
        let end = detach(&mut c).await.unwrap();
        assert_eq!(end.timeline, TimelineId(2));
        assert_eq!(c.observe().await.control_timeline, TimelineId(1));
    });
}

#[test]
fn the_end_of_a_receiver_is_seen_at_once() {
    run(async |root| {
        let (mut primary, mut standbys) = cluster(&root, "", &["b"]).await;
        let b = &mut standbys[0];
        let seen = b.observe_until(|seen| seen.receiver.is_some()).await;
        let of = b.postmaster().id().clone();
        let receiver = Receiver::open(&of, seen.receiver.unwrap().pid).unwrap().expect("it is there");
        assert!(receiver.is_alive());
        let other = primary.postmaster().id().clone();
        assert!(Receiver::open(&other, receiver.pid()).unwrap().is_none(), "not a child of that one");
        let began = Instant::now();
        primary.stop(StopMode::Immediate).await;
        tokio::time::timeout(PATIENCE, receiver.exited()).await.expect("it ends with its upstream").unwrap();
        println!("the receiver's end was seen {:?} after the primary was told to stop", began.elapsed());
        assert!(!receiver.is_alive());
        assert!(Receiver::open(&of, receiver.pid()).unwrap().is_none());
    });
}

/// The whole of a take-over, without anybody who decides.
#[test]
fn two_detached_voters_make_a_new_primary_that_acknowledges_within_moments() {
    run(async |root| {
        let (mut a, mut standbys) = cluster(&root, "ANY 1 (b, c)", &["b", "c"]).await;
        let (mut c, mut b) = (standbys.pop().unwrap(), standbys.pop().unwrap());
        a.sql("INSERT INTO t VALUES (1)").await;
        let promised = tokio::join!(detach(&mut b), detach(&mut c));
        let lost = waiting_commit(&a, 666).await;

        let began = Instant::now();
        let names = "ANY 1 (a, c)";
        let plan = ConfigPlan { synchronous_standby_names: Some(names.into()), ..ConfigPlan::standby(None) };
        let (mut new, mut other) = match promised {
            (Ok(b_end), Ok(c_end)) if b_end.lsn >= c_end.lsn => (b, c),
            (Ok(_), Ok(_)) => (c, b),
            other => panic!("{other:?}"),
        };
        let names = names.replace('c', other.settings().member.as_str());
        let plan = ConfigPlan { synchronous_standby_names: Some(names), ..plan };
        new.server.apply_config(&plan).await.unwrap();
        new.server.reload(new.postmaster()).unwrap();
        new.server.promote(new.postmaster()).await.unwrap();
        until("it is promoted", async || new.server.is_promoted().await).await;
        println!("promoted after {:?}", began.elapsed());
        let first = new.client().await;
        let commit = tokio::spawn(async move { first.batch_execute("INSERT INTO t VALUES (2)").await });
        reattach(&mut other, &new).await;
        commit.await.unwrap().unwrap();
        println!("first synchronous commit after {:?}", began.elapsed());

        assert!(!lost.is_finished(), "the old primary acknowledges nothing any more");
        a.stop(StopMode::Immediate).await;
        assert!(lost.await.unwrap().is_err());
        until("the other one has the rows", async || other.count("t").await == 2).await;
        assert_eq!(new.count("t").await, 2);
        assert_eq!(other.observe().await.receiver.unwrap().received_timeline, Some(TimelineId(2)));
        new.observe_until(|seen| seen.timeline == Some(TimelineId(2))).await;
    });
}

#[test]
fn names_that_a_stopped_walsender_has_not_read_are_not_in_force_everywhere() {
    run(async |root| {
        let (mut primary, _standbys) = cluster(&root, "ANY 1 (b)", &["b"]).await;
        let id = primary.postmaster().id().clone();
        let walsender = pid_of(&primary, "walsender").await;
        kill_process(walsender, Signal::STOP).unwrap();
        let plan =
            ConfigPlan { synchronous_standby_names: Some("ANY 1 (c)".to_owned()), ..ConfigPlan::primary() };
        primary.server.apply_config(&plan).await.unwrap();
        primary.server.reload(primary.postmaster()).unwrap();
        primary.observe_until(|seen| seen.synchronous_standby_names == "ANY 1 (c)").await;
        until("the checkpointer has read it", async || {
            bellwether_postgres::checkpointer::read_configuration(&mut primary.monitor, &id).await.unwrap()
        })
        .await;
        for _ in 0..3 {
            assert!(!walsenders::read_configuration(&mut primary.monitor, &id).await.unwrap());
        }
        kill_process(walsender, Signal::CONT).unwrap();
        until("it has read them", async || {
            walsenders::read_configuration(&mut primary.monitor, &id).await.unwrap()
        })
        .await;
        waiting_commit(&primary, 1).await.abort();
    });
}
