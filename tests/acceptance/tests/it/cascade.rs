//! Members replicate from whom their tags name: from another replica, from an archive, or, when that one is gone, from the leader; and
//! slots are where their users are.

use std::fs;

use bellwether_acceptance::{Cluster, Options, PATIENCE, Store, on_stores, sql::Session, wait::until};
use serde_json::json;

on_stores!(members_replicate_from_whom_their_tags_name: etcd);

async fn members_replicate_from_whom_their_tags_name(store: Store) {
    let mut cluster = Cluster::prepare(&Options::nodes(4).on(store).with(json!({"bootstrap": {"dcs": {
        "member_slots_ttl": 8,
        "slots": {
            "feed": {"type": "logical", "database": "postgres", "plugin": "test_decoding"},
            "archive": {"type": "physical"},
        },
        "postgresql": {"parameters": {"wal_level": "logical"}},
    }}})))
    .await;
    let archive = cluster.dir().join("archive");
    cluster.account.make_dir(&archive);
    let archive = archive.display().to_string();
    let (keep, fetch) = (format!("cp %p {archive}/%f"), format!("cp {archive}/%f %p"));
    for (at, tags) in [
        (0, json!({})),
        (1, json!({"clonefrom": true})),
        (2, json!({"replicatefrom": "node2"})),
        (3, json!({"nostream": true})),
    ] {
        let node = &mut cluster.nodes[at];
        node.document["tags"] = tags;
        node.document["postgresql"]["parameters"]["archive_mode"] = json!("on");
        node.document["postgresql"]["parameters"]["archive_command"] = json!(keep);
        if at == 3 {
            node.document["postgresql"]["recovery_conf"] = json!({"restore_command": fetch});
        }
        node.rewrite(&node.document);
    }
    // One after the other, so that everybody's part is known.
    cluster.nodes[0].start();
    cluster.nodes[0].leads().await;
    cluster.nodes[1].start();
    // Which takes a restart, for the copy of the logical slot.
    cluster.nodes[1].tells("Logical slot feed is safe to be used after a failover").await;
    cluster
        .stored("members/node2", "says that it streams", |member| member["replication_state"] == "streaming")
        .await;
    cluster.nodes[2].start();
    cluster.nodes[3].start();
    let [leader, middle, last, distant] = &cluster.nodes[..] else { panic!("four nodes") };

    // Copied from the one that offers itself, and fed by whom the tag names.
    last.becomes("streams", |status| status["replication_state"] == "streaming").await;
    for node in [last, distant] {
        assert!(node.log_text().contains("bootstrapped from replica 'node2'"), "{}", node.log_text());
    }
    middle.comes_to("(SELECT string_agg(application_name, ',') FROM pg_stat_replication) = 'node3'").await;
    leader.comes_to("(SELECT string_agg(application_name, ',') FROM pg_stat_replication) = 'node2'").await;
    distant
        .becomes("recovers from the archive", |status| {
            status["replication_state"] == "in archive recovery" && status["role"] == "replica"
        })
        .await;
    let session = leader.sql().await;
    session.client.batch_execute("CREATE TABLE told AS SELECT 1 AS one").await.expect("a primary");
    last.comes_to("to_regclass('told') IS NOT NULL").await;
    session.text("pg_switch_wal()").await.expect("a primary");
    distant.comes_to("to_regclass('told') IS NOT NULL").await;

    // Slots: for those who use them, kept for those who might come; none for one that streams from nobody, and no logical one on it.
    let slots = |names: &str| {
        format!(
            "(SELECT coalesce(string_agg(slot_name, ',' ORDER BY slot_name), '') FROM pg_replication_slots) = '{names}'"
        )
    };
    leader.comes_to(&slots("archive,feed,node2,node3")).await;
    leader.comes_to("(SELECT NOT active FROM pg_replication_slots WHERE slot_name = 'node3')").await;
    middle.comes_to(&slots("archive,feed,node1,node3")).await;
    middle.comes_to("(SELECT active FROM pg_replication_slots WHERE slot_name = 'node3')").await;
    last.comes_to(&slots("archive,feed,node1,node2")).await;
    distant.comes_to(&slots("archive,node1,node2,node3")).await;
    middle.sets("hot_standby_feedback", "on").await;

    // Who feeds others is gone: they turn to the leader, and back.
    middle.kill_tree();
    leader.comes_to("(SELECT string_agg(application_name, ',') FROM pg_stat_replication) = 'node3'").await;
    until("the slot of one that is gone for long is dropped", PATIENCE, || {
        leader
            .log_text()
            .contains("Replication slot 'node2' for absent cluster member is expired after 8 sec.")
            && leader.log_text().contains("Dropped replication slot 'node2'")
    })
    .await;
    leader.comes_to(&slots("archive,feed,node3")).await;
    middle.power_on();
    middle.comes_to("(SELECT string_agg(application_name, ',') FROM pg_stat_replication) = 'node3'").await;
    leader.comes_to(&slots("archive,feed,node2,node3")).await;

    // The leader is gone: its heir has the slots, the others find it, and the archive tells the distant one of the new timeline.
    drop(session);
    let body = json!({"leader": leader.name, "candidate": middle.name});
    assert_eq!(leader.api.post("/switchover", body).await.status, 200);
    middle.leads().await;
    middle.comes_to(
        "(SELECT string_agg(application_name, ',' ORDER BY application_name) FROM pg_stat_replication) = 'node1,node3'",
    )
    .await;
    middle.comes_to(&slots("archive,feed,node1,node3")).await;
    let session = Session::with(middle).await.expect("a primary");
    session.client.batch_execute("CREATE TABLE told_again ()").await.expect("a primary");
    session.text("pg_switch_wal()").await.expect("a primary");
    distant.comes_to("to_regclass('told_again') IS NOT NULL").await;
    assert!(fs::read_dir(&archive).expect("it is there").count() > 2);
}
