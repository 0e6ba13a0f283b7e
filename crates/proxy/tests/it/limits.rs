//! No more servers and clients than are allowed, whichever thread they are with, and nobody starves.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bellwether_proxy::settings::{Mode, Overrides, PoolLimits};
use tokio_postgres::{Client, error::SqlState};

use crate::{
    front::{Front, PASSWORD, USER, ask, client, client_as},
    pooled::{one_server, psql},
    server_under_test::{TestServer, run},
};

/// Clients of both threads of the proxy, which share one server.
async fn clients_of_both_threads(front: &Front) -> Vec<Client> {
    let (mut clients, mut pids) = (Vec::new(), BTreeSet::new());
    while pids.len() < 2 {
        assert!(clients.len() < 60, "the threads have servers of their own in turn");
        clients.push(client(front.pooled).await.unwrap());
        for client in &clients {
            pids.insert(ask(client, "pg_backend_pid()").await.unwrap());
        }
    }
    clients
}

/// Waits until `is_so`.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let by = Instant::now() + Duration::from_secs(15);
    while !is_so().await {
        assert!(Instant::now() < by, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The value in the only row of a table of the console.
async fn console(front: &Front, show: &str, row: &str, column: usize) -> usize {
    let shown = psql(front.pooled, "dbname=pgbouncer", show, b"").await.unwrap();
    let line = shown.lines().find(|line| line.starts_with(row)).unwrap_or_else(|| panic!("{row} in {shown}"));
    line.split('|').nth(column).unwrap().parse().unwrap()
}

async fn server_connections(front: &Front) -> usize {
    console(front, "SHOW DATABASES", "postgres|", 12).await
}

#[test]
fn one_server_is_shared_by_all_threads_in_turn() {
    run(async |root| {
        let (_server, front) = one_server(&root, 1).await;
        let clients = clients_of_both_threads(&front).await;
        // Everybody has work all the time, and is served in turn.
        let in_flight = Arc::new(AtomicUsize::new(0));
        let work = clients.into_iter().map(|client| {
            let in_flight = in_flight.clone();
            tokio::spawn(async move {
                let mut served = 0;
                let end = Instant::now() + Duration::from_secs(4);
                while Instant::now() < end {
                    client.batch_execute("BEGIN").await.unwrap();
                    assert_eq!(in_flight.fetch_add(1, Relaxed), 0, "two have a server at once");
                    ask(&client, "1").await.unwrap();
                    in_flight.fetch_sub(1, Relaxed);
                    client.batch_execute("COMMIT").await.unwrap();
                    served += 1;
                }
                served
            })
        });
        for worker in work.collect::<Vec<_>>() {
            let served = worker.await.unwrap();
            assert!(served >= 3, "somebody was served {served} times in 4 s");
        }
        assert_eq!(server_connections(&front).await, 1);
        let counted = front.metric("bellwether_proxy_pool_full_total{limit=\"pool_size\"}").await;
        assert!(counted > 0.0);
    });
}

pub(crate) async fn create_users(server: &TestServer, users: &[&str]) {
    for user in users {
        let sql = format!("CREATE ROLE {user} LOGIN PASSWORD '{}'", PASSWORD.replace('\'', "''"));
        server.client().await.batch_execute(&sql).await.unwrap();
    }
}

fn refused(result: Result<Client, tokio_postgres::Error>) -> (SqlState, String) {
    let error = result.map(drop).unwrap_err();
    let told = error.as_db_error().unwrap_or_else(|| panic!("{error}"));
    (told.code().clone(), told.detail().unwrap_or_default().to_owned())
}

#[test]
fn databases_users_and_clients_have_limits_of_their_own() {
    run(async |root| {
        let (server, front) = one_server(&root, 5).await;
        create_users(&server, &["ann", "bob", "eve"]).await;
        servers_of_a_database_go_where_they_are_wanted(&front).await;
        clients_are_counted(&front).await;
        pools_keep_a_minimum_and_a_reserve(&front).await;
        a_user_may_have_a_mode_of_its_own(&front).await;
    });
}

async fn servers_of_a_database_go_where_they_are_wanted(front: &Front) {
    let _first = client(front.pooled).await.unwrap();
    front.pool(|pooler| {
        pooler.limits.max_db_connections = Some(2);
        pooler.query_wait_timeout = Duration::from_millis(700);
    });
    until("the limit is in force", async || console(front, "SHOW DATABASES", "postgres|", 11).await == 2)
        .await;
    let users = ["ann", "bob", "eve"];
    let mut clients = Vec::new();
    for user in users {
        // A server that nobody uses makes room.
        clients.push(client_as(front.pooled, user).await.unwrap());
    }
    for _ in 0..5 {
        for (client, user) in clients.iter().zip(users) {
            assert_eq!(ask(client, "current_user").await.unwrap(), user);
            assert!(server_connections(front).await <= 2);
        }
    }
    clients[0].batch_execute("BEGIN").await.unwrap();
    clients[1].batch_execute("BEGIN").await.unwrap();
    let error = ask(&clients[2], "1").await.unwrap_err();
    let told = error.as_db_error().expect("the proxy says why");
    assert_eq!(told.code(), &SqlState::QUERY_CANCELED);
    assert!(told.detail().unwrap_or_default().contains("max_db_connections"), "{told:?}");
    assert!(told.hint().unwrap_or_default().contains("max_db_connections"), "{told:?}");
    front.pool(|pooler| {
        pooler.limits.max_db_connections = None;
        pooler.query_wait_timeout = Duration::from_secs(20);
    });
    until("the limit is gone", async || console(front, "SHOW DATABASES", "postgres|", 11).await == 0).await;
}

async fn clients_are_counted(front: &Front) {
    front.pool(|pooler| {
        pooler.limits.max_db_client_connections = Some(3);
        let one = Overrides { max_client_connections: Some(1), ..Overrides::default() };
        pooler.limits.users.insert("ann".into(), one);
    });
    until("the limit is in force", async || console(front, "SHOW USERS", "ann|", 6).await == 1).await;
    until("those from before are gone", async || {
        console(front, "SHOW DATABASES", "postgres|", 14).await == 0
    })
    .await;
    let ann = client_as(front.pooled, "ann").await.unwrap();
    let (code, detail) = refused(client_as(front.pooled, "ann").await);
    assert_eq!(code, SqlState::TOO_MANY_CONNECTIONS);
    assert!(detail.contains("max_user_client_connections"), "{detail}");
    let bob = client_as(front.pooled, "bob").await.unwrap();
    let eve = client_as(front.pooled, "eve").await.unwrap();
    let (_, detail) = refused(client_as(front.pooled, "eve").await);
    assert!(detail.contains("It may have 3 (max_db_client_connections)"), "{detail}");
    drop((ann, bob));
    // Its place is free a moment later.
    until("another one comes in", async || client_as(front.pooled, "ann").await.is_ok()).await;

    front.pool(|pooler| {
        pooler.limits = PoolLimits::default();
        pooler.max_clients = 2;
    });
    // An administrator comes in nevertheless, and the count is of all threads.
    let mut kept = vec![eve];
    until("the limit is in force", async || match client(front.pooled).await {
        Ok(client) => {
            kept.push(client);
            false
        }
        Err(_) => true,
    })
    .await;
    let (code, detail) = refused(client(front.pooled).await);
    assert_eq!(code, SqlState::TOO_MANY_CONNECTIONS);
    assert!(detail.contains("pooler.max_client_conn"), "{detail}");
    front.pool(|pooler| pooler.max_clients = 1000);
    until("the limit is gone", async || client(front.pooled).await.is_ok()).await;
}

async fn pools_keep_a_minimum_and_a_reserve(front: &Front) {
    let after = Duration::from_millis(600);
    front.pool(|pooler| {
        pooler.limits = PoolLimits {
            pool_size: 2,
            min_pool_size: 2,
            reserve_pool_size: 1,
            reserve_pool_timeout: after,
            ..PoolLimits::default()
        };
    });
    let pool = async |column| console(front, "SHOW POOLS", &format!("postgres|{USER}|"), column).await;
    let mut clients = Vec::new();
    clients.push(client(front.pooled).await.unwrap());
    // Nobody has asked for two of them.
    until("the minimum is there", async || pool(6).await + pool(9).await == 2).await;
    for _ in 0..2 {
        clients.push(client(front.pooled).await.unwrap());
    }
    clients[0].batch_execute("BEGIN").await.unwrap();
    clients[1].batch_execute("BEGIN").await.unwrap();
    let begun = Instant::now();
    clients[2].batch_execute("BEGIN").await.unwrap();
    assert!(begun.elapsed() >= after, "the reserve was used after {:?}", begun.elapsed());
    assert_eq!(pool(6).await, 3);

    // What nobody uses is closed, down to the minimum.
    let unused = Duration::from_millis(300);
    front.pool(|pooler| pooler.server_idle_timeout = unused);
    for client in &clients {
        client.batch_execute("COMMIT").await.unwrap();
    }
    until("the reserve is given up", async || pool(6).await + pool(9).await == 2).await;
    let begun = Instant::now();
    while begun.elapsed() < unused * 4 {
        assert_eq!(pool(6).await + pool(9).await, 2, "the minimum stays");
    }
    // And what is old is replaced, though somebody uses it again and again.
    let before = ask(&clients[0], "pg_backend_pid()").await.unwrap();
    front.pool(|pooler| pooler.server_lifetime = unused);
    until("by another server", async || ask(&clients[0], "pg_backend_pid()").await.unwrap() != before).await;
    front.pool(|pooler| pooler.server_lifetime = Duration::from_secs(3600));
}

async fn a_user_may_have_a_mode_of_its_own(front: &Front) {
    front.pool(|pooler| {
        let bob = Overrides { pool_mode: Some(Mode::Session), ..Overrides::default() };
        pooler.limits = PoolLimits { users: [("bob".to_owned(), bob)].into(), ..PoolLimits::default() };
    });
    until("the limits are those from before", async || {
        console(front, "SHOW USERS", "bob|", 4).await == 0
            && console(front, "SHOW DATABASES", "postgres|", 6).await == 0
    })
    .await;
    let first = client_as(front.pooled, "bob").await.unwrap();
    let pid = ask(&first, "pg_backend_pid()").await.unwrap();
    for _ in 0..4 {
        // Nobody else is given the server, though the first one does nothing.
        let other = client_as(front.pooled, "bob").await.unwrap();
        assert_ne!(ask(&other, "pg_backend_pid()").await.unwrap(), pid);
        assert_eq!(ask(&first, "pg_backend_pid()").await.unwrap(), pid);
    }
}
