//! Who may come in to the pools: rules by line, passwords that a query looks up, certificates; and what others are told.

use std::{fs, path::Path, process::Stdio};

use bellwether_acceptance::{
    Cluster, Node, Options, PATIENCE, account::Account, binary, eventually, pki::Pki,
};
use serde_json::json;
use tokio_postgres::{Config, NoTls};

const SETUP: &str = "
    CREATE SCHEMA pooler;
    CREATE FUNCTION pooler.user_search(uname name, OUT usename name, OUT passwd text)
        RETURNS SETOF record LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
        AS 'SELECT rolname, rolpassword FROM pg_authid WHERE rolname = uname AND rolcanlogin';
    REVOKE ALL ON FUNCTION pooler.user_search(name) FROM PUBLIC;
    GRANT USAGE ON SCHEMA pooler TO lookup;
    GRANT EXECUTE ON FUNCTION pooler.user_search(name) TO lookup;";

const RULES: &str = "\
# database user address method
host    all       banned       127.0.0.1/32  reject
hostssl postgres  carol        127.0.0.1/32  cert map=staff
hostssl postgres  dave         127.0.0.1/32  cert
hostssl postgres  erin         127.0.0.1/32  password
host    postgres  alice,frank  127.0.0.1/32  scram-sha-256
";

/// What psql printed, or what it was told.
async fn psql(port: u16, user: &str, password: &str, options: &str) -> Result<String, String> {
    let output = tokio::process::Command::new(binary::postgres_bin_dir().join("psql"))
        .args(["-X", "-A", "-t", "-c", "SELECT current_user"])
        .arg(format!("host=127.0.0.1 port={port} user={user} dbname=postgres {options}"))
        .env("PGPASSWORD", password)
        // Certificates of whoever runs the tests are none of these users.
        .env("HOME", "/nonexistent")
        .stdin(Stdio::null())
        .output()
        .await
        .expect("psql can be run");
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// The SQLSTATE with which a client without TLS is turned away.
async fn sqlstate(port: u16, user: &str, password: &str) -> String {
    let mut config = Config::new();
    config.host("127.0.0.1").port(port).user(user).password(password).dbname("postgres");
    let error = config.connect(NoTls).await.map(drop).expect_err("it is turned away");
    error.code().map(|code| code.code().to_owned()).unwrap_or_else(|| error.to_string())
}

/// Takes the rules into use, by a reload.
async fn reload(node: &Node, pki: &Pki, dir: &Path) {
    let file = |name: &str, text: &str| {
        let path = dir.join(name);
        Account::of_nodes().write(&path, text);
        path
    };
    let mut document = node.document.clone();
    document["pooler"] = json!({
        "listen_addr": "127.0.0.1",
        "listen_port": node.router.pooled,
        "auth_type": "hba",
        "auth_hba_file": file("hba", RULES),
        "auth_ident_file": file("ident", "staff carol.example.org carol\n"),
        // Servers take a password of who comes with a certificate.
        "auth_file": file("userlist.txt", "\"lookup\" \"lookup's\"\n\"carol\" \"carol's\"\n"),
        "auth_user": "lookup",
        "auth_dbname": "lookups",
        "auth_query": "SELECT usename, passwd FROM pooler.user_search($1)",
        "client_tls_cert_file": pki.path("crt"),
        "client_tls_key_file": pki.path("key"),
        "client_tls_ca_file": pki.path("ca"),
    });
    document["router"]["listeners"].as_object_mut().expect("listeners").remove("pooled");
    node.rewrite(&document);
    assert_eq!(node.api.post("/reload", json!({})).await.status, 202);
    eventually("the rules are in force", PATIENCE, || async {
        match psql(node.router.pooled, "mallory", "x", "sslmode=disable").await {
            Err(told) if told.contains("no auth_hba_file entry") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_queries_and_certificates_say_who_comes_in() {
    let cluster = Cluster::start_with(Options::nodes(1).with_routers()).await;
    let node = cluster.whole().await;
    let superuser = node.sql().await;
    for user in ["lookup", "alice", "banned", "carol", "dave", "erin", "frank"] {
        let sql = format!("CREATE ROLE {user} LOGIN PASSWORD '{user}''s'");
        superuser.client.batch_execute(&sql).await.expect("a role");
    }
    superuser.client.batch_execute("CREATE DATABASE lookups").await.expect("a database");
    let mut lookups = Config::new();
    lookups
        .host("127.0.0.1")
        .port(node.postgres_port)
        .user(bellwether_acceptance::sql::SUPERUSER)
        .password(bellwether_acceptance::sql::PASSWORD)
        .dbname("lookups");
    let lookups = bellwether_acceptance::sql::Session::open(&lookups).await.expect("a session");
    lookups.client.batch_execute(SETUP).await.expect("a function");
    let pki = Pki::new(Account::of_nodes());
    let dir = cluster.dir().join("logins");
    fs::create_dir_all(&dir).expect("a folder");
    Account::of_nodes().own(&dir, 0o700);
    reload(node, &pki, &dir).await;
    let port = node.router.pooled;
    let told = async |user: &str, password: &str, options: &str| {
        psql(port, user, password, options).await.expect_err("it is turned away")
    };

    // By password, which only the query knows.
    for options in ["sslmode=disable", "sslmode=require"] {
        assert_eq!(psql(port, "alice", "alice's", options).await.as_deref(), Ok("alice"), "{options}");
    }
    let wrong = told("alice", "wrong", "").await;
    assert!(wrong.contains("password authentication failed for user \"alice\""), "{wrong}");
    assert!(wrong.contains("HINT:"), "{wrong}");
    assert_eq!(sqlstate(port, "alice", "wrong").await, "28P01");
    superuser.client.batch_execute("ALTER ROLE alice PASSWORD 'new'").await.expect("another password");
    eventually("the new password opens", PATIENCE, || psql(port, "alice", "new", "sslmode=disable")).await;
    assert_eq!(
        psql(port, "erin", "erin's", "sslmode=require").await.as_deref(),
        Ok("erin"),
        "as it is, by TLS"
    );

    // By rule.
    let banned = told("banned", "banned's", "sslmode=disable").await;
    assert!(banned.contains("auth_hba_file rejects connection for host \"127.0.0.1\""), "{banned}");
    assert_eq!(sqlstate(port, "banned", "banned's").await, "28000");
    let mallory = told("mallory", "x", "sslmode=disable").await;
    assert!(mallory.contains("HINT:"), "{mallory}");
    assert_eq!(sqlstate(port, "mallory", "x").await, "28000");

    // By certificate.
    let with = |name: &str| {
        let (crt, key) = pki.issue(name);
        format!("sslmode=require sslcert={} sslkey={}", crt.display(), key.display())
    };
    let certificate = with("carol.example.org");
    assert_eq!(psql(port, "carol", "", &certificate).await.as_deref(), Ok("carol"), "the map allows it");
    let dave = told("dave", "dave's", &certificate).await;
    assert!(dave.contains("certificate authentication failed for user \"dave\""), "{dave}");
    let nobody = told("carol", "carol's", "sslmode=require").await;
    assert!(nobody.contains("requires a valid client certificate"), "{nobody}");
    let plain = told("carol", "carol's", "sslmode=disable").await;
    assert!(plain.contains("no auth_hba_file entry"), "{plain}");

    // Without the function nobody new comes in, and the client hears that it is not its fault.
    lookups.client.batch_execute("DROP FUNCTION pooler.user_search(name)").await.expect("it is gone");
    let frank = told("frank", "frank's", "sslmode=disable").await;
    assert!(frank.contains("auth_query failed") && frank.contains("user_search"), "{frank}");
    assert_eq!(sqlstate(port, "frank", "frank's").await, "57P03");
}
