//! The proxy beside the agent: its settings from the node's file, its life, its reloads.

mod peers;
mod secrets;
mod tls;

use std::{collections::BTreeMap, sync::Arc};

use bellwether_agent::AgentHandle;
use bellwether_api_client::ApiClient;
use bellwether_config::{
    Config,
    sections::{
        pooler::{AuthType, PoolSize, Pooler},
        router::{Balance, Fallback, ListenerMode, ListenerRole, Router, Split, SplitConsistency},
    },
};
use bellwether_proxy::{
    Proxy,
    routes::Target,
    settings::{self, Limits, ListenerSettings, Mode, PoolerSettings, RoutingSettings, Settings, Tls},
    split::{self, SplitSettings},
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
    client: &ApiClient,
    stop: CancellationToken,
) -> Option<Running> {
    let router = config.router.as_ref()?;
    let first = match config.pooler.as_deref().map(|pooler| tls::read(&pooler.tls)).transpose() {
        Ok(tls) => tls.unwrap_or_default(),
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            error!(error, "the proxy is not started: without its certificates clients would be unencrypted");
            return None;
        }
    };
    let (tell, settings) = watch::channel(Arc::new(translate(router, config.pooler.as_deref(), first)));
    let secrets = Arc::new(secrets::AtTheServer::new(config, agent.topology()));
    let peers = Arc::new(peers::ByRest(client.clone()));
    let (proxy, handle) = match Proxy::start(settings, agent.topology(), secrets, peers) {
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

/// The certificates of the pools; those of before where the new ones cannot be used.
fn certificates(config: &Config, before: Tls) -> Tls {
    let Some(pooler) = &config.pooler else { return before };
    match tls::read(&pooler.tls) {
        Ok(tls) => tls,
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            error!(error, "the certificates of the pools cannot be used: those of before stay in force");
            before
        }
    }
}

/// Hands on each configuration that is read from now on. Never ends.
async fn follow(mut latest: Latest, tell: watch::Sender<Arc<Settings>>) {
    while latest.changed().await.is_ok() {
        let Some(config) = latest.borrow_and_update().clone() else { continue };
        match &config.router {
            Some(router) => {
                let tls = certificates(&config, tell.borrow().pooler.tls.clone());
                let settings = Arc::new(translate(router, config.pooler.as_deref(), tls));
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

fn translate_split(split: &Split) -> SplitSettings {
    SplitSettings {
        mode: if split.is_manual { split::Mode::Manual } else { split::Mode::Conservative },
        consistency: match split.consistency {
            SplitConsistency::Eventual => split::Consistency::Eventual,
            SplitConsistency::Session => split::Consistency::Session,
        },
        wait: split.wait,
        sticky: split.sticky,
        ..SplitSettings::default()
    }
}

fn translate(router: &Router, pooler: Option<&Pooler>, tls: Tls) -> Settings {
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
        split: listener.split.as_ref().map(|split| Arc::new(translate_split(split))),
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
        statistics: router.stats.clone(),
        pooler: pooler.map(|pooler| translate_pooler(pooler, tls)).unwrap_or_default(),
    }
}

fn translate_pooler(pooler: &Pooler, tls: Tls) -> PoolerSettings {
    let sizes = |sizes: &BTreeMap<String, PoolSize>| {
        sizes.iter().filter_map(|(name, size)| Some((name.clone(), size.pool_size?))).collect()
    };
    PoolerSettings {
        pool_size: pooler.default_pool_size,
        database_sizes: sizes(&pooler.databases),
        user_sizes: sizes(&pooler.users),
        max_clients: pooler.max_client_conn,
        admin_users: pooler.admin_users.clone(),
        stats_users: pooler.stats_users.clone(),
        auth_type: match pooler.auth_type {
            AuthType::Scram => settings::AuthType::Scram,
            AuthType::Md5 => settings::AuthType::Md5,
            AuthType::Plain => settings::AuthType::Plain,
            AuthType::Trust => settings::AuthType::Trust,
        },
        tls,
        max_prepared_statements: pooler.max_prepared_statements,
        reset_query: pooler.server_reset_query.clone(),
        query_wait_timeout: pooler.query_wait_timeout,
        client_login_timeout: pooler.client_login_timeout,
        server_connect_timeout: pooler.server_connect_timeout,
        server_idle_timeout: pooler.server_idle_timeout,
        server_lifetime: pooler.server_lifetime,
    }
}
