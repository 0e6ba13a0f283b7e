//! The store is gone: the leader goes on while every member agrees, and stops in time when one does not.

use std::time::{Duration, Instant};

use bellwether_acceptance::{
    Cluster, Options, PATIENCE,
    cluster::is_primary,
    eventually,
    journal::Moment,
    wait::{throughout, until},
};

const TTL: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn without_a_store_the_leader_goes_on_as_long_as_every_member_agrees() {
    let cluster = Cluster::start_with(Options::nodes(3).with_links()).await;
    let leader = cluster.whole().await;
    cluster.synchronous(leader).await;
    let timeline = leader.api.status().await["timeline"].clone();
    let postmaster = leader.postmaster_pid();
    eventually("every member is in the failsafe list", PATIENCE, || async {
        let reply = leader.api.get("/failsafe").await?;
        if reply.status == 200 && reply.json().as_object().is_some_and(|map| map.len() == 3) {
            Ok(())
        } else {
            Err(reply.text)
        }
    })
    .await;
    let writer = cluster.writer();
    writer.writes(50).await;

    let cut_at = Moment::now();
    cluster.links().cut();
    throughout("the leader leads and nobody else does", 3 * TTL, || async {
        let leads = leader.api.get("/primary").await?;
        if leads.status != 200 {
            return Err(format!("GET /primary of {}: {}", leader.name, leads.text));
        }
        for other in cluster.others(leader) {
            if is_primary(&other.api.status().await) {
                return Err(format!("{} leads too", other.name));
            }
        }
        Ok(())
    })
    .await;
    writer.writes(50).await;
    assert_eq!(leader.postmaster_pid(), postmaster);
    let journal = leader.journal().since(cut_at);
    assert!(journal.decision("continue_by_failsafe").is_some(), "{:?}", journal.codes());
    assert_eq!(leader.api.status().await["failsafe_mode_is_active"], true);
    assert_eq!(writer.ledger().failed, Vec::<String>::new(), "no client noticed");

    // One member is silent now: nobody can tell any more that it does not lead.
    let silent = cluster.others(leader)[0];
    silent.freeze_agent();
    let silent_since = Instant::now();
    until("PostgreSQL does not write any more", 2 * TTL, || leader.postmaster_pid() != postmaster).await;
    assert!(silent_since.elapsed() < TTL, "the last promise was over before: {:?}", silent_since.elapsed());
    let journal = leader.journal().since(cut_at);
    assert!(journal.decision("lease_running_out").is_some(), "{:?}", journal.codes());

    silent.thaw_agent();
    cluster.links().mend();
    cluster.whole().await;
    let healed = cluster.whole().await.api.status().await["timeline"].clone();
    assert!(healed.as_u64() >= timeline.as_u64());
    writer.writes(50).await;
    cluster.holds(&writer.stop().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_lost_the_store_and_its_peers_stops_before_its_lease_is_over() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.whole().await;
    cluster.synchronous(leader).await;
    let postmaster = leader.postmaster_pid();
    let writer = cluster.writer();
    writer.writes(50).await;

    let frozen_at = Moment::now();
    let frozen = Instant::now();
    for other in cluster.others(leader) {
        other.freeze_agent();
    }
    until("PostgreSQL does not write any more", 2 * TTL, || leader.postmaster_pid() != postmaster).await;
    assert!(frozen.elapsed() < TTL, "the lease was over before: {:?}", frozen.elapsed());
    eventually("the API says that it does not lead", PATIENCE, || async {
        let reply = leader.api.get("/primary").await?;
        if reply.status == 503 { Ok(()) } else { Err(reply.text) }
    })
    .await;
    let journal = leader.journal().since(frozen_at);
    assert!(journal.decision("lease_running_out").is_some(), "{:?}", journal.codes());
    assert!(
        !leader.runtime_dir().join("guardian-fired.json").exists(),
        "an agent that works needs no guardian"
    );

    for other in cluster.others(leader) {
        other.thaw_agent();
    }
    cluster.whole().await;
    writer.writes(50).await;
    cluster.holds(&writer.stop().await).await;
}
