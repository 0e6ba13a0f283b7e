//! `query`, against a real PostgreSQL 15.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::json;

use crate::world::{Ended, World};

const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";

/// A primary on a port of its own; ends when dropped.
struct Server {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

/// PostgreSQL refuses to run as root.
fn as_postgres(program: &str) -> Command {
    let path = PathBuf::from(PROGRAMS).join(program);
    if !is_root() {
        return Command::new(path);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(path);
    command
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

impl Server {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        if is_root() {
            let owned = Command::new("chown").args(["postgres", "--"]).arg(dir.path()).status().unwrap();
            assert!(owned.success());
        }
        let data = dir.path().join("data");
        let made = as_postgres("initdb")
            .args(["-A", "trust", "-U", "postgres", "--no-sync", "--locale=C.UTF-8", "-D"])
            .arg(&data)
            .current_dir("/")
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        encrypt_for_ann(&data);
        // Another process may take the port in between; then the server ends, and the test says so.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Self::run(&data, port, dir.path());
        Self { child, port, _dir: dir }
    }

    fn run(data: &Path, port: u16, sockets: &Path) -> Child {
        let mut command = as_postgres("postgres");
        command
            .arg("-D")
            .arg(data)
            .args(["-c", "ssl=on", "-p", &port.to_string(), "-h", "127.0.0.1", "-F", "-k"])
            .arg(sockets);
        command.current_dir("/").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }
}

/// The role `ann` comes in with TLS and a password only.
fn encrypt_for_ann(data: &Path) {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    for (name, text) in [("server.crt", own.cert.pem()), ("server.key", own.signing_key.serialize_pem())] {
        let path = data.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        if is_root() {
            assert!(Command::new("chown").args(["postgres", "--"]).arg(&path).status().unwrap().success());
        }
    }
    let rules = data.join("pg_hba.conf");
    let trusting = std::fs::read_to_string(&rules).unwrap();
    let first = "hostssl all ann 127.0.0.1/32 scram-sha-256\nhost all ann all reject\n";
    std::fs::write(rules, format!("{first}{trusting}")).unwrap();
}

impl Drop for Server {
    fn drop(&mut self) {
        // Immediate shutdown; it is our child, so the number cannot mean anybody else.
        let _ = Command::new("kill").args(["-QUIT", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

/// The first answer that is no failure to connect.
async fn once_it_answers(world: &World) -> Ended {
    for _ in 0..300 {
        let ended = world.patronictl(&["query", "-U", "postgres", "-c", "SELECT 1 AS one"], &[]).await;
        if ended.out.starts_with("one") {
            return ended;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("PostgreSQL does not answer");
}

#[tokio::test]
async fn rows_come_in_every_form_and_errors_as_rows() {
    let mut world = World::new().await;
    let server = Server::start();
    world
        .change_member("a", json!({"conn_url": format!("postgres://127.0.0.1:{}/postgres", server.port)}))
        .await;
    assert_eq!(once_it_answers(&world).await.out, "one\n1\n");

    let sql = "SELECT 1 AS n, NULL AS nothing, 'x' AS t, true AS b, 1.5::float8 AS f";
    for (options, expected) in [
        (&["--delimiter", ";"][..], "n;nothing;t;b;f\n1;None;x;True;1.5\n"),
        (&["--format", "json"], "[{\"n\": 1, \"nothing\": null, \"t\": \"x\", \"b\": true, \"f\": 1.5}]\n"),
        (&["--format", "yaml"], "- b: true\n  f: 1.5\n  n: 1\n  nothing: null\n  t: x\n\n"),
        (
            &["--format", "pretty"],
            "+---+---------+---+------+-----+\n| n | nothing | t | b    | f   |\n+---+---------+---+------+-----+\n\
             | 1 | None    | x | True | 1.5 |\n+---+---------+---+------+-----+\n",
        ),
    ] {
        let words: Vec<&str> =
            ["query", "-U", "postgres", "-c", sql].iter().chain(options).copied().collect();
        let ended = world.patronictl(&words, &[]).await;
        assert_eq!((ended.status, ended.out.as_str()), (0, expected), "{options:?}");
    }

    let failing = ["query", "-U", "postgres", "-m", "a", "-c", "SELECT 1/0"];
    let ended = world.patronictl(&failing, &[]).await;
    assert_eq!((ended.status, &ended.out[19..]), (0, "\tERROR, SQLSTATE: 22012\n"), "{}", ended.out);
    assert_eq!(world.bellwether(&failing, &[]).await.status, 1);

    let nothing = world
        .patronictl(&["query", "-U", "postgres", "-c", "CREATE ROLE ann LOGIN PASSWORD 'word'"], &[])
        .await;
    assert_eq!((nothing.status, &nothing.out[19..]), (0, "\tERROR, SQLSTATE: no results to fetch\n"));
    let passwords = world.dir.path().join("pgpass");
    std::fs::write(&passwords, "*:*:*:ann:word\n").unwrap();
    std::fs::set_permissions(&passwords, std::fs::Permissions::from_mode(0o600)).unwrap();
    world.set_env("PGPASSFILE", passwords.to_str().unwrap());
    let as_ann = ["query", "-U", "ann", "-c", "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"];
    assert_eq!(world.patronictl(&as_ann, &[]).await.out, "ssl\nTrue\n");
    world.set_env("PGSSLMODE", "disable");
    let refused = world.patronictl(&as_ann, &[]).await.out;
    assert!(refused.contains("failed: FATAL:  pg_hba.conf rejects connection"), "{refused}");

    // The store says that `b` follows, but behind its address is a primary.
    world
        .change_member("b", json!({"conn_url": format!("postgres://127.0.0.1:{}/postgres", server.port)}))
        .await;
    let ended = world.patronictl(&["query", "-U", "postgres", "-r", "replica", "-c", "SELECT 1"], &[]).await;
    assert_eq!(&ended.out[19..], "\tNo connection to role 'replica' is available\n");
}

#[tokio::test]
async fn who_cannot_be_reached_is_named() {
    let world = World::new().await;
    world.change_member("a", json!({"conn_url": "postgres://127.0.0.1:1/postgres"})).await;
    let refused = "ERROR, SQLSTATE: connection to server at \"127.0.0.1\", port 1 failed: Connection refused \tIs the server \
                   running on that host and accepting TCP/IP connections? ";
    for (words, why) in [
        (&["query", "-c", "SELECT 1"][..], refused),
        (&["query", "-c", "SELECT 1", "-m", "x"], "No connection to member x is available"),
        (
            &["query", "-c", "SELECT 1", "-r", "standby-leader"],
            "No connection to role 'standby-leader' is available",
        ),
    ] {
        let ended = world.patronictl(words, &[]).await;
        assert_eq!((ended.status, &ended.out[19..]), (0, format!("\t{why}\n").as_str()), "{words:?}");
    }
    for (words, err) in [
        (&["query"][..], "You need to specify either --command or --file"),
        (&["query", "-c", "x", "-f", "y"], "--file and --command are mutually exclusive options"),
    ] {
        let ended = world.patronictl(words, &[]).await;
        assert_eq!((ended.status, ended.err), (1, format!("Error: {err}\n")));
    }
}
