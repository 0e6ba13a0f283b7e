//! What the proxy is told to do. Where it is written (`router:` and `pooler:` in the node's file) is not its business.

mod limits;
mod timeouts;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use bellwether_pgwire::auth::{certificate::IdentMaps, hba};
use bellwether_types::Network;

pub use self::{
    limits::{Overrides, PoolLimits},
    timeouts::{TimeoutOverrides, Timeouts},
};
use crate::{routes::Target, split::SplitSettings};

/// Everything that a reload can change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub listeners: Vec<ListenerSettings>,
    /// Threads that carry data; each connection stays with one of them. Read at the start only.
    pub threads: usize,
    pub routing: RoutingSettings,
    pub limits: Limits,
    pub pooler: PoolerSettings,
    /// Where the statistics can be read; nowhere if empty.
    pub statistics: Vec<SocketAddr>,
}

/// One port, and where it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSettings {
    /// For people: logs, statistics, metrics.
    pub name: Arc<str>,
    pub addresses: Vec<SocketAddr>,
    pub target: Target,
    pub mode: Mode,
    /// Reads go to replicas; with the target `Primary` and servers that are shared only.
    pub split: Option<Arc<SplitSettings>>,
    pub front: Front,
}

/// How clients come to a listener besides its addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Front {
    /// Load balancers that put a PROXY header in front of what their clients say, and must.
    pub accept_proxy: Vec<Network>,
    /// Members are sent one (mode `Tcp`).
    pub send_proxy: bool,
    pub unix_socket: Option<UnixSocket>,
}

/// A socket in the file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixSocket {
    pub path: PathBuf,
    /// Permissions.
    pub mode: u32,
    /// Else that of the process.
    pub group: Option<String>,
}

/// How a listener's clients share servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Each client has a connection of its own, whose bytes pass through untouched.
    Tcp,
    /// Each client has a server for as long as it is connected.
    Session,
    /// Each transaction has a server.
    Transaction,
    /// Each statement has a server; transactions of several statements are refused.
    Statement,
}

/// What makes a member eligible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutingSettings {
    /// New connections to the primary rest on no older knowledge. Half of the lease's time if `None`.
    pub max_view_age: Option<Duration>,
    /// A replica that is further behind is left out.
    pub max_replica_lag_bytes: u64,
    /// Whether the primary serves readers when there is no replica.
    pub fall_back_to_primary: bool,
    pub balance: Balance,
    /// Replicas with this tag `zone` are preferred to all others.
    pub zone: Option<String>,
}

/// Which of several eligible members is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    RoundRobin,
    /// The one with the fewest connections through this proxy.
    LeastConnections,
    Random,
}

/// How long and how many may wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Clients at all, in all modes.
    pub max_connections: usize,
    /// How long a client waits for a member that can serve it.
    pub queue_timeout: Duration,
    /// How many clients of one worker may wait.
    pub queue_max: usize,
    /// For one attempt to reach a member.
    pub connect_timeout: Duration,
    /// For a client to say what it wants.
    pub greeting_timeout: Duration,
    /// Connections to a replica that is no longer eligible go on for so long.
    pub drain_timeout: Duration,
    /// A connection on which nothing moves for so long is closed; zero for never.
    pub idle_timeout: Duration,
}

/// How servers are shared, in PgBouncer's terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolerSettings {
    /// Servers and clients of pools.
    pub limits: PoolLimits,
    /// Clients of pools that may be connected.
    pub max_clients: usize,
    /// Who may do everything on the console (database `pgbouncer`).
    pub admin_users: Vec<String>,
    /// Who may look there.
    pub stats_users: Vec<String>,
    pub auth_type: AuthType,
    /// Who must show what, by address, database and user; `auth_type` says it for all if `None`.
    pub rules: Option<Arc<Rules>>,
    pub tls: Tls,
    pub max_prepared_statements: usize,
    /// What is sent to a server before another client has it, unless nothing can be left of the one before.
    pub reset_query: String,
    /// How long a client waits for a server.
    pub query_wait_timeout: Duration,
    /// After which a client that waits is told so; zero for never.
    pub query_wait_notify: Duration,
    pub client_login_timeout: Duration,
    pub server_connect_timeout: Duration,
    /// Zero for never.
    pub server_idle_timeout: Duration,
    /// Zero for ever.
    pub server_lifetime: Duration,
}

/// Encryption on both sides of the pools.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// What clients are shown; `None`: they are not encrypted.
    pub clients: Option<Arc<rustls::ServerConfig>>,
    /// Clients that do not encrypt are refused.
    pub clients_must: bool,
    /// How servers are checked; `None`: they are not asked to encrypt.
    pub servers: Option<Arc<rustls::ClientConfig>>,
    /// A server that does not encrypt is not used.
    pub servers_must: bool,
}

impl PartialEq for Tls {
    /// Files that were read again are another configuration.
    fn eq(&self, other: &Self) -> bool {
        let same = |one: Option<*const ()>, other: Option<*const ()>| one == other;
        same(
            self.clients.as_ref().map(|it| Arc::as_ptr(it).cast()),
            other.clients.as_ref().map(|it| Arc::as_ptr(it).cast()),
        ) && same(
            self.servers.as_ref().map(|it| Arc::as_ptr(it).cast()),
            other.servers.as_ref().map(|it| Arc::as_ptr(it).cast()),
        ) && (self.clients_must, self.servers_must) == (other.clients_must, other.servers_must)
    }
}

impl Eq for Tls {}

/// How clients show who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthType {
    Scram,
    Md5,
    Plain,
    Trust,
    /// A certificate that names the user.
    Cert,
}

/// Rules about who must show what, as in `pg_hba.conf`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    pub lines: hba::Rules,
    /// Which names in certificates may be which users (`pg_ident.conf`).
    pub maps: IdentMaps,
}

impl Default for PoolerSettings {
    fn default() -> Self {
        Self {
            limits: PoolLimits::default(),
            max_clients: 10_000,
            admin_users: vec![],
            stats_users: vec![],
            auth_type: AuthType::Scram,
            rules: None,
            tls: Tls::default(),
            max_prepared_statements: 200,
            reset_query: "DISCARD ALL".into(),
            query_wait_timeout: Duration::from_secs(120),
            query_wait_notify: Duration::from_secs(5),
            client_login_timeout: Duration::from_secs(60),
            server_connect_timeout: Duration::from_secs(5),
            server_idle_timeout: Duration::from_secs(600),
            server_lifetime: Duration::from_secs(3600),
        }
    }
}

impl Default for RoutingSettings {
    fn default() -> Self {
        Self {
            max_view_age: None,
            max_replica_lag_bytes: 100 << 20,
            fall_back_to_primary: false,
            balance: Balance::RoundRobin,
            zone: None,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            queue_timeout: Duration::from_secs(5),
            queue_max: 10_000,
            connect_timeout: Duration::from_secs(5),
            greeting_timeout: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(30),
            idle_timeout: Duration::ZERO,
        }
    }
}
