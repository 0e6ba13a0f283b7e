//! What takes too long ends with the reason, and the server behind it serves others.

use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;
use tokio_postgres::error::DbError;

use crate::{
    front::{Front, USER, ask, client, client_and_end, client_as},
    limits::{create_users, until},
    pooled::{one_server, psql},
    server_under_test::run,
};

use bellwether_proxy::settings::{Overrides, PoolLimits, TimeoutOverrides, Timeouts};

const SHORT: Duration = Duration::from_secs(1);

/// From now on these, and others for ann; with one server.
async fn set(front: &Front, timeouts: Timeouts, of_ann: TimeoutOverrides) {
    let ann = Overrides { timeouts: of_ann, ..Overrides::default() };
    front.pool(|pooler| {
        pooler.limits = PoolLimits {
            pool_size: 1,
            timeouts,
            users: [("ann".to_owned(), ann)].into(),
            ..PoolLimits::default()
        };
    });
    // Told to the threads before the console's next answer is asked of them.
    let told = timeouts.transaction.as_secs().to_string();
    until("the settings are in force", async || {
        let shown = psql(front.pooled, "dbname=pgbouncer", "SHOW CONFIG", b"").await.unwrap();
        shown.contains(&format!("transaction_timeout|{told}|"))
    })
    .await;
}

fn told(error: &tokio_postgres::Error) -> DbError {
    error.as_db_error().unwrap_or_else(|| panic!("{error:?}")).clone()
}

/// What a client's connection ends with that has said this, and waits.
async fn end_after(front: &Front, sql: &str) -> DbError {
    let (client, end) = client_and_end(front.pooled, USER).await.unwrap();
    client.batch_execute(sql).await.unwrap();
    let begun = Instant::now();
    let end = tokio::time::timeout(Duration::from_secs(15), end).await.expect("it is ended");
    assert!(begun.elapsed() > SHORT / 2, "not at once");
    told(&end.unwrap().unwrap_err())
}

#[test]
fn what_takes_too_long_ends_with_the_reason() {
    run(async |root| {
        let (server, front) = one_server(&root, 1).await;
        create_users(&server, &["ann"]).await;
        let watcher = server.client().await;
        let sleepers = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(61)%' AND pid <> pg_backend_pid()";

        // A query: it is cancelled, and its server's answer reaches nobody.
        set(
            &front,
            Timeouts { query: SHORT, ..Timeouts::default() },
            TimeoutOverrides { query: Some(Duration::ZERO), ..TimeoutOverrides::default() },
        )
        .await;
        let slow = client(front.pooled).await.unwrap();
        let error = told(&slow.batch_execute("SELECT 'late', pg_sleep(61)").await.unwrap_err());
        assert_eq!((error.code().code(), error.message()), ("57014", "query timeout"));
        assert!(error.hint().unwrap_or_default().contains("pooler.query_timeout"), "{error:?}");
        let other = client(front.pooled).await.unwrap();
        for number in 0..20 {
            let number = number.to_string();
            assert_eq!(ask(&other, &number).await.unwrap(), number);
        }
        until("the query is cancelled", async || ask(&watcher, sleepers).await.unwrap() == "0").await;
        let ann = client_as(front.pooled, "ann").await.unwrap();
        ann.batch_execute("SELECT pg_sleep(2)").await.unwrap();
        let counted = "bellwether_proxy_refused_total{listener=\"pooled\",reason=\"query_timeout\"}";
        assert_eq!(front.metric(counted).await, 1.0);

        // A transaction in which nothing happens: another client has its server afterwards.
        set(&front, Timeouts { idle_transaction: SHORT, ..Timeouts::default() }, TimeoutOverrides::default())
            .await;
        let error = end_after(&front, "BEGIN; CREATE TABLE never (n int)").await;
        assert_eq!((error.code().code(), error.message()), ("25P03", "idle transaction timeout"));
        assert_eq!(ask(&other, "to_regclass('never') IS NULL").await.unwrap(), "true");

        // A client that is in no transaction.
        set(&front, Timeouts { client_idle: SHORT, ..Timeouts::default() }, TimeoutOverrides::default())
            .await;
        let error = end_after(&front, "SELECT 1").await;
        assert_eq!((error.code().code(), error.message()), ("57P05", "client_idle_timeout"));

        // A transaction that is busy, but too long.
        let timeouts = Timeouts { transaction: SHORT, query: SHORT * 60, ..Timeouts::default() };
        set(&front, timeouts, TimeoutOverrides::default()).await;
        let (busy, _end) = client_and_end(front.pooled, USER).await.unwrap();
        let begun = Instant::now();
        let error = loop {
            let sql = if begun.elapsed() < SHORT / 4 { "BEGIN" } else { "SELECT pg_sleep(30)" };
            if let Err(error) = busy.batch_execute(sql).await {
                break told(&error);
            }
        };
        assert_eq!((error.code().code(), error.message()), ("25P04", "transaction timeout"));

        waiting_is_told(&front).await;
        a_login_does_not_last_for_ever(&front).await;
    });
}

async fn waiting_is_told(front: &Front) {
    front.pool(|pooler| {
        pooler.limits = PoolLimits { pool_size: 1, ..PoolLimits::default() };
        pooler.query_wait_notify = Duration::from_millis(300);
        pooler.query_wait_timeout = Duration::from_secs(2);
    });
    let holder = client(front.pooled).await.unwrap();
    holder.batch_execute("BEGIN").await.unwrap();
    let waiter = psql(front.pooled, "", "SELECT 1", b"").await.unwrap_err();
    for expected in ["NOTICE:  no server has come free", "query_wait_timeout", "All 1 servers of the pool"] {
        assert!(waiter.contains(expected), "{expected} in {waiter}");
    }
}

async fn a_login_does_not_last_for_ever(front: &Front) {
    front.pool(|pooler| pooler.client_login_timeout = SHORT);
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", front.pooled)).await.unwrap();
    let mut heard = Vec::new();
    let reading = stream.read_to_end(&mut heard);
    tokio::time::timeout(Duration::from_secs(15), reading).await.expect("it is ended").unwrap();
    assert!(String::from_utf8_lossy(&heard).contains("client_login_timeout"), "{heard:?}");
}
