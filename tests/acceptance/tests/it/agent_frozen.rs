//! The leader's agent freezes: its guardian kills PostgreSQL before anybody else leads. A guardian that dies is replaced.

use std::time::{Duration, Instant};

use bellwether_acceptance::{
    Cluster, PATIENCE, cluster::is_primary, eventually, journal::Moment, wait::until,
};

/// "Within a second", with room for a busy machine.
const REPLACED_WITHIN: Duration = Duration::from_secs(3);
const TTL: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn the_guardian_of_a_frozen_agent_kills_postgresql_before_anybody_else_leads() {
    let cluster = Cluster::start(3).await;
    let old = cluster.whole().await;
    cluster.synchronous(old).await;
    let writer = cluster.writer();
    writer.writes(50).await;
    kill_the_guardian(old).await;
    writer.writes(50).await;
    assert_eq!(writer.ledger().failed, Vec::<String>::new(), "the loss of a guardian interrupts nobody");

    let frozen_at = Moment::now();
    let frozen = Instant::now();
    old.freeze_agent();
    // Both are looked at in turn, PostgreSQL last: whoever leads while it runs is seen.
    let dead_at = eventually("PostgreSQL of the frozen node is killed", PATIENCE, || async {
        for other in cluster.others(old) {
            let leads = is_primary(&other.api.status().await);
            assert!(
                !(leads && old.postgres_runs()),
                "{} leads while PostgreSQL of {} runs",
                other.name,
                old.name
            );
        }
        if old.postgres_runs() { Err("it still runs") } else { Ok(Moment::now()) }
    })
    .await;
    assert!(frozen.elapsed() < 2 * TTL, "the lease was over long before: {:?}", frozen.elapsed());

    let new = cluster.successor_of(old).await;
    let journal = new.journal().since(frozen_at);
    let promoted =
        journal.decision("promoted_by_acquiring_lock").expect("the successor tells of its promotion");
    assert!(dead_at <= Moment::of(promoted), "{} ms too early", dead_at.since(Moment::of(promoted)));
    writer.writes(50).await;

    old.thaw_agent();
    let leader = cluster.whole().await;
    assert_eq!(leader.name, new.name, "the thawed node came back as a replica");
    cluster.holds(&writer.stop().await).await;
}

async fn kill_the_guardian(node: &bellwether_acceptance::Node) {
    let guardians = node.guardian_pids();
    let [guardian] = guardians[..] else { panic!("one guardian expected: {guardians:?}") };
    assert!(bellwether_acceptance::processes::send(guardian, rustix::process::Signal::KILL));
    until("another guardian runs", REPLACED_WITHIN, || {
        node.guardian_pids().iter().any(|pid| *pid != guardian)
    })
    .await;
    until("the journal tells of it", PATIENCE, || node.journal().decision("respawning_guardian").is_some())
        .await;
}
