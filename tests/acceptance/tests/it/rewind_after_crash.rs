//! A crashed primary that has written what nobody received comes back by pg_rewind, without what nobody had acknowledged.

use bellwether_acceptance::{Cluster, Options, PATIENCE, journal::Moment, processes, wait::until};
use rustix::process::Signal;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_diverged_primary_is_rewound_when_it_returns() {
    // What only the old primary has may be told before it dies, and keeps nobody from succeeding it.
    let patch = json!({"bootstrap": {"dcs": {"maximum_lag_on_failover": 64 << 20}}});
    let cluster = Cluster::start_with(Options::nodes(3).with(patch)).await;
    let old = cluster.whole().await;
    cluster.synchronous(old).await;
    let writer = cluster.writer();
    writer.writes(50).await;
    let ledger = writer.stop().await;

    // Frozen senders: what is written from here on reaches nobody.
    let session = old.sql().await;
    let senders = session.rows("SELECT pid FROM pg_stat_replication", &[]).await.expect("the senders");
    for sender in &senders {
        assert!(processes::send(sender.get(0), Signal::STOP));
    }
    let alone = "SET synchronous_commit = local; CREATE TABLE nobody_has_this (); SELECT pg_switch_wal()";
    session.client.batch_execute(alone).await.expect("a local commit waits for nobody");
    let lost_at = Moment::now();
    old.kill_tree();
    let new = cluster.successor_of(old).await;
    let back = cluster.writer();
    back.writes(50).await;

    old.power_on();
    let leader = cluster.whole().await;
    assert_eq!(leader.name, new.name);
    let journal = old.journal().since(lost_at);
    let jobs = journal.of_kind("job");
    let has = |kind: &str| jobs.iter().any(|job| job["job"] == kind && job["outcome"] == "Succeeded");
    assert!(journal.decision("rewind").is_some() && has("Rewind"), "rewound: {:?}", journal.codes());
    assert!(!has("Clone") && !has("Reinitialize"), "not rebuilt: {jobs:?}");
    until("the old data is gone", PATIENCE, || old.postgres_runs()).await;
    let alone = old.sql().await.text("to_regclass('nobody_has_this') IS NULL").await;
    assert_eq!(alone.expect("the replica answers").as_deref(), Some("true"), "its lonely table is gone");
    let after = back.stop().await;
    cluster.holds(&after).await;
    let rows = old.sql().await.written_rows().await.expect("the rows");
    assert_eq!(ledger.missing_from(&rows), Vec::<i64>::new(), "what was acknowledged before is there");
}
