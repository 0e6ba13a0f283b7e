//! Input that cannot be used: a message with file, line, key and remedy, a documented exit status, and no change to any data.

use std::{
    collections::BTreeSet,
    fs::{self, Permissions},
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::{Duration, SystemTime},
};

use bellwether_acceptance::{
    Cluster, Node, Options, PATIENCE,
    binary::postgres_program,
    processes,
    run::{Ended, to_the_end},
    sql,
    wait::until,
};
use rustix::process::Signal;
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(60);
const FOREIGN_DATA: i32 = 65;
const ADDRESS: i32 = 69;
const CONFIG: i32 = 78;

/// Runs the agent with the good configuration after `change` was made to its text; with the line number of `key`.
fn run_with(node: &Node, change: (&str, &str)) -> (Ended, usize) {
    let good = serde_json::to_string_pretty(&node.document).expect("a document can be written");
    let (from, to) = change;
    assert!(good.contains(from), "`{from}` is not in {good}");
    let text = good.replacen(from, to, 1);
    let line = text.lines().position(|line| line.contains(to)).map_or(0, |index| index + 1);
    node.account.write(&node.configuration(), &text);
    let ended = to_the_end(node.command(), LIMIT);
    node.rewrite(&node.document);
    (ended, line)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_cannot_be_used_is_explained() {
    let cluster = Cluster::prepare(&Options::nodes(1)).await;
    let node = &cluster.nodes[0];
    let file = node.configuration();
    for (case, change, key, reason) in [
        (
            "a port that is none",
            (format!("127.0.0.1:{}", node.api_port), "127.0.0.1:rest".to_owned()),
            "restapi.listen",
            "",
        ),
        (
            "a list for a text",
            ("\"name\": \"node1\"".to_owned(), "\"name\": [1, 2]".to_owned()),
            "name",
            "expects",
        ),
        (
            "a map for a list",
            ("\"partner_addrs\": []".to_owned(), "\"partner_addrs\": {\"a\": 1}".to_owned()),
            "raft.partner_addrs",
            "expects a list",
        ),
        (
            "an impossible time",
            ("\"dcs\": {".to_owned(), "\"dcs\": { \"ttl\": \"soon\",".to_owned()),
            "bootstrap.dcs.ttl",
            "",
        ),
    ] {
        let (ended, line) = run_with(node, (&change.0, &change.1));
        assert_eq!(ended.code(), Some(CONFIG), "{case}: {}", ended.text);
        ended.says(&format!("{}:{line}: ", file.display()));
        ended.says(key);
        ended.says(reason);
        ended.says("help: ");
        ended.says("code: BW0103");
    }

    // Not YAML at all.
    node.account.write(&file, "scope: acceptance\nname: [\n");
    let ended = to_the_end(node.command(), LIMIT);
    assert_eq!(ended.code(), Some(CONFIG), "{}", ended.text);
    ended.says(&format!("{}:", file.display()));

    // Nobody may read it.
    fs::set_permissions(&file, Permissions::from_mode(0o000)).expect("it is ours");
    let ended = to_the_end(node.command(), LIMIT);
    assert_eq!(ended.code(), Some(CONFIG), "{}", ended.text);
    ended.says(&format!("could not read {}", file.display()));
    ended.says("ermission denied");
    ended.says("code: BW0101");

    let left: Vec<_> =
        fs::read_dir(&node.dir).expect("the folder").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["bellwether.yml"], "nothing was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_keys_are_told_of_and_a_port_in_use_ends_the_agent() {
    let cluster = Cluster::prepare(&Options::nodes(1)).await;
    let node = &cluster.nodes[0];

    let store = TcpListener::bind(("127.0.0.1", node.store_port)).expect("the port is ours");
    let (ended, line) = run_with(node, ("\"initdb\"", "\"intidb\""));
    assert_eq!(ended.code(), Some(ADDRESS), "{}", ended.text);
    ended.says(&format!("{}:{line}: bootstrap.intidb: ", node.configuration().display()));
    ended.says("did you mean `initdb`?");
    ended.says(&format!("127.0.0.1:{}", node.store_port));
    ended.says("code=BW0203");
    drop(store);

    let _api = TcpListener::bind(("127.0.0.1", node.api_port)).expect("the port is ours");
    let ended = to_the_end(node.command(), LIMIT);
    assert_eq!(ended.code(), Some(ADDRESS), "{}", ended.text);
    ended.says(&format!("127.0.0.1:{}", node.api_port));
    ended.says("code=BW0201");
    assert!(!node.data_dir().exists(), "no data directory was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_data_of_another_cluster_is_refused_and_left_untouched() {
    let mut cluster = Cluster::start(1).await;
    let guest = cluster.guest("guest", json!({}));
    let mut initdb = postgres_program("initdb", guest.account);
    initdb.args(["--no-sync", "-U", "postgres", "-D"]).arg(guest.data_dir());
    let made = to_the_end(initdb, LIMIT);
    assert_eq!(made.code(), Some(0), "{}", made.text);
    let before = contents(&guest.data_dir());

    let ended = to_the_end(guest.command(), LIMIT);
    assert_eq!(ended.code(), Some(FOREIGN_DATA), "{}", ended.text);
    ended.says("system ID mismatch, node guest belongs to a different cluster");
    ended.says("code=BW0302");
    let touched: Vec<_> = contents(&guest.data_dir()).difference(&before).cloned().collect();
    assert_eq!(touched, [], "no file was touched");
    assert!(guest.journal().decision("system_id_mismatch").is_some(), "{:?}", guest.journal().codes());

    let members = cluster.nodes[0].api.get("/cluster").await.expect("the API answers").json();
    let names: Vec<_> =
        members["members"].as_array().into_iter().flatten().map(|member| &member["name"]).collect();
    assert_eq!(names, ["node1"], "it never became a member");
}

/// Every file below a directory with its length and time of change.
fn contents(directory: &Path) -> BTreeSet<(String, u64, SystemTime)> {
    let mut found = BTreeSet::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).expect("a directory").flatten() {
            let metadata = entry.metadata().expect("it is there");
            found.insert((
                entry.path().display().to_string(),
                metadata.len(),
                metadata.modified().expect("a time"),
            ));
            if metadata.is_dir() {
                open.push(entry.path());
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgresql_that_does_not_let_the_agent_in_is_told_with_the_line_that_would() {
    let mut cluster = Cluster::prepare(&Options::nodes(1)).await;
    let node = &mut cluster.nodes[0];
    let mut document = node.document.clone();
    document["postgresql"]["pg_hba"] = json!(["local all all scram-sha-256"]);
    node.rewrite(&document);
    node.start();
    node.tells("refuses the agent's own login").await;
    let log = node.log_text();
    let line = format!("host all {} 127.0.0.1/32 scram-sha-256", sql::SUPERUSER);
    assert!(log.contains(&line) && log.contains("no pg_hba.conf entry for host"), "{log}");
    until("the journal says so", PATIENCE, || node.journal().decision("login_refused").is_some()).await;

    // As advised. The bootstrap goes on from where it was.
    document["postgresql"]["pg_hba"] = json!(["local all all scram-sha-256", line]);
    node.rewrite(&document);
    let agent = node.agent_pid().expect("it waits");
    assert!(processes::send(agent, Signal::HUP));
    cluster.whole().await;
}
