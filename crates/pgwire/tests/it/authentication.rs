//! A gate between libpq and a server: it verifies the client, logs in to the server with what the client has shown, and then only
//! carries bytes. No password is known to it.

use crate::server_under_test::{TestServer, run, settings};
use bellwether_pgwire::auth::login::{Answer, LoggingIn, Login, Wire};
use bellwether_pgwire::auth::scram::Verifier;
use bellwether_pgwire::auth::secret::Secret;
use bellwether_pgwire::auth::verify::{Method, Step, Verification};
use bellwether_pgwire::auth::{Random, auth_query};
use bellwether_pgwire::frame::{HEADER, Header};
use bellwether_pgwire::message;
use bellwether_pgwire::startup::First;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use tokio_postgres::SimpleQueryMessage;

const SEED: [u8; 32] = [3; 32];

/// One message: its tag and its body.
fn read_message(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; HEADER];
    stream.read_exact(&mut head).expect("a message");
    let header = Header::of(&head).unwrap().unwrap();
    let mut body = vec![0; header.size - HEADER];
    stream.read_exact(&mut body).unwrap();
    (header.tag, body)
}

/// A client's startup packet, as it came; TLS is declined.
fn read_startup(stream: &mut TcpStream) -> (Vec<u8>, First) {
    loop {
        let mut packet = vec![0; 4];
        stream.read_exact(&mut packet).unwrap();
        let size = u32::from_be_bytes(packet[..4].try_into().unwrap()) as usize;
        packet.resize(size, 0);
        stream.read_exact(&mut packet[4..]).unwrap();
        match First::parse(&packet).unwrap().unwrap().0 {
            First::Ssl | First::Gssenc => stream.write_all(b"N").unwrap(),
            first => return (packet, first),
        }
    }
}

/// Logs in; the connection then stands before the server's first ParameterStatus.
fn log_in(server: SocketAddr, startup: &[u8], user: &str, login: Login) -> Result<TcpStream, String> {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.write_all(startup).unwrap();
    let mut login = LoggingIn::new(user, login, Wire::Private, Random([9; 18]));
    loop {
        let (tag, body) = read_message(&mut stream);
        if tag == b'E' {
            let text = message::report_field(&body, b'M').unwrap_or_default();
            return Err(String::from_utf8_lossy(text).into_owned());
        }
        match login.answer(&body).map_err(|error| error.to_string())? {
            Answer::Send(bytes) => stream.write_all(&bytes).unwrap(),
            Answer::Wait => {}
            Answer::Done => return Ok(stream),
        }
    }
}

/// Serves one client of the gate.
fn gate(listener: &TcpListener, server: SocketAddr, method: Method, secret: Option<Secret>) {
    let (mut client, _) = listener.accept().unwrap();
    let (packet, First::Startup(startup)) = read_startup(&mut client) else { panic!("no startup") };
    let user = startup.parameters.iter().find(|(name, _)| name == "user").unwrap().1.clone();
    let (mut verification, first) = Verification::begin(method, &user, secret, &SEED, &Random([8; 18]));
    client.write_all(&first).unwrap();
    let (accepted, login) = loop {
        let (tag, body) = read_message(&mut client);
        assert_eq!(tag, b'p');
        match verification.answer(&body) {
            Step::Send(bytes) => client.write_all(&bytes).unwrap(),
            Step::Accepted { send, login } => break (send, login),
            Step::Refused(refusal) => {
                let mut out = Vec::new();
                let (sqlstate, text) = (refusal.sqlstate(), refusal.message());
                let report =
                    message::Report { severity: "FATAL", sqlstate, message: &text, detail: "", hint: "" };
                report.write(&mut out);
                client.write_all(&out).unwrap();
                return;
            }
        }
    };
    let server = log_in(server, &packet, &user, login).expect("the server takes what the client has shown");
    client.write_all(&accepted).unwrap();
    carry(client, server);
}

fn carry(client: TcpStream, server: TcpStream) {
    let (mut from_client, mut to_client) = (client.try_clone().unwrap(), client);
    let (mut from_server, mut to_server) = (server.try_clone().unwrap(), server);
    let up = std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(std::net::Shutdown::Both);
    });
    let _ = std::io::copy(&mut from_server, &mut to_client);
    let _ = to_client.shutdown(std::net::Shutdown::Both);
    up.join().unwrap();
}

/// What psql says through the gate.
fn psql(server: SocketAddr, method: Method, secret: Option<Secret>, user: &str, password: &str) -> Output {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = std::thread::spawn(move || gate(&listener, server, method, secret));
    let output = Command::new("psql")
        .args(["-XAtqw", "-h", "127.0.0.1", "-p", &port.to_string(), "-U", user, "-d", "postgres"])
        .args(["-c", "select current_user"])
        .env("PGPASSWORD", password)
        .output()
        .expect("psql is installed");
    serving.join().unwrap();
    output
}

fn startup(user: &str) -> Vec<u8> {
    let mut body = 196_608_u32.to_be_bytes().to_vec();
    for text in ["user", user, "database", "postgres", ""] {
        message::put_str(&mut body, text.as_bytes());
    }
    let size = u32::try_from(body.len() + 4).unwrap();
    [size.to_be_bytes().to_vec(), body].concat()
}

#[test]
fn clients_and_servers_of_postgresql_agree_with_us() {
    run(|root| async move {
        let mut settings = settings(&root, "a");
        settings.pg_hba = Some(
            [
                "local all all trust",
                "host all old 127.0.0.1/32 md5",
                "host all open 127.0.0.1/32 password",
                "host all all 127.0.0.1/32 scram-sha-256",
            ]
            .map(str::to_owned)
            .into(),
        );
        let server = TestServer::primary(settings).await;
        server
            .sql(
                "create role new login password 'pässword';
                 create role open login password 'open sesame';
                 set password_encryption = md5; create role old login password 'secret'",
            )
            .await;
        let mut secrets = Vec::new();
        for user in ["new", "open", "old", "nobody"] {
            let query = auth_query::DEFAULT.replace("$1", &format!("'{user}'"));
            let answer = server.client().await.simple_query(&query).await.unwrap();
            secrets.push(auth_query::secret_of(user, &rows(&answer)).unwrap());
        }
        let address: SocketAddr = ([127, 0, 0, 1], server.settings().port).into();
        tokio::task::spawn_blocking(move || check(address, &secrets)).await.unwrap();
    });
}

fn rows(answer: &[SimpleQueryMessage]) -> Vec<Vec<Option<String>>> {
    let rows = answer.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect())
        }
        _ => None,
    });
    rows.collect()
}

fn check(server: SocketAddr, secrets: &[Option<Secret>]) {
    let [new, open, old, nobody] = secrets else { panic!("four users") };
    assert!(matches!((new, old, nobody), (Some(Secret::Scram(_)), Some(Secret::Md5(_)), None)));
    for (user, password, method, secret) in [
        ("new", "pässword", Method::Scram, new),
        // PostgreSQL checks a verifier by SCRAM also where its rule says md5.
        ("new", "pässword", Method::Md5, new),
        ("new", "pässword", Method::Cleartext, new),
        ("old", "secret", Method::Md5, old),
        ("old", "secret", Method::Cleartext, old),
        ("open", "open sesame", Method::Cleartext, open),
    ] {
        let said = psql(server, method, secret.clone(), user, password);
        assert_eq!(String::from_utf8_lossy(&said.stdout).trim(), user, "{method:?}: {said:?}");
        let said = psql(server, method, secret.clone(), user, "wrong");
        let told = String::from_utf8_lossy(&said.stderr).into_owned();
        let expected = format!("password authentication failed for user \"{user}\"");
        assert!(!said.status.success() && told.contains(&expected), "{method:?}: {told}");
        let said = psql(server, method, None, user, password);
        assert_eq!(String::from_utf8_lossy(&said.stderr).split("FATAL").nth(1), told.split("FATAL").nth(1));
    }
    // The other roads to a server.
    let login = |user: &str, login: Login| log_in(server, &startup(user), user, login).map(|_| ());
    assert_eq!(login("new", Login::Password("pässword".into())), Ok(()));
    assert_eq!(login("old", Login::Password("secret".into())), Ok(()));
    assert_eq!(login("open", Login::Password("open sesame".into())), Ok(()));
    let told = login("new", Login::Password("wrong".into())).unwrap_err();
    assert_eq!(told, "password authentication failed for user \"new\"");
    let Some(Secret::Scram(verifier)) = new else { panic!("a verifier") };
    let ours = Verifier::of_password("pässword".as_bytes(), &verifier.salt, verifier.iterations);
    assert_eq!(&ours, verifier, "we derive what PostgreSQL has stored");
}
