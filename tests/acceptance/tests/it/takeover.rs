//! Quorum take-over: a leader that its voters do not hear is replaced long before its lease ends, and no acknowledged row is lost; also
//! when it lives on and still has clients. A promise binds the next agent, until it sees that it is over.

use std::time::Duration;

use bellwether_acceptance::{
    Cluster, Node, Options, PATIENCE,
    journal::Moment,
    processes::{of_postgres, send},
    wait::until,
};
use rustix::process::Signal;
use serde_json::json;

/// A lease that nobody could wait for within this test: renewed every fifth of it.
const TTL_SECS: u64 = 60;
/// On a machine that is busy with other tests.
const REPLACED_WITHIN: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_nobody_hears_is_replaced_before_its_lease_ends() {
    let cluster = Cluster::start_with(Options::nodes(3).with(json!({"bootstrap": {"dcs": {
        "quorum_takeover": true, "synchronous_mode": "quorum",
        "ttl": TTL_SECS, "loop_wait": 1, "retry_timeout": 3,
    }}})))
    .await;
    let first = cluster.whole().await;
    cluster.synchronous(first).await;
    let writer = cluster.writer();
    writer.writes(50).await;

    writer.begin_event();
    let lost_at = Moment::now();
    first.kill_tree();
    let second = cluster.successor_of(first).await;
    writer.writes(50).await;
    assert!(writer.outage() < REPLACED_WITHIN, "writes were away for {:?}", writer.outage());
    let journal = second.journal().since(lost_at);
    assert!(journal.action("TakeOver").is_some(), "{:?}", journal.codes());
    let promises = journal.of_kind("promise");
    assert!(promises.iter().any(|promise| promise["leader"] == first.name.as_str()), "{:?}", journal.codes());
    first.power_on();
    assert_eq!(cluster.whole().await.name, second.name, "the old leader came back as a replica");
    cluster.synchronous(second).await;
    writer.writes(50).await;

    // Nobody but its clients hears from it.
    let session = second.sql().await;
    let (silent, cut_off_at) = (speakers(second), Moment::now());
    writer.begin_event();
    silent.iter().for_each(|&pid| assert!(send(pid, Signal::STOP)));
    second.freeze_agent();
    let late = tokio::spawn(async move { session.text("pg_current_wal_flush_lsn()").await.is_ok() });
    assert!(late.await.expect("no panic"), "its sessions go on");
    let third = cluster.successor_of(second).await;
    writer.writes(50).await;
    assert!(writer.outage() < REPLACED_WITHIN, "writes were away for {:?}", writer.outage());
    let journal = third.journal().since(cut_off_at);
    assert!(journal.action("TakeOver").is_some(), "{:?}", journal.codes());
    silent.iter().for_each(|&pid| assert!(send(pid, Signal::CONT)));
    second.thaw_agent();
    assert_eq!(cluster.whole().await.name, third.name, "it came back as a replica");

    a_promise_that_is_over_is_forgotten(&cluster, third).await;
    cluster.holds(&writer.stop().await).await;
}

/// All by which other nodes hear from this one's PostgreSQL; the postmaster first, which would start another walsender.
fn speakers(node: &Node) -> Vec<i32> {
    let postmaster = node.postmaster_pid().expect("it runs");
    let is_walsender = |pid: &i32| {
        let title = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&title).contains("walsender")
    };
    let walsenders = of_postgres(&node.data_dir()).into_iter().filter(is_walsender);
    std::iter::once(postmaster).chain(walsenders).collect()
}

/// Found by a new agent in the file of the old one.
async fn a_promise_that_is_over_is_forgotten(cluster: &Cluster, leader: &Node) {
    let bound = cluster.others(leader)[0];
    bound.hold();
    bound.kill_agent();
    until("its agent is dead", PATIENCE, || bound.agent_pid().is_none()).await;
    let file = bound.runtime_dir().join("takeover.json");
    let promise = json!({
        "revision": 1, "epoch": 99, "leader": leader.name,
        "position": {"timeline": 1, "lsn": 4096},
    });
    let text = json!({"v": 1, "boot": "another", "made_at": 0, "promise": promise}).to_string();
    std::fs::write(&file, text).expect("the runtime directory is there");
    cluster.account.own(&file, 0o600);
    let restarted_at = Moment::now();
    bound.power_on();
    until("the promise is forgotten", PATIENCE, || {
        !file.exists() && !bound.journal().since(restarted_at).of_kind("promise_forgotten").is_empty()
    })
    .await;
}
