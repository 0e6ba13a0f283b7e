//! The proxy without an agent, in front of one server: for measurements.
//!
//! `alone LISTEN MODE SERVER POOL_SIZE [USER SECRET]`, for example `alone 127.0.0.1:6432 transaction 127.0.0.1:5432 20`.
//! With `PROXY_TLS` in the environment clients may encrypt, with a certificate that is made here.
//! The mode `split` is `transaction` with reads at a replica, which is the same server: what looking at each statement costs.

use std::{net::SocketAddr, pin::Pin, sync::Arc};

use bellwether_pgwire::auth::secret::Secret;
use bellwether_proxy::{
    Answer, Peers, Proxy, Secrets,
    routes::Target,
    settings::{
        AuthType, Limits, ListenerSettings, Mode, PoolLimits, PoolerSettings, RoutingSettings, Settings, Tls,
    },
    split::{self, SplitSettings},
};
use bellwether_sql::catalogue::{self, Catalogue};
use bellwether_types::{
    PostgresState, Role, Tags, Timestamp,
    topology::{Topology, TopologyMember},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Knows nothing but what a server at this address says.
#[derive(Debug)]
struct Nobody(String);

impl Peers for Nobody {
    fn holds_lease(&self, _: String) -> Pin<Box<dyn Future<Output = bool> + Send>> {
        Box::pin(async { false })
    }
}

impl Secrets for Nobody {
    fn secret_of(&self, _: String) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
        Box::pin(async {
            std::env::var("PROXY_SECRET")
                .map_or(Ok(None), |text| Secret::parse(&text).map(Some).map_err(|error| error.to_string()))
        })
    }

    fn catalogue_of(
        &self,
        database: String,
    ) -> Pin<Box<dyn Future<Output = Result<Catalogue, String>> + Send>> {
        let url = format!("postgres://postgres@{}/{database}", self.0);
        Box::pin(async move {
            let told = |error: tokio_postgres::Error| error.to_string();
            let (client, connection) =
                tokio_postgres::connect(&url, tokio_postgres::NoTls).await.map_err(told)?;
            let connection = tokio::spawn(connection);
            let rows = client.query(catalogue::QUERY, &[]).await.map_err(told)?;
            connection.abort();
            let rows = rows.iter().map(|row| (row.get::<_, &str>(0), row.get::<_, &str>(1)));
            Catalogue::from_rows(rows).map_err(|error| error.to_string())
        })
    }
}

fn member(name: &str, role: Role, server: &str) -> TopologyMember {
    TopologyMember {
        name: name.parse().expect("a name"),
        role: Some(role),
        state: Some(PostgresState::Running),
        timeline: None,
        lsn: None,
        lag_bytes: Some(0),
        conn_url: Some(format!("postgres://{server}/postgres")),
        api_url: None,
        is_leader: role == Role::Primary,
        is_sync: false,
        is_quorum: false,
        tags: Tags::default(),
        duty: Default::default(),
    }
}

fn topology(server: &str) -> Topology {
    Topology {
        cluster: "bench".parse().expect("a name"),
        me: "bench".parse().expect("a name"),
        leader: Some("server".parse().expect("a name")),
        term: None,
        lease_until: None,
        members: vec![member("server", Role::Primary, server), member("reader", Role::Replica, server)],
        // Nothing renews a lease here.
        paused: true,
        taken_at: Timestamp::ZERO,
        confirmed_at: Timestamp::ZERO,
        believable_until: Timestamp::MAX,
    }
}

fn certificate() -> rustls::ServerConfig {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("protocols")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .expect("a pair")
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, listen, mode, server, pool_size] = &arguments[..] else {
        panic!("alone LISTEN MODE SERVER POOL_SIZE");
    };
    let split = (mode == "split").then(|| SplitSettings {
        mode: split::Mode::Conservative,
        max_lag_bytes: None,
        ..SplitSettings::default()
    });
    let mode = match mode.as_str() {
        "tcp" => Mode::Tcp,
        "session" => Mode::Session,
        "statement" => Mode::Statement,
        _ => Mode::Transaction,
    };
    let listen: SocketAddr = listen.parse().expect("an address");
    let settings = Settings {
        listeners: vec![ListenerSettings {
            name: "bench".into(),
            addresses: vec![listen],
            target: Target::Primary,
            mode,
            split: split.map(Arc::new),
            front: Default::default(),
        }],
        threads: 1,
        routing: RoutingSettings::default(),
        limits: Limits { max_connections: 100_000, ..Limits::default() },
        statistics: vec![],
        pooler: PoolerSettings {
            max_clients: 100_000,
            limits: PoolLimits { pool_size: pool_size.parse().expect("a number"), ..PoolLimits::default() },
            auth_type: if std::env::var_os("PROXY_SECRET").is_some() {
                AuthType::Scram
            } else {
                AuthType::Trust
            },
            tls: Tls {
                clients: std::env::var_os("PROXY_TLS").map(|_| Arc::new(certificate())),
                ..Tls::default()
            },
            ..PoolerSettings::default()
        },
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (_settings, settings) = watch::channel(Arc::new(settings));
        let (_topology, topology) = watch::channel(Arc::new(topology(server)));
        let (proxy, _handle) = Proxy::start(
            settings,
            topology,
            Arc::new(Nobody(server.clone())),
            Arc::new(Nobody(server.clone())),
        )
        .expect("threads");
        proxy.run(CancellationToken::new()).await;
    });
}
