//! Each way to fail is told apart.

use std::time::{Duration, Instant};

use bellwether_api_client::{ApiClient, ClientConfig, ClientError, FailsafeReply, Method};
use bellwether_types::{Lsn, MemberName, failsafe::FailsafeRequest};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::{answer_with, install_tls_provider, url};

const LONG: Duration = Duration::from_secs(20);

fn client() -> ApiClient {
    install_tls_provider();
    ApiClient::new(ClientConfig::default().for_peers()).unwrap()
}

fn heartbeat() -> FailsafeRequest {
    FailsafeRequest {
        name: MemberName::new("a").unwrap(),
        conn_url: "postgres://127.0.0.1:5432/postgres".to_owned(),
        api_url: "http://127.0.0.1:8008/patroni".to_owned(),
        slots: None,
        rely_on_ms: None,
    }
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_refused() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = client().get_status(&url(free), LONG).await.unwrap_err();
    assert!(matches!(error, ClientError::Refused { .. }), "{error:?}");
    let error = client().post_failsafe(&url(free), &heartbeat(), LONG).await.unwrap_err();
    assert!(matches!(error, ClientError::Refused { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_that_is_silent_times_out_in_time() {
    // Connections are established by the kernel and never accepted, as with a frozen process.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let timeout = Duration::from_millis(150);
    let began = Instant::now();
    let error = client().get_status(&url(listener.local_addr().unwrap()), timeout).await.unwrap_err();
    assert!(matches!(error, ClientError::TimedOut { after, .. } if after == timeout), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn an_answer_that_never_ends_times_out() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await;
        stream.write_all(head).await.unwrap();
        std::future::pending::<()>().await;
    });
    let error = client().get_status(&url(address), Duration::from_millis(150)).await.unwrap_err();
    assert!(matches!(error, ClientError::TimedOut { .. }), "{error:?}");
    server.abort();
}

#[tokio::test]
async fn other_failures_have_names_of_their_own() {
    let client = client();
    for (case, bytes, expected) in [
        ("closes without an answer", &b""[..], "BrokenOff"),
        ("ends in the middle", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}", "BrokenOff"),
        ("is no HTTP server", b"SSH-2.0-x\r\n\r\n", "BrokenOff"),
        ("is another service", b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "Status"),
        (
            "sends elsewhere",
            b"HTTP/1.1 302 Found\r\nLocation: http://x/\r\nContent-Length: 0\r\n\r\n",
            "Status",
        ),
        ("sends no JSON", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno", "Malformed"),
        ("sends no object", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "Malformed"),
    ] {
        let server = answer_with(bytes).await;
        let error = client.get_status(&server.url, LONG).await.unwrap_err();
        assert!(format!("{error:?}").starts_with(expected), "{case}: {error:?}");
    }
    let error = client.get_status("http://name.invalid:8008/patroni", LONG).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
    let error = client.get_status("127.0.0.1:8008", LONG).await.unwrap_err();
    assert!(matches!(error, ClientError::BadUrl { .. }), "{error:?}");
}

#[tokio::test]
async fn only_a_literal_acceptance_counts() {
    let client = client();
    let refused = |status, message: &str| FailsafeReply::Refused { status, message: message.to_owned() };
    for (bytes, expected) in [
        (
            &b"HTTP/1.0 200 OK\r\nlsn: 4711\r\npromised-ms: 5000\r\n\r\nAccepted"[..],
            FailsafeReply::Accepted { lsn: Some(Lsn(4711)), promised: Some(Duration::from_secs(5)) },
        ),
        (b"HTTP/1.0 200 OK\r\n\r\nAccepted", FailsafeReply::Accepted { lsn: None, promised: None }),
        (
            b"HTTP/1.0 200 OK\r\nlsn: soon\r\npromised-ms: long\r\n\r\nAccepted",
            FailsafeReply::Accepted { lsn: None, promised: None },
        ),
        (b"HTTP/1.0 200 OK\r\n\r\nOK", refused(200, "OK")),
        (b"HTTP/1.0 202 Accepted\r\n\r\nAccepted", refused(202, "Accepted")),
        (b"HTTP/1.0 500 X\r\n\r\nRunning as a leader", refused(500, "Running as a leader")),
        (b"HTTP/1.0 502 X\r\n\r\n", refused(502, "")),
    ] {
        let server = answer_with(bytes).await;
        let reply = client.post_failsafe(&server.url, &heartbeat(), LONG).await.unwrap();
        assert_eq!(reply, expected, "{}", String::from_utf8_lossy(bytes));
    }
}

#[tokio::test]
async fn any_status_is_an_answer_to_a_generic_call() {
    let server = answer_with(b"HTTP/1.0 503 X\r\n\r\nSwitchover failed").await;
    let answer = client().call(Method::POST, &server.url, "switchover", None, LONG).await.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (503, "Switchover failed"));
    assert!(!answer.is_success());
}
