//! What a configuration means: complete and typed.

use bellwether_types::{ClusterName, MemberName, Tags};

use crate::sections::{
    bootstrap::Bootstrap,
    citus::Citus,
    dns::Dns,
    log::Log,
    pooler::Pooler,
    postgresql::Postgresql,
    raft::Raft,
    restapi::{Ctl, RestApi},
    router::Router,
    store::Store,
    vip::Vip,
    watchdog::Watchdog,
};

/// The local configuration of a member.
#[derive(Clone, Debug)]
pub struct Config {
    pub name: MemberName,
    /// The cluster.
    pub scope: ClusterName,
    /// Prefix of the cluster's keys, `/service`: one leading slash, none at the end; `/` for the root.
    pub namespace: String,
    pub defaults: DefaultsChoice,
    pub log: Log,
    pub restapi: RestApi,
    pub ctl: Ctl,
    pub watchdog: Watchdog,
    pub tags: Tags,
    pub bootstrap: Bootstrap,
    pub postgresql: Postgresql,
    pub store: Store,
    /// `None`: no part of a Citus cluster.
    pub citus: Option<Citus>,
    /// `None`: no proxy on this node.
    pub router: Option<Box<Router>>,
    pub vip: Vip,
    /// `None`: no name is kept.
    pub dns: Option<Dns>,
    /// `None`: no pools; with one there is a proxy.
    pub pooler: Option<Box<Pooler>>,
}

/// `defaults`: whose defaults a new cluster is created with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DefaultsChoice {
    /// Ours with the embedded store, unless started as `patroni`.
    #[default]
    Auto,
    Patroni,
    Bellwether,
}

/// What the command line needs: a member's file, or a short one with `scope` and a store.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    pub name: Option<MemberName>,
    pub scope: Option<ClusterName>,
    pub namespace: String,
    pub log: Log,
    pub ctl: Ctl,
    /// The member's REST API, where the file is a member's.
    pub restapi: Option<RestApi>,
    pub postgresql: Option<Postgresql>,
    pub store: Option<Store>,
}

/// What a proxy needs on a host without an agent.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// For people; no member may have it.
    pub name: MemberName,
    pub scope: ClusterName,
    pub namespace: String,
    pub log: Log,
    pub ctl: Ctl,
    pub store: Store,
    /// Of the host; only `zone` says something here.
    pub tags: Tags,
    pub router: Box<Router>,
    pub pooler: Option<Box<Pooler>>,
}

/// What a node needs that votes in the embedded store, but runs no PostgreSQL.
#[derive(Clone, Debug)]
pub struct WitnessConfig {
    pub name: MemberName,
    pub scope: ClusterName,
    pub namespace: String,
    pub log: Log,
    pub raft: Raft,
}
