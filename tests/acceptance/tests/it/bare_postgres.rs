//! A primary with a streaming standby and no agent is taken over with its data: `bellwether adopt` says what stands in the way, the
//! primary founds the cluster, without a restart, and the standby follows it without being copied anew.

use std::{path::Path, process::Command, time::Duration};

use bellwether_acceptance::{
    Cluster, Node, Options, PATIENCE,
    binary::{bellwether, postgres_program},
    run::{Ended, to_the_end},
    sql::{PASSWORD, SUPERUSER},
};
use serde_json::{Value, json};

const ENDED_WITHIN: Duration = Duration::from_secs(60);

fn done(mut command: Command) {
    command.env("PGPASSWORD", PASSWORD);
    let ended = to_the_end(command, ENDED_WITHIN);
    assert!(ended.status.success(), "{}", ended.text);
}

fn program(node: &Node, name: &str, arguments: &[&str]) -> Command {
    let mut command = postgres_program(name, node.account);
    command.arg("-D").arg(node.data_dir()).args(arguments);
    command
}

fn start_bare(node: &Node) {
    let options = format!(
        "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories={}",
        node.postgres_port,
        node.dir.display()
    );
    let log = node.dir.join("bare.log");
    done(program(node, "pg_ctl", &["start", "-w", "-l", path(&log), "-o", &options]));
}

fn stop_bare(node: &Node) {
    done(program(node, "pg_ctl", &["stop", "-w", "-m", "fast"]));
}

fn path(path: &Path) -> &str {
    path.to_str().expect("test paths are text")
}

fn look(node: &Node) -> (Ended, Value) {
    let mut command = bellwether(node.account);
    command.arg("adopt").arg(node.configuration()).args(["-f", "json"]).current_dir(&node.dir);
    let ended = to_the_end(command, ENDED_WITHIN);
    let plan = serde_json::from_str(&ended.text).unwrap_or_else(|error| panic!("{error}: {}", ended.text));
    (ended, plan)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bare_primary_and_its_standby_become_a_cluster() {
    let mut cluster = Cluster::prepare(&Options::nodes(2).on_etcd()).await;
    let [primary, standby] = &cluster.nodes[..] else { panic!("two nodes") };
    let secret = primary.dir.join("secret");
    primary.account.write(&secret, PASSWORD);
    let pwfile = format!("--pwfile={}", path(&secret));
    done(program(primary, "initdb", &["-U", SUPERUSER, "-A", "scram-sha-256", "-k", &pwfile]));
    start_bare(primary);
    let session = primary.sql().await;
    session
        .client
        .batch_execute("CREATE TABLE old_data AS SELECT generate_series(1, 1000)")
        .await
        .expect("rows");
    let source =
        format!("host=127.0.0.1 port={} user={SUPERUSER} application_name=node2", primary.postgres_port);
    done(program(standby, "pg_basebackup", &["-R", "-X", "stream", "-c", "fast", "-d", &source]));
    start_bare(standby);

    let (ended, plan) = look(primary);
    assert_eq!(
        (ended.code(), &plan["situation"], &plan["leader"]),
        (Some(1), &json!("postgresql"), &json!(true))
    );
    let obstacles = plan["obstacles"].to_string();
    assert!(obstacles.contains("CREATE ROLE \\\"replicator") && obstacles.contains("rewinder"), "{plan}");
    let role = "CREATE ROLE replicator REPLICATION LOGIN PASSWORD 'replication-secret'; \
                CREATE ROLE rewinder LOGIN PASSWORD 'rewind-secret'; \
                GRANT EXECUTE ON FUNCTION pg_read_binary_file(text, bigint, bigint, boolean) TO rewinder";
    session.client.batch_execute(role).await.expect("a role");
    let (ended, plan) = look(primary);
    assert_eq!((ended.code(), &plan["obstacles"]), (Some(0), &json!([])), "{plan}");
    let (ended, plan) = look(standby);
    assert!(ended.code() == Some(1) && ended.text.contains("begin with the primary"), "{plan}");

    let postmaster = primary.postmaster_pid();
    cluster.nodes[0].start();
    bellwether_acceptance::eventually("it founds the cluster", PATIENCE, || async {
        cluster.primary().await.map(|_| ())
    })
    .await;
    let (ended, plan) = look(&cluster.nodes[1]);
    assert_eq!((ended.code(), &plan["obstacles"]), (Some(0), &json!([])), "{plan}");
    stop_bare(&cluster.nodes[1]);
    cluster.nodes[1].start();
    assert_eq!(cluster.whole().await.name, "node1");
    assert_eq!(cluster.nodes[0].postmaster_pid(), postmaster, "the primary was not restarted");
    session.text("1").await.expect("nor was its session ended");
    let rows = cluster.nodes[1].sql().await.text("SELECT count(*) FROM old_data").await;
    assert_eq!(rows.expect("the standby answers").as_deref(), Some("1000"));
    let journal = cluster.nodes[1].journal();
    assert!(journal.action("Clone").is_none(), "not copied anew: {:?}", journal.codes());
}
