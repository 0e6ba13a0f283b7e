//! A cluster whose store is Consul: it bootstraps with Patroni's keys, a switchover loses no row, and the catalogue follows the
//! members' roles.

use bellwether_acceptance::{Cluster, Node, Options, PATIENCE, cluster::SCOPE, eventually, wait::until};
use serde_json::{Value, json};

/// Waits until a client that asks Consul finds exactly these members by a tag.
async fn found(cluster: &Cluster, tag: &str, expected: &[&str]) {
    let mut expected: Vec<String> = expected.iter().map(|name| format!("{SCOPE}/{name}")).collect();
    expected.sort();
    eventually(format!("Consul answers {tag} with {expected:?}"), PATIENCE, || async {
        match cluster.consul().healthy(SCOPE, tag).await? {
            found if found == expected => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_consul_a_switchover_loses_no_row_and_the_catalogue_follows() {
    // Consul's own floor: a session gets half of it, and there are none below 10 s.
    let timings = json!({"ttl": 20, "loop_wait": 1, "retry_timeout": 4, "synchronous_mode": "quorum"});
    let cluster =
        Cluster::start_with(Options::nodes(3).on_consul().with(json!({"bootstrap": {"dcs": timings}}))).await;
    let old = cluster.whole().await;
    cluster.synchronous(old).await;
    let leader = cluster.consul().key(&format!("service/{SCOPE}/leader")).await;
    assert!(leader["Session"].is_string(), "the lock hangs on a session: {leader}");
    let names = |nodes: Vec<&Node>| -> Vec<String> { nodes.iter().map(|node| node.name.clone()).collect() };
    found(&cluster, "primary", &[&old.name]).await;
    found(&cluster, "master", &[&old.name]).await;
    let replicas = names(cluster.others(old));
    found(&cluster, "replica", &replicas.iter().map(String::as_str).collect::<Vec<_>>()).await;

    let writer = cluster.writer();
    writer.writes(50).await;
    let reply = old.api.post("/switchover", json!({"leader": old.name})).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    writer.writes(50).await;
    let new = cluster.whole().await;
    assert_ne!(new.name, old.name);
    found(&cluster, "primary", &[&new.name]).await;
    let replicas = names(cluster.others(new));
    found(&cluster, "replica", &replicas.iter().map(String::as_str).collect::<Vec<_>>()).await;
    cluster.holds(&writer.stop().await).await;

    // The next agent finds PostgreSQL running: it was in the catalogue all the time.
    let starts = new.supervisor().starts();
    new.kill_agent();
    until("another agent runs", PATIENCE, || new.supervisor().starts() == starts + 1).await;
    assert_eq!(cluster.whole().await.name, new.name, "nobody took over");
    let registered = || new.log_text().matches("registered in Consul as a service, role=primary").count();
    until("the next agent has registered it too", PATIENCE, || registered() == 2).await;
    assert!(!new.log_text().contains("no longer registered"), "{}", new.log_text());

    // A member that is stopped in order takes itself out, and the others stay.
    let stopped = cluster.others(new)[0];
    stopped.stop().await;
    let id = format!("{SCOPE}/{}", stopped.name);
    let left = cluster.consul().service(SCOPE, "replica").await.expect("Consul answers");
    assert!(!left.contains(&id) && left.len() == 1, "{left:?}");

    // Switched off by a reload.
    let mut document: Value = new.document.clone();
    document["consul"]["register_service"] = json!(false);
    new.rewrite(&document);
    let reply = new.api.post("/reload", json!({})).await;
    assert!(reply.status < 300, "{reply:?}");
    eventually("the primary is out of the catalogue", PATIENCE, || async {
        match cluster.consul().service(SCOPE, "primary").await? {
            found if found.is_empty() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}
