//! Operators go on with the `patronictl` that they have: the real one steers a cluster that has no Patroni.

use bellwether_acceptance::{
    Cluster, Options, PATIENCE,
    cluster::SCOPE,
    eventually,
    patroni::{self, patronictl, steer},
};
use serde_json::{Value, json};

async fn listed(cluster: &Cluster, good: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    eventually("the list is as it should be", PATIENCE, || async {
        let text = steer(&cluster.nodes[0], &["list", SCOPE, "-f", "json"]);
        let rows: Vec<Value> = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
        if good(&rows) { Ok(rows) } else { Err(text) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_patronictl_steers_a_pure_cluster() {
    let timings = json!({"ttl": 5, "loop_wait": 1, "retry_timeout": 2});
    let cluster =
        Cluster::start_with(Options::nodes(2).on_etcd().with(json!({"bootstrap": {"dcs": timings}}))).await;
    let first = cluster.whole().await;
    let second = cluster.others(first)[0];
    let (one, two) = (first.name.as_str(), second.name.as_str());

    let rows = listed(&cluster, |rows| rows.len() == 2 && rows.iter().any(|row| row["State"] == "streaming"));
    let rows = rows.await;
    let row = |name: &str| rows.iter().find(|row| row["Member"] == name).expect("a row");
    assert_eq!((&row(one)["Role"], &row(one)["State"]), (&json!("Leader"), &json!("running")));
    assert_eq!((&row(two)["Role"], &row(two)["TL"]), (&json!("Replica"), &json!(1)));
    let topology = steer(first, &["topology", SCOPE]);
    assert!(
        topology.contains(&format!("| {one} ")) && topology.contains(&format!("| + {two} ")),
        "{topology}"
    );

    let config = steer(first, &["edit-config", SCOPE, "--force", "-s", "maximum_lag_on_failover=2097152"]);
    assert!(config.contains("Configuration changed"), "{config}");
    assert!(steer(second, &["show-config", SCOPE]).contains("maximum_lag_on_failover: 2097152"));

    let postmaster = second.postmaster_pid();
    let restarted = steer(first, &["restart", SCOPE, two, "--force"]);
    assert!(restarted.contains(&format!("Success: restart on member {two}")), "{restarted}");
    assert_ne!(second.postmaster_pid(), postmaster);
    let reloaded = steer(first, &["reload", SCOPE, "--force"]);
    assert!(reloaded.contains(&format!("Reload request received for member {two}")), "{reloaded}");

    let text = steer(first, &["switchover", SCOPE, "--leader", one, "--candidate", two, "--force"]);
    assert!(text.contains(&format!("Successfully switched over to \"{two}\"")), "{text}");
    assert_eq!(cluster.whole().await.name, two);
    let history = steer(first, &["history", SCOPE, "-f", "json"]);
    let history: Value = serde_json::from_str(&history).expect("a document");
    assert_eq!((&history[0]["TL"], &history[0]["New Leader"]), (&json!(1), &json!(two)), "{history}");

    let text = steer(first, &["failover", SCOPE, "--candidate", one, "--force"]);
    assert!(text.contains(&format!("Successfully failed over to \"{one}\"")), "{text}");
    assert_eq!(cluster.whole().await.name, one);

    let paused = steer(first, &["pause", SCOPE, "--wait"]);
    assert!(paused.contains("Success: cluster management is paused"), "{paused}");
    let ended = patronictl(first, &["pause", SCOPE]);
    assert_eq!(ended.code(), Some(1));
    ended.says("Error: Cluster is already paused");
    assert!(steer(first, &["list", SCOPE]).contains("Maintenance mode: on"));
    let resumed = steer(first, &["resume", SCOPE, "--wait"]);
    assert!(resumed.contains("Success: cluster management is resumed"), "{resumed}");

    let text = steer(first, &["reinit", SCOPE, two, "--force", "--wait"]);
    assert!(text.contains(&format!("Reinitialize is completed on: {two}")), "{text}");
    assert_eq!(cluster.whole().await.name, one);
    let version = steer(first, &["version", SCOPE]);
    assert!(version.contains(&format!("{two}: Patroni {}", patroni::COMPATIBLE)), "{version}");
}
