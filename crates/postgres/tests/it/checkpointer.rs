//! Whether commits wait for synchronous standbys is what the checkpointer says, not what the setting shows.

use bellwether_postgres::{checkpointer::read_configuration, config::ConfigPlan};
use rustix::process::{Pid, Signal, kill_process};

use crate::server_under_test::{TestServer, run, settings, until};

async fn name(primary: &TestServer, names: &str) {
    let plan = ConfigPlan { synchronous_standby_names: Some(names.to_owned()), ..ConfigPlan::primary() };
    primary.server.apply_config(&plan).await.unwrap();
    primary.server.reload(primary.postmaster()).unwrap();
}

pub(crate) async fn checkpointer_of(primary: &TestServer) -> Pid {
    let statement = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'";
    let pid: i32 = primary.client().await.query_one(statement, &[]).await.unwrap().get(0);
    Pid::from_raw(pid).unwrap()
}

fn state(pid: Pid) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap();
    stat.rsplit_once(')').unwrap().1.split_whitespace().next().unwrap().to_owned()
}

/// It must write something: a transaction that only has a number waits for nobody.
const COMMIT: &str = "SET synchronous_commit = on; SELECT pg_logical_emit_message(true, 'test', '')";
const WAITING: &str = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";

async fn commits_wait(primary: &TestServer) -> bool {
    primary.client().await.query_one(WAITING, &[]).await.unwrap().get::<_, i64>(0) > 0
}

#[test]
fn names_that_a_stopped_checkpointer_has_not_read_are_shown_but_not_in_force() {
    run(async |root| {
        let mut primary = TestServer::primary(settings(&root, "pg1")).await;
        let id = primary.postmaster().id().clone();
        until_read(&mut primary).await;
        let checkpointer = checkpointer_of(&primary).await;
        kill_process(checkpointer, Signal::STOP).unwrap();
        until("it is stopped", async || state(checkpointer) == "T").await;

        name(&primary, "nobody").await;
        primary.observe_until(|seen| seen.synchronous_standby_names == "nobody").await;
        // Nobody bears that name, and yet this returns.
        primary.sql(COMMIT).await;
        for _ in 0..3 {
            assert!(!read_configuration(&mut primary.monitor, &id).await.unwrap(), "it has read nothing");
        }
        primary.sql(COMMIT).await;

        kill_process(checkpointer, Signal::CONT).unwrap();
        until_read(&mut primary).await;
        let client = primary.client().await;
        let commit = tokio::spawn(async move { client.batch_execute(COMMIT).await });
        until("a commit waits", async || commits_wait(&primary).await).await;
        assert!(!commit.is_finished());
        name(&primary, "").await;
        commit.await.unwrap().unwrap();
    });
}

/// The machine may be busy; the checkpointer has nothing else to do.
async fn until_read(primary: &mut TestServer) {
    let id = primary.postmaster().id().clone();
    let monitor = &mut primary.monitor;
    until("the checkpointer has read its files", async || read_configuration(monitor, &id).await.unwrap())
        .await;
}
