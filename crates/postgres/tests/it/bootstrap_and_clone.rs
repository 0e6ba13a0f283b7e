//! initdb, roles, base backups, promotion.

use std::time::Duration;

use bellwether_postgres::{
    clone::{self, CloneProgress},
    config::ConfigPlan,
    datadir::DataDirState,
    observation::WalPositions,
    server::ServerError,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::server_under_test::{TestServer, run, settings, until};

#[test]
fn a_new_cluster_has_its_roles_and_no_password_in_its_log() {
    run(async |root| {
        let mut settings = settings(&root, "pg1");
        settings.parameters.insert("log_statement".to_owned(), "all".to_owned());
        settings.bootstrap.post_bootstrap = Some(format!(
            "sh -c 'echo \"$0\" > {root}/dsn; cat \"$PGPASSFILE\" > {root}/passfile; echo \"$PGOPTIONS\" > {root}/options'",
            root = root.display()
        ));
        let primary = TestServer::primary(settings).await;
        let client = primary.client().await;
        let roles: String = client
            .query_one(
                "SELECT string_agg(format('%s:%s:%s', rolname, rolsuper, rolreplication), ' ' ORDER BY rolname) \
                 FROM pg_roles WHERE rolname IN ('admin', 'replicator', 'rewinder')",
                &[],
            )
            .await
            .unwrap()
            .get(0);
        assert_eq!(roles, "admin:t:t replicator:f:t rewinder:f:f");
        let may_read: bool = client
            .query_one(
                "SELECT has_function_privilege('rewinder', 'pg_read_binary_file(text)', 'execute')",
                &[],
            )
            .await
            .unwrap()
            .get(0);
        assert!(may_read);

        let log = std::fs::read_to_string(root.join("pg1.log")).unwrap();
        assert!(log.contains("log_statement") || log.contains("statement:"), "logging was on");
        assert!(!log.contains("geheim"), "a password reached the log");
        let dsn = std::fs::read_to_string(root.join("dsn")).unwrap();
        assert!(
            dsn.contains("user=admin") && dsn.contains("dbname=postgres") && !dsn.contains("geheim"),
            "{dsn}"
        );
        assert!(std::fs::read_to_string(root.join("passfile")).unwrap().contains(":admin:super'geheim"));
        let options = std::fs::read_to_string(root.join("options")).unwrap();
        assert_eq!(options.trim(), "-c synchronous_commit=local -c statement_timeout=0");
        let leftovers: Vec<_> = std::fs::read_dir(&root)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with("pg1.pgpass"))
            .collect();
        assert!(leftovers.is_empty(), "temporary password files stay behind: {leftovers:?}");
    });
}

#[test]
fn a_cloned_standby_streams_and_can_be_promoted() {
    run(async |root| {
        let mut primary = TestServer::primary(settings(&root, "pg1")).await;
        primary.sql("CREATE TABLE t (i int); INSERT INTO t SELECT generate_series(1, 1000)").await;
        // Somebody has prepared the promotion of another server by a file that a copy brings along.
        std::fs::write(primary.settings().data_dir.join("go"), "").unwrap();
        let mut copy = settings(&root, "pg2");
        copy.recovery_conf.insert("promote_trigger_file".to_owned(), "go".to_owned());
        let mut standby = TestServer::standby(copy, &primary).await;
        assert!(!standby.settings().data_dir.join("go").exists());

        let seen = standby.observe_until(|seen| seen.receiver.is_some()).await;
        assert!(seen.in_recovery && seen.timeline.is_none());
        assert!(seen.primary_conninfo.contains("application_name=pg2"), "{}", seen.primary_conninfo);
        assert!(!seen.primary_conninfo.contains("geheim"));
        let seen = primary
            .observe_until(|seen| seen.walsenders.iter().any(|sender| sender.state == "streaming"))
            .await;
        assert_eq!(seen.walsenders[0].application_name, "pg2");
        let WalPositions::Primary { flushed } = seen.wal else { panic!("{seen:?}") };
        let caught_up = |seen: &bellwether_postgres::observation::Observation| match seen.wal {
            WalPositions::Standby { received, replayed, .. } => {
                received >= Some(flushed) && replayed >= flushed
            }
            WalPositions::Primary { .. } => false,
        };
        standby.observe_until(caught_up).await;
        assert_eq!(standby.count("t").await, 1000);
        assert!(matches!(
            primary.server.promote(primary.postmaster()).await,
            Err(ServerError::NotAStandby { .. })
        ));

        standby.server.promote(standby.postmaster()).await.unwrap();
        until("the control file says so", async || standby.server.is_promoted().await).await;
        let seen = standby.observe_until(|seen| !seen.in_recovery).await;
        assert_eq!(seen.timeline.unwrap().0, 2);
        standby.sql("INSERT INTO t VALUES (0)").await;
    });
}

#[test]
fn a_cancelled_clone_leaves_an_empty_directory() {
    run(async |root| {
        let primary = TestServer::primary(settings(&root, "pg1")).await;
        primary.sql("CREATE TABLE t AS SELECT repeat('x', 1000) FROM generate_series(1, 20000)").await;
        let mut settings = settings(&root, "pg2");
        settings.basebackup = vec![bellwether_types::program::ProgramOption::with_value("max-rate", "1M")];
        let standby = TestServer::new(settings);
        let (progress, mut seen) = watch::channel(CloneProgress::default());
        let cancel = CancellationToken::new();
        let job = tokio::spawn({
            let (settings, target, cancel) = (standby.settings().clone(), primary.target(), cancel.clone());
            async move { clone::create_replica(&settings, Some(&target), &progress, &cancel).await }
        });
        let moving =
            seen.wait_for(|progress| progress.bytes_done > 0 && progress.bytes_total > progress.bytes_done);
        tokio::time::timeout(Duration::from_secs(60), moving).await.unwrap().unwrap();
        cancel.cancel();
        let error = job.await.unwrap().unwrap_err();
        assert!(error.is_cancelled(), "{error}");
        assert_eq!(standby.server.data_dir_state().await, DataDirState::Missing);
    });
}

#[test]
fn wiping_a_real_directory_takes_its_tablespace_along() {
    run(async |root| {
        let space = root.join("space");
        std::fs::create_dir(&space).unwrap();
        let mut primary = TestServer::primary(settings(&root, "pg1")).await;
        primary.sql(&format!("CREATE TABLESPACE fast LOCATION '{}'", space.display())).await;
        primary.sql("CREATE TABLE t (i int) TABLESPACE fast").await;
        primary.stop(bellwether_postgres::postmaster::StopMode::Fast).await;
        assert_ne!(std::fs::read_dir(&space).unwrap().count(), 0);
        primary.server.wipe().await.unwrap();
        assert_eq!(primary.server.data_dir_state().await, DataDirState::Missing);
        assert_eq!(std::fs::read_dir(&space).unwrap().count(), 0);
    });
}

#[test]
fn a_standby_starts_with_the_primarys_larger_parameters() {
    run(async |root| {
        let mut big = settings(&root, "pg1");
        big.controlled.insert("max_connections".to_owned(), "150".to_owned());
        let primary = TestServer::primary(big).await;
        let mut standby = TestServer::standby(settings(&root, "pg2"), &primary).await;
        let id = standby.postmaster().id().clone();
        assert_eq!(standby.monitor.show(&id, "max_connections").await.unwrap(), "150");
        let applied = standby.server.apply_config(&standby.follow(&primary)).await.unwrap();
        assert!(!applied.changed(), "the same plan twice changes nothing: {applied:?}");
        let raised: Vec<_> =
            applied.raised.iter().map(|raised| (raised.configured, raised.control)).collect();
        assert_eq!(raised, [(100, 150)]);
        let following_nobody = standby.server.apply_config(&ConfigPlan::standby(None)).await.unwrap();
        assert_eq!(following_nobody.changed_files, ["postgresql.conf"]);
    });
}

#[test]
fn configuration_may_live_outside_the_data_directory() {
    run(async |root| {
        let config = root.join("etc");
        std::fs::create_dir(&config).unwrap();
        let mut outside = settings(&root, "pg1");
        outside.config_dir = config.clone();
        let mut primary = TestServer::primary(outside).await;
        let id = primary.postmaster().id().clone();
        let file = primary.monitor.show(&id, "config_file").await.unwrap();
        assert_eq!(file, config.join("postgresql.conf").to_string_lossy());
        primary.server.back_up_config().await.unwrap();

        let copy = root.join("etc2");
        std::fs::create_dir(&copy).unwrap();
        let mut outside = settings(&root, "pg2");
        outside.config_dir = copy.clone();
        let standby = TestServer::standby(outside, &primary).await;
        for name in ["postgresql.base.conf", "pg_hba.conf", "pg_ident.conf"] {
            assert!(copy.join(name).exists(), "{name} was brought back from its copy");
        }
        let (progress, _) = watch::channel(CloneProgress::default());
        let target = primary.target();
        let error =
            clone::create_replica(standby.settings(), Some(&target), &progress, &CancellationToken::new())
                .await
                .unwrap_err();
        assert!(matches!(error, clone::CloneError::Running { .. }), "{error}");
    });
}
