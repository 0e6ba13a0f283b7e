//! Standbys as the trouble of their primary: one that hangs and keeps commits waiting is left out until it has caught up, and one that is
//! away gives up its slot before the WAL that is kept for it fills the disk, where that was asked for.

use bellwether_acceptance::{
    Cluster, PATIENCE, cluster::Options, eventually, mounts::Mount, processes, sql::Session, wait::until,
};
use rustix::process::Signal;
use serde_json::json;

/// The slots of a primary, by name.
async fn slots(session: &Session) -> Vec<String> {
    let rows = session.rows("SELECT slot_name::text FROM pg_replication_slots", &[]).await;
    rows.expect("slots can be read").iter().map(|row| row.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_hangs_or_is_away_does_not_stop_its_primary() {
    let patch = json!({
        "bootstrap": {"dcs": {
            "synchronous_node_count": 2,
            "gray_failure_timeout": 2,
            "wal_disk_guard": "evict_slots",
            "postgresql": {"parameters": {"max_wal_size": "64MB", "min_wal_size": "32MB", "wal_keep_size": "16MB"}},
        }},
    });
    let mut cluster = Cluster::prepare(&Options::nodes(3).with(patch)).await;
    let mut disks = Vec::new();
    for node in &mut cluster.nodes {
        let data_dir = node.data_dir();
        node.account.make_dir(&data_dir);
        disks.push(Mount::in_memory(&data_dir, 400));
        node.account.own(&data_dir, 0o700);
        node.start();
    }
    let leader = cluster.whole().await;
    cluster.synchronous(leader).await;
    let [hanging, _] = cluster.others(leader)[..] else { panic!("three nodes") };
    let writer = cluster.writer();
    writer.writes(20).await;

    // It receives nothing and says nothing, and its connection is there: commits wait for it, as for two of two.
    let receiver =
        hanging.sql().await.text("(SELECT pid FROM pg_stat_wal_receiver)").await.expect("it answers");
    let receiver = receiver.and_then(|pid| pid.parse().ok()).expect("it receives");
    assert!(processes::send(receiver, Signal::STOP));
    writer.writes(20).await;
    let journal = leader.journal();
    assert!(journal.decision("standby_left_out").is_some(), "{:?}", journal.codes());
    assert!(journal.decision("trouble_handing_over").is_none(), "{:?}", journal.codes());
    assert!(processes::send(receiver, Signal::CONT));
    cluster.synchronous(leader).await;

    // Away for longer than its WAL has room for. Nobody is to step down for that here.
    let reply = leader.api.patch("/config", json!({"gray_failure_timeout": 0})).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let session = leader.sql().await;
    hanging.kill_tree();
    let slot = hanging.name.clone();
    assert!(slots(&session).await.contains(&slot), "its WAL is kept");
    session
        .client
        .batch_execute("SELECT count(pg_logical_emit_message(false, 'much', repeat('x', 1000000))) FROM generate_series(1, 180)")
        .await
        .expect("it can write");
    let index = cluster.nodes.iter().position(|node| node.name == leader.name).expect("one of them");
    let filler = leader.data_dir().join("pg_wal").join("filler");
    let free =
        rustix::fs::statvfs(leader.data_dir()).map(|disk| disk.f_bavail * disk.f_frsize).expect("a disk");
    let filling = usize::try_from(free.saturating_sub(24 << 20)).expect("it is small");
    std::fs::write(&filler, vec![1; filling]).expect("there is room");
    // The slot is made anew at once, for when the member comes back; what it held is not.
    eventually(format!("what the slot of {slot} holds is given up"), PATIENCE, || async {
        let free =
            rustix::fs::statvfs(leader.data_dir()).map(|disk| disk.f_bavail * disk.f_frsize).expect("a disk");
        if free > 48 << 20 { Ok(()) } else { Err(format!("{} MB are free", free >> 20)) }
    })
    .await;
    let journal = leader.journal();
    assert!(
        journal.action("DropSlots").is_some_and(|record| record.to_string().contains("DiskFull")),
        "{:?}",
        journal.codes()
    );
    std::fs::remove_file(&filler).expect("it is there");
    disks[index].resize(800);
    writer.writes(20).await;

    // What it lacks is gone.
    hanging.power_on();
    until("it is back", PATIENCE, || hanging.postgres_runs()).await;
    let reply = hanging.api.post("/reinitialize", json!({"force": true})).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let whole = cluster.whole().await;
    assert_eq!(whole.name, leader.name);
    cluster.holds(&writer.stop().await).await;
}
