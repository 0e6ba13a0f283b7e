//! The disk under a leader hangs, or takes no writes any more: somebody with a disk that works leads, at once, though the kernel does
//! not let go of what was killed.

use bellwether_acceptance::{
    Cluster, PATIENCE, cluster::Options, disk::Disk, eventually, journal::Moment, processes,
};
use serde_json::json;

/// A cluster whose members have disks of their own.
async fn cluster_on_disks() -> (Cluster, Vec<Disk>) {
    let patch = json!({
        "bootstrap": {"dcs": {
            "gray_failure_timeout": 2,
            "postgresql": {"parameters": {"max_wal_size": "64MB", "min_wal_size": "32MB"}},
        }},
    });
    let mut cluster = Cluster::prepare(&Options::nodes(3).with(patch)).await;
    let mut disks = Vec::new();
    for node in &mut cluster.nodes {
        let data_dir = node.data_dir();
        node.account.make_dir(&data_dir);
        disks.push(Disk::make(&node.dir.join("disk"), &data_dir, 400));
        // PostgreSQL wants the directory empty.
        std::fs::remove_dir(data_dir.join("lost+found")).expect("ext4 makes one");
        node.account.own(&data_dir, 0o700);
        node.start();
    }
    (cluster, disks)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_disk_hangs_or_fails_leaves_the_lead_to_others() {
    if !Disk::can_be_made() {
        return;
    }
    let (cluster, disks) = cluster_on_disks().await;
    let disk_of = |name: &str| {
        let index = cluster.nodes.iter().position(|node| node.name == name).expect("one of them");
        &disks[index]
    };
    let old = cluster.whole().await;
    cluster.synchronous(old).await;
    let writer = cluster.writer();
    writer.writes(20).await;

    // Killed as it is, it cannot leave the kernel before its disk goes on. Nobody waits for that.
    let since = Moment::now();
    disk_of(&old.name).hang();
    let new = cluster.successor_of(old).await;
    writer.writes(20).await;
    assert!(!processes::of_postgres(&old.data_dir()).is_empty(), "or this was no test");
    let journal = old.journal().since(since);
    let why = journal.decision("trouble_handing_over").unwrap_or_else(|| panic!("{:?}", journal.codes()));
    assert!(why["sentence"].as_str().is_some_and(|sentence| sentence.contains("commits_stall")), "{why}");
    assert!(journal.decision("released_after_stop").is_some(), "{:?}", journal.codes());
    let primary = old.api.get("/primary").await.expect("the API answers");
    assert_eq!(primary.status, 503, "{}", primary.text);
    disk_of(&old.name).go_on();
    let whole = cluster.whole().await;
    assert_eq!(whole.name, new.name);
    cluster.synchronous(new).await;

    // The next one cannot write any more. Whether PostgreSQL finds that first, or its agent, is chance.
    let since = Moment::now();
    disk_of(&new.name).fail();
    let third = cluster.successor_of(new).await;
    writer.writes(20).await;
    eventually(format!("{} says why", new.name), PATIENCE, || async {
        let status = new.api.status().await;
        let says =
            status["alarms"].as_array().is_some_and(|alarms| alarms.contains(&json!("disk_read_only")));
        if says { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    assert!(new.journal().since(since).records.iter().any(|record| record["alarm"] == "disk_read_only"));
    // To an agent that runs, a mount point without its disk is a member without data, to be copied anew.
    new.stop().await;
    disk_of(&new.name).repair().await;
    new.power_on();
    let whole = cluster.whole().await;
    assert_eq!(whole.name, third.name);
    cluster.holds(&writer.stop().await).await;
}
