//! The proxy without an agent, in front of one server: for measurements.
//!
//! `alone LISTEN MODE SERVER POOL_SIZE [USER SECRET]`, for example `alone 127.0.0.1:6432 transaction 127.0.0.1:5432 20`.

use std::{net::SocketAddr, pin::Pin, sync::Arc};

use bellwether_pgwire::auth::secret::Secret;
use bellwether_proxy::{
    Answer, Peers, Proxy, Secrets,
    routes::Target,
    settings::{AuthType, Limits, ListenerSettings, Mode, PoolerSettings, RoutingSettings, Settings},
};
use bellwether_types::{
    PostgresState, Role, Tags, Timestamp,
    topology::{Topology, TopologyMember},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

#[derive(Debug)]
struct Nobody;

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
}

fn topology(server: &str) -> Topology {
    let name = "server".parse().expect("a name");
    Topology {
        cluster: "bench".parse().expect("a name"),
        me: "bench".parse().expect("a name"),
        leader: Some("server".parse().expect("a name")),
        term: None,
        lease_until: None,
        members: vec![TopologyMember {
            name,
            role: Some(Role::Primary),
            state: Some(PostgresState::Running),
            timeline: None,
            lsn: None,
            lag_bytes: None,
            conn_url: Some(format!("postgres://{server}/postgres")),
            api_url: None,
            is_leader: true,
            is_sync: false,
            is_quorum: false,
            tags: Tags::default(),
        }],
        // Nothing renews a lease here.
        paused: true,
        taken_at: Timestamp::ZERO,
        confirmed_at: Timestamp::ZERO,
        believable_until: Timestamp::MAX,
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, listen, mode, server, pool_size] = &arguments[..] else {
        panic!("alone LISTEN MODE SERVER POOL_SIZE");
    };
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
            split: None,
        }],
        threads: 1,
        routing: RoutingSettings::default(),
        limits: Limits { max_connections: 100_000, ..Limits::default() },
        statistics: vec![],
        pooler: PoolerSettings {
            max_clients: 100_000,
            pool_size: pool_size.parse().expect("a number"),
            auth_type: if std::env::var_os("PROXY_SECRET").is_some() {
                AuthType::Scram
            } else {
                AuthType::Trust
            },
            ..PoolerSettings::default()
        },
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (_settings, settings) = watch::channel(Arc::new(settings));
        let (_topology, topology) = watch::channel(Arc::new(topology(server)));
        let (proxy, _handle) =
            Proxy::start(settings, topology, Arc::new(Nobody), Arc::new(Nobody)).expect("threads");
        proxy.run(CancellationToken::new()).await;
    });
}
