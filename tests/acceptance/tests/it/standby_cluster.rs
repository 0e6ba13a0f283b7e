//! A cluster that follows another one: founded from it, led in it, promoted, and the other one demoted behind it.

use std::{process::Command, time::Duration};

use bellwether_acceptance::{Cluster, Node, Options, PATIENCE, Store, binary, eventually, on_stores};
use serde_json::json;

/// Two clusters come up one after the other.
const UP_WITHIN: Duration = Duration::from_secs(120);
/// The slot of the standby cluster in the primary one.
const SLOT: &str = "far_away";

on_stores!(a_cluster_follows_another_one_and_takes_its_place: etcd, zookeeper);

async fn a_cluster_follows_another_one_and_takes_its_place(store: Store) {
    let home = Cluster::start_with(Options::nodes(2).on(store).with(json!({
        "bootstrap": {"dcs": {"slots": {SLOT: {"type": "physical"}}}},
    })))
    .await;
    let origin = home.whole().await;
    let session = origin.sql().await;
    let make_slot = "SELECT pg_create_physical_replication_slot($1) \
                     WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1)";
    session.rows(make_slot, &[&SLOT]).await.expect("a slot");
    session.client.batch_execute("CREATE TABLE told (word text)").await.expect("a table");

    // Founded from the other cluster, whose identity it has.
    let section = json!({"host": "127.0.0.1", "port": origin.postgres_port, "primary_slot_name": SLOT});
    let mut away = Cluster::prepare(
        &Options::nodes(2).on(store).with(json!({"bootstrap": {"dcs": {"standby_cluster": section}}})),
    )
    .await;
    for node in &mut away.nodes {
        node.start();
    }
    let leader = led(&away, UP_WITHIN).await;
    let follower = away.others(leader)[0];
    for (node, path, expected) in [
        (leader, "/standby-leader", 200),
        (leader, "/leader", 200),
        (leader, "/primary", 503),
        (leader, "/replica", 503),
        (follower, "/standby_leader", 503),
        (follower, "/replica", 200),
        (follower, "/read-only", 200),
    ] {
        let status = node.api.get(path).await.expect("the API answers").status;
        assert_eq!(status, expected, "{path} at {}", node.name);
    }
    let identity = &origin.api.status().await["database_system_identifier"];
    for node in [leader, follower] {
        assert_eq!(node.api.status().await["database_system_identifier"], *identity, "one identity");
    }
    told(&session, "before").await;
    hears(&away, "before").await;
    let active = format!("SELECT active FROM pg_replication_slots WHERE slot_name = '{SLOT}'");
    assert_eq!(session.text(&active).await.expect("an answer").as_deref(), Some("true"));

    // Another leader: it follows the other cluster, and the old one follows it.
    let reply = leader.api.post("/switchover", json!({"leader": leader.name})).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let second = led(&away, PATIENCE).await;
    assert_eq!(second.name, follower.name);
    told(&session, "after the switchover").await;
    hears(&away, "after the switchover").await;
    assert_eq!(second.api.status().await["timeline"], 1, "nobody was promoted");

    // It becomes a cluster of its own.
    let reply = second.api.patch("/config", json!({"standby_cluster": null})).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let primary = away.whole().await;
    assert_eq!(primary.name, second.name, "the standby leader was promoted");
    assert_eq!(primary.api.status().await["timeline"], 2);
    assert!(primary.journal().decision("promoted_having_lock").is_some());
    told(&primary.sql().await, "from the new home").await;
    told(&session, "too late").await;
    drop(session);

    // The old one follows it, without what it wrote after that. Whoever has its shutdown checkpoint may lead.
    let section = json!({"host": "127.0.0.1", "port": primary.postgres_port});
    let reply = origin.api.patch("/config", json!({"standby_cluster": section})).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    hears(&home, "from the new home").await;
    led(&home, PATIENCE).await;
    for node in &home.nodes {
        assert_eq!(node.api.status().await["timeline"], 2, "{}", node.name);
        assert!(!words(node).await.expect("the words").contains(&"too late".to_owned()), "{}", node.name);
        let journal = node.journal();
        assert!(journal.decision("rewind").is_some(), "{}: {:?}", node.name, journal.codes());
    }
    let journal = origin.journal();
    assert!(journal.decision("primary_in_standby_cluster").is_some(), "{:?}", journal.codes());
}

/// Waits until one node is the standby leader and all others stream, as they and the store say; who that is.
async fn led(cluster: &Cluster, limit: Duration) -> &Node {
    eventually("a standby leader and its replicas stream", limit, || async {
        let statuses = cluster.statuses().await;
        let has_role = |role: &str| statuses.iter().filter(|status| status["role"] == role).count();
        let streaming = statuses.iter().filter(|status| status["replication_state"] == "streaming").count();
        let is_whole = has_role("standby_leader") == 1
            && has_role("replica") == cluster.nodes.len() - 1
            && streaming == cluster.nodes.len();
        let leader = statuses.iter().position(|status| status["role"] == "standby_leader");
        let Some(leader) = leader.filter(|_| is_whole) else { return Err(format!("{statuses:?}")) };
        let leader = &cluster.nodes[leader];
        let document = leader.api.get("/cluster").await?.json();
        let known = document["members"].as_array().is_some_and(|members| {
            members.len() == cluster.nodes.len()
                && members.iter().all(|member| member["state"] == "streaming")
                && members
                    .iter()
                    .any(|member| member["role"] == "standby_leader" && member["name"] == leader.name)
        });
        if known { Ok(leader) } else { Err(document.to_string()) }
    })
    .await
}

async fn told(session: &bellwether_acceptance::sql::Session, word: &str) {
    session.rows("INSERT INTO told VALUES ($1)", &[&word]).await.expect("the row is written");
}

async fn words(node: &Node) -> Result<Vec<String>, String> {
    let session = bellwether_acceptance::sql::Session::with(node).await.map_err(|error| error.to_string())?;
    let rows = session.rows("SELECT word FROM told", &[]).await.map_err(|error| error.to_string())?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Waits until the word is on every node of the cluster.
async fn hears(cluster: &Cluster, word: &str) {
    for node in &cluster.nodes {
        eventually(format!("{} has `{word}`", node.name), PATIENCE, || async {
            let words = words(node).await?;
            if words.iter().any(|found| found == word) { Ok(()) } else { Err(format!("{words:?}")) }
        })
        .await;
    }
}

/// A base backup with which the WAL comes from the archive.
const MAKE_BACKUP: &str = "pg_basebackup -D \"$1\" -d \"$2\" -X none -c fast -w";
/// How the first member of the standby cluster comes by its data, without a server to copy from.
const RESTORE: &str = r#"echo "$@" >restore.called
for word in "$@"; do case $word in --datadir=*) to=${word#*=};; --backup=*) from=${word#*=};; esac; done
mkdir -p -m 700 "$to" && cp -a "$from/." "$to"
"#;

/// The other cluster cannot be reached: only its archive can.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_founded_from_an_archive_alone_and_promoted() {
    let mut home = Cluster::prepare(&Options::nodes(1).on(Store::Etcd)).await;
    let (archive, backup) = (home.dir().join("archive"), home.dir().join("backup"));
    home.account.make_dir(&archive);
    let keep = format!("cp %p {}/%f", archive.display());
    let origin = &mut home.nodes[0];
    origin.document["postgresql"]["parameters"]["archive_mode"] = json!("on");
    origin.document["postgresql"]["parameters"]["archive_command"] = json!(keep);
    origin.rewrite(&origin.document);
    origin.start();
    let origin = home.whole().await;
    let session = origin.sql().await;
    session.client.batch_execute("CREATE TABLE told (word text)").await.expect("a table");
    let mut command = Command::new("/bin/sh");
    home.account.apply(&mut command);
    let dsn = format!("host=127.0.0.1 port={} user=replicator", origin.postgres_port);
    command.args(["-c", MAKE_BACKUP, "sh"]).arg(&backup).arg(dsn).current_dir("/");
    command.env("PATH", binary::postgres_bin_dir()).env("PGPASSWORD", "replication-secret");
    assert!(command.status().expect("there is a shell").success(), "no backup");
    told(&session, "before").await;
    session.text("pg_switch_wal()").await.expect("a primary");

    let script = home.dir().join("restore");
    home.account.write(&script, RESTORE);
    let mut away = Cluster::prepare(&Options::nodes(2).on(Store::Etcd).with(json!({
        "bootstrap": {"dcs": {"standby_cluster": {
            "restore_command": format!("cp {}/%f %p", archive.display()),
            "create_replica_methods": ["restored", "basebackup"],
        }}},
        "postgresql": {
            "restored": {
                "command": format!("sh {}", script.display()), "backup": backup, "no_leader": true,
            },
            "create_replica_methods": ["basebackup"],
        },
    })))
    .await;
    for node in &mut away.nodes {
        node.start();
    }
    let leader = eventually("a standby leader recovers from the archive", UP_WITHIN, || async {
        let statuses = away.statuses().await;
        let leads = |status: &&serde_json::Value| {
            status["role"] == "standby_leader" && status["replication_state"] == "in archive recovery"
        };
        let streams = |status: &serde_json::Value| status["replication_state"] == "streaming";
        match statuses.iter().position(|status| leads(&status)) {
            Some(at) if statuses.iter().any(streams) => Ok(&away.nodes[at]),
            _ => Err(format!("{statuses:?}")),
        }
    })
    .await;
    let called = std::fs::read_to_string(leader.dir.join("restore.called")).unwrap_or_default();
    assert!(called.contains("--connstring=\n") || !called.contains("host="), "{called}");
    hears(&away, "before").await;
    leader.answers("/standby-leader", 200).await;
    leader.answers("/primary", 503).await;
    let conninfo = leader.sql().await.text("current_setting('primary_conninfo')").await.expect("an answer");
    assert_eq!(conninfo.as_deref(), Some(""), "there is nobody to connect to");

    // It follows the archive for as long as it is told to.
    told(&session, "later").await;
    session.text("pg_switch_wal()").await.expect("a primary");
    hears(&away, "later").await;

    let reply = leader.api.patch("/config", json!({"standby_cluster": null})).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let primary = away.whole().await;
    assert_eq!(primary.name, leader.name, "the standby leader was promoted");
    assert_eq!(primary.api.status().await["timeline"], 2);
    told(&primary.sql().await, "on its own").await;
    hears(&away, "on its own").await;
}
