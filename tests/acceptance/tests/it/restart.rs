//! PostgreSQL is restarted because an operator wants it, or because a setting needs it.

use bellwether_acceptance::{Cluster, Options, PATIENCE, eventually, journal::Moment};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_takes_pending_settings_and_keeps_the_leader() {
    let cluster = Cluster::start(2).await;
    let leader = cluster.whole().await;
    let replica = cluster.others(leader)[0];
    let before = leader.api.status().await;
    assert_eq!(before.get("pending_restart"), None);

    // Nothing is pending: nothing to do.
    let reply = leader.api.post("/restart", json!({"restart_pending": true})).await;
    assert_eq!((reply.status, reply.text.as_str()), (503, "restart conditions are not satisfied"));
    let reply = leader.api.post("/restart", json!({"role": "replica"})).await;
    assert_eq!((reply.status, reply.text.as_str()), (503, "restart conditions are not satisfied"));

    let change = json!({"postgresql": {"parameters": {"max_connections": 123}}});
    let reply = leader.api.patch("/config", change).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    for node in &cluster.nodes {
        let reason = eventually(format!("{} needs a restart", node.name), PATIENCE, || async {
            let status = node.api.status().await;
            let pending = status["pending_restart"] == true;
            if pending { Ok(status["pending_restart_reason"].clone()) } else { Err(status.to_string()) }
        })
        .await;
        assert_eq!(reason["max_connections"], json!({"old_value": "100", "new_value": "123"}), "{reason}");
    }

    let asked_at = Moment::now();
    let old = leader.postmaster_pid();
    // Standbys first, as PostgreSQL wants it for a larger value.
    for node in [replica, leader] {
        let reply = node.api.post("/restart", json!({"restart_pending": true})).await;
        assert_eq!((reply.status, reply.text.as_str()), (200, "restarted successfully"), "{}", node.name);
        eventually(format!("nothing is pending on {} any more", node.name), PATIENCE, || async {
            let status = node.api.status().await;
            let done = status["state"] == "running" && status.get("pending_restart").is_none();
            if done { Ok(()) } else { Err(status) }
        })
        .await;
        let value = node.sql().await.text("current_setting('max_connections')").await.expect("an answer");
        assert_eq!(value.as_deref(), Some("123"), "{}", node.name);
    }
    assert_ne!(leader.postmaster_pid(), old);
    let now = cluster.whole().await;
    assert_eq!(now.name, leader.name, "a restart is no reason to lead somewhere else");
    assert_eq!(now.api.status().await["timeline"], before["timeline"]);
    let journal = leader.journal().since(asked_at);
    assert!(journal.decision("restart_initiated").is_some(), "{:?}", journal.codes());
    let config: Value = leader.api.get("/config").await.expect("the API answers").json();
    assert_eq!(config["postgresql"]["parameters"]["max_connections"], 123);
    assert_eq!(config["ttl"], 5, "the defaults of a new cluster are written out");
}

/// On a standby: a primary's files are looked at again anyhow when it is first seen as one.
#[tokio::test(flavor = "multi_thread")]
async fn a_setting_that_changes_during_a_restart_is_not_lost() {
    let slow = json!({"postgresql": {"before_stop": "/bin/sh -c 'sleep 4'"}});
    let cluster = Cluster::start_with(Options::nodes(2).with(slow)).await;
    let leader = cluster.whole().await;
    let replica = cluster.others(leader)[0];
    let old = replica.postmaster_pid();
    let restart = replica.api.post("/restart", json!({}));
    let change = async {
        eventually("the restart is under way", PATIENCE, || async {
            let status = replica.api.status().await;
            if status["state"] == "restarting" { Ok(()) } else { Err(status) }
        })
        .await;
        leader.api.patch("/config", json!({"postgresql": {"parameters": {"work_mem": "7MB"}}})).await
    };
    let (restarted, changed) = tokio::join!(restart, change);
    assert_eq!((restarted.status, changed.status), (200, 200), "{restarted:?} {changed:?}");
    assert_ne!(replica.postmaster_pid(), old);
    eventually("the server has the setting", PATIENCE, || async {
        let session = replica.sql().await;
        match session.text("current_setting('work_mem')").await {
            Ok(Some(value)) if value == "7MB" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}
