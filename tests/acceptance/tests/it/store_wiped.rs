//! `patronictl remove` on a living cluster, by its own dialogue: the leader writes all keys anew and never stops; and where it cannot, an
//! operator names who shall.

use std::{collections::BTreeMap, time::Duration};

use bellwether_acceptance::{
    Cluster, Node, Options, PATIENCE,
    cluster::SCOPE,
    eventually,
    journal::Moment,
    patroni::{patronictl_answering, steer},
};
use serde_json::json;

async fn cluster() -> Cluster {
    let settings = json!({
        "ttl": 20, "loop_wait": 2, "retry_timeout": 3, "synchronous_mode": "quorum", "maximum_lag_on_failover": 3_000_000,
    });
    let cluster =
        Cluster::start_with(Options::nodes(3).on_etcd().with(json!({"bootstrap": {"dcs": settings}}))).await;
    let leader = cluster.whole().await;
    cluster.synchronous(leader).await;
    cluster
}

/// What of the cluster is in etcd and does not move by itself.
async fn lasting(cluster: &Cluster) -> BTreeMap<String, String> {
    let keys = cluster.etcd().keys().await.into_iter();
    let lasting =
        ["initialize", "config", "leader", "sync", "history"].map(|key| format!("/service/{SCOPE}/{key}"));
    keys.filter(|(key, ..)| lasting.contains(key)).map(|(key, value, _)| (key, value)).collect()
}

fn remove(by: &Node, leader: &str) {
    let ended = patronictl_answering(by, &["remove", SCOPE], &format!("{SCOPE}\nYes I am aware\n{leader}\n"));
    assert!(ended.status.success(), "{}\n{}", ended.status, ended.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_of_a_removed_cluster_writes_its_keys_anew_and_goes_on() {
    let cluster = cluster().await;
    let leader = cluster.whole().await;
    let before = lasting(&cluster).await;
    assert!(before.len() >= 4, "{before:?}");
    let postmaster = leader.postmaster_pid();
    let writer = cluster.writer();
    writer.writes(50).await;
    writer.begin_event();

    let removed_at = Moment::now();
    remove(leader, &leader.name);
    eventually("the keys are as they were", PATIENCE, || async {
        let now = lasting(&cluster).await;
        if now == before { Ok(()) } else { Err(format!("{now:?}, and were {before:?}")) }
    })
    .await;
    let journal = leader.journal().since(removed_at);
    assert!(journal.action("RestoreKeys").is_some(), "nobody else wrote them: {:?}", journal.codes());
    assert!(journal.action("Demote").is_none(), "{:?}", journal.codes());

    writer.writes(100).await;
    assert_eq!(cluster.whole().await.name, leader.name);
    cluster.synchronous(leader).await;
    assert_eq!(leader.postmaster_pid(), postmaster, "PostgreSQL ran on");
    assert!(writer.outage() < Duration::from_secs(2), "writes were away for {:?}", writer.outage());
    cluster.holds(&writer.stop().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_leader_is_gone_as_well_an_operator_names_who_leads() {
    let cluster = cluster().await;
    let old = cluster.whole().await;
    let [heir, other] = cluster.others(old)[..] else { panic!("three nodes") };
    let identity = lasting(&cluster).await[&format!("/service/{SCOPE}/initialize")].clone();
    let writer = cluster.writer();
    writer.writes(50).await;

    old.kill_tree();
    remove(heir, &old.name);
    heir.becomes("has no leader and waits", |status| status["cluster_unlocked"] == true).await;
    for node in [heir, other] {
        eventually(format!("{} says why nobody leads", node.name), PATIENCE, || async {
            let said = node.journal().decision("not_healthiest").map(ToString::to_string).unwrap_or_default();
            if said.contains("no_initialize_key") {
                Ok(())
            } else {
                Err(format!("{said}\n{}", node.journal().tail(3)))
            }
        })
        .await;
    }
    let text = steer(heir, &["failover", SCOPE, "--candidate", &heir.name, "--force"]);
    assert!(text.contains(&format!("Successfully failed over to \"{}\"", heir.name)), "{text}");
    heir.leads().await;
    let now = lasting(&cluster).await;
    assert_eq!(now[&format!("/service/{SCOPE}/initialize")], identity);
    assert!(now[&format!("/service/{SCOPE}/config")].contains("3000000"), "{now:?}");
    writer.writes(50).await;

    old.power_on();
    assert_eq!(cluster.whole().await.name, heir.name);
    cluster.holds(&writer.stop().await).await;
}
