//! Who is stopped by a signal is noticed, whoever started it.

use std::{process::Command, time::Duration};

use bellwether_postgres::{
    postmaster::{Postmaster, StopMode},
    stop_watch::StopWatch,
};
use rustix::process::{Pid, Signal, kill_process};

use crate::server_under_test::{TestServer, run, settings};

const PATIENCE: Duration = Duration::from_secs(20);

async fn is_noticed(postmaster: &Postmaster) {
    let mut watch = StopWatch::new(postmaster).unwrap();
    let pid = Pid::from_raw(postmaster.id().pid).unwrap();
    for (sent, is_stopped) in [(Signal::STOP, true), (Signal::CONT, false), (Signal::STOP, true)] {
        kill_process(pid, sent).unwrap();
        let seen = tokio::time::timeout(PATIENCE, watch.changed()).await;
        assert_eq!(seen.expect("it is noticed"), is_stopped);
    }
    kill_process(pid, Signal::CONT).unwrap();
}

#[test]
fn a_postmaster_that_is_stopped_is_noticed_whoever_started_it() {
    run(async |root| {
        let mut server = TestServer::primary(settings(&root, "only")).await;
        is_noticed(server.postmaster()).await;
        server.stop(StopMode::Fast).await;

        let data_dir = server.settings().data_dir.clone();
        let pg_ctl = |what: &[&str]| {
            let program =
                server.settings().bin_dir.as_ref().map_or("pg_ctl".into(), |dir| dir.join("pg_ctl"));
            let log = root.join("log");
            let done = Command::new(program)
                .arg("-D")
                .arg(&data_dir)
                .arg("-l")
                .arg(log)
                .arg("-w")
                .args(what)
                .status();
            assert!(done.unwrap().success(), "pg_ctl {what:?}");
        };
        pg_ctl(&["start"]);
        let somebody_elses = Postmaster::find(&data_dir).unwrap().unwrap();
        is_noticed(&somebody_elses).await;
        pg_ctl(&["stop", "-m", "fast"]);
    });
}
