//! A cluster that begins from a backup, replicas made by a user's command, and the scripts that users hang on events.

use std::fs;

use bellwether_acceptance::{
    Cluster, Node, Options, PATIENCE, Store, account::Account, binary, cluster::SCOPE, eventually, on_stores,
    wait::until,
};
use serde_json::json;
use tempfile::TempDir;

/// Makes a backup of another cluster, in which nobody has a password, with an archive of WAL. The restore point lies before the row
/// that nobody wants.
const MAKE_BACKUP: &str = r#"set -e
cd "$1"; PATH="$2:$PATH"
initdb -D source -U postgres -A trust -E UTF8 --locale=C -N >initdb.log
cat >>source/postgresql.conf <<END
listen_addresses = ''
unix_socket_directories = '$1'
archive_mode = on
archive_command = 'cp %p $1/archive/%f'
max_connections = 150
END
mkdir archive
pg_ctl -D source -w -l source.log start >/dev/null
sql() { psql -h "$1" -U postgres -Xqtc "$2"; }
sql "$1" 'CREATE TABLE kept (id int)'
pg_basebackup -h "$1" -U postgres -D backup -X none -c fast
sql "$1" 'INSERT INTO kept VALUES (1)'
sql "$1" "SELECT pg_create_restore_point('before_mistake')" >/dev/null
sql "$1" 'INSERT INTO kept VALUES (666)'
sql "$1" 'SELECT pg_switch_wal()' >/dev/null
pg_ctl -D source -w -m fast stop >/dev/null
"#;
/// Each tells what it was called with in the folder of its node.
const RESTORE: &str = r#"echo $$ >restore.pid; echo "$@" >restore.called
until [ -e "$(dirname "$0")/go" ]; do sleep 0.05; done
for word in "$@"; do case $word in --datadir=*) to=${word#*=};; --backup=*) from=${word#*=};; esac; done
mkdir -p -m 700 "$to"
cp -a "$from/." "$to"
"#;
const COPY: &str = r#"echo "$@" >copy.called
for word in "$@"; do case $word in --datadir=*) to=${word#*=};; --connstring=*) from=${word#*=};; esac; done
pg_basebackup -D "$to" -d "$from" -X stream -c fast -w
"#;
const POST_BOOTSTRAP: &str = r#"echo "$@" >post_bootstrap.called
until [ -e "$(dirname "$0")/finish" ]; do sleep 0.05; done
psql -Xqtd "$1" -c 'CREATE TABLE of_script AS SELECT current_user::text AS who'
"#;
const CALLBACK: &str = r#"echo "$@" >>callbacks.called
"#;
/// Fails where its node has a file that says so.
const PRE_PROMOTE: &str = r#"echo called >>pre_promote.called
[ ! -e refuse_promotion ]
"#;
const BEFORE_STOP: &str = r#"echo called >>before_stop.called
exit 1
"#;

struct Scripts {
    dir: TempDir,
    account: Account,
}

impl Scripts {
    fn new(account: Account) -> Self {
        let dir = tempfile::Builder::new().prefix("bw-").tempdir().expect("a temporary directory");
        account.own(dir.path(), 0o700);
        let scripts = Self { dir, account };
        for (name, text) in [
            ("make_backup", MAKE_BACKUP),
            ("restore", RESTORE),
            ("copy", COPY),
            ("post_bootstrap", POST_BOOTSTRAP),
            ("callback", CALLBACK),
            ("pre_promote", PRE_PROMOTE),
            ("before_stop", BEFORE_STOP),
        ] {
            account.write(&scripts.dir.path().join(name), text);
        }
        let mut command = std::process::Command::new("sh");
        account.apply(&mut command);
        let path = scripts.dir.path();
        let status = command.arg(path.join("make_backup")).arg(path).arg(binary::postgres_bin_dir()).status();
        assert!(status.expect("there is a shell").success(), "no backup in {}", path.display());
        scripts
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn line(&self, name: &str) -> String {
        format!("sh {}", self.path(name))
    }

    fn options(&self) -> Options {
        let bin_dir = binary::postgres_bin_dir();
        let callback = self.line("callback");
        Options::nodes(2).with(json!({
            "bootstrap": {
                "method": "restored",
                "restored": {
                    "command": self.line("restore"),
                    "backup": self.path("backup"),
                    "fast": true,
                    "recovery_conf": {
                        "restore_command": format!("cp {}/%f %p", self.path("archive")),
                        "recovery_target_name": "before_mistake",
                        "recovery_target_action": "promote",
                        "recovery_target_timeline": "latest",
                    },
                },
                "post_bootstrap": self.line("post_bootstrap"),
            },
            "postgresql": {
                "create_replica_methods": ["broken", "copied", "basebackup"],
                "broken": {"command": "sh -c 'exit 7'"},
                "copied": {"command": format!("env PATH={}:/usr/bin:/bin {}", bin_dir.display(), self.line("copy")), "speed": 3},
                "callbacks": {
                    "on_start": callback, "on_stop": callback, "on_restart": callback,
                    "on_reload": callback, "on_role_change": callback,
                },
                "pre_promote": self.line("pre_promote"),
                "before_stop": self.line("before_stop"),
            },
        }))
    }

    /// The restore (`go`) or the script after it (`finish`) may go on.
    fn let_go(&self, word: &str) {
        self.account.write(&self.dir.path().join(word), "");
    }
}

fn called(node: &Node, name: &str) -> String {
    fs::read_to_string(node.dir.join(format!("{name}.called"))).unwrap_or_default()
}

async fn told(node: &Node, line: &str) {
    until(format!("{} tells its callback `{line}`", node.name), PATIENCE, || {
        called(node, "callbacks").lines().any(|told| told == format!("{line} {SCOPE}"))
    })
    .await;
}

async fn kept(node: &Node) -> Option<String> {
    node.sql()
        .await
        .text("SELECT string_agg(id::text, ',' ORDER BY id) FROM kept")
        .await
        .expect("the table is there")
}

on_stores!(a_cluster_begins_from_a_backup_and_every_script_is_called: etcd);

async fn a_cluster_begins_from_a_backup_and_every_script_is_called(store: Store) {
    let scripts = Scripts::new(Account::of_nodes());
    let mut cluster = Cluster::prepare(&scripts.options().on(store).in_quorum_mode()).await;
    for node in &mut cluster.nodes {
        node.start();
    }
    an_orphaned_restore_is_ended(&cluster).await;
    let founder = founder(&cluster).await;
    scripts.let_go("go");
    a_reload_leaves_what_is_being_restored_alone(&cluster.nodes[founder]).await;
    scripts.let_go("finish");
    let leader = cluster.whole().await;
    assert_eq!(leader.name, cluster.nodes[founder].name);
    let replica = cluster.others(leader)[0];

    // What was restored, to the point that was asked for, and then made ours.
    let arguments = called(leader, "restore");
    let datadir = leader.data_dir().display().to_string();
    let expected =
        format!("--scope={SCOPE} --datadir={datadir} --backup={} --fast=True\n", scripts.path("backup"));
    assert_eq!(arguments, expected);
    assert_eq!(kept(leader).await.as_deref(), Some("1"), "the row after the restore point is not wanted");
    let session = leader.sql().await;
    for (setting, value) in [
        ("hba_file", leader.data_dir().join("pg_hba.conf").display().to_string()),
        ("hot_standby", "on".to_owned()),
        ("max_connections", "100".to_owned()),
    ] {
        let found = session.text(&format!("current_setting('{setting}')")).await.unwrap();
        assert_eq!(found, Some(value), "{setting}");
    }
    assert!(!leader.data_dir().join("pg_hba.bootstrap.conf").exists());
    assert_eq!(session.text("SELECT who FROM of_script").await.unwrap().as_deref(), Some("postgres"));
    let dsn = called(leader, "post_bootstrap");
    assert!(dsn.contains("user=postgres") && dsn.contains("dbname=postgres"), "{dsn}");
    assert!(!dsn.contains("super-secret"), "{dsn}");
    assert_eq!(leader.api.status().await["timeline"], 2);
    told(leader, "on_start primary").await;

    // The replica, by the second method.
    let arguments = called(replica, "copy");
    let datadir = replica.data_dir().display().to_string();
    let begin =
        format!("--speed=3 --scope={SCOPE} --role=replica --datadir={datadir} --connstring=user=replicator");
    assert!(arguments.starts_with(&begin), "{arguments}");
    let log = replica.log_text();
    for line in [
        "Error creating replica using method broken: sh -c 'exit 7' exited with code=7",
        "replica has been created using copied",
        "bootstrapped from leader 'node",
    ] {
        assert!(log.contains(line), "`{line}` is missing");
    }
    told(replica, "on_start replica").await;

    events(&cluster, leader, replica).await;
    a_refused_promotion(&cluster, leader, replica).await;
}

/// The number of the node that runs the command.
async fn founder(cluster: &Cluster) -> usize {
    eventually("a member runs the command", PATIENCE, || async {
        let statuses = cluster.statuses().await;
        let at = statuses.iter().position(|status| status["state"] == "running custom bootstrap script");
        at.ok_or_else(|| format!("{statuses:?}"))
    })
    .await
}

/// What a killed agent leaves running would write into the data directory of the next attempt.
async fn an_orphaned_restore_is_ended(cluster: &Cluster) {
    let node = &cluster.nodes[founder(cluster).await];
    let told = node.dir.join("restore.pid");
    until("the command runs", PATIENCE, || fs::read_to_string(&told).is_ok_and(|pid| pid.ends_with('\n')))
        .await;
    let pid = fs::read_to_string(&told).expect("it was told");
    let runs = || fs::read(format!("/proc/{}/cmdline", pid.trim())).is_ok_and(|line| !line.is_empty());
    assert!(runs());
    node.kill_agent();
    until("the next agent ends it", PATIENCE, || !runs()).await;
}

/// P18: its files say how it was restored, and who may enter meanwhile.
async fn a_reload_leaves_what_is_being_restored_alone(founder: &Node) {
    until("the script after the restore runs", PATIENCE, || !called(founder, "post_bootstrap").is_empty())
        .await;
    let files = || fs::read_to_string(founder.data_dir().join("postgresql.conf")).expect("it is there");
    let before = files();
    assert!(before.contains("pg_hba.bootstrap.conf"), "{before}");
    // Each reload is done when the next one begins.
    for reloads in 1..=2 {
        assert_eq!(founder.api.post("/reload", json!({})).await.status, 202);
        until("the configuration is reloaded", PATIENCE, || {
            founder.log_text().matches("Reloading PostgreSQL configuration.").count() >= reloads
        })
        .await;
    }
    assert_eq!(files(), before);
}

async fn events(cluster: &Cluster, leader: &Node, replica: &Node) {
    assert_eq!(leader.api.post("/reload", json!({})).await.status, 202);
    told(leader, "on_reload primary").await;
    assert_eq!(replica.api.post("/restart", json!({})).await.status, 200);
    told(replica, "on_restart replica").await;
    assert_eq!(called(replica, "before_stop"), "called\n", "and its exit status does not matter");
    cluster.whole().await;
    cluster.synchronous(leader).await;

    let reply =
        leader.api.post("/switchover", json!({"leader": leader.name, "candidate": replica.name})).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    told(leader, "on_stop demoted").await;
    told(leader, "on_role_change replica").await;
    told(replica, "on_role_change primary").await;
    assert_eq!(called(replica, "pre_promote"), "called\n");
    cluster.whole().await;
    assert_eq!(kept(replica).await.as_deref(), Some("1"));
}

/// A member whose `pre_promote` says no gives the lock up, and does not take it again at once.
async fn a_refused_promotion(cluster: &Cluster, refuses: &Node, leads: &Node) {
    cluster.synchronous(leads).await;
    cluster.account.write(&refuses.dir.join("refuse_promotion"), "");
    leads.api.post("/switchover", json!({"leader": leads.name, "candidate": refuses.name})).await;
    until("the script was asked", PATIENCE, || called(refuses, "pre_promote") == "called\n").await;
    let line = "Promotion cancelled because the pre-promote script failed";
    until("the lock is given up", PATIENCE, || refuses.log_text().contains(line)).await;
    let again = cluster.whole().await;
    assert_eq!(again.name, leads.name, "the other one leads again");
    assert_eq!(called(refuses, "pre_promote"), "called\n", "it was not tried again meanwhile");
}
