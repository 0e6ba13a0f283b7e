//! The proxy beside the agent, or alone: its settings from the file, its life, its reloads.

pub(crate) mod alone;
mod peers;
mod rules;
mod secrets;
mod tls;

use std::{collections::BTreeMap, sync::Arc};

use bellwether_agent::AgentHandle;
use bellwether_api_client::ApiClient;
use bellwether_config::{
    Config, ProxyConfig,
    sections::{
        pooler::{AuthType, Pooler, limits as limited},
        router::{Balance, Fallback, Front, ListenerMode, ListenerRole, Router, Split, SplitConsistency},
    },
};
use bellwether_proxy::{
    Proxy, ProxyHandle,
    routes::Target,
    settings::{
        self, Limits, ListenerSettings, Mode, Overrides, PoolLimits, PoolerSettings, RoutingSettings, Rules,
        Settings, TimeoutOverrides, Timeouts, Tls,
    },
    split::{self, SplitSettings},
};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use self::secrets::Asking;
use crate::reload::Latest;

/// A proxy that serves.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) task: JoinHandle<()>,
    pub(crate) handle: ProxyHandle,
}

/// What a file says about the proxy.
struct Sections {
    router: Box<Router>,
    pooler: Option<Box<Pooler>>,
    asking: Arc<Asking>,
    /// Where this member is.
    zone: Option<String>,
}

impl Sections {
    /// `None`: there is to be no proxy.
    fn of_member(config: &Config) -> Option<Self> {
        let asking = Arc::new(Asking::of_member(config));
        let zone = config.tags.zone().map(str::to_owned);
        Some(Self { router: config.router.clone()?, pooler: config.pooler.clone(), asking, zone })
    }

    fn of_proxy(config: &ProxyConfig) -> Self {
        let asking = Arc::new(Asking::of_proxy(config));
        let zone = config.tags.zone().map(str::to_owned);
        Self { router: config.router.clone(), pooler: config.pooler.clone(), asking, zone }
    }

    fn settings(&self, files: Files) -> Settings {
        let mut settings = translate(&self.router, self.pooler.as_deref(), files);
        settings.routing.zone = self.zone.clone().filter(|_| self.router.prefer_zone);
        settings
    }

    /// The file was read again.
    fn put_in_force(self, tell: &watch::Sender<Arc<Settings>>, secrets: &secrets::AtTheServer) {
        secrets.renew(self.asking.clone());
        let files = Files::again(self.pooler.as_deref(), &tell.borrow().pooler);
        let settings = Arc::new(self.settings(files));
        tell.send_if_modified(|known| {
            let changed = *known != settings;
            *known = settings;
            changed
        });
    }
}

/// Starts the proxy if the file asks for one. It must never keep the agent from its work: what fails here is logged.
pub(crate) fn start(
    config: &Config,
    latest: Latest,
    agent: &AgentHandle,
    client: &ApiClient,
    stop: CancellationToken,
) -> Option<Running> {
    let sections = Sections::of_member(config)?;
    let files = match Files::of(&sections) {
        Ok(files) => files,
        Err(error) => {
            let error = &*error;
            error!(error, "the proxy is not started: its files say who may come in, and how");
            return None;
        }
    };
    let (tell, settings) = watch::channel(Arc::new(sections.settings(files)));
    let secrets = Arc::new(secrets::AtTheServer::new(sections.asking, agent.topology()));
    let ask = secrets.clone();
    let peers = Arc::new(peers::ByRest(client.clone()));
    let (mut proxy, handle) = match Proxy::start(settings, agent.topology(), secrets, peers) {
        Ok(started) => started,
        Err(error) => {
            error!(%error, "the proxy cannot be started: clients reach the members only directly");
            return None;
        }
    };
    let (mut wishes, agent) = (proxy.reload_wishes(), agent.clone());
    let reload = async move {
        while let Some(wish) = wishes.recv().await {
            // The agent says in its log what came of it.
            agent.reload().await;
            wish.answer(Ok(()));
        }
        std::future::pending().await
    };
    let task = tokio::spawn(async move {
        tokio::select! {
            () = proxy.run(stop) => {}
            () = reload => {}
            () = follow(latest, tell, &ask) => {}
        }
    });
    Some(Running { task, handle })
}

/// What files say about the pools.
#[derive(Default)]
struct Files {
    tls: Tls,
    rules: Option<Arc<Rules>>,
}

impl Files {
    fn of(sections: &Sections) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(sections.pooler.as_deref().map(Self::read).transpose()?.unwrap_or_default())
    }

    fn read(pooler: &Pooler) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self { tls: tls::read(&pooler.tls)?, rules: rules::read(pooler)? })
    }

    /// Reads them again; all stay as they were if one of them cannot be used.
    fn again(pooler: Option<&Pooler>, before: &PoolerSettings) -> Self {
        let kept = Self { tls: before.tls.clone(), rules: before.rules.clone() };
        let Some(pooler) = pooler else { return kept };
        Self::read(pooler).unwrap_or_else(|error| {
            let error = &*error as &dyn std::error::Error;
            error!(error, "the files of the pools cannot be used: what they said before stays in force");
            kept
        })
    }
}

/// Hands on each configuration that is read from now on. Never ends.
async fn follow(mut latest: Latest, tell: watch::Sender<Arc<Settings>>, secrets: &secrets::AtTheServer) {
    while latest.changed().await.is_ok() {
        let Some(config) = latest.borrow_and_update().clone() else { continue };
        match Sections::of_member(&config) {
            Some(sections) => sections.put_in_force(&tell, secrets),
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
        max_lag: split.max_lag,
        max_lag_bytes: split.max_lag_bytes,
        ..SplitSettings::default()
    }
}

fn translate_front(front: &Front) -> settings::Front {
    settings::Front {
        accept_proxy: front.accept_proxy.clone(),
        send_proxy: front.send_proxy,
        unix_socket: front.unix_socket.as_ref().map(|socket| settings::UnixSocket {
            path: socket.path.clone(),
            mode: socket.mode,
            group: socket.group.clone(),
        }),
    }
}

fn translate_mode(mode: ListenerMode) -> Mode {
    match mode {
        ListenerMode::Tcp => Mode::Tcp,
        ListenerMode::Session => Mode::Session,
        ListenerMode::Transaction => Mode::Transaction,
        ListenerMode::Statement => Mode::Statement,
    }
}

fn translate(router: &Router, pooler: Option<&Pooler>, files: Files) -> Settings {
    let listeners = router.listeners.iter().map(|listener| ListenerSettings {
        name: listener.name.as_str().into(),
        addresses: listener.addresses.clone(),
        target: match listener.role {
            ListenerRole::Primary => Target::Primary,
            ListenerRole::Replicas => Target::Replicas,
            ListenerRole::Sync => Target::Sync,
            ListenerRole::Async => Target::Async,
        },
        mode: translate_mode(listener.mode),
        front: translate_front(&listener.front),
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
            zone: None,
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
        pooler: pooler.map(|pooler| translate_pooler(pooler, files)).unwrap_or_default(),
    }
}

fn translate_pooler(pooler: &Pooler, files: Files) -> PoolerSettings {
    PoolerSettings {
        limits: translate_limits(&pooler.limits),
        max_clients: pooler.max_client_conn,
        admin_users: pooler.admin_users.clone(),
        stats_users: pooler.stats_users.clone(),
        auth_type: match pooler.auth_type {
            AuthType::Scram => settings::AuthType::Scram,
            AuthType::Md5 => settings::AuthType::Md5,
            AuthType::Plain => settings::AuthType::Plain,
            AuthType::Trust => settings::AuthType::Trust,
            AuthType::Cert => settings::AuthType::Cert,
            // Its lines decide; without a line nobody comes in.
            AuthType::Hba => settings::AuthType::Scram,
        },
        rules: files.rules,
        tls: files.tls,
        max_prepared_statements: pooler.max_prepared_statements,
        reset_query: pooler.server_reset_query.clone(),
        query_wait_timeout: pooler.query_wait_timeout,
        query_wait_notify: pooler.query_wait_notify,
        client_login_timeout: pooler.client_login_timeout,
        server_connect_timeout: pooler.server_connect_timeout,
        server_idle_timeout: pooler.server_idle_timeout,
        server_lifetime: pooler.server_lifetime,
    }
}

fn translate_limits(limits: &limited::PoolLimits) -> PoolLimits {
    let at_most = |limit: usize| (limit > 0).then_some(limit);
    let each = |all: &BTreeMap<String, limited::Overrides>| {
        all.iter().map(|(name, own)| (name.clone(), translate_overrides(own))).collect()
    };
    PoolLimits {
        pool_size: limits.default_pool_size,
        min_pool_size: limits.min_pool_size,
        reserve_pool_size: limits.reserve_pool_size,
        reserve_pool_timeout: limits.reserve_pool_timeout,
        max_db_connections: at_most(limits.max_db_connections),
        max_user_connections: at_most(limits.max_user_connections),
        max_db_client_connections: at_most(limits.max_db_client_connections),
        max_user_client_connections: at_most(limits.max_user_client_connections),
        timeouts: Timeouts::default().with(translate_timeouts(limits.timeouts)),
        databases: each(&limits.databases),
        users: each(&limits.users),
    }
}

fn translate_overrides(own: &limited::Overrides) -> Overrides {
    Overrides {
        pool_mode: own.pool_mode.map(translate_mode),
        pool_size: own.pool_size,
        min_pool_size: own.min_pool_size,
        reserve_pool_size: own.reserve_pool_size,
        max_connections: own.max_connections,
        max_client_connections: own.max_client_connections,
        server_lifetime: own.server_lifetime,
        timeouts: translate_timeouts(own.timeouts),
        is_unsplit: own.is_unsplit,
    }
}

fn translate_timeouts(own: limited::Timeouts) -> TimeoutOverrides {
    TimeoutOverrides {
        query: own.query,
        transaction: own.transaction,
        idle_transaction: own.idle_transaction,
        client_idle: own.client_idle,
    }
}
