//! A planned change of the leader, and what is refused.

use std::time::Duration;

use bellwether_acceptance::{Cluster, Node, PATIENCE, eventually, journal::Moment, wait::until};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_switchover_moves_the_leadership_without_a_lost_row() {
    let cluster = Cluster::start(3).await;
    let first = cluster.whole().await;
    cluster.synchronous(first).await;
    let writer = cluster.writer();
    writer.writes(50).await;

    // To a named candidate; any member takes the request.
    let candidate = *cluster.others(first).last().expect("three nodes");
    writer.begin_event();
    let asked_at = Moment::now();
    let reply =
        candidate.api.post("/switchover", json!({"leader": first.name, "candidate": candidate.name})).await;
    assert_eq!(
        (reply.status, reply.text),
        (200, format!("Successfully switched over to \"{}\"", candidate.name))
    );
    let second = cluster.whole().await;
    assert_eq!(second.name, candidate.name);
    writer.writes(50).await;
    assert!(writer.outage() < Duration::from_secs(10), "writes were away for {:?}", writer.outage());
    let journal = first.journal().since(asked_at);
    assert!(journal.decision("switchover_demoting").is_some(), "{:?}", journal.codes());
    assert!(journal.action("ReleaseLease").is_some(), "the lock did not just expire: {:?}", journal.codes());
    assert!(journal.decision("rewind").is_none(), "nothing to rewind: {:?}", journal.codes());
    let calls: Vec<Value> =
        candidate.journal().since(asked_at).of_kind("call").into_iter().cloned().collect();
    assert_eq!(calls.len(), 1, "the call is in the journal of who took it");
    assert_eq!((&calls[0]["identity"], &calls[0]["status"]), (&json!("operator"), &json!(200)));

    // To whoever is fit.
    cluster.synchronous(second).await;
    let reply = second.api.post("/switchover", json!({"leader": second.name})).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let third = cluster.whole().await;
    assert_ne!(third.name, second.name);
    assert_eq!(reply.text, format!("Successfully switched over to \"{}\"", third.name));
    until("the request is gone from the store", PATIENCE, || {
        third.journal().since(asked_at).decision("leader_with_the_lock").is_some()
    })
    .await;
    let timeline = third.api.status().await["timeline"].as_u64();
    assert_eq!(timeline, Some(3), "two promotions since the bootstrap");
    let history = third.api.get("/history").await.expect("the API answers").json();
    assert_eq!(history.as_array().map(Vec::len), Some(2), "both are in the history: {history}");
    cluster.holds(&writer.stop().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_cannot_work_are_refused_and_change_nothing() {
    // Three, so that the store goes on while one of them is frozen: of two, each is needed for its majority.
    let cluster = Cluster::start(3).await;
    let leader = cluster.whole().await;
    let replica = cluster.others(leader)[0];
    let before = leader.api.status().await;
    let (me, other) = (leader.name.as_str(), replica.name.as_str());

    for (case, path, body, status, text) in [
        (
            "no leader named",
            "/switchover",
            json!({"candidate": other}),
            400,
            "Switchover could be performed only from a specific leader",
        ),
        (
            "to itself",
            "/switchover",
            json!({"leader": me, "candidate": me}),
            400,
            "Switchover target and source are the same",
        ),
        (
            "from a replica",
            "/switchover",
            json!({"leader": other, "candidate": me}),
            412,
            "leader name does not match",
        ),
        (
            "to a stranger",
            "/switchover",
            json!({"leader": me, "candidate": "nobody"}),
            412,
            "candidate does not exists",
        ),
        (
            "a failover without candidate",
            "/failover",
            json!({"leader": me}),
            400,
            "Failover could be performed only to a specific candidate",
        ),
        (
            "a scheduled failover",
            "/failover",
            json!({"candidate": other, "scheduled_at": "2099-01-01T00:00+00:00"}),
            400,
            "Failover can't be scheduled",
        ),
        (
            "in the past",
            "/switchover",
            json!({"leader": me, "scheduled_at": "2020-01-01T00:00+00:00"}),
            422,
            "Cannot schedule switchover in the past",
        ),
        (
            "without a time zone",
            "/switchover",
            json!({"leader": me, "scheduled_at": "2099-01-01T00:00"}),
            400,
            "Timezone information is mandatory for the scheduled switchover",
        ),
    ] {
        let reply = leader.api.post(path, body).await;
        assert_eq!((reply.status, reply.text.as_str()), (status, text), "{case}");
    }
    let reply = leader.api.post_as_stranger("/switchover", &json!({"leader": me, "candidate": other})).await;
    assert_eq!((reply.status, reply.text.as_str()), (401, "no auth header received"));

    // A member that cannot answer is no candidate, and the leader stays.
    let timeline = before["timeline"].clone();
    scheduled_and_deleted(leader).await;
    replica.freeze_agent();
    let reply = leader.api.post("/switchover", json!({"leader": me, "candidate": other})).await;
    replica.thaw_agent();
    assert!(reply.status == 412 || reply.status == 503, "{reply:?}");
    let now = cluster.whole().await;
    assert_eq!(now.name, me);
    assert_eq!(now.api.status().await["timeline"], timeline);
}

async fn scheduled_and_deleted(leader: &Node) {
    let body = json!({"leader": leader.name, "scheduled_at": "2099-01-01T00:00+00:00"});
    let reply = leader.api.post("/switchover", body).await;
    assert_eq!((reply.status, reply.text.as_str()), (202, "Switchover scheduled"));
    eventually("everybody can see it", PATIENCE, || async {
        let cluster = leader.api.get("/cluster").await?.json();
        if cluster["scheduled_switchover"]["from"] == leader.name.as_str() {
            Ok(())
        } else {
            Err(cluster.to_string())
        }
    })
    .await;
    let reply = leader.api.delete("/switchover").await;
    assert_eq!((reply.status, reply.text.as_str()), (200, "scheduled switchover deleted"));
    let reply = leader.api.delete("/switchover").await;
    assert_eq!((reply.status, reply.text.as_str()), (404, "no switchover is scheduled"));
}
