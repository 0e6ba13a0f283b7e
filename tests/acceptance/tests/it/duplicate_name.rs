//! Two agents with one name: the second refuses to start, as long as the first one really lives.

use std::time::Duration;

use bellwether_acceptance::{Cluster, run::to_the_end};
use serde_json::json;

const DUPLICATE_NAME: i32 = 76;

#[tokio::test(flavor = "multi_thread")]
async fn a_second_agent_of_the_same_name_refuses_to_start() {
    let mut cluster = Cluster::start(1).await;
    let twin = cluster.guest("node1", json!({}));
    let leader = cluster.whole().await;
    let writer = cluster.writer();
    writer.writes(20).await;

    let ended = to_the_end(twin.command(), Duration::from_secs(60));
    assert_eq!(ended.code(), Some(DUPLICATE_NAME), "{}", ended.text);
    ended.says("Can't start; there is already a node named 'node1' running");
    ended.says("code=BW0301");
    assert!(!twin.data_dir().exists(), "nothing was made");

    writer.writes(20).await;
    let ledger = writer.stop().await;
    assert_eq!(ledger.failed, Vec::<String>::new(), "the first one was not disturbed");
    assert_eq!(cluster.whole().await.name, leader.name);
}
