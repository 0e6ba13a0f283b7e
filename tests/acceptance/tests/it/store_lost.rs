//! The store is gone: the leader goes on while every member agrees, and stops in time when one does not.

use std::time::{Duration, Instant};

use bellwether_acceptance::{
    Cluster, Node, Options, PATIENCE, Store,
    cluster::is_primary,
    eventually,
    journal::Moment,
    on_stores,
    wait::{throughout, until},
};
use serde_json::json;

const TTL: Duration = Duration::from_secs(5);

on_stores!(without_a_store_the_leader_goes_on_as_long_as_every_member_agrees: embedded, etcd);

async fn without_a_store_the_leader_goes_on_as_long_as_every_member_agrees(store: Store) {
    let slots = json!({
        "slots": {"consumer": {"type": "physical"}},
        "postgresql": {"parameters": {"wal_receiver_status_interval": "1s"}},
    });
    let options =
        Options::nodes(3).on(store).in_quorum_mode().with_links().with(json!({"bootstrap": {"dcs": slots}}));
    let cluster = Cluster::start_with(options).await;
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
    cluster.silence_store();
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
    slots_move(&cluster, leader).await;

    // One member is silent now: nobody can tell any more that it does not lead.
    let silent = cluster.others(leader)[0];
    silent.freeze_agent();
    let silent_since = Instant::now();
    until("PostgreSQL does not write any more", 2 * TTL, || leader.postmaster_pid() != postmaster).await;
    assert!(silent_since.elapsed() < TTL, "the last promise was over before: {:?}", silent_since.elapsed());
    let journal = leader.journal().since(cut_at);
    assert!(journal.decision("lease_running_out").is_some(), "{:?}", journal.codes());

    silent.thaw_agent();
    cluster.wake_store();
    cluster.whole().await;
    let healed = cluster.whole().await.api.status().await["timeline"].clone();
    assert!(healed.as_u64() >= timeline.as_u64());
    writer.writes(50).await;
    cluster.holds(&writer.stop().await).await;
}

/// E6: the consumer of a permanent slot goes on, and the copies on the other members do so, too.
async fn slots_move(cluster: &Cluster, leader: &Node) {
    let go_on = "(pg_replication_slot_advance('consumer', pg_current_wal_flush_lsn())).end_lsn";
    let end = leader.sql().await.text(go_on).await.expect("the slot is there").expect("a position");
    for node in cluster.others(leader) {
        let slot = "SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = 'consumer'";
        node.comes_to(&format!("({slot}) >= '{end}'")).await;
    }
    for node in &cluster.nodes {
        node.becomes("is in failsafe mode", |status| status["failsafe_mode_is_active"] == true).await;
    }
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
