//! A reload takes an edited file into force, says in known words what it changes, and leaves alone what needs a restart of
//! the agent. A file that cannot be used changes nothing.

use std::os::unix::process::CommandExt as _;

use bellwether_acceptance::{
    Cluster, Node, Options, PATIENCE, binary, eventually, processes,
    run::{Ended, to_the_end},
    sql,
    wait::until,
};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Asks for a reload, and waits until the log has one more of these lines.
async fn reload_until(node: &Node, line: &str) {
    let count = || node.log_text().matches(line).count();
    let before = count();
    let agent = node.agent_pid().expect("the agent runs");
    assert!(processes::send(agent, Signal::HUP), "it is there");
    until(format!("the log says `{line}`"), PATIENCE, || count() > before).await;
}

async fn setting(node: &Node, name: &str) -> String {
    let value = node.sql().await.text(&format!("current_setting('{name}')")).await;
    value.expect("an answer").expect("a value")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_file_comes_into_force_where_it_may() {
    let cluster = Cluster::start_with(Options::nodes(1).with(json!({"tags": {"rack": "a"}}))).await;
    let node = cluster.whole().await;
    reload_until(node, "No local configuration items changed.").await;

    let mut document = node.document.clone();
    document["tags"]["rack"] = json!("b");
    document["postgresql"]["parameters"]["work_mem"] = json!("7MB");
    document["postgresql"]["parameters"]["shared_buffers"] = json!("33MB");
    document["postgresql"]["parameters"]["no_such_thing"] = json!("1");
    document["postgresql"]["data_dir"] = json!(node.dir.join("elsewhere"));
    document["name"] = json!("another");
    node.rewrite(&document);
    reload_until(node, "Reloading PostgreSQL configuration.").await;
    let log = node.log_text();
    for line in [
        "INFO: Changed work_mem from '4MB' to '7MB'\n",
        "INFO: Changed shared_buffers from '32MB' to '33MB' (restart might be required)\n",
        "WARNING: Removing invalid parameter `no_such_thing` from postgresql.parameters\n",
        "key=name\n",
        "key=postgresql.data_dir\n",
    ] {
        assert!(log.contains(line), "`{line}` expected in:\n{log}");
    }
    let status = eventually("the restart that is needed is told", PATIENCE, || async {
        let status = node.api.status().await;
        if status["pending_restart_reason"].get("shared_buffers").is_some() {
            Ok(status)
        } else {
            Err(status)
        }
    })
    .await;
    assert_eq!(status["tags"], json!({"rack": "b"}));
    assert_eq!(status["patroni"]["name"], node.name, "a name is for life");
    assert_eq!(setting(node, "work_mem").await, "7MB");
    assert_eq!(setting(node, "data_directory").await, node.data_dir().display().to_string());
    assert!(!node.dir.join("elsewhere").exists());

    // Broken: everything stays as it is, and PostgreSQL reads its files all the same.
    node.account.write(&node.configuration(), "scope: [\n");
    reload_until(node, "Exception when reloading local configuration from ").await;
    assert_eq!(setting(node, "work_mem").await, "7MB");
    assert_eq!(node.api.status().await["tags"], json!({"rack": "b"}));

    // What all members share, and what has nothing to do with PostgreSQL.
    assert_eq!(node.api.patch("/config", json!({"maximum_lag_on_failover": 7})).await.status, 200);
    let nothing = "No PostgreSQL configuration items changed, nothing to reload.";
    until("the log says so", PATIENCE, || node.log_text().contains(nothing)).await;
    let kept: Value = eventually("the copy beside the data is up to date", PATIENCE, || async {
        let text = std::fs::read_to_string(node.data_dir().join("patroni.dynamic.json")).unwrap_or_default();
        let kept: Value = serde_json::from_str(&text).unwrap_or_default();
        if kept["maximum_lag_on_failover"] == 7 { Ok(kept) } else { Err(text) }
    })
    .await;
    assert_eq!(kept, node.api.get("/config").await.expect("an answer").json());

    // A configuration can be made out of the server that runs, and the file of the running member be judged.
    let dsn = format!(
        "host=127.0.0.1 port={} dbname=postgres user={} password={}",
        node.postgres_port,
        sql::SUPERUSER,
        sql::PASSWORD
    );
    let made = patroni(node, &["--generate-config", "--dsn", &dsn]);
    assert_eq!(made.code(), Some(0), "{}", made.text);
    for line in [
        format!("  data_dir: {}", node.data_dir().display()),
        "        work_mem: 7MB".to_owned(),
        "  - host all all 127.0.0.1/32 scram-sha-256".to_owned(),
        format!("  listen: 127.0.0.1:{}", node.postgres_port),
    ] {
        made.says(&format!("\n{line}\n"));
    }
    node.rewrite(&node.document);
    let file = node.configuration().display().to_string();
    let judged = patroni(node, &["--validate-config", &file]);
    assert_eq!(judged.code(), Some(1), "{}", judged.text);
    judged.says(&format!("didn't pass validation: Port {} is already in use.", node.postgres_port));
    judged.says("restapi.connect_address 127.0.0.1:");
    judged.says("  help: ");
}

/// The binary by its other name.
fn patroni(node: &Node, arguments: &[&str]) -> Ended {
    let mut command = binary::bellwether(node.account);
    command.arg0("patroni").args(arguments).env_remove("BELLWETHER_LOG");
    to_the_end(command, PATIENCE)
}
