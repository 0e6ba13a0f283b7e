//! How clients come in: by way of load balancers that say who they are, and by Unix sockets.

use std::{
    collections::BTreeSet,
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use bellwether_pgwire::auth::{certificate::IdentMaps, hba};
use bellwether_proxy::{
    routes::Target,
    settings::{
        Front as Entrance, ListenerSettings, PoolLimits, PoolerSettings, Rules, Settings, UnixSocket,
    },
};
use bellwether_types::{Role, topology::TopologyMember};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};
use tokio_postgres::{Client, NoTls};

use crate::{
    front::{Front, LEASE, PASSWORD, USER, ask, client, create_user, member, picture},
    server_under_test::{TestServer, run, settings},
};

/// Where a client is whom only a balancer can tell of.
const FAR: &str = "127.0.0.5";

/// A running HAProxy. Dropping it kills it.
struct HaProxy(Child);

impl HaProxy {
    fn start(dir: &std::path::Path, sections: &str) -> Self {
        let file = dir.join("haproxy.cfg");
        let head = "defaults\n  mode tcp\n  timeout client 1m\n  timeout connect 4s\n  timeout server 1m\n";
        std::fs::write(&file, format!("{head}{sections}")).unwrap();
        let log = std::fs::File::create(dir.join("haproxy.log")).unwrap();
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "haproxy", "-db", "-f"])
            .arg(file)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("setpriv and haproxy are installed (scripts/prerequisites stores)");
        Self(child)
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn socket_from(address: &str, port: u16) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(format!("{address}:0").parse().unwrap())?;
    socket.connect(([127, 0, 0, 1], port).into()).await
}

async fn client_from(address: &str, port: u16, database: &str) -> Result<Client, String> {
    let stream = socket_from(address, port).await.map_err(|error| error.to_string())?;
    let mut config = tokio_postgres::Config::new();
    config.user(USER).password(PASSWORD).dbname(database);
    let told = |error: tokio_postgres::Error| {
        error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string)
    };
    let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(told)?;
    tokio::spawn(async move { drop(connection.await) });
    Ok(client)
}

/// Tries until it is as expected.
async fn eventually<T: std::fmt::Debug>(what: &str, mut ask: impl AsyncFnMut() -> Result<T, String>) -> T {
    let by = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        match ask().await {
            Ok(found) => return found,
            Err(error) => assert!(tokio::time::Instant::now() < by, "{what}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What whoever sends these bytes is told.
async fn answer_to(address: &str, port: u16, bytes: &[u8]) -> String {
    let mut stream = socket_from(address, port).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut told = Vec::new();
    let _ =
        tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut told)).await.expect("an end");
    String::from_utf8_lossy(&told).into_owned()
}

/// Where the console sees the sessions of the application's database.
async fn seen(console: &Client) -> Vec<String> {
    let messages = console.simple_query("SHOW CLIENTS").await.unwrap();
    let rows = messages.iter().filter_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    rows.filter(|row| row.get("database") == Some("postgres"))
        .map(|row| row.get("addr").unwrap_or_default().to_owned())
        .collect()
}

fn rules(lines: &str, maps: &str) -> Option<Arc<Rules>> {
    let lines = hba::Rules::parse(lines).unwrap();
    Some(Arc::new(Rules { lines, maps: IdentMaps::parse(maps).unwrap() }))
}

fn by_hand(name: &str, address: String) -> impl Fn(&TestServer) -> TopologyMember {
    let name = name.to_owned();
    move |server| TopologyMember {
        conn_url: Some(format!("postgres://{address}/postgres")),
        ..member(&name, server, Role::Replica, 1)
    }
}

#[test]
fn balancers_say_who_their_clients_are_and_nobody_else_may() {
    run(async |root| {
        let server = TestServer::primary(settings(&root, "only")).await;
        create_user(&server).await;
        let [first, second, chained, plain] = [(); 4].map(|()| free_port());
        // A reader's "member" is a HAProxy that takes our header, and hands it on in version 1.
        let balancer = by_hand("balancer", format!("127.0.0.1:{chained}"));
        let members = vec![member("only", &server, Role::Primary, 1), balancer(&server)];
        let pooler = PoolerSettings {
            admin_users: vec![USER.to_owned()],
            rules: rules(
                &format!(
                    "host pgbouncer all 127.0.0.0/8 scram-sha-256\nhost all all {FAR}/32 scram-sha-256\n"
                ),
                "",
            ),
            ..PoolerSettings::default()
        };
        let front = Front::start(picture(Some("only"), members, LEASE), &server, pooler).await;
        let before = front.settings.borrow().clone();
        let mut listeners = before.listeners.clone();
        listeners[1].front.accept_proxy = vec!["127.0.0.1".parse().unwrap()];
        let readers = free_port();
        listeners.push(ListenerSettings {
            name: "readers".into(),
            addresses: vec![([127, 0, 0, 1], readers).into()],
            target: Target::Replicas,
            front: Entrance { send_proxy: true, ..Entrance::default() },
            ..listeners[0].clone()
        });
        front.settings.send_replace(Arc::new(Settings { listeners, ..(*before).clone() }));
        let pooled = front.pooled;
        let _haproxy = HaProxy::start(
            &root,
            &format!(
                "listen v1\n  bind 127.0.0.1:{first}\n  server s 127.0.0.1:{pooled} send-proxy\n\
                 listen v2\n  bind 127.0.0.1:{second}\n  server s 127.0.0.1:{pooled} send-proxy-v2 check inter 100ms\n\
                 listen chained\n  bind 127.0.0.1:{chained} accept-proxy\n  server s 127.0.0.1:{pooled} send-proxy\n\
                 listen plain\n  bind 127.0.0.1:{plain}\n  server s 127.0.0.1:{pooled}\n"
            ),
        );

        // The rules let in whom the balancer names, by each version, and show it.
        let console = eventually("the console", async || client_from(FAR, first, "pgbouncer").await).await;
        for port in [first, second, readers] {
            let session = eventually("a session", async || client_from(FAR, port, "postgres").await).await;
            session.simple_query("SELECT 1").await.unwrap();
            assert_eq!(seen(&console).await, [FAR], "by port {port}");
            drop(session);
            eventually("it has gone", async || match seen(&console).await {
                sessions if sessions.is_empty() => Ok(()),
                sessions => Err(format!("{sessions:?}")),
            })
            .await;
        }
        // Who comes by itself is who it is.
        client_from(FAR, pooled, "postgres").await.unwrap();
        let refused = client_from("127.0.0.1", second, "postgres").await.unwrap_err();
        assert!(refused.contains("no auth_hba_file entry for host \"127.0.0.1\""), "{refused}");

        // A stranger cannot say to be somebody else, and the balancer cannot forget to say it.
        let claim = format!("PROXY TCP4 {FAR} 127.0.0.1 5000 {pooled}\r\n");
        for address in ["127.0.0.9", FAR] {
            let told = answer_to(address, pooled, claim.as_bytes()).await;
            assert!(told.contains(&format!("no PROXY header is taken from {address}")), "{told}");
        }
        let told = answer_to(FAR, front.tcp, claim.as_bytes()).await;
        assert!(told.contains("no PROXY header is taken from"), "{told}");
        let refused = client_from("127.0.0.1", plain, "postgres").await.unwrap_err();
        assert!(refused.contains("a PROXY header is expected from 127.0.0.1"), "{refused}");
        let told = answer_to("127.0.0.1", pooled, b"PROXY TCP4 here there 1 2\r\n").await;
        assert!(told.contains("cannot be read"), "{told}");
        // The second header is none any more.
        let told = answer_to("127.0.0.1", pooled, format!("{claim}{claim}").as_bytes()).await;
        assert!(told.contains("invalid length of startup packet"), "{told}");
    });
}

#[test]
fn unix_sockets_know_their_users() {
    run(async |root| {
        let server = TestServer::primary(settings(&root, "only")).await;
        create_user(&server).await;
        let pooler = PoolerSettings {
            admin_users: vec![USER.to_owned()],
            limits: PoolLimits { pool_size: 1, ..PoolLimits::default() },
            rules: rules(
                "local pgbouncer all scram-sha-256\nlocal all app peer map=staff\nlocal all all peer\n\
                 host all all 127.0.0.1/32 scram-sha-256\n",
                "staff postgres app\nstaff root app\n",
            ),
            ..PoolerSettings::default()
        };
        let topology = picture(Some("only"), vec![member("only", &server, Role::Primary, 1)], LEASE);
        let front = Front::start(topology, &server, pooler).await;
        let dir = root.join("sockets");
        std::fs::create_dir(&dir).unwrap();
        let before = front.settings.borrow().clone();
        let mut listeners = before.listeners.clone();
        for (at, port) in [(0, front.tcp), (1, front.pooled)] {
            let path = dir.join(format!(".s.PGSQL.{port}"));
            // A process that was killed has left its file behind.
            drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
            listeners[at].front.unix_socket = Some(UnixSocket { path, mode: 0o777, group: None });
        }
        front.settings.send_replace(Arc::new(Settings { listeners, ..(*before).clone() }));
        let connect = async |port: u16, user: &str, database: &str, password: Option<&str>| {
            let mut config = tokio_postgres::Config::new();
            config.host_path(&dir).port(port).user(user).dbname(database);
            if let Some(password) = password {
                config.password(password);
            }
            let told = |error: tokio_postgres::Error| {
                error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string)
            };
            let (client, connection) = config.connect(NoTls).await.map_err(told)?;
            tokio::spawn(async move { drop(connection.await) });
            Ok::<_, String>(client)
        };

        let console = eventually("the console", async || {
            connect(front.pooled, USER, "pgbouncer", Some(PASSWORD)).await
        })
        .await;
        // The servers want a password, which somebody has shown in one of the threads. Whoever shows none is served in all of them:
        // the only server changes the thread, and is another one then.
        drop(client(front.pooled).await.unwrap());
        let (mut sessions, mut servers) = (Vec::new(), BTreeSet::new());
        while servers.len() < 2 {
            assert!(sessions.len() < 60, "sessions come to both threads");
            let session = connect(front.pooled, USER, "postgres", None).await.expect("without a password");
            servers.insert(ask(&session, "pg_backend_pid()").await.unwrap());
            sessions.push(session);
        }
        let session = sessions.pop().unwrap();
        drop(sessions);
        eventually("it is seen where it comes from, alone", async || match seen(&console).await {
            seen if seen == ["unix"] => Ok(()),
            seen => Err(format!("{seen:?}")),
        })
        .await;
        // Somebody else's name is not for this user of the operating system, nor is one that a map would have to give.
        for user in ["admin", "replicator"] {
            let refused = connect(front.pooled, user, "postgres", None).await.unwrap_err();
            assert!(
                refused.contains(&format!("Peer authentication failed for user \"{user}\"")),
                "{refused}"
            );
        }
        let refused = client(front.pooled).await.map(drop);
        assert!(refused.is_ok(), "by TCP the password counts: {refused:?}");

        // Bytes pass through in mode tcp, and a request to cancel comes by the socket as well.
        let direct = connect(front.tcp, USER, "postgres", Some(PASSWORD)).await.unwrap();
        for one in [&direct, &session] {
            let token = one.cancel_token();
            let sleep = async {
                let error = one.simple_query("SELECT pg_sleep(60)").await.unwrap_err();
                error.code().map(|code| code.code().to_owned())
            };
            let cancel = async {
                let watcher = server.client().await;
                let sql =
                    "SELECT 1 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active'";
                eventually("it runs", async || match watcher.query(sql, &[]).await {
                    Ok(rows) if rows.len() == 1 => Ok(()),
                    other => Err(format!("{other:?}")),
                })
                .await;
                token.cancel_query(NoTls).await.unwrap();
            };
            let both = async { tokio::join!(sleep, cancel) };
            let (code, ()) =
                tokio::time::timeout(Duration::from_secs(30), both).await.expect("it is cancelled");
            assert_eq!(code.as_deref(), Some("57014"));
        }

        // Taken out of the settings, the files are gone.
        front.settings.send_replace(before);
        eventually("the files are gone", async || match std::fs::read_dir(&dir).unwrap().count() {
            0 => Ok(()),
            count => Err(format!("{count} files")),
        })
        .await;
    });
}
