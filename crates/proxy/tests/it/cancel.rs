//! Requests to cancel reach the statement they mean, and no other.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use bellwether_proxy::{Peers, ProxyHandle, settings::PoolerSettings};
use bellwether_types::{Role, topology::Topology};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncReadExt as _;
use tokio_postgres::{NoTls, error::SqlState};

use crate::{
    front::{Front, LEASE, ask, client, create_user, member, picture},
    pooled::{one_server, psql},
    server_under_test::{TestServer, run, settings},
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

        // Who knows the number, which the console shows, and not the secret, cancels nothing.
        let clients = psql(front.pooled, "dbname=pgbouncer", "SHOW CLIENTS", b"").await.unwrap();
        let line = clients.lines().find(|line| line.starts_with("C|app|postgres|")).expect(&clients);
        let process: u32 = line.rsplit('|').next().unwrap().parse().unwrap();
        let sleep = user.batch_execute("SELECT pg_sleep(1)");
        let guess = async {
            let running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = 'SELECT pg_sleep(1)'";
            while ask(&watcher, running).await.unwrap() == "0" {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            say_cancel(front.pooled, process, [1, 2, 3, 4]).await;
        };
        let (slept, ()) = tokio::join!(sleep, guess);
        slept.expect("the secret is another one");
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

/// Two nodes' proxies, each reached by the name of its member.
#[derive(Debug, Default)]
struct Nodes {
    handles: Mutex<BTreeMap<String, Arc<OnceLock<ProxyHandle>>>>,
}

impl Nodes {
    fn place_of(&self, name: &str) -> Arc<OnceLock<ProxyHandle>> {
        self.handles.lock().unwrap().entry(name.to_owned()).or_default().clone()
    }
}

impl Peers for Nodes {
    fn holds_lease(&self, _: String) -> Pin<Box<dyn Future<Output = bool> + Send>> {
        Box::pin(async { false })
    }

    fn cancel(
        &self,
        api_url: String,
        process: u32,
        secret: Vec<u8>,
    ) -> Pin<Box<dyn Future<Output = bool> + Send>> {
        let place = self.place_of(&api_url);
        Box::pin(async move {
            let Some(handle) = place.get() else { return false };
            handle.cancel(process, &secret).await;
            true
        })
    }
}

/// A number as the node of the member `left` gives them out.
const OF_LEFT: u32 = (1007 << 21) + 7;

/// What a client says to cancel, by a connection that ends at `port`, until it is told the end.
async fn say_cancel(port: u16, process: u32, secret: [u8; 4]) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let packet = bellwether_pgwire::startup::cancel_request(process, &secret);
    stream.write_all(&packet).await.unwrap();
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

#[test]
fn a_request_that_comes_to_another_node_finds_its_client() {
    run(async |root| {
        let server = TestServer::primary(settings(&root, "only")).await;
        create_user(&server).await;
        let nodes = Arc::new(Nodes::default());
        let seen_by = |me: &str| {
            let nodes = ["left", "right"].map(|name| {
                let mut node = member(name, &server, Role::Replica, 1);
                node.api_url = Some(name.to_owned());
                node
            });
            let mut members = vec![member("only", &server, Role::Primary, 1)];
            members.extend(nodes);
            Topology { me: me.parse().unwrap(), ..picture(Some("only"), members, LEASE) }
        };
        let start = async |me: &str| {
            Front::beside(nodes.clone(), seen_by(me), &server, PoolerSettings::default()).await
        };
        let (left, right) = (start("left").await, start("right").await);
        for (name, front) in [("left", &left), ("right", &right)] {
            nodes.place_of(name).set(front.handle.clone()).unwrap();
        }
        let watcher = server.client().await;
        let user = client(left.pooled).await.unwrap();
        for round in 0..3 {
            let token = user.cancel_token();
            let text = format!("SELECT pg_sleep({})", 60 + round);
            let sleep = user.batch_execute(&text);
            let cancel = async {
                let running = format!(
                    "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = '{text}'"
                );
                while ask(&watcher, &running).await.unwrap() == "0" {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                let astray = tokio::net::TcpStream::connect(("127.0.0.1", right.pooled)).await.unwrap();
                token.cancel_query_raw(astray, NoTls).await.unwrap();
            };
            let both = async { tokio::join!(sleep, cancel) };
            let (slept, ()) =
                tokio::time::timeout(Duration::from_secs(20), both).await.expect("it is cancelled");
            assert_eq!(slept.unwrap_err().code(), Some(&SqlState::QUERY_CANCELED), "round {round}");
        }
        let counts = |front: &Front| {
            let cancels = &front.handle.metrics().cancels;
            [&cancels.found, &cancels.sent_on, &cancels.received, &cancels.dropped].map(|count| count.get())
        };
        let by = tokio::time::Instant::now() + Duration::from_secs(30);
        // Who is cancelled hears of it before the node that has sent the request on.
        while counts(&right) != [0, 3, 0, 0] {
            assert!(tokio::time::Instant::now() < by, "{:?}", counts(&right));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(counts(&left), [3, 0, 3, 0]);

        // A key that is no client's goes no further than to whom it points; one that points to nobody goes nowhere.
        say_cancel(right.pooled, OF_LEFT, [1, 2, 3, 4]).await;
        say_cancel(right.pooled, 5, [1, 2, 3, 4]).await;
        assert_eq!((counts(&left), counts(&right)), ([3, 0, 4, 0], [0, 4, 0, 0]), "and not back");
        // However many strangers send, the other node is spared.
        let mut sent = 4;
        while counts(&right)[3] == 0 {
            assert!(tokio::time::Instant::now() < by, "{:?} of {sent}", counts(&right));
            let mut flood = tokio::task::JoinSet::new();
            for _ in 0..150 {
                flood.spawn(say_cancel(right.pooled, OF_LEFT, [1, 2, 3, 4]));
            }
            flood.join_all().await;
            sent += 150;
        }
        let [_, sent_on, _, dropped] = counts(&right);
        assert_eq!((counts(&left)[2], sent_on + dropped), (sent_on, sent));
    });
}
