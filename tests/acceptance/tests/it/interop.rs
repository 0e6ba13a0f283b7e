//! What we print for other programs works with them: connection strings with libpq and psycopg, configurations with the programs' own
//! checks, and a PgBouncer that is started with one.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use bellwether_acceptance::{
    Cluster, Node, PATIENCE, binary, eventually,
    namespace::{INTERFACE, Namespace},
    patroni,
    run::to_the_end,
    sql::{self, Session},
};

/// Who types commands of ours at a node.
struct Operator<'a>(&'a Node);

impl Operator<'_> {
    fn says(&self, words: &[&str]) -> String {
        let mut command = binary::bellwether(self.0.account);
        command.args(words).arg("-c").arg(self.0.configuration());
        let ended = to_the_end(command, PATIENCE);
        assert_eq!(ended.code(), Some(0), "{words:?}: {}", ended.text);
        ended.text
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn check(command: &mut Command, what: &str) -> String {
    let output =
        command.output().unwrap_or_else(|error| panic!("{what} (scripts/prerequisites stores): {error}"));
    assert!(output.status.success(), "{what}: {}", text(&output));
    text(&output)
}

/// One word of SQL through psql with this connection string.
fn psql(string: &str, query: &str) -> String {
    let mut psql = Command::new(binary::postgres_bin_dir().join("psql"));
    psql.args(["-XAtq", "-d", string, "-c", query])
        .env("PGUSER", sql::SUPERUSER)
        .env("PGPASSWORD", sql::PASSWORD);
    check(&mut psql, string).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn other_programs_take_what_we_print() {
    let mut cluster = Cluster::start(2).await;
    let port = cluster.free_port();
    let leader = cluster.whole().await;
    let (leader_port, operator) = (leader.postgres_port, Operator(leader));
    let replica_port = cluster.others(leader)[0].postgres_port;

    let leads = "SELECT pg_is_in_recovery()::text || ' ' || inet_server_port()";
    for driver in ["libpq", "url", "go", "python"] {
        let writes = operator.says(&["dsn", "--driver", driver]);
        assert_eq!(psql(writes.trim(), leads), format!("false {leader_port}"), "{writes}");
    }
    if binary::postgres_major() >= 14 {
        let reads = operator.says(&["dsn", "--driver", "url", "--reads"]);
        assert_eq!(psql(reads.trim(), leads), format!("true {replica_port}"), "{reads}");
    }
    let python = operator.says(&["dsn", "--driver", "python"]);
    let script = "import psycopg2, sys; c = psycopg2.connect(sys.argv[1]); q = c.cursor(); q.execute(sys.argv[2]); print(q.fetchone()[0])";
    let mut psycopg = Command::new(patroni::programs().join("python"));
    psycopg.args(["-c", script, python.trim(), leads]);
    psycopg.env("PGUSER", sql::SUPERUSER).env("PGPASSWORD", sql::PASSWORD);
    assert_eq!(check(&mut psycopg, "psycopg2").trim(), format!("false {leader_port}"));

    let write = |name: &str, text: &str| {
        let file = cluster.dir().join(name);
        cluster.account.write(&file, text);
        file
    };
    let haproxy = write("printed-haproxy.cfg", &operator.says(&["haproxy-config"]));
    check(Command::new("haproxy").arg("-c").arg("-f").arg(&haproxy), "haproxy -c");
    let keepalived = operator.says(&["keepalived-config", "10.0.0.100", "--interface", INTERFACE]);
    let host = Namespace::make();
    let complaints = |file: &Path| {
        // Its status is the same for good files and for bad ones.
        let output = host.command("keepalived").arg("-t").arg("-f").arg(file).output();
        text(&output.expect("keepalived is installed (scripts/prerequisites stores)"))
    };
    assert_eq!(complaints(&write("printed-keepalived.conf", &keepalived)), "");
    let broken =
        complaints(&write("broken-keepalived.conf", &keepalived.replace("advert_int", "advert_intt")));
    assert!(broken.contains("Unknown keyword 'advert_intt'"), "{broken}");

    let printed = operator.says(&["pgbouncer-config", "--port", &leader_port.to_string()]);
    pool(&cluster, &printed, port, leader_port).await;
    let entrypoints = operator.says(&["entrypoints", "-f", "json"]);
    assert_eq!(entrypoints.trim(), "[]", "there are none");
}

/// Starts a PgBouncer with what was printed, on another port and with a list of users of its own.
async fn pool(cluster: &Cluster, printed: &str, port: u16, leader_port: u16) {
    let users = cluster.dir().join("userlist.txt");
    cluster.account.write(&users, &format!("\"{}\" \"{}\"\n", sql::SUPERUSER, sql::PASSWORD));
    let ours = printed
        .replace("listen_port = 6432", &format!("listen_port = {port}"))
        .replace("/etc/pgbouncer/userlist.txt", &users.display().to_string());
    let file = cluster.dir().join("pgbouncer.ini");
    cluster.account.write(&file, &ours);
    let log = std::fs::File::create(cluster.dir().join("pgbouncer.log")).expect("a log");
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program("pgbouncer")]).arg(&file);
    cluster.account.apply(&mut command);
    let mut pgbouncer = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("pgbouncer is installed (scripts/prerequisites stores)");
    let answered = eventually("PgBouncer leads to the leader", PATIENCE, || async {
        let session = Session::at(port).await.map_err(|error| error.to_string())?;
        session.text("inet_server_port()").await.map_err(|error| error.to_string())
    })
    .await;
    let _ = pgbouncer.kill();
    let _ = pgbouncer.wait();
    assert_eq!(answered, Some(leader_port.to_string()));
}

/// Debian has it where ordinary accounts do not look.
fn program(name: &'static str) -> &'static str {
    if Path::new("/usr/sbin/pgbouncer").exists() { "/usr/sbin/pgbouncer" } else { name }
}
