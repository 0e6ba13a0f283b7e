//! A rewind whose source dies in the middle, so that the cluster goes on with another history than the one that it has taken blocks of:
//! nothing is started on such files, and no other rewind is tried. They are kept, and the member comes back with a copy.

use std::{fs, os::unix::fs::PermissionsExt as _};

use bellwether_acceptance::{
    Cluster, PATIENCE, binary, cluster::Options, journal::Moment, processes, wait::until,
};
use rustix::process::Signal;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_rewind_that_its_source_does_not_survive_ends_in_a_copy_beside_what_there_was() {
    // In the place of pg_rewind: says how often it was called, and ends as its source does.
    let place = tempfile::Builder::new().prefix("bw-rewind-").tempdir().expect("a directory");
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o777)).expect("it is ours");
    let (program, runs, go_on) =
        (place.path().join("slow_rewind"), place.path().join("runs"), place.path().join("go_on"));
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *--source-server=*) ;; *) exec {real} \"$@\" ;; esac\necho \"$*\" >> {runs}\n\
         while [ ! -e {go_on} ]; do sleep 0.05; done\necho 'could not read WAL record' >&2\nexit 1\n",
        real = binary::postgres_bin_dir().join("pg_rewind").display(),
        runs = runs.display(),
        go_on = go_on.display(),
    );
    fs::write(&program, script).expect("it can be written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it is ours");

    // What only the old primary has may be told before it dies, and keeps nobody from succeeding it.
    let patch = json!({
        "bootstrap": {"dcs": {"maximum_lag_on_failover": 64 << 20}},
        "postgresql": {"bin_name": {"pg_rewind": program}},
    });
    let cluster = Cluster::start_with(Options::nodes(3).with(patch)).await;
    let old = cluster.whole().await;
    cluster.synchronous(old).await;
    let session = old.sql().await;
    let senders = session.rows("SELECT pid FROM pg_stat_replication", &[]).await.expect("the senders");
    for sender in &senders {
        assert!(processes::send(sender.get(0), Signal::STOP));
    }
    let alone = "SET synchronous_commit = local; CREATE TABLE nobody_has_this (); SELECT pg_switch_wal()";
    session.client.batch_execute(alone).await.expect("a local commit waits for nobody");
    let lost_at = Moment::now();
    old.kill_tree();
    let source = cluster.successor_of(old).await;
    let writer = cluster.writer();
    writer.writes(20).await;

    old.power_on();
    until("it is being rewound", PATIENCE, || runs.exists()).await;
    source.kill_tree();
    fs::write(&go_on, "").expect("the script may end");
    let last = cluster.successor_of(source).await;
    assert_ne!(last.name, old.name);
    source.power_on();
    let leader = cluster.whole().await;
    assert_eq!(leader.name, last.name);

    let journal = old.journal().since(lost_at);
    assert!(journal.decision("setting_rewind_aside").is_some(), "{:?}", journal.codes());
    let calls = fs::read_to_string(&runs).expect("it was called");
    let data_dir = old.data_dir().display().to_string();
    let calls = calls.lines().filter(|line| line.contains(&data_dir)).count();
    assert_eq!(calls, 1, "no other rewind among blocks of two histories: {:?}", journal.codes());
    let aside = old.data_dir().with_extension("failed");
    assert!(aside.join("PG_VERSION").exists(), "what it had is kept in {}", aside.display());
    let alone = old.sql().await.text("to_regclass('nobody_has_this') IS NULL").await;
    assert_eq!(alone.expect("the replica answers").as_deref(), Some("true"), "and not served");
    cluster.holds(&writer.stop().await).await;
}
