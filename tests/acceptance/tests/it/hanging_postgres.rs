//! PostgreSQL hangs: the API answers all the same, at once, and nobody mistakes the silence for a death.

use std::time::{Duration, Instant};

use bellwether_acceptance::Cluster;
use rustix::process::Signal;

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
