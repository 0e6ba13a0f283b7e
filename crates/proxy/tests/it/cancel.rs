//! Requests to cancel reach the statement they mean, and no other.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncReadExt as _;
use tokio_postgres::{NoTls, error::SqlState};

use crate::{
    front::{ask, client},
    pooled::{one_server, psql},
    server_under_test::run,
};

#[test]
fn a_request_to_cancel_finds_its_client_in_any_thread() {
    run(async |root| {
        let (server, front) = one_server(&root, 2).await;
        let watcher = server.client().await;
        let user = client(front.pooled).await.unwrap();
        // Each request comes by a connection of its own, which either thread may take.
        for round in 0..6 {
            let token = user.cancel_token();
            // A text of its own: what the round before has asked is no sign of this one.
            let text = format!("SELECT pg_sleep({})", 60 + round);
            let sleep = user.batch_execute(&text);
            let cancel = async {
                let running = format!(
                    "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = '{text}'"
                );
                while ask(&watcher, &running).await.unwrap() == "0" {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                // As libpq does: the next statement comes only once the connection has ended, since PostgreSQL signals twice.
                let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", front.pooled)).await.unwrap();
                token.cancel_query_raw(&mut stream, NoTls).await.unwrap();
                assert_eq!(stream.read_to_end(&mut vec![]).await.unwrap(), 0);
            };
            let both = async { tokio::join!(sleep, cancel) };
            let (slept, ()) =
                tokio::time::timeout(Duration::from_secs(20), both).await.expect("it is cancelled");
            let error = slept.unwrap_err();
            assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED), "round {round}: {error}");
        }
    });
}

#[test]
fn a_request_that_comes_late_ends_no_other_statement() {
    run(async |root| {
        let (server, front) = one_server(&root, 1).await;
        let watcher = server.client().await;
        let user = client(front.pooled).await.unwrap();
        let token = user.cancel_token();
        let first = tokio::spawn(async move { (user.batch_execute("SELECT pg_sleep(1)").await, user) });
        let pools = async || psql(front.pooled, "dbname=pgbouncer", "SHOW POOLS", b"").await.unwrap();
        let by = tokio::time::Instant::now() + Duration::from_secs(10);
        let running =
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = 'SELECT pg_sleep(1)'";
        while ask(&watcher, running).await.unwrap() == "0" {
            assert!(tokio::time::Instant::now() < by);
        }
        // Whoever is stopped takes no requests, and its backends go on.
        let postmaster = Pid::from_raw(server.postmaster().id().pid).unwrap();
        kill_process(postmaster, Signal::STOP).unwrap();
        token.cancel_query(NoTls).await.unwrap();
        let (slept, user) = first.await.unwrap();
        slept.expect("the request has not come through");

        // The only server of its thread may still be hit.
        let second = tokio::spawn(async move { user.batch_execute("SELECT pg_sleep(1)").await });
        while !pools().await.lines().any(|line| line.starts_with("postgres|app|0|1|0|0|0|0|1|")) {
            assert!(tokio::time::Instant::now() < by, "{}", pools().await);
        }
        kill_process(postmaster, Signal::CONT).unwrap();
        second.await.unwrap().expect("the request was for the first statement");
    });
}
