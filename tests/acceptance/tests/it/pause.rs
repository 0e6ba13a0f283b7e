//! The pause: an operator has taken over. Nothing is started, stopped or promoted by itself; what an operator asks for is done.

use std::time::Duration;

use bellwether_acceptance::{
    Cluster, Options, PATIENCE, Store,
    cluster::is_primary,
    eventually,
    journal::Moment,
    on_stores,
    wait::{throughout, until},
};
use serde_json::{Value, json};

/// More than the lease of a new cluster (5 s) lasts.
const LEFT_ALONE_FOR: Duration = Duration::from_secs(8);

async fn pause(cluster: &Cluster) {
    let reply = cluster.nodes[0].api.patch("/config", json!({"pause": true})).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    everybody_echoes(cluster, true).await;
}

async fn resume(cluster: &Cluster) {
    let reply = cluster.nodes[0].api.patch("/config", json!({"pause": null})).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    everybody_echoes(cluster, false).await;
}

async fn everybody_echoes(cluster: &Cluster, paused: bool) {
    eventually(format!("every member says that pause is {paused}"), PATIENCE, || async {
        let statuses = cluster.statuses().await;
        let echo = |status: &Value| !status.is_null() && (status["pause"] == true) == paused;
        if statuses.iter().all(echo) { Ok(()) } else { Err(format!("{statuses:?}")) }
    })
    .await;
}

on_stores!(in_pause_a_dead_postgresql_stays_dead_until_the_resume: etcd);
on_stores!(in_pause_an_agent_that_stops_leaves_postgresql_alone: embedded, consul);

async fn in_pause_a_dead_postgresql_stays_dead_until_the_resume(store: Store) {
    let cluster = Cluster::start_with(Options::nodes(3).on(store).in_quorum_mode()).await;
    let leader = cluster.whole().await;
    let timeline = leader.api.status().await["timeline"].clone();
    pause(&cluster).await;

    let paused_at = Moment::now();
    let killed = leader.kill_postmaster();
    eventually("everybody can see that it is dead", PATIENCE, || async {
        let status = leader.api.status().await;
        if is_primary(&status) { Err(status) } else { Ok(()) }
    })
    .await;
    throughout("nobody starts it, nobody is promoted", LEFT_ALONE_FOR, || async {
        for node in &cluster.nodes {
            let status = node.api.status().await;
            if is_primary(&status) {
                return Err(format!("{} says it is a running primary: {status}", node.name));
            }
        }
        match leader.postmaster_pid() {
            Some(pid) if pid != killed => Err("PostgreSQL was started".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    let journal = leader.journal().since(paused_at);
    assert!(journal.decision("paused_released_not_running").is_some(), "{:?}", journal.codes());

    // What an operator asks for is done in pause too: there is no leader, and a failover needs none.
    let candidate = cluster.others(leader)[0];
    let reply = candidate.api.post("/failover", json!({"candidate": candidate.name})).await;
    assert_eq!(
        (reply.status, reply.text),
        (200, format!("Successfully failed over to \"{}\"", candidate.name))
    );
    eventually("the candidate leads", PATIENCE, || async {
        let status = candidate.api.status().await;
        if is_primary(&status) { Ok(()) } else { Err(status) }
    })
    .await;

    resume(&cluster).await;
    let now = cluster.whole().await;
    assert_eq!(now.name, candidate.name, "the dead one came back as a replica");
    assert_ne!(now.api.status().await["timeline"], timeline);
}

async fn in_pause_an_agent_that_stops_leaves_postgresql_alone(store: Store) {
    let cluster = Cluster::start_with(Options::nodes(1).on(store).in_quorum_mode()).await;
    let node = cluster.whole().await;
    let postmaster = node.postmaster_pid();
    let writer = cluster.writer();
    writer.writes(20).await;
    pause(&cluster).await;

    let stopped_at = Moment::now();
    let status = node.stop().await;
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(node.journal().since(stopped_at).decision("shutdown_paused").is_some());
    throughout("PostgreSQL runs on", LEFT_ALONE_FOR, || async {
        if node.postmaster_pid() == postmaster { Ok(()) } else { Err("it was stopped") }
    })
    .await;
    until("its guardian is dismissed", PATIENCE, || node.guardian_pids().is_empty()).await;

    node.power_on();
    eventually("the next agent leads", PATIENCE, || cluster.primary()).await;
    resume(&cluster).await;
    eventually("and holds the lock", PATIENCE, || async {
        let reply = node.api.get("/primary").await?;
        if reply.status == 200 { Ok(()) } else { Err(reply.text) }
    })
    .await;
    until("a guardian guards it again", PATIENCE, || node.guardian_pids().len() == 1).await;
    assert_eq!(node.postmaster_pid(), postmaster, "adopted, not restarted");
    let ledger = writer.stop().await;
    assert_eq!((ledger.failed, ledger.sessions), (vec![], 1), "no client noticed");
}
