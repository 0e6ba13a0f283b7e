//! `watchdog.driver: testing` is a rehearsal of fencing: nobody is killed, and what the guardian would have done is told.

use std::time::Duration;

use bellwether_acceptance::{
    Cluster, Options, PATIENCE, eventually,
    wait::{throughout, until},
};
use serde_json::{Value, json};

/// More than the lease of a new cluster (5 s) lasts.
const FROZEN_FOR: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_kills_nobody_and_tells_whom_it_would_have_killed() {
    let options = Options::nodes(1).with(json!({"watchdog": {"driver": "testing"}}));
    let cluster = Cluster::start_with(options).await;
    let node = &cluster.nodes[0];
    let postmaster = node.postmaster_pid();
    // The founder of a cluster takes the lock first, and arms its guardian in the next decision.
    until("the leader is guarded", PATIENCE, || node.journal().decision("leader_with_the_lock").is_some())
        .await;

    node.freeze_agent();
    throughout("PostgreSQL runs on", FROZEN_FOR, || async {
        if node.postmaster_pid() == postmaster { Ok(()) } else { Err("it was killed") }
    })
    .await;
    let record: Value = eventually("the guardian's record", PATIENCE, || async {
        let text = std::fs::read_to_string(node.runtime_dir().join("guardian-fired.json"));
        text.map_err(|error| error.to_string())
            .and_then(|text| serde_json::from_str(&text).map_err(|error| error.to_string()))
    })
    .await;
    assert_eq!(record["rehearsal"], true, "{record}");
    assert!(
        record["killed"].as_u64().is_some_and(|killed| killed >= 2),
        "whom it would have killed: {record}"
    );

    node.thaw_agent();
    cluster.whole().await;
}
