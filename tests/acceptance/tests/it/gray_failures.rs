//! PostgreSQL runs, and all the same something is wrong with it: a copy that does not fit, a disk that is full, a postmaster that is
//! frozen, no connection left. Members say so, and a leader in trouble hands over to one that is better off.

use bellwether_acceptance::{
    Cluster, Node, PATIENCE, cluster::Options, eventually, journal::Moment, mounts::Mount, processes,
    sql::Session,
};
use rustix::process::Signal;
use serde_json::{Value, json};

async fn says(node: &Node, alarm: &str) {
    eventually(format!("{} says {alarm}", node.name), PATIENCE, || async {
        let status = node.api.status().await;
        let says = status["alarms"].as_array().is_some_and(|alarms| alarms.contains(&json!(alarm)));
        if says { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
}

/// The leader steps down because of this, and somebody else leads.
async fn hands_over<'c>(cluster: &'c Cluster, old: &Node, alarm: &str, since: Moment) -> &'c Node {
    let new = cluster.successor_of(old).await;
    let journal = old.journal().since(since);
    let why = journal.decision("trouble_handing_over").unwrap_or_else(|| panic!("{:?}", journal.codes()));
    assert!(why["sentence"].as_str().is_some_and(|sentence| sentence.contains(alarm)), "{why}");
    new
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_postgresql_is_frozen_leaves_the_lead_to_a_voter() {
    let cluster = Cluster::start(3).await;
    let old = cluster.whole().await;
    cluster.synchronous(old).await;
    let writer = cluster.writer();
    writer.writes(20).await;

    let since = Moment::now();
    let frozen = old.postmaster_pid();
    old.signal_postgres(Signal::STOP);
    let new = hands_over(&cluster, old, "postgres_frozen", since).await;
    writer.writes(20).await;
    let journal = new.journal().since(since);
    assert!(journal.decision("taking_over").is_none(), "nobody had to suspect it: {:?}", journal.codes());

    // It was killed as it stood, and follows again.
    let whole = cluster.whole().await;
    assert_eq!(whole.name, new.name);
    assert_ne!(old.postmaster_pid(), frozen);
    cluster.holds(&writer.stop().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_in_trouble_hands_over_to_somebody_who_is_better_off() {
    let patch = json!({
        "bootstrap": {"dcs": {
            "gray_failure_timeout": 2,
            "postgresql": {"parameters": {"max_connections": 25, "max_wal_size": "64MB", "min_wal_size": "32MB"}},
        }},
    });
    let mut cluster = Cluster::prepare(&Options::nodes(3).with(patch)).await;
    let mut disks = Vec::new();
    for (node, megabytes) in cluster.nodes.iter_mut().zip([300, 300, 36]) {
        let data_dir = node.data_dir();
        node.account.make_dir(&data_dir);
        disks.push(Mount::in_memory(&data_dir, megabytes));
        node.account.own(&data_dir, 0o700);
    }
    // Its disk would not hold the first data directory either.
    let mut document = cluster.nodes[2].document.clone();
    document.as_object_mut().expect("a map").remove("bootstrap");
    cluster.nodes[2].rewrite(&document);
    for node in &mut cluster.nodes {
        node.start();
    }
    let small = &cluster.nodes[2];

    // One of them has no room for a copy.
    eventually("the small disk is told of", PATIENCE, || async {
        let log = small.log_text();
        if log.contains("make room there") {
            Ok(())
        } else {
            Err(log.lines().last().unwrap_or_default().to_owned())
        }
    })
    .await;
    let of_data = std::fs::read_dir(small.data_dir()).expect("it is there").count();
    assert_eq!(of_data, 0, "nothing is left of the copy that was begun");
    disks[2].resize(300);
    let old = cluster.whole().await;
    cluster.synchronous(old).await;
    let writer = cluster.writer();
    writer.writes(20).await;

    // The postmaster is frozen: sessions go on, and nobody new comes in.
    let since = Moment::now();
    let postmaster = old.postmaster_pid().expect("it runs");
    assert!(processes::send(postmaster, Signal::STOP));
    says(old, "postmaster_frozen").await;
    let frozen = hands_over(&cluster, old, "postmaster_frozen", since).await;
    writer.writes(20).await;
    let whole = cluster.whole().await;
    assert_eq!(whole.name, frozen.name);
    says(old, "gave_up_leading").await;

    // The disk of the next leader is nearly full. Whoever has just stepped down is no heir, so it is the third.
    let since = Moment::now();
    let index = cluster.nodes.iter().position(|node| node.name == frozen.name).expect("one of them");
    let filler = frozen.data_dir().join("pg_wal").join("filler");
    let free =
        rustix::fs::statvfs(frozen.data_dir()).map(|disk| disk.f_bavail * disk.f_frsize).expect("a disk");
    std::fs::write(&filler, vec![1; usize::try_from(free.saturating_sub(20 << 20)).expect("it is small")])
        .expect("there is room");
    let third = hands_over(&cluster, frozen, "wal_disk_full", since).await;
    assert_ne!(third.name, old.name, "it has given up a moment ago");
    disks[index].resize(600);
    std::fs::remove_file(&filler).expect("it is there");
    writer.writes(20).await;
    let last = cluster.whole().await;
    assert_eq!(last.name, third.name);

    // Nobody is left to take over: that is an alarm, and nothing else.
    let mut sessions = Vec::new();
    for _ in 0..22 {
        match Session::with(last).await {
            Ok(session) => sessions.push(session),
            Err(_) => break,
        }
    }
    says(last, "connections_exhausted").await;
    let metrics = last.api.get("/metrics").await.expect("the API answers").text;
    assert!(metrics.contains(r#"alarm="connections_exhausted"} 1"#), "{metrics}");
    drop(sessions);
    let journal = last.journal().since(since);
    let told = |record: &&Value| record["kind"] == "alarm" && record["alarm"] == "connections_exhausted";
    assert!(journal.records.iter().any(|record| told(&record)), "{:?}", journal.codes());
    assert!(journal.decision("trouble_handing_over").is_none(), "{:?}", journal.codes());
    cluster.holds(&writer.stop().await).await;
}
