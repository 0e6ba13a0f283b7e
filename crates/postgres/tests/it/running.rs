//! What is done to a running server: parameters, slots, synchronous standbys, callbacks.

use std::sync::Arc;

use bellwether_postgres::{
    callbacks::CallbackRunner,
    config::{ConfigPlan, Upstream},
    monitor::{self, MonitorError},
    observation::WalPositions,
    postmaster::StopMode,
    settings::Credentials,
};
use bellwether_types::{Lsn, Role, program::CallbackAction};
use rustix::process::{Signal, kill_process};

use crate::{
    checkpointer::checkpointer_of,
    server_under_test::{TestServer, run, settings, until},
};

#[test]
fn parameters_that_need_a_restart_are_reported_with_both_values() {
    run(async |root| {
        let mut primary = TestServer::primary(settings(&root, "pg1")).await;
        assert_eq!(primary.server.pending_restart().await.unwrap(), []);
        primary.change(|settings| {
            settings.parameters.insert("shared_buffers".to_owned(), "32MB".to_owned());
            settings.parameters.insert("work_mem".to_owned(), "8MB".to_owned());
            settings.controlled.insert("max_connections".to_owned(), "123".to_owned());
        });
        let applied = primary.server.apply_config(&ConfigPlan::primary()).await.unwrap();
        assert_eq!(applied.changed_files, ["postgresql.conf"]);
        primary.server.reload(primary.postmaster()).unwrap();
        let reported = async || {
            let pending = primary.server.pending_restart().await.unwrap();
            pending.into_iter().map(|p| (p.name, p.old_value, p.new_value)).collect::<Vec<_>>()
        };
        let text = |name: &str, old: &str, new: &str| (name.to_owned(), old.to_owned(), new.to_owned());
        let expected = [text("max_connections", "100", "123"), text("shared_buffers", "16MB", "32MB")];
        until("both are reported", async || reported().await == expected).await;
        let id = primary.postmaster().id().clone();
        until("work_mem is in force", async || primary.monitor.show(&id, "work_mem").await.unwrap() == "8MB")
            .await;

        primary.stop(StopMode::Fast).await;
        primary.start(&ConfigPlan::primary()).await;
        assert_eq!(primary.server.pending_restart().await.unwrap(), []);
        let id = primary.postmaster().id().clone();
        assert_eq!(primary.monitor.show(&id, "max_connections").await.unwrap(), "123");
    });
}

#[test]
fn the_users_own_setting_beats_the_failover_default() {
    run(async |root| {
        let mut primary = TestServer::primary(settings(&root, "pg1")).await;
        let id = primary.postmaster().id().clone();
        assert_eq!(primary.monitor.show(&id, "wal_retrieve_retry_interval").await.unwrap(), "100ms");
        let base = primary.settings().data_dir.join("postgresql.base.conf");
        let text = std::fs::read_to_string(&base).unwrap();
        std::fs::write(&base, format!("{text}\nwal_retrieve_retry_interval = '3s'\n")).unwrap();
        primary.server.reload(primary.postmaster()).unwrap();
        until("the value from the base file", async || {
            primary.monitor.show(&id, "wal_retrieve_retry_interval").await.unwrap() == "3s"
        })
        .await;
    });
}

#[test]
fn a_parameter_that_postgresql_does_not_know_is_left_out() {
    run(async |root| {
        let mut primary = TestServer::primary(settings(&root, "pg1")).await;
        primary.change(|settings| {
            for (name, value) in
                [("no_such_parameter", "1"), ("work_mem", "much"), ("fsync", "perhaps"), ("my.own", "kept")]
            {
                settings.parameters.insert(name.to_owned(), value.to_owned());
            }
        });
        let applied = primary.server.apply_config(&ConfigPlan::primary()).await.unwrap();
        assert_eq!(applied.warnings.len(), 3, "{:?}", applied.warnings);
        assert!(applied.warnings.iter().any(|w| w.contains("no_such_parameter") && w.contains("value=1")));
        primary.stop(StopMode::Fast).await;
        primary.start(&ConfigPlan::primary()).await;
        let id = primary.postmaster().id().clone();
        assert_eq!(primary.monitor.show(&id, "my.own").await.unwrap(), "kept");
    });
}

#[test]
fn synchronous_names_reach_the_server_as_they_are() {
    run(async |root| {
        let mut primary = TestServer::primary(settings(&root, "pg1")).await;
        let mut standby = settings(&root, "pg2");
        standby.member = bellwether_types::MemberName::new("PG \"2\" it's").unwrap();
        let _standby = TestServer::standby(standby, &primary).await;
        let names = r#"ANY 1 ("PG ""2"" it's")"#.to_owned();
        let plan = ConfigPlan { synchronous_standby_names: Some(names.clone()), ..ConfigPlan::primary() };
        primary.server.apply_config(&plan).await.unwrap();
        primary.server.reload(primary.postmaster()).unwrap();
        let seen = primary
            .observe_until(|seen| seen.walsenders.iter().any(|sender| sender.sync_state == "quorum"))
            .await;
        assert_eq!(seen.synchronous_standby_names, names);
        assert_eq!(seen.walsenders[0].application_name, "PG \"2\" it's");
        let sender = &seen.walsenders[0];
        assert!(sender.pid > 0 && sender.backend_start_unix_micros > 0);
    });
}

#[test]
fn member_slots_keep_wal_from_their_creation() {
    run(async |root| {
        let mut primary = TestServer::primary(settings(&root, "pg1")).await;
        let id = primary.postmaster().id().clone();
        primary.monitor.create_physical_slot(&id, "pg2").await.unwrap();
        let again = primary.monitor.create_physical_slot(&id, "pg2").await.unwrap_err();
        assert!(matches!(again, MonitorError::Query(_)), "{again}");
        let seen = primary.observe().await;
        let slot = &seen.slots[0];
        assert!(slot.is_physical() && !slot.active && slot.restart_lsn.is_some(), "{slot:?}");
        let before = slot.restart_lsn.unwrap();

        primary.monitor.generate_wal(&id).await.unwrap();
        primary.sql("CREATE TABLE t (i int); SELECT pg_switch_wal(); INSERT INTO t VALUES (1)").await;
        let WalPositions::Primary { flushed } = primary.observe().await.wal else {
            panic!("it is a primary")
        };
        primary.monitor.advance_slot(&id, "pg2", Lsn(flushed.0)).await.unwrap();
        assert!(primary.observe().await.slots[0].restart_lsn.unwrap() > before);

        let mut standby = TestServer::new(settings(&root, "pg2"));
        let (progress, _) = tokio::sync::watch::channel(Default::default());
        bellwether_postgres::clone::create_replica(
            standby.settings(),
            Some(&primary.target()),
            &progress,
            &tokio_util::sync::CancellationToken::new(),
        )
        .await
        .unwrap();
        let upstream = Upstream::new(primary.settings().connect_address.clone(), Some("pg2".to_owned()));
        standby.start(&ConfigPlan::standby(Some(upstream))).await;
        primary.observe_until(|seen| seen.slots[0].active).await;
        assert!(!primary.monitor.drop_slot(&id, "pg2").await.unwrap(), "an active slot is never dropped");
        standby.stop(StopMode::Fast).await;
        primary.observe_until(|seen| !seen.slots[0].active).await;
        assert!(primary.monitor.drop_slot(&id, "pg2").await.unwrap());
        assert!(!primary.monitor.drop_slot(&id, "pg2").await.unwrap());
    });
}

#[test]
fn clearing_the_upstream_detaches_a_running_standby() {
    run(async |root| {
        let primary = TestServer::primary(settings(&root, "pg1")).await;
        let mut standby = TestServer::standby(settings(&root, "pg2"), &primary).await;
        standby.observe_until(|seen| seen.receiver.is_some()).await;
        standby.server.apply_config(&ConfigPlan::standby(None)).await.unwrap();
        standby.server.reload(standby.postmaster()).unwrap();
        let seen = standby.observe_until(|seen| seen.receiver.is_none()).await;
        assert_eq!(seen.primary_conninfo, "");
        let plan = standby.follow(&primary);
        standby.server.apply_config(&plan).await.unwrap();
        standby.server.reload(standby.postmaster()).unwrap();
        standby.observe_until(|seen| seen.receiver.is_some()).await;
    });
}

#[test]
fn a_connection_to_the_old_postmaster_is_not_used_for_the_new_one() {
    run(async |root| {
        let mut primary = TestServer::primary(settings(&root, "pg1")).await;
        let before = primary.observe().await;
        let old = primary.postmaster().id().clone();
        primary.stop(StopMode::Fast).await;
        assert!(matches!(
            primary.monitor.observe(&old).await,
            Err(MonitorError::Query(_) | MonitorError::Connect(_))
        ));
        primary.start(&ConfigPlan::primary()).await;
        let after = primary.observe().await;
        assert!(after.postmaster_start_unix > before.postmaster_start_unix);
        monitor::checkpoint(primary.settings()).await.unwrap();
    });
}

/// Users limit their own queries, fill `public` with functions of any name, and wait for standbys that may not be there.
#[test]
fn our_own_sessions_have_their_own_limits_and_wait_for_no_standby() {
    run(async |root| {
        let mut strict = settings(&root, "pg1");
        for (name, value) in [
            ("statement_timeout", "1s"),
            ("search_path", "public"),
            ("synchronous_standby_names", "nobody"),
            ("synchronous_commit", "on"),
        ] {
            strict.parameters.insert(name.to_owned(), value.to_owned());
        }
        // Its roles are made, though no standby confirms them.
        let mut primary = TestServer::primary(strict).await;
        let id = primary.postmaster().id().clone();
        for (name, value) in
            [("search_path", "pg_catalog"), ("statement_timeout", "2s"), ("synchronous_commit", "local")]
        {
            assert_eq!(primary.monitor.show(&id, name).await.unwrap(), value, "{name}");
        }
        primary.monitor.generate_wal(&id).await.unwrap();

        // A checkpoint takes as long as it takes.
        let checkpointer = checkpointer_of(&primary).await;
        kill_process(checkpointer, Signal::STOP).unwrap();
        let settings = primary.settings().clone();
        let checkpoint = tokio::spawn(async move { monitor::checkpoint(&settings).await });
        let client = primary.client().await;
        let for_long = async || -> bool {
            let statement = "SELECT count(*) FROM pg_stat_activity \
                             WHERE query = 'CHECKPOINT' AND now() - query_start > interval '1.5 s'";
            client.query_one(statement, &[]).await.unwrap().get::<_, i64>(0) > 0 || checkpoint.is_finished()
        };
        until("it waits longer than a user's query may", for_long).await;
        kill_process(checkpointer, Signal::CONT).unwrap();
        checkpoint.await.unwrap().unwrap();
    });
}

#[test]
fn a_changed_password_reaches_the_standby() {
    run(async |root| {
        let primary = TestServer::primary(settings(&root, "pg1")).await;
        let mut standby = TestServer::standby(settings(&root, "pg2"), &primary).await;
        standby.observe_until(|seen| seen.receiver.is_some()).await;
        primary.sql("ALTER ROLE replicator PASSWORD 'new'").await;
        standby.change(|settings| settings.replication = Credentials::new("replicator", "new"));
        let plan = standby.follow(&primary);
        let applied = standby.server.apply_config(&plan).await.unwrap();
        assert!(applied.changed(), "the password file is a part of it: {applied:?}");
        assert!(!standby.server.apply_config(&plan).await.unwrap().changed(), "once");

        // The next connection needs the new one.
        let gone = "SELECT pg_terminate_backend(pid) FROM pg_stat_replication";
        let before = standby.observe().await.receiver.expect("it streams").pid;
        primary.sql(gone).await;
        standby
            .observe_until(|seen| {
                seen.receiver
                    .as_ref()
                    .is_some_and(|receiver| receiver.pid != before && receiver.status == "streaming")
            })
            .await;
    });
}

#[test]
fn a_frozen_server_is_a_timeout_and_not_an_endless_wait() {
    run(async |root| {
        let mut primary = TestServer::primary(settings(&root, "pg1")).await;
        let id = primary.postmaster().id().clone();
        let backend: i32 = primary.monitor.show(&id, "port").await.map(|_| 0).unwrap();
        assert_eq!(backend, 0);
        let client = primary.client().await;
        let backend: i32 = client
            .query_one("SELECT pid FROM pg_stat_activity WHERE application_name = 'Patroni heartbeat'", &[])
            .await
            .unwrap()
            .get(0);
        let backend = rustix::process::Pid::from_raw(backend).unwrap();
        rustix::process::kill_process(backend, rustix::process::Signal::STOP).unwrap();
        let error = primary.monitor.observe(&id).await.unwrap_err();
        assert!(matches!(error, MonitorError::Timeout { .. }), "{error}");
        primary.observe().await; // a new connection
        rustix::process::kill_process(backend, rustix::process::Signal::CONT).unwrap();
    });
}

#[test]
fn a_new_callback_kills_the_running_one_with_its_children() {
    run(async |root| {
        let mut settings = settings(&root, "pg1");
        let marks = root.join("marks");
        let script = |text: &str| format!("sh -c '{text}' script");
        settings.callbacks.insert(
            CallbackAction::OnRoleChange,
            script(&format!("sleep 600 & echo $! > {root}/child; wait", root = root.display())),
        );
        settings
            .callbacks
            .insert(CallbackAction::OnStop, script(&format!("echo \"$@\" >> {}", marks.display())));
        settings
            .callbacks
            .insert(CallbackAction::OnReload, script(&format!("echo \"$@\" >> {}", marks.display())));
        let mut runner = CallbackRunner::new(Arc::new(settings));
        let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default();

        runner.run(CallbackAction::OnRoleChange, Role::Promoted);
        let child = root.join("child");
        until("the script runs", async || read(&child).ends_with('\n')).await;
        let child = read(&child).trim().to_owned();
        let is_running = || {
            let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            !stat.is_empty() && !stat.contains(") Z ")
        };
        runner.run(CallbackAction::OnReload, Role::Primary);
        until("on_reload ran beside it", async || read(&marks).contains("on_reload primary demo")).await;
        assert!(is_running(), "on_reload kills nobody");

        runner.run(CallbackAction::OnStop, Role::Promoted);
        until("on_stop took its place", async || read(&marks).contains("on_stop primary demo")).await;
        assert!(!is_running(), "the child of the killed script lives");
    });
}
