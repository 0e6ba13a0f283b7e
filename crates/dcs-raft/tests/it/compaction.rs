//! The log does not grow for ever.

use std::{sync::Arc, time::Duration};

use bellwether_dcs::{CommitOutcome, Store, Write};
use bellwether_dcs_raft::RaftStore;
use tokio::task::JoinSet;

use crate::cluster::{Cluster, get, put, soon, until};

/// More than two snapshots' worth of entries, so that the oldest are purged.
const WRITES: usize = 6000;
const WRITERS: usize = 64;

async fn write_many(store: &Arc<RaftStore>) {
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let store = store.clone();
        writers.spawn(async move {
            for number in 0..WRITES / WRITERS {
                let write = Write::put(format!("key{writer}").as_str(), number.to_string());
                let outcome = store.commit(&[], &[write], soon()).await;
                assert!(matches!(outcome, CommitOutcome::Applied(_)), "{outcome:?}");
            }
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer.expect("the writer succeeds");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_missed_the_purged_log_gets_a_snapshot_and_all_restart_from_one() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    put(&**cluster.nodes[leader].store(), "first", "1").await;
    let lease =
        cluster.nodes[leader].store().grant_lease(Duration::from_secs(3600), soon()).await.expect("a lease");
    let absent = cluster.follower().await;
    cluster.nodes[absent].kill();
    write_many(cluster.nodes[leader].store()).await;
    put(&**cluster.nodes[leader].store(), "last", "1").await;
    let snapshot = cluster.nodes[leader].config.data_dir.join("snapshot");
    until("the leader has a snapshot", || snapshot.exists()).await;

    cluster.nodes[absent].start().await;
    let returned = cluster.nodes[absent].store().clone();
    assert_eq!(get(&*returned, "last").await.as_deref(), Some("1"));
    assert_eq!(get(&*returned, "first").await.as_deref(), Some("1"));
    assert!(cluster.nodes[absent].config.data_dir.join("snapshot").exists(), "it came by snapshot");
    drop(returned);

    let expected = cluster.nodes[leader].store().snapshot(soon()).await.expect("a snapshot");
    for node in &mut cluster.nodes {
        node.kill();
    }
    for node in &mut cluster.nodes {
        node.start().await;
    }
    for node in &cluster.nodes {
        assert_eq!(node.store().snapshot(soon()).await.expect("a snapshot"), expected);
    }
    let renewal = cluster.nodes[0].store().keep_alive(lease, None, soon()).await;
    assert!(matches!(renewal, bellwether_dcs::Renewal::Valid { .. }), "{renewal:?}");

    // Without its snapshot a purged log is worth nothing, and that is said.
    cluster.nodes[absent].shut_down().await;
    let directory = cluster.nodes[absent].config.data_dir.clone();
    std::fs::remove_file(directory.join("snapshot")).expect("it is there");
    let error =
        crate::cluster::start(&cluster.nodes[absent].config).await.expect_err("half of it is missing");
    assert!(crate::peers::chain(&error).contains("snapshot"), "{}", crate::peers::chain(&error));
}
