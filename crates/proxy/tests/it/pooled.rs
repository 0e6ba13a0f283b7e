//! Clients that share servers do not notice each other.

use std::{process::Stdio, sync::Arc, time::Duration};

use bellwether_proxy::settings::{PoolLimits, PoolerSettings, Settings, Tls};
use bellwether_types::Role;
use tokio::io::AsyncWriteExt as _;
use tokio_postgres::error::SqlState;

use crate::{
    front::{Front, LEASE, PASSWORD, USER, ask, client, create_user, member, picture},
    server_under_test::{TestServer, run, settings},
};

/// psql's output, or what it complained about.
pub(crate) async fn psql(port: u16, options: &str, sql: &str, input: &[u8]) -> Result<String, String> {
    let mut child = tokio::process::Command::new("psql")
        .args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1"])
        .arg(format!("host=127.0.0.1 port={port} user={USER} dbname=postgres {options}"))
        .args(["-c", sql])
        .env("PGPASSWORD", PASSWORD)
        // Certificates of whoever runs the tests are none of this user.
        .env("HOME", "/nonexistent")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("psql is installed");
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feeding = tokio::spawn(async move { stdin.write_all(&input).await });
    let output = child.wait_with_output().await.unwrap();
    drop(feeding.await);
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap().trim_end().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

pub(crate) async fn one_server(root: &std::path::Path, pool_size: usize) -> (TestServer, Front) {
    let server = TestServer::primary(settings(root, "only")).await;
    create_user(&server).await;
    let topology = picture(Some("only"), vec![member("only", &server, Role::Primary, 1)], LEASE);
    let pooler = PoolerSettings {
        limits: PoolLimits { pool_size, ..PoolLimits::default() },
        admin_users: vec![USER.to_owned()],
        ..PoolerSettings::default()
    };
    let front = Front::start(topology, &server, pooler).await;
    (server, front)
}

#[test]
fn two_clients_on_one_server_do_not_meet() {
    run(async |root| {
        let (_server, front) = one_server(&root, 1).await;
        // The clients of two threads share it.
        let mut clients = Vec::new();
        for number in 0..4 {
            let client = client(front.pooled).await.unwrap();
            client.batch_execute(&format!("SET work_mem = '{}MB'", 10 + number)).await.unwrap();
            let statement = client.prepare("SELECT current_setting('work_mem') || $1::text").await.unwrap();
            clients.push((number, client, statement));
        }
        for round in 0..20 {
            for (number, client, statement) in &clients {
                let row = client.query_one(statement, &[&format!(" {round}")]).await.unwrap();
                assert_eq!(row.get::<_, String>(0), format!("{}MB {round}", 10 + number));
            }
        }
        // What fails in one client is of no concern to the others.
        let (_, first, statement) = &clients[0];
        first.batch_execute("BEGIN; SET work_mem = '99MB'; SELECT 1/0").await.unwrap_err();
        first.batch_execute("ROLLBACK").await.unwrap();
        let row = first.query_one(statement, &[&""]).await.unwrap();
        assert_eq!(row.get::<_, String>(0), "10MB", "rolled back");

        // Who keeps something in the session keeps the server; afterwards nothing of it is left.
        let keeper = &clients[1].1;
        keeper.batch_execute("CREATE TEMP TABLE kept AS SELECT 7 AS n").await.unwrap();
        for _ in 0..3 {
            assert_eq!(ask(keeper, "SELECT n FROM kept").await.unwrap(), "7");
        }
        drop(clients.remove(1));
        for _ in 0..10 {
            let error = ask(&client(front.pooled).await.unwrap(), "SELECT n FROM kept").await.unwrap_err();
            assert_eq!(error.code(), Some(&SqlState::UNDEFINED_TABLE), "{error}");
        }
    });
}

/// Prepares it in a new client, and says the types of its parameters and columns.
async fn types_of(front: &Front, sql: &str) -> Result<(Vec<String>, Vec<String>), tokio_postgres::Error> {
    let client = client(front.pooled).await?;
    let statement = client.prepare(sql).await?;
    let parameters = statement.params().iter().map(|of| of.name().to_owned()).collect();
    Ok((parameters, statement.columns().iter().map(|of| of.type_().name().to_owned()).collect()))
}

#[test]
fn who_prepares_after_a_change_of_definitions_gets_what_is_now() {
    run(async |root| {
        let (server, front) = one_server(&root, 1).await;
        let user = client(front.pooled).await.unwrap();
        user.batch_execute("CREATE TABLE t (v date)").await.unwrap();
        let (read, write) = ("SELECT * FROM t", "INSERT INTO t VALUES ($1)");
        let words = |of: &[&str]| of.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        for (change, of_column, columns) in [
            ("SELECT 1", "date", vec!["date"]),
            ("ALTER TABLE t ADD n int", "date", vec!["date", "int4"]),
            ("DROP TABLE t; CREATE TABLE t (v time)", "time", vec!["time"]),
            ("BEGIN; ALTER TABLE t ALTER v TYPE text; COMMIT", "text", vec!["text"]),
        ] {
            user.batch_execute(change).await.unwrap();
            // Clients of both threads, on the one server.
            for _ in 0..4 {
                assert_eq!(types_of(&front, read).await.unwrap(), (vec![], words(&columns)), "{change}");
                assert_eq!(types_of(&front, write).await.unwrap(), (words(&[of_column]), vec![]), "{change}");
            }
        }
        // What nobody has said through the proxy is noticed by its failure, once in each thread at most.
        server.client().await.batch_execute("DROP TABLE t; CREATE TABLE t (v json)").await.unwrap();
        let mut failed = 0;
        for _ in 0..12 {
            match types_of(&front, read).await {
                Ok(found) => assert_eq!(found, (vec![], words(&["json"]))),
                Err(_) => failed += 1,
            }
        }
        assert!(failed <= 2, "{failed}");
    });
}

#[test]
fn copies_go_both_ways_and_wrong_passwords_go_nowhere() {
    run(async |root| {
        let (_server, front) = one_server(&root, 2).await;
        let rows: String = (1..=200_000).map(|number| format!("{number}\n")).collect();
        for port in [front.pooled, front.tcp] {
            let out =
                psql(port, "", "COPY (SELECT generate_series(1, 200000)) TO STDOUT", b"").await.unwrap();
            assert!(out == rows.trim_end(), "{} bytes of {}", out.len(), rows.len());
            psql(port, "", "DROP TABLE IF EXISTS t; CREATE TABLE t (n int)", b"").await.unwrap();
            psql(port, "", "COPY t FROM STDIN", rows.as_bytes()).await.unwrap();
            assert_eq!(psql(port, "", "SELECT count(*) FROM t", b"").await.unwrap(), "200000");
            let error = psql(port, "", "COPY t FROM STDIN", b"1\nx\n2\n").await.unwrap_err();
            assert!(error.contains("invalid input syntax"), "{error}");
            let error = psql(port, "password=wrong", "SELECT 1", b"").await.unwrap_err();
            assert!(error.contains("password authentication failed for user \"app\""), "{error}");
        }
        // Far more than any buffer, by the kernel alone.
        let big = psql(front.tcp, "", "SELECT repeat('x', 50000000)", b"").await.unwrap();
        assert!(big.len() == 50_000_000 && big.bytes().all(|byte| byte == b'x'), "{} bytes", big.len());
    });
}

#[test]
fn clients_are_encrypted_with_a_certificate() {
    run(async |root| {
        let (_server, front) = one_server(&root, 2).await;
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = rustls_pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .unwrap();
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        let before = front.settings.borrow().clone();
        let tls = Tls { clients: Some(Arc::new(config)), clients_must: true, ..Tls::default() };
        let pooler = PoolerSettings { tls, ..before.pooler.clone() };
        front.settings.send_replace(Arc::new(Settings { pooler, ..(*before).clone() }));

        let sql = "SELECT sum(n) FROM generate_series(1, 100000) n";
        let encrypted = async || psql(front.pooled, "sslmode=require", sql, b"").await;
        let by = tokio::time::Instant::now() + Duration::from_secs(10);
        while encrypted().await.as_deref() != Ok("5000050000") {
            assert!(tokio::time::Instant::now() < by, "{:?}", encrypted().await);
        }
        let rows = psql(front.pooled, "sslmode=require", "SELECT repeat('y', 3000000)", b"").await.unwrap();
        assert_eq!(rows.len(), 3_000_000);
        let error = psql(front.pooled, "sslmode=disable", "SELECT 1", b"").await.unwrap_err();
        assert!(error.contains("SSL required"), "{error}");
    });
}

/// Parse from clients, Parse to servers, Bind: the last columns of `SHOW STATS_TOTALS`.
fn counts_of_statements(stats: &str) -> [u64; 3] {
    let row: Vec<&str> = stats.lines().next().unwrap().split('|').collect();
    let [.., parsed, on_servers, bound] = row[..] else { panic!("{stats}") };
    [parsed, on_servers, bound].map(|number| number.parse().unwrap())
}

#[test]
fn an_administrator_pauses_looks_and_resumes() {
    run(async |root| {
        let (server, front) = one_server(&root, 2).await;
        let console = async |sql: &str| psql(front.pooled, "dbname=pgbouncer", sql, b"").await;
        let user = client(front.pooled).await.unwrap();
        let first = ask(&user, "pg_backend_pid()").await.unwrap();
        let pools = console("SHOW POOLS").await.unwrap();
        assert!(pools.lines().any(|line| line.starts_with("postgres|app|1|0|")), "{pools}");
        assert!(console("SHOW VERSION").await.unwrap().contains("PgBouncer 1."));
        assert!(console("SHOW NONSENSE").await.unwrap_err().contains("SHOW HELP"));

        // What is counted is what was done.
        for _ in 0..3 {
            user.batch_execute("BEGIN; SELECT repeat('x', 5000); SELECT pg_sleep(0.05); COMMIT")
                .await
                .unwrap();
        }
        let stats = console("SHOW STATS_TOTALS").await.unwrap();
        let row: Vec<u64> =
            stats.lines().next().unwrap().split('|').skip(1).map(|number| number.parse().unwrap()).collect();
        let [assigned, transactions, queries, received, sent, in_transactions, in_queries, ..] = row[..]
        else {
            panic!("{stats}")
        };
        assert!(transactions == assigned && transactions >= 4 && queries >= transactions, "{stats}");
        assert!(received > 150 && sent > 15_000, "{stats}");
        assert!(in_transactions >= 150_000 && in_queries >= 150_000, "microseconds: {stats}");
        let average = console("SHOW STATS_AVERAGES").await.unwrap();
        let per_transaction: u64 =
            average.lines().next().unwrap().split('|').nth(6).unwrap().parse().unwrap();
        assert!(per_transaction > 10_000 && per_transaction < 10_000_000, "{average}");

        // A statement that two clients prepare is one on their server.
        let before = counts_of_statements(&console("SHOW STATS_TOTALS").await.unwrap());
        let again = client(front.pooled).await.unwrap();
        for one in [&user, &again] {
            let statement = one.prepare("SELECT $1::int + 41").await.unwrap();
            for _ in 0..3 {
                one.query_one(&statement, &[&1]).await.unwrap();
            }
        }
        let after = counts_of_statements(&console("SHOW STATS_TOTALS").await.unwrap());
        let [parsed, on_servers, bound] = std::array::from_fn(|at| after[at] - before[at]);
        assert_eq!((parsed, bound), (2, 6), "{before:?} {after:?}");
        // Each thread has a server of its own at most.
        assert!((1..=2).contains(&on_servers), "{before:?} {after:?}");
        drop(again);

        // A pause waits for what is in flight, and holds what comes.
        user.batch_execute("BEGIN").await.unwrap();
        let pausing = tokio::spawn(async move { psql(front.pooled, "dbname=pgbouncer", "PAUSE", b"").await });
        let state = async || console("SHOW STATE").await.unwrap_or_default();
        let by = tokio::time::Instant::now() + Duration::from_secs(10);
        while !state().await.contains("paused|yes") {
            assert!(tokio::time::Instant::now() < by, "{}", state().await);
        }
        assert!(!pausing.is_finished(), "a transaction is in flight");
        user.batch_execute("COMMIT").await.unwrap();
        assert_eq!(pausing.await.unwrap(), Ok("PAUSE".to_owned()));
        let held = tokio::spawn(async move { (ask(&user, "pg_backend_pid()").await, user) });
        let waiting = async || console("SHOW POOLS").await.unwrap().contains("postgres|app|0|1|");
        while !waiting().await {
            assert!(tokio::time::Instant::now() < by, "{:?}", console("SHOW POOLS").await);
        }
        assert_eq!(console("RECONNECT").await, Ok("RECONNECT".to_owned()));
        assert!(!held.is_finished());
        assert_eq!(console("RESUME").await, Ok("RESUME".to_owned()));
        let (second, user) = held.await.unwrap();
        assert_ne!(second.unwrap(), first, "by a new server");

        // Whoever is not named may not even look.
        let sql = "CREATE ROLE other LOGIN PASSWORD 'x'";
        server.client().await.batch_execute(sql).await.unwrap();
        let error = psql(front.pooled, "dbname=pgbouncer user=other password=x", "SHOW POOLS", b"").await;
        assert!(error.unwrap_err().contains("pooler.admin_users"));
        console("KILL postgres").await.unwrap();
        let error = ask(&user, "1").await.unwrap_err();
        assert!(error.is_closed() || error.code() == Some(&SqlState::ADMIN_SHUTDOWN), "{error}");
    });
}
