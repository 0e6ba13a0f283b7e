//! Slow things: operations that take long, clients that dawdle, shutdown, a move to another port.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
};

use crate::{
    harness::{Agent, config, serve},
    situations::*,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// Polls until `done` holds.
async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn slow_agent() -> Agent {
    Agent { gate: Semaphore::new(0), ..Agent::new(replica()) }
}

const RESTART: &[u8] = b"POST /restart HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";

#[tokio::test]
async fn a_restart_that_hangs_does_not_delay_reading() {
    let server = serve(slow_agent(), config()).await;
    let mut callers = Vec::new();
    for _ in 0..20 {
        let mut caller = TcpStream::connect(server.address).await.unwrap();
        caller.write_all(RESTART).await.unwrap();
        callers.push(caller);
    }
    until("all restarts hang", || server.agent.asked().len() == callers.len()).await;
    let mut slowest = Duration::ZERO;
    for path in
        ["/primary", "/replica", "/patroni", "/cluster", "/metrics", "/readiness", "/liveness", "/config"]
    {
        let began = Instant::now();
        server.get(path).await;
        slowest = slowest.max(began.elapsed());
    }
    assert!(slowest < Duration::from_millis(100), "the slowest answer took {slowest:?}");
    assert!(server.agent.records().is_empty(), "no restart has ended meanwhile");
}

#[tokio::test]
async fn a_caller_that_hangs_up_does_not_cancel_the_operation() {
    let server = serve(slow_agent(), config()).await;
    let mut caller = TcpStream::connect(server.address).await.unwrap();
    caller.write_all(RESTART).await.unwrap();
    until("the restart runs", || !server.agent.asked().is_empty()).await;
    drop(caller);
    // Time enough for the server to see the end of the connection: it answers others after that.
    for _ in 0..3 {
        server.get("/patroni").await;
    }
    server.agent.gate.add_permits(1);
    until("the call is recorded", || server.agent.records().len() == 1).await;
    assert_eq!(server.agent.asked(), ["restart {}"]);
    assert_eq!(server.agent.records()[0].message.as_deref(), Some("restarted successfully"));
}

#[tokio::test]
async fn slow_clients_are_cut_off() {
    let mut config = config();
    config.slow_client_timeout = Duration::from_millis(200);
    let server = serve(Agent::new(replica()), config).await;
    for (case, bytes, answer) in [
        ("says nothing", &b""[..], ""),
        ("never ends its headers", b"GET / HTTP/1.1\r\nHost: x\r\n", ""),
        (
            "never ends its body",
            b"PUT /config HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
            "HTTP/1.1 408",
        ),
    ] {
        let mut client = TcpStream::connect(server.address).await.unwrap();
        client.write_all(bytes).await.unwrap();
        let mut text = String::new();
        tokio::time::timeout(PATIENCE, client.read_to_string(&mut text)).await.expect(case).unwrap();
        assert!(text.starts_with(answer), "{case}: {text}");
    }
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let server = serve(Agent::new(replica()), config()).await;
    let mut client = TcpStream::connect(server.address).await.unwrap();
    for _ in 0..3 {
        client.write_all(b"GET /liveness HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = [0; 512];
        let read = tokio::time::timeout(PATIENCE, client.read(&mut answer)).await.unwrap().unwrap();
        assert!(
            answer[..read].starts_with(b"HTTP/1.1 200"),
            "{:?}",
            String::from_utf8_lossy(&answer[..read])
        );
    }
}

#[tokio::test]
async fn a_stop_finishes_what_runs_and_closes_the_port() {
    let mut server = serve(slow_agent(), config()).await;
    let mut caller = TcpStream::connect(server.address).await.unwrap();
    caller.write_all(RESTART).await.unwrap();
    until("the restart runs", || !server.agent.asked().is_empty()).await;
    server.stop.cancel();
    let began = Instant::now();
    while TcpStream::connect(server.address).await.is_ok() {
        assert!(began.elapsed() < PATIENCE, "the port stays open");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.agent.gate.add_permits(1);
    let mut text = String::new();
    tokio::time::timeout(PATIENCE, caller.read_to_string(&mut text)).await.unwrap().unwrap();
    assert!(text.ends_with("restarted successfully"), "{text}");
    tokio::time::timeout(PATIENCE, &mut server.task).await.expect("the server ends").unwrap();
}

#[tokio::test]
async fn an_operation_that_outlives_the_stop_is_answered_as_unknown() {
    let mut server = serve(slow_agent(), config()).await;
    let mut caller = TcpStream::connect(server.address).await.unwrap();
    caller.write_all(RESTART).await.unwrap();
    until("the restart runs", || !server.agent.asked().is_empty()).await;
    server.stop.cancel();
    let mut text = String::new();
    tokio::time::timeout(PATIENCE, caller.read_to_string(&mut text)).await.unwrap().unwrap();
    assert!(text.starts_with("HTTP/1.1 503") && text.contains("the outcome is not known"), "{text}");
    tokio::time::timeout(PATIENCE, &mut server.task).await.expect("the server ends").unwrap();
}

#[tokio::test]
async fn a_reload_moves_the_api_to_another_port() {
    let server = serve(Agent::new(replica()), config()).await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut elsewhere = config();
    elsewhere.listen.port = free.port();
    server.handle.reload(elsewhere).await.unwrap();
    tokio::time::timeout(PATIENCE, TcpStream::connect(free)).await.unwrap().unwrap();
    let began = Instant::now();
    while TcpStream::connect(server.address).await.is_ok() {
        assert!(began.elapsed() < PATIENCE, "the old port stays open");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
