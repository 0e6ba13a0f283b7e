//! A Patroni and a Bellwether share one cluster on etcd: each joins, follows, succeeds and rewinds from the other, and each keeps the
//! other alive when the store is gone.

use bellwether_acceptance::{
    Cluster, Node, Options, PATIENCE,
    cluster::{SCOPE, is_primary},
    eventually,
    patroni::{self, Program, steer},
    processes,
    wait::until,
    writer::Writer,
};
use rustix::process::Signal;
use serde_json::json;

fn key(name: &str) -> String {
    format!("/service/{SCOPE}/{name}")
}

/// How long the lease of this member lasts.
async fn granted_for(cluster: &Cluster, node: &Node, seconds: u64) {
    eventually(format!("the lease of {} lasts {seconds} s", node.name), PATIENCE, || async {
        match cluster.etcd().lease_time(&key(&format!("members/{}", node.name))).await {
            Ok(granted) if granted == seconds => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

async fn leads(node: &Node) {
    eventually(format!("{} leads", node.name), PATIENCE, || async {
        let status = node.api.status().await;
        if is_primary(&status) { Ok(()) } else { Err(status) }
    })
    .await;
}

/// Every commit waits for the other node, and `/sync` says so, too.
async fn covered(cluster: &Cluster, leader: &Node, other: &Node, names: &str) {
    let session = leader.sql().await;
    eventually(format!("synchronous_standby_names is {names}"), PATIENCE, || async {
        match session.text("current_setting('synchronous_standby_names')").await {
            Ok(Some(found)) if found == names => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    // Afterwards: while the mode changes, the key names both as it did before, then nobody, and then both again.
    cluster
        .stored("sync", "names both", |sync| {
            sync["leader"] == leader.name.as_str() && sync["sync_standby"] == other.name.as_str()
        })
        .await;
}

/// What the leader keeps in the store for its successor, and what both say of it.
async fn told_alike(cluster: &Cluster, leader: &Node, entries: usize) {
    let history = cluster
        .stored("history", "has every switch", |history| {
            history.as_array().is_some_and(|all| {
                all.len() == entries && all.last().is_some_and(|last| last[4] == leader.name.as_str())
            })
        })
        .await;
    for node in &cluster.nodes {
        eventually(format!("{} tells the history", node.name), PATIENCE, || async {
            let told = node.api.get("/history").await?.json();
            if told == history { Ok(()) } else { Err(format!("{told} instead of {history}")) }
        })
        .await;
    }
    let slots: Vec<&str> = cluster.nodes.iter().map(|node| node.name.as_str()).collect();
    cluster
        .stored("status", "has a position and the slots of both", |status| {
            status["optime"].is_u64() && slots.iter().all(|slot| status["slots"][*slot].is_u64())
        })
        .await;
    for node in &cluster.nodes {
        let member = cluster
            .stored(&format!("members/{}", node.name), "is whole", |member| {
                member["state"] == "running"
                    && member["timeline"].is_u64()
                    && member["xlog_location"].is_u64()
            })
            .await;
        let role = if node.name == leader.name { "primary" } else { "replica" };
        assert_eq!(member["role"], role, "{member}");
        assert!(member["version"].as_str().is_some_and(|version| version.starts_with("4.1.")), "{member}");
    }
}

async fn switched_over(cluster: &Cluster, from: &Node, to: &Node, asked: &Node) {
    let reply = asked.api.post("/switchover", json!({"leader": from.name, "candidate": to.name})).await;
    assert_eq!((reply.status, reply.text), (200, format!("Successfully switched over to \"{}\"", to.name)));
    assert_eq!(cluster.whole().await.name, to.name);
    cluster.stored("failover", "is cleared", |request| *request == json!({})).await;
}

/// The leader's host is lost with WAL that nobody has received; the other one takes over, and the old leader comes back rewound.
async fn succeeded_after_a_crash(cluster: &Cluster, old: &Node, new: &Node) {
    let session = old.sql().await;
    for sender in &session.rows("SELECT pid FROM pg_stat_replication", &[]).await.expect("the senders") {
        assert!(processes::send(sender.get(0), Signal::STOP));
    }
    let alone = "SET synchronous_commit = local; CREATE TABLE nobody_has_this (); SELECT pg_switch_wal()";
    session.client.batch_execute(alone).await.expect("a local commit waits for nobody");
    old.kill_tree();
    // Instead of waiting for the twenty seconds that Patroni demands.
    cluster.etcd().end_lease_of(&key("leader")).await;
    leads(new).await;
    old.power_on();
    assert_eq!(cluster.whole().await.name, new.name);
    let gone = old.sql().await.text("to_regclass('nobody_has_this') IS NULL").await;
    assert_eq!(gone.expect("the replica answers").as_deref(), Some("true"), "its lonely table is gone");
}

/// Without the store the leader goes on, because the other member lets it.
async fn kept_alive(cluster: &Cluster, leader: &Node, writer: &Writer) {
    let timeline = leader.api.status().await["timeline"].clone();
    cluster.stored("failsafe", "names both", |map| map.as_object().is_some_and(|map| map.len() == 2)).await;
    cluster.etcd().freeze();
    for node in &cluster.nodes {
        eventually(format!("{} says that failsafe is active", node.name), PATIENCE, || async {
            let status = node.api.status().await;
            if status["failsafe_mode_is_active"] == true { Ok(()) } else { Err(status) }
        })
        .await;
    }
    writer.writes(20).await;
    cluster.etcd().thaw();
    assert_eq!(cluster.whole().await.name, leader.name);
    assert_eq!(leader.api.status().await["timeline"], timeline, "nobody was promoted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patroni_and_a_bellwether_share_a_cluster() {
    let mut dcs = patroni::shortest_timings();
    dcs["synchronous_mode"] = json!(true);
    dcs["failsafe_mode"] = json!(true);
    let options = Options::nodes(2).on_etcd().with(json!({"bootstrap": {"dcs": dcs}}));
    let cluster = patroni::cluster_run_by(options, &[Program::Patroni, Program::Bellwether]).await;
    let [theirs, ours] = &cluster.nodes[..] else { panic!("two nodes") };
    covered(&cluster, theirs, ours, &ours.name).await;
    let writer = cluster.writer();
    writer.writes(20).await;

    // Ours asks theirs for the lead, is copied anew and keeps it alive.
    kept_alive(&cluster, theirs, &writer).await;
    steer(theirs, &["reinit", SCOPE, &ours.name, "--force", "--wait"]);
    assert_eq!(cluster.whole().await.name, theirs.name);
    covered(&cluster, theirs, ours, &ours.name).await;
    switched_over(&cluster, theirs, ours, theirs).await;
    told_alike(&cluster, ours, 1).await;
    covered(&cluster, ours, theirs, &theirs.name).await;

    // And the other way round, in another mode.
    kept_alive(&cluster, ours, &writer).await;
    steer(theirs, &["reinit", SCOPE, &theirs.name, "--force", "--wait"]);
    assert_eq!(cluster.whole().await.name, ours.name);
    covered(&cluster, ours, theirs, &theirs.name).await;
    let reply = ours.api.patch("/config", json!({"synchronous_mode": "quorum"})).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    covered(&cluster, ours, theirs, &format!("ANY 1 ({})", theirs.name)).await;
    switched_over(&cluster, ours, theirs, ours).await;
    told_alike(&cluster, theirs, 2).await;
    covered(&cluster, theirs, ours, &format!("ANY 1 ({})", ours.name)).await;

    // Crashes: of theirs in quorum mode, of ours in the strict one.
    let ledger = writer.stop().await;
    succeeded_after_a_crash(&cluster, theirs, ours).await;
    assert!(theirs.log_text().contains("pg_rewind exit code=0"), "Patroni has rewound");
    told_alike(&cluster, ours, 3).await;
    let strict = json!({"synchronous_mode": true, "synchronous_mode_strict": true});
    assert_eq!(theirs.api.patch("/config", strict).await.status, 200);
    covered(&cluster, ours, theirs, &theirs.name).await;
    succeeded_after_a_crash(&cluster, ours, theirs).await;
    let journal = ours.journal();
    let jobs = journal.of_kind("job");
    assert!(
        jobs.iter().any(|job| job["job"] == "Rewind" && job["outcome"] == "Succeeded"),
        "ours has rewound: {jobs:?}"
    );
    covered(&cluster, theirs, ours, &ours.name).await;
    told_alike(&cluster, theirs, 4).await;
    cluster.holds(&ledger).await;

    // Patroni raises for itself what is written here, and so does ours. Alone, it uses it.
    let reply = theirs.api.patch("/config", json!({"ttl": 5, "retry_timeout": 2})).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    until("ours raises it", PATIENCE, || ours.log_text().contains("ttl=5 can't be smaller than 20")).await;
    granted_for(&cluster, ours, 20).await;
    assert!(theirs.stop().await.success());
    leads(ours).await;
    cluster.etcd().end_lease_of(&key(&format!("members/{}", theirs.name))).await;
    granted_for(&cluster, ours, 5).await;
}
