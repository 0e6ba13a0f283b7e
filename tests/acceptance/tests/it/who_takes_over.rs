//! Who takes over is who may, and of those who have the same the one that is preferred; with a start timeout of zero, at once.

use std::{fs, time::Duration};

use bellwether_acceptance::{
    Cluster, Node, Options, PATIENCE, Store,
    cluster::SCOPE,
    on_stores,
    wait::{throughout, until},
};
use serde_json::json;

on_stores!(the_preferred_member_takes_over_and_a_barred_one_never_does: etcd);

/// More than a lease.
const LEFT_ALONE_FOR: Duration = Duration::from_secs(7);

async fn the_preferred_member_takes_over_and_a_barred_one_never_does(store: Store) {
    let callback = "sh -c 'echo $* >>callbacks.called' callback";
    let options = Options::nodes(4).on(store).with(json!({
        "postgresql": {"callbacks": {"on_role_change": callback, "on_start": callback}},
    }));
    let mut cluster = Cluster::prepare(&options).await;
    // The first one founds the cluster, so that everybody's part is known.
    cluster.nodes[0].start();
    cluster.nodes[0].leads().await;
    for (at, tags) in [
        (1, json!({"failover_priority": 1})),
        (2, json!({"failover_priority": 2})),
        (3, json!({"nofailover": true, "failover_priority": 1})),
    ] {
        let node = &mut cluster.nodes[at];
        node.document["tags"] = tags;
        node.rewrite(&node.document);
        node.start();
    }
    cluster.whole().await;
    let [first, second, preferred, barred] = &cluster.nodes[..] else { panic!("four nodes") };
    barred
        .tells(
            "Conflicting configuration between nofailover: True and failover_priority: 1. \
             Defaulting to nofailover: True",
        )
        .await;
    assert_eq!(barred.api.status().await["tags"], json!({"nofailover": true, "failover_priority": 1}));
    let reply = first.api.post("/switchover", json!({"leader": first.name, "candidate": barred.name})).await;
    assert_eq!(
        (reply.status, reply.text.as_str()),
        (412, "switchover is not possible: no good candidates have been found")
    );

    // In place, and on the same timeline, while there is time for it.
    let killed = first.kill_postmaster();
    until("it is started again", PATIENCE, || first.postmaster_pid().is_some_and(|pid| pid != killed)).await;
    cluster.whole().await;
    assert_eq!(first.api.status().await["timeline"], 1);

    // By the old name of the setting. The lease need not run out for this.
    cluster.configure(json!({"master_start_timeout": 0})).await;
    until("everybody has it", PATIENCE, || {
        cluster.nodes.iter().all(|node| {
            fs::read_to_string(node.data_dir().join("patroni.dynamic.json"))
                .is_ok_and(|text| text.contains("\"master_start_timeout\":0"))
        })
    })
    .await;
    first.kill_postmaster();
    preferred.leads().await;
    cluster.whole().await;
    told(first, &["on_start primary", "on_role_change replica"]).await;
    told(preferred, &["on_start replica", "on_role_change primary"]).await;
    let history = cluster
        .stored("history", "names the new leader", |history| history[0][4] == preferred.name.as_str())
        .await;
    assert!(history[0][2].as_str().is_some_and(|reason| reason.contains("recovery")), "{history}");

    // Nobody but the barred one is left.
    for node in [first, second, preferred] {
        node.kill_tree();
    }
    barred.tells("following a different leader because I am not allowed to promote").await;
    throughout("nobody is promoted", LEFT_ALONE_FOR, || async {
        let status = barred.api.status().await;
        if status["role"] == "replica" { Ok(()) } else { Err(status) }
    })
    .await;
    for node in [first, second, preferred] {
        node.power_on();
    }
    let leader = cluster.whole().await;
    assert_ne!(leader.name, barred.name);
    // Asked for by name it is refused, too.
    let reply = leader.api.post("/failover", json!({"candidate": barred.name})).await;
    assert_eq!(reply.status, 412, "{reply:?}");
}

/// What the script was called with, in this order.
async fn told(node: &Node, lines: &[&str]) {
    let file = node.dir.join("callbacks.called");
    until(format!("{} tells its callbacks {lines:?}", node.name), PATIENCE, || {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let mut told = text.lines();
        lines.iter().all(|line| told.any(|found| found == format!("{line} {SCOPE}")))
    })
    .await;
}
