//! The proxy beside the agent: its settings from the node's file, its life, its reloads.

mod secrets;

use std::sync::Arc;

use bellwether_agent::AgentHandle;
use bellwether_config::{
    Config,
    sections::router::{Balance, Fallback, ListenerMode, ListenerRole, Router},
};
use bellwether_proxy::{
    Proxy,
    routes::Target,
    settings::{self, Limits, ListenerSettings, Mode, RoutingSettings, Settings},
};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::reload::Latest;

/// A proxy that serves.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) task: JoinHandle<()>,
}

/// Starts the proxy if the file asks for one. It must never keep the agent from its work: what fails here is logged.
pub(crate) fn start(
    config: &Config,
    latest: Latest,
    agent: &AgentHandle,
    stop: CancellationToken,
) -> Option<Running> {
    let router = config.router.as_ref()?;
    let (tell, settings) = watch::channel(Arc::new(translate(router)));
    let (proxy, handle) =
        match Proxy::start(settings, agent.topology(), Arc::new(secrets::AtTheServer::new(config))) {
            Ok(started) => started,
            Err(error) => {
                error!(%error, "the proxy cannot be started: clients reach the members only directly");
                return None;
            }
        };
    let task = tokio::spawn(async move {
        tokio::select! {
            () = proxy.run(stop) => {}
            () = follow(latest, tell) => {}
        }
    });
    drop(handle);
    Some(Running { task })
}

/// Hands on each configuration that is read from now on. Never ends.
async fn follow(mut latest: Latest, tell: watch::Sender<Arc<Settings>>) {
    while latest.changed().await.is_ok() {
        let Some(config) = latest.borrow_and_update().clone() else { continue };
        match &config.router {
            Some(router) => {
                let settings = Arc::new(translate(router));
                tell.send_if_modified(|known| {
                    let changed = *known != settings;
                    *known = settings;
                    changed
                });
            }
            None => warn!(
                "`router` is gone from the configuration: the proxy ends with the next start of the agent"
            ),
        }
    }
    std::future::pending().await
}

fn translate(router: &Router) -> Settings {
    let listeners = router.listeners.iter().map(|listener| ListenerSettings {
        name: listener.name.as_str().into(),
        addresses: listener.addresses.clone(),
        target: match listener.role {
            ListenerRole::Primary => Target::Primary,
            ListenerRole::Replicas => Target::Replicas,
            ListenerRole::Sync => Target::Sync,
            ListenerRole::Async => Target::Async,
        },
        mode: match listener.mode {
            ListenerMode::Tcp => Mode::Tcp,
            ListenerMode::Session => Mode::Session,
            ListenerMode::Transaction => Mode::Transaction,
            ListenerMode::Statement => Mode::Statement,
        },
    });
    Settings {
        listeners: listeners.collect(),
        threads: router.threads,
        routing: RoutingSettings {
            max_view_age: router.max_view_age,
            max_replica_lag_bytes: router.max_replica_lag_bytes,
            fall_back_to_primary: router.fallback == Fallback::Leader,
            balance: match router.balance {
                Balance::RoundRobin => settings::Balance::RoundRobin,
                Balance::LeastConn => settings::Balance::LeastConnections,
                Balance::Random => settings::Balance::Random,
            },
        },
        limits: Limits {
            max_connections: router.maxconn,
            queue_timeout: router.queue_timeout,
            queue_max: router.queue_max,
            connect_timeout: router.connect_timeout,
            drain_timeout: router.drain_timeout,
            idle_timeout: router.idle_timeout,
            ..Limits::default()
        },
        pooler: settings::PoolerSettings::default(),
    }
}
