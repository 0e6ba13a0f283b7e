//! PostgreSQL hangs: the API answers all the same, at once, and nobody mistakes the silence for a death.

use std::time::{Duration, Instant};

use bellwether_acceptance::{
    Cluster,
    cluster::Options,
    journal::Moment,
    wait::{PATIENCE, eventually},
};
use rustix::process::Signal;
use serde_json::{Value, json};

const ANSWERED_WITHIN: Duration = Duration::from_millis(100);
const ROUNDS: usize = 15;
const PATHS: [&str; 9] =
    ["/patroni", "/", "/primary", "/replica", "/health", "/liveness", "/readiness", "/cluster", "/metrics"];

#[tokio::test(flavor = "multi_thread")]
async fn the_api_answers_while_postgresql_hangs() {
    let cluster = Cluster::start(1).await;
    let leader = cluster.whole().await;
    let postmaster = leader.postmaster_pid();
    leader.signal_postgres(Signal::STOP);

    let mut slow = Vec::new();
    for round in 0..ROUNDS {
        for path in PATHS {
            let began = Instant::now();
            leader.api.get(path).await.unwrap_or_else(|error| panic!("GET {path}: {error}"));
            let took = began.elapsed();
            if took > ANSWERED_WITHIN {
                slow.push((round, path, took));
            }
        }
        // The rounds reach over some statement timeouts of the monitor.
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    // A busy machine may cost one or two of these 135 answers a tenth of a second.
    assert!(slow.len() <= 2, "answers came late: {slow:?}");
    let leads = leader.api.get("/leader").await.expect("the API answers");
    assert_eq!(leads.status, 200, "a hanging server is no reason to give up the lock: {}", leads.text);

    leader.signal_postgres(Signal::CONT);
    cluster.whole().await;
    assert_eq!(leader.postmaster_pid(), postmaster, "nobody restarted it: {:?}", leader.journal().codes());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_postgresql_hangs_says_so_and_leaves_the_lock_to_others() {
    // By votes the last member could not win alone.
    let options = Options::nodes(3).with(json!({"bootstrap": {"dcs": {"synchronous_mode": "off"}}}));
    let cluster = Cluster::start_with(options).await;
    let leader = cluster.whole().await;
    let [hanging, heir] = cluster.others(leader)[..] else { panic!("three nodes") };
    hanging.signal_postgres(Signal::STOP);

    let says_so = |status: Value| match (&status["state"], &status["xlog"]) {
        (state, Value::Null) if state == "unknown" => Ok(()),
        _ => Err(format!("it says {status}")),
    };
    eventually("the hanging server is called unknown", PATIENCE, || async {
        says_so(hanging.api.status().await)
    })
    .await;

    let lost_at = Moment::now();
    leader.kill_tree();
    let new = cluster.successor_of(leader).await;
    assert_eq!(new.name, heir.name);
    let journal = hanging.journal().since(lost_at);
    assert!(journal.decision("acquiring_lock").is_none(), "it raced: {:?}", journal.codes());

    hanging.signal_postgres(Signal::CONT);
    leader.power_on();
    cluster.whole().await;
}
