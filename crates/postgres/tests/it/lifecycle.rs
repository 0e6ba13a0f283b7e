//! Start, attach, crash, stop.

use std::time::{Duration, Instant};

use bellwether_postgres::{
    config::ConfigPlan,
    control::ClusterState,
    datadir::DataDirState,
    postmaster::{Postmaster, StopMode, Stopped},
    server::{Readiness, ServerError},
    stop::{StopEnd, StopRequest, StopStage},
};
use tokio::sync::watch;

use crate::server_under_test::{PATIENCE, TestServer, run, settings, until};

#[test]
fn a_second_handle_adopts_the_running_postmaster() {
    run(async |root| {
        let mut first = TestServer::primary(settings(&root, "pg1")).await;
        let mut second = TestServer::new(first.settings().clone());
        let adopted = second.server.attach().await.unwrap().expect("it runs");
        assert_eq!(adopted.id(), first.postmaster().id());
        second.postmaster = Some(adopted);
        let seen = second.observe().await;
        assert!(!seen.in_recovery && seen.server_version >= 130_000);
        assert!(matches!(
            second.server.start(&ConfigPlan::primary()).await,
            Err(ServerError::AlreadyRunning(id)) if id == *first.postmaster().id()
        ));
        assert!(matches!(second.server.wipe().await, Err(ServerError::AlreadyRunning(_))));
        first.stop(StopMode::Fast).await;
        assert!(second.server.attach().await.unwrap().is_none());
    });
}

#[test]
fn the_postmaster_runs_in_a_session_of_its_own() {
    run(async |root| {
        let primary = TestServer::primary(settings(&root, "pg1")).await;
        let pid = rustix::process::Pid::from_raw(primary.postmaster().id().pid);
        assert_eq!(rustix::process::getsid(pid).unwrap(), pid.unwrap());
    });
}

#[test]
fn a_killed_postmaster_is_noticed_at_once() {
    run(async |root| {
        let primary = TestServer::primary(settings(&root, "pg1")).await;
        // Another handle than the one that started it: this works for processes that are not our children.
        let watched = Postmaster::find(&primary.settings().data_dir).unwrap().unwrap();
        let exited = tokio::spawn({
            let watched = watched.clone();
            async move {
                watched.exited().await.unwrap();
                Instant::now()
            }
        });
        tokio::task::yield_now().await;
        assert!(watched.is_alive());
        let killed_at = Instant::now();
        let pid = rustix::process::Pid::from_raw(watched.id().pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        let noticed = exited.await.unwrap() - killed_at;
        assert!(noticed < Duration::from_millis(100), "{noticed:?}");
        assert!(!watched.is_alive());
        assert_eq!(
            primary.server.peek().await.unwrap().state,
            ClusterState::InProduction,
            "it looks running on disk"
        );
        assert!(primary.server.attach().await.unwrap().is_none(), "but its pid file is stale");
    });
}

#[test]
fn a_stale_pid_file_does_not_keep_the_server_from_starting() {
    run(async |root| {
        let mut primary = TestServer::primary(settings(&root, "pg1")).await;
        let pid_file = primary.settings().data_dir.join("postmaster.pid");
        let original = std::fs::read_to_string(&pid_file).unwrap();
        primary.stop(StopMode::Fast).await;
        // As after a reboot: the pid belongs to somebody else of the same user now, and the shared memory is gone.
        let mut foreign = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let mut lines: Vec<String> = original.lines().map(str::to_owned).collect();
        lines[0] = foreign.id().to_string();
        std::fs::write(&pid_file, lines.join("\n") + "\n").unwrap();
        assert!(primary.server.attach().await.unwrap().is_none());
        primary.start(&ConfigPlan::primary()).await;
        foreign.kill().unwrap();
        foreign.wait().unwrap();
    });
}

#[test]
fn a_clean_stop_tells_its_stages_and_its_last_position() {
    run(async |root| {
        let mut primary = TestServer::primary(settings(&root, "pg1")).await;
        let (stage, seen) = watch::channel(StopStage::Preparing);
        let postmaster = primary.postmaster.take().unwrap();
        let request = StopRequest { checkpoint: true, ..StopRequest::plain(StopMode::Fast) };
        assert_eq!(primary.server.stop(&postmaster, &request, &stage).await.unwrap(), StopEnd::AsAsked);
        assert_eq!(*seen.borrow(), StopStage::Gone);
        let control = primary.server.control_data().await.unwrap();
        assert_eq!(control.state, ClusterState::ShutDown);
        let checkpoint = primary.server.shutdown_checkpoint(&control).await.unwrap();
        assert_eq!((checkpoint.checkpoint, checkpoint.optime), (control.checkpoint, control.checkpoint));
        let peek = primary.server.peek().await.unwrap();
        assert_eq!(
            (peek.state, peek.checkpoint, peek.timeline),
            (control.state, control.checkpoint, control.timeline),
            "the quick look agrees with pg_controldata"
        );
    });
}

#[test]
fn with_archiving_the_last_position_is_the_segment_switch_before_the_shutdown_checkpoint() {
    run(async |root| {
        let mut settings = settings(&root, "pg1");
        settings.parameters.insert("archive_mode".to_owned(), "on".to_owned());
        settings.parameters.insert("archive_command".to_owned(), "true".to_owned());
        let mut primary = TestServer::primary(settings).await;
        primary.sql("CREATE TABLE t (i int)").await;
        primary.stop(StopMode::Fast).await;
        let control = primary.server.control_data().await.unwrap();
        let checkpoint = primary.server.shutdown_checkpoint(&control).await.unwrap();
        assert_eq!(checkpoint.checkpoint, control.checkpoint);
        assert!(checkpoint.optime < checkpoint.checkpoint, "{checkpoint:?}");
    });
}

#[test]
fn a_stop_that_takes_too_long_is_escalated() {
    run(async |root| {
        for (name, immediate_after, end) in
            [("pg1", Some(Duration::from_millis(200)), StopEnd::Immediate), ("pg2", None, StopEnd::Killed)]
        {
            let mut primary = TestServer::primary(settings(&root, name)).await;
            let client = primary.client().await;
            // A smart stop waits for this client for ever.
            let request = StopRequest {
                immediate_after,
                kill_after: Some(if immediate_after.is_some() {
                    PATIENCE
                } else {
                    Duration::from_millis(200)
                }),
                ..StopRequest::plain(StopMode::Smart)
            };
            let (stage, _) = watch::channel(StopStage::Preparing);
            let postmaster = primary.postmaster.take().unwrap();
            let started = Instant::now();
            assert_eq!(primary.server.stop(&postmaster, &request, &stage).await.unwrap(), end, "{name}");
            assert!(started.elapsed() >= Duration::from_millis(200), "not before its time");
            assert!(!postmaster.any_process_left().unwrap());
            until("the client's connection ended", async || client.is_closed()).await;
        }
    });
}

#[test]
fn a_stopped_server_is_killed_at_once_or_woken_up_to_stop_in_order() {
    run(async |root| {
        for (mode, expected, state) in [
            (StopMode::Immediate, StopEnd::Killed, ClusterState::InProduction),
            (StopMode::Fast, StopEnd::AsAsked, ClusterState::ShutDown),
        ] {
            let name = format!("pg-{mode:?}");
            let mut primary = TestServer::primary(settings(&root, &name)).await;
            let _client = primary.client().await;
            let postmaster = primary.postmaster.take().unwrap();
            let signal = |pid: i32, signal| {
                rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
            };
            let pid = postmaster.id().pid;
            assert_eq!(postmaster.stopped().await.unwrap(), Stopped::Nothing);
            signal(pid, rustix::process::Signal::STOP);
            let is = |stopped: Stopped| {
                let postmaster = postmaster.clone();
                async move || postmaster.stopped().await.unwrap() == stopped
            };
            until("the postmaster is stopped", is(Stopped::Postmaster)).await;
            let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
            // Sessions that are stopped, too, are not woken up.
            for child in children.split_whitespace().filter(|_| mode == StopMode::Immediate) {
                signal(child.parse().unwrap(), rustix::process::Signal::STOP);
            }
            if mode == StopMode::Immediate {
                until("everything is stopped", is(Stopped::Everything)).await;
            }

            let (stage, _) = watch::channel(StopStage::Preparing);
            // No clock: what does not take a signal would not end.
            let request = StopRequest::plain(mode);
            let stop = primary.server.stop(&postmaster, &request, &stage);
            let end = tokio::time::timeout(PATIENCE, stop).await.expect("it ends").unwrap();
            assert_eq!(end, expected);
            assert!(!postmaster.any_process_left().unwrap());
            assert_eq!(primary.server.control_data().await.unwrap().state, state, "{mode:?}");
        }
    });
}

#[test]
fn killing_the_tree_gets_a_frozen_backend_and_orphans_too() {
    run(async |root| {
        let primary = TestServer::primary(settings(&root, "pg1")).await;
        let client = primary.client().await;
        let backend: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        let backend = rustix::process::Pid::from_raw(backend).unwrap();
        rustix::process::kill_process(backend, rustix::process::Signal::STOP).unwrap();
        let postmaster = primary.postmaster().clone();
        let pid = rustix::process::Pid::from_raw(postmaster.id().pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        postmaster.exited().await.unwrap();
        assert!(postmaster.any_process_left().unwrap(), "a frozen backend outlives its postmaster");
        postmaster.kill_tree(PATIENCE).await.unwrap();
        assert!(!postmaster.any_process_left().unwrap());
    });
}

#[test]
fn orphans_are_killed_and_the_next_server_is_left_alone() {
    run(async |root| {
        let mut primary = TestServer::primary(settings(&root, "pg1")).await;
        let client = primary.client().await;
        let backend: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        let backend = rustix::process::Pid::from_raw(backend).unwrap();
        rustix::process::kill_process(backend, rustix::process::Signal::STOP).unwrap();
        let dead = primary.postmaster().clone();
        let pid = rustix::process::Pid::from_raw(dead.id().pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        dead.exited().await.unwrap();
        dead.kill_orphans(PATIENCE).await.unwrap();
        assert!(!dead.any_process_left().unwrap());

        // The next start finds no shared memory in use; and a late look for orphans does not take it for one.
        primary.start(&ConfigPlan::primary()).await;
        let client = primary.client().await;
        dead.kill_orphans(PATIENCE).await.unwrap();
        client.query_one("SELECT 1", &[]).await.unwrap();
        assert!(primary.postmaster().is_alive());
    });
}

#[test]
fn a_start_that_fails_says_why() {
    run(async |root| {
        let mut primary = TestServer::primary(settings(&root, "pg1")).await;
        primary.stop(StopMode::Fast).await;
        primary.change(|settings| {
            settings.parameters.insert("shared_preload_libraries".to_owned(), "no_such_library".to_owned());
        });
        let error = match primary.server.start(&ConfigPlan::primary()).await {
            Ok(started) => primary.server.wait_ready(&started.postmaster, PATIENCE).await.unwrap_err(),
            Err(error) => error,
        };
        assert!(error.to_string().contains("no_such_library"), "{error}");
    });
}

#[test]
fn nothing_is_written_into_a_directory_without_a_database() {
    run(async |root| {
        let server = TestServer::new(settings(&root, "pg1"));
        assert_eq!(server.server.data_dir_state().await, DataDirState::Missing);
        let error = server.server.start(&ConfigPlan::primary()).await.unwrap_err();
        assert!(matches!(error, ServerError::NoDatabase { .. }), "{error}");
        assert!(!server.settings().data_dir.exists());
        assert_eq!(server.server.probe().await, Readiness::NoResponse);
    });
}

#[test]
fn a_stop_that_waits_for_a_replica_has_told_its_shutdown_checkpoint_before() {
    run(async |root| {
        let mut primary = TestServer::primary(settings(&root, "pg1")).await;
        let mut standby = TestServer::standby(settings(&root, "pg2"), &primary).await;
        let seen = standby.observe_until(|seen| seen.receiver.is_some()).await;
        let receiver = rustix::process::Pid::from_raw(seen.receiver.unwrap().pid).unwrap();
        rustix::process::kill_process(receiver, rustix::process::Signal::STOP).unwrap();
        primary.sql("CREATE TABLE t (i int)").await;

        let (stage, mut seen) = watch::channel(StopStage::Preparing);
        let postmaster = primary.postmaster.take().unwrap();
        let stopping = tokio::spawn({
            let (server, postmaster) = (primary.server.clone(), postmaster.clone());
            let request = StopRequest {
                kill_after: Some(Duration::from_secs(20)),
                ..StopRequest::plain(StopMode::Fast)
            };
            async move { server.stop(&postmaster, &request, &stage).await.unwrap() }
        });
        let told = tokio::time::timeout(PATIENCE, async {
            let stage =
                seen.wait_for(|stage| matches!(stage, StopStage::ShutDown(_) | StopStage::Gone)).await;
            *stage.unwrap()
        });
        let StopStage::ShutDown(checkpoint) = told.await.unwrap() else {
            panic!("it did not wait for the replica")
        };
        assert!(postmaster.is_alive());
        assert_eq!(postmaster.client_backends().unwrap(), 0);
        assert_eq!(checkpoint.checkpoint, primary.server.peek().await.unwrap().checkpoint);
        rustix::process::kill_process(receiver, rustix::process::Signal::CONT).unwrap();
        assert_eq!(stopping.await.unwrap(), StopEnd::AsAsked);
    });
}

#[test]
fn no_commit_that_waits_for_a_standby_is_acknowledged_by_a_stop() {
    run(async |root| {
        for (name, mode) in [("pg1", StopMode::Fast), ("pg2", StopMode::Immediate)] {
            let mut primary = TestServer::primary(settings(&root, name)).await;
            primary.sql("CREATE TABLE t (i int)").await;
            let plan = ConfigPlan {
                synchronous_standby_names: Some("ANY 1 (nobody)".to_owned()),
                ..ConfigPlan::primary()
            };
            primary.server.apply_config(&plan).await.unwrap();
            primary.server.reload(primary.postmaster()).unwrap();
            primary.observe_until(|seen| seen.synchronous_standby_names == "ANY 1 (nobody)").await;

            let mut writers = tokio::task::JoinSet::new();
            for number in 0..20 {
                let client = primary.client().await;
                writers.spawn(async move {
                    client.batch_execute(&format!("INSERT INTO t VALUES ({number})")).await
                });
            }
            let client = primary.client().await;
            let waiting = async || -> i64 {
                let count = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
                client.query_one(count, &[]).await.unwrap().get(0)
            };
            until("all writers wait", async || waiting().await == 20).await;
            primary.stop(mode).await;
            while let Some(result) = writers.join_next().await {
                assert!(result.unwrap().is_err(), "a commit was acknowledged after a {mode:?} stop");
            }
        }
    });
}

#[test]
fn hooks_run_and_a_failing_pre_promote_is_reported() {
    run(async |root| {
        let mark = root.join("stopping");
        let mut hooked = settings(&root, "pg1");
        hooked.before_stop = Some(format!("sh -c 'echo before > {}; exit 1'", mark.display()));
        let mut primary = TestServer::primary(hooked).await;
        let never = tokio_util::sync::CancellationToken::new();
        for (script, go_on) in [(None, true), (Some("true"), true), (Some("sh -c 'exit 3'"), false)] {
            primary.change(|settings| settings.pre_promote = script.map(str::to_owned));
            assert_eq!(primary.server.run_pre_promote(&never).await.unwrap(), go_on, "{script:?}");
        }
        primary.change(|settings| settings.pre_promote = Some("sh -c 'unbalanced".to_owned()));
        assert!(matches!(primary.server.run_pre_promote(&never).await, Err(ServerError::Program(_))));

        let (stage, _) = watch::channel(StopStage::Preparing);
        let request = StopRequest { hook: true, ..StopRequest::plain(StopMode::Fast) };
        let postmaster = primary.postmaster.take().unwrap();
        let end = primary.server.stop(&postmaster, &request, &stage).await.unwrap();
        assert_eq!(end, StopEnd::AsAsked, "its exit code does not matter");
        assert_eq!(std::fs::read_to_string(mark).unwrap(), "before\n");
    });
}
