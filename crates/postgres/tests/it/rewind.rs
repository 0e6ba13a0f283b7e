//! A primary that wrote beyond the fork, and its way back.

use bellwether_postgres::{
    control::ClusterState,
    postmaster::StopMode,
    replication::{self, Target},
    rewind::{self, RewindError},
};
use bellwether_types::{Placement, TimelineId};
use tokio_util::sync::CancellationToken;

use crate::server_under_test::{PATIENCE, TestServer, run, settings};

/// The server as a source for pg_rewind.
fn rewind_source(server: &TestServer) -> Target {
    Target {
        address: server.settings().connect_address.clone(),
        credentials: server.settings().rewind_credentials().clone(),
    }
}

/// A former primary with rows that nobody else has, and the promoted standby.
async fn diverged(root: &std::path::Path) -> (TestServer, TestServer) {
    let primary = TestServer::primary(settings(root, "pg1")).await;
    primary.sql("CREATE TABLE t (i int); INSERT INTO t VALUES (1)").await;
    let mut standby = TestServer::standby(settings(root, "pg2"), &primary).await;
    standby.observe_until(|seen| seen.receiver.is_some()).await;
    standby.server.promote(standby.postmaster()).await.unwrap();
    standby.observe_until(|seen| !seen.in_recovery).await;
    primary.sql("INSERT INTO t VALUES (2), (3)").await;
    standby.sql("INSERT INTO t VALUES (4)").await;
    standby.sql("CHECKPOINT").await;
    (primary, standby)
}

#[test]
fn a_cleanly_stopped_former_primary_is_rewound_and_follows() {
    run(async |root| {
        let (mut old, new) = diverged(&root).await;
        let own_conf = std::fs::read_to_string(old.settings().data_dir.join("postgresql.base.conf")).unwrap();
        std::fs::write(old.settings().data_dir.join("postgresql.base.conf"), format!("{own_conf}\n# mine\n"))
            .unwrap();
        old.stop(StopMode::Fast).await;
        let local = rewind::local_end_of_stopped(old.settings()).await.unwrap().unwrap();
        assert!(!local.was_standby);
        assert_eq!(local.position.timeline, TimelineId(1));
        assert!(local.shutdown_checkpoint_end.unwrap() > local.position.lsn);
        let history = replication::timeline_history(&new.target()).await.unwrap();
        assert_eq!(history.tip.timeline, TimelineId(2));
        assert!(matches!(history.place(local.position), Placement::Diverged { .. }), "{history:?} {local:?}");

        rewind::run(old.settings(), &rewind_source(&new), &CancellationToken::new()).await.unwrap();
        let base = std::fs::read_to_string(old.settings().data_dir.join("postgresql.base.conf")).unwrap();
        assert!(base.ends_with("# mine\n"), "the local configuration survives");
        let plan = old.follow(&new);
        old.start(&plan).await;
        old.observe_until(|seen| {
            seen.receiver.as_ref().is_some_and(|receiver| receiver.status == "streaming")
        })
        .await;
        crate::server_under_test::until("the new row arrives", async || old.count("t").await == 2).await;
    });
}

#[test]
fn a_crashed_former_primary_needs_crash_recovery_before_its_rewind() {
    run(async |root| {
        let (mut old, new) = diverged(&root).await;
        old.postmaster.take().unwrap().kill_tree(PATIENCE).await.unwrap();
        assert_eq!(
            rewind::local_end_of_stopped(old.settings()).await.unwrap(),
            None,
            "no verdict after a crash"
        );
        let never = CancellationToken::new();
        let error = rewind::run(old.settings(), &rewind_source(&new), &never).await.unwrap_err();
        assert!(matches!(error, RewindError::NotShutDown { found: ClusterState::InProduction }), "{error}");

        rewind::crash_recover(old.settings(), &never).await.unwrap();
        assert_eq!(old.server.control_data().await.unwrap().state, ClusterState::ShutDown);
        assert!(rewind::local_end_of_stopped(old.settings()).await.unwrap().is_some());
        rewind::run(old.settings(), &rewind_source(&new), &never).await.unwrap();
        let plan = old.follow(&new);
        old.start(&plan).await;
        crate::server_under_test::until("the new row arrives", async || old.count("t").await == 2).await;
    });
}

#[test]
fn an_unreachable_source_is_told_from_a_failed_rewind() {
    run(async |root| {
        let (mut old, mut new) = diverged(&root).await;
        old.stop(StopMode::Fast).await;
        let source = rewind_source(&new);
        new.stop(StopMode::Fast).await;
        let error = rewind::run(old.settings(), &source, &CancellationToken::new()).await.unwrap_err();
        assert!(matches!(error, RewindError::SourceUnreachable { .. }) && error.is_retryable(), "{error}");

        // A healthy source of another cluster: nothing helps.
        let stranger = TestServer::primary(settings(&root, "pg3")).await;
        let error = rewind::run(old.settings(), &rewind_source(&stranger), &CancellationToken::new())
            .await
            .unwrap_err();
        assert!(matches!(&error, RewindError::Failed { .. }) && !error.is_retryable(), "{error}");
    });
}

#[test]
fn a_standby_knows_where_its_wal_ends_running_or_stopped() {
    run(async |root| {
        let primary = TestServer::primary(settings(&root, "pg1")).await;
        let mut standby = TestServer::standby(settings(&root, "pg2"), &primary).await;
        standby.observe_until(|seen| seen.receiver.is_some()).await;
        let local = standby.settings().local_replication_target().await;
        assert!(local.address.host.starts_with('/') || local.address.host == "127.0.0.1");
        let identity = replication::identify_system(&local).await.unwrap();
        // One that does not answer yet is known by its control file.
        let by_its_files = rewind::local_end_of_stopped(standby.settings()).await.unwrap().unwrap();
        assert!(
            by_its_files.was_standby && by_its_files.position.timeline == TimelineId(1),
            "{by_its_files:?}"
        );
        assert_eq!(identity.system_id, standby.server.control_data().await.unwrap().system_id);
        assert_eq!(identity.position.timeline, TimelineId(1));
        standby.stop(StopMode::Fast).await;
        let stopped = rewind::local_end_of_stopped(standby.settings()).await.unwrap().unwrap();
        assert!(stopped.was_standby);
        assert_eq!(stopped.position.timeline, TimelineId(1));
        assert!(stopped.position.lsn <= identity.position.lsn);
        let error = replication::identify_system(&local).await.unwrap_err();
        assert!(error.is_unreachable(), "{error}");
        let history = replication::timeline_history(&primary.target()).await.unwrap();
        assert!(history.switches.is_empty(), "the first timeline has no history");

        let mut wrong = primary.target();
        wrong.credentials = bellwether_postgres::settings::Credentials::new("replicator", "wrong");
        let error = replication::identify_system(&wrong).await.unwrap_err();
        assert!(!error.is_unreachable() && !error.is_retryable(), "{error}");
    });
}

#[test]
fn segments_that_wait_are_archived_before_a_rewind() {
    run(async |root| {
        let archive = root.join("archive");
        std::fs::create_dir(&archive).unwrap();
        let mut settings = settings(&root, "pg1");
        settings.parameters.insert("archive_mode".to_owned(), "on".to_owned());
        settings.parameters.insert("archive_command".to_owned(), "false".to_owned());
        let mut primary = TestServer::primary(settings).await;
        primary.sql("CREATE TABLE t (i int); SELECT pg_switch_wal(); INSERT INTO t VALUES (1)").await;
        primary.stop(StopMode::Immediate).await;
        let error =
            rewind::archive_ready_wal(primary.settings(), &CancellationToken::new()).await.unwrap_err();
        assert!(matches!(error, RewindError::Archive { .. }), "{error}");

        let copy = format!("archive_command = 'cp \"%p\" \"{}/%f\"'\n", archive.display());
        let conf = primary.settings().config_file();
        let text = std::fs::read_to_string(&conf).unwrap();
        std::fs::write(&conf, text + &copy).unwrap();
        let archived =
            rewind::archive_ready_wal(primary.settings(), &CancellationToken::new()).await.unwrap();
        assert!(archived > 0);
        assert_eq!(std::fs::read_dir(&archive).unwrap().count(), archived);
        assert_eq!(
            rewind::archive_ready_wal(primary.settings(), &CancellationToken::new()).await.unwrap(),
            0,
            "each only once"
        );
    });
}
