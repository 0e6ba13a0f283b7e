//! Promotions that pass over the timelines of others.

use std::fs;

use bellwether_postgres::{postmaster::StopMode, replication, rewind};
use bellwether_types::TimelineId;
use tokio_util::sync::CancellationToken;

use crate::server_under_test::{TestServer, run, settings, until};

const ONE: TimelineId = TimelineId(1);
const TWO: TimelineId = TimelineId(2);
const THREE: TimelineId = TimelineId(3);

fn log(server: &TestServer) -> String {
    fs::read_to_string(server.settings().log_file.as_ref().unwrap()).unwrap()
}

/// A primary with a row, and a standby that has it and looks for a new timeline twice a second.
async fn pair(root: &std::path::Path) -> (TestServer, TestServer) {
    let primary = TestServer::primary(settings(root, "a")).await;
    primary.sql("CREATE TABLE t (i int); INSERT INTO t VALUES (1)").await;
    (TestServer::standby(eager(root, "c"), &primary).await, primary)
}

fn eager(root: &std::path::Path, name: &str) -> bellwether_postgres::settings::PgSettings {
    let mut settings = settings(root, name);
    settings.parameters.insert("wal_retrieve_retry_interval".to_owned(), "500ms".to_owned());
    settings
}

async fn promoted(server: &mut TestServer) -> TimelineId {
    server.server.promote(server.postmaster()).await.unwrap();
    server.observe_until(|seen| !seen.in_recovery).await;
    server.observe_until(|seen| seen.timeline.is_some()).await.timeline.unwrap()
}

#[test]
fn three_members_two_deaths_and_no_two_timelines_of_one_number() {
    run(async |root| {
        let (mut c, mut a) = pair(&root).await;
        let mut b = TestServer::standby(eager(&root, "b"), &a).await;
        let mut d = TestServer::standby(eager(&root, "d"), &a).await;
        for standby in [&b, &c, &d] {
            until("the row arrives", async || standby.count("t").await == 1).await;
        }
        d.stop(StopMode::Fast).await;
        a.stop(StopMode::Immediate).await;
        assert_eq!(promoted(&mut b).await, TWO);
        b.sql("INSERT INTO t VALUES (22); CHECKPOINT").await;
        b.stop(StopMode::Fast).await;

        // c knows of timeline 2 by the store only. Its startup process meets the mark before the promotion.
        c.server.skip_timelines(ONE, TWO).await.unwrap();
        until("the mark is met", async || log(&c).contains("timeline 2 is not a child")).await;
        assert_eq!(c.count("t").await, 1, "the standby goes on");
        assert_eq!(promoted(&mut c).await, THREE);
        c.sql("INSERT INTO t VALUES (33); CHECKPOINT").await;
        let history = replication::timeline_history(&c.target()).await.unwrap();
        assert_eq!(history.switches.iter().map(|switch| switch.timeline).collect::<Vec<_>>(), [ONE]);

        // A standby that was away on timeline 1 asks for the files of 2 and 3.
        let plan = d.follow(&c);
        d.start(&plan).await;
        until("the new row arrives", async || d.count("t").await == 2).await;
        d.stop(StopMode::Fast).await;
        d.start(&plan).await;
        d.observe_until(|seen| seen.receiver.as_ref().is_some_and(|found| found.status == "streaming")).await;

        // Who wrote timeline 2 is rewound.
        let source = replication::Target {
            address: c.settings().connect_address.clone(),
            credentials: c.settings().rewind_credentials().clone(),
        };
        rewind::run(b.settings(), &source, &CancellationToken::new()).await.unwrap();
        let plan = b.follow(&c);
        b.start(&plan).await;
        until("the loser has the winner's row", async || b.count("t").await == 2).await;
        assert_eq!(promoted(&mut d).await, TimelineId(4), "the marks are below a true history");
    });
}

#[test]
fn a_promotion_that_did_not_happen_leaves_nothing_that_hurts() {
    run(async |root| {
        let (mut c, mut a) = pair(&root).await;
        let file = |number: u32| c.settings().data_dir.join(format!("pg_wal/{number:08X}.history"));
        let (two, three) = (file(2), file(3));
        // Told to skip, and then the order to promote was not given.
        c.server.skip_timelines(ONE, THREE).await.unwrap();
        assert!(two.exists() && three.exists());
        c.server.forget_skipped().await.unwrap();
        assert!(!two.exists() && !three.exists());

        // Died in between, and was started again: it must not wait for a timeline that does not exist.
        c.server.skip_timelines(ONE, THREE).await.unwrap();
        c.stop(StopMode::Immediate).await;
        let plan = c.follow(&a);
        c.start(&plan).await;
        a.sql("INSERT INTO t VALUES (2)").await;
        until("the row arrives", async || c.count("t").await == 2).await;

        // The true timeline 2 can be followed.
        let mut b = TestServer::standby(settings(&root, "b"), &a).await;
        until("the rows arrive", async || b.count("t").await == 2).await;
        // The copy brought the rows. Who does not stream would lack the last record, and c would be ahead of it.
        let streaming = "pg_stat_replication WHERE state = 'streaming'";
        until("both stream", async || a.count(streaming).await == 2).await;
        a.stop(StopMode::Fast).await;
        assert_eq!(promoted(&mut b).await, TWO);
        b.sql("INSERT INTO t VALUES (3)").await;
        let plan = c.follow(&b);
        c.server.apply_config(&plan).await.unwrap();
        c.server.reload(c.postmaster()).unwrap();
        until("the row of timeline 2 arrives", async || c.count("t").await == 3).await;
    });
}
