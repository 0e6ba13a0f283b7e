//! Opening the store that the configuration names.

#[cfg(feature = "consul")]
pub(crate) mod consul;
#[cfg(feature = "etcd")]
mod etcd;
#[cfg(feature = "zookeeper")]
mod zookeeper;

use std::sync::Arc;

use async_trait::async_trait;
use bellwether_cli::{OpenError, OpenStore};
use bellwether_config::sections::{
    citus::Citus,
    raft::{Raft, RaftTiming},
    store::Store as StoreSection,
};
use bellwether_dcs::Store;
use bellwether_dcs_raft::{
    ClientConfig, Config, CredentialsError, RaftClient, RaftStore, Secret, Timing, TlsFiles,
};
use bellwether_types::{ClusterName, Failure, MemberName};
use secrecy::ExposeSecret;

/// What a person reads who has named no store, between backticks.
pub(crate) const ANY_STORE: &str = "raft`, `etcd3`, `consul` or `zookeeper";

/// What operators' commands open: a client without a vote.
#[derive(Debug)]
pub(crate) struct Stores;

#[async_trait]
impl OpenStore for Stores {
    async fn open(&self, config: &bellwether_config::ClientConfig) -> Result<Arc<dyn Store>, OpenError> {
        let missing = |key: &str| OpenError(format!("the configuration has no `{key}`").into());
        let cluster = config.scope.as_ref().ok_or_else(|| missing("scope"))?;
        let section = config.store.as_ref().ok_or_else(|| missing(ANY_STORE))?;
        let of = Of { cluster, namespace: &config.namespace, group: None, member: config.name.as_ref() };
        connect(section, &of).await.map_err(|error| OpenError(Box::new(error)))
    }
}

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("the embedded store did not start")]
    Raft(#[from] bellwether_dcs_raft::StartError),
    #[cfg(feature = "etcd")]
    #[error("etcd cannot be used with this configuration")]
    Etcd(#[from] bellwether_dcs_etcd::StartError),
    #[cfg(feature = "consul")]
    #[error("Consul cannot be used with this configuration")]
    Consul(#[from] bellwether_dcs_consul::ConfigError),
    #[cfg(feature = "zookeeper")]
    #[error("ZooKeeper cannot be used with this configuration")]
    ZooKeeper(#[from] bellwether_dcs_zookeeper::ConfigError),
    #[cfg(not(all(feature = "etcd", feature = "consul", feature = "zookeeper")))]
    #[error("this program was built without the store `{0}`: use one that has it, or another store")]
    NotBuiltIn(&'static str),
}

impl StartError {
    /// The code under which the book explains it.
    pub(crate) fn failure(&self) -> Failure {
        match self {
            Self::Raft(error) => error.failure(),
            #[cfg(feature = "etcd")]
            Self::Etcd(_) => Failure::StoreSettings,
            #[cfg(feature = "consul")]
            Self::Consul(error) => consul::failure(error),
            #[cfg(feature = "zookeeper")]
            Self::ZooKeeper(_) => Failure::StoreSettings,
            #[cfg(not(all(feature = "etcd", feature = "consul", feature = "zookeeper")))]
            Self::NotBuiltIn(_) => Failure::StoreSettings,
        }
    }
}

/// The store of an agent: a node of its own where it has a vote, a client otherwise.
/// Cheap to clone: the same store.
#[derive(Clone, Debug)]
pub(crate) enum Opened {
    Node(Arc<RaftStore>),
    Client(Arc<RaftClient>),
    /// Somebody else's servers.
    External(Arc<dyn Store>),
    /// etcd, whose login may change.
    #[cfg(feature = "etcd")]
    Etcd(Arc<bellwether_dcs_etcd::EtcdStore>),
}

/// What a renewal found to renew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Renewed {
    Certificates,
    /// The name or the password that we log in with.
    #[cfg_attr(not(feature = "etcd"), allow(dead_code, reason = "only some stores take a new one"))]
    Login,
    /// The store uses a password, or takes new certificates by itself.
    None,
    /// There are some, and only a restart of the agent reads them.
    OnlyAtStart,
}

impl Opened {
    pub(crate) fn as_store(&self) -> Arc<dyn Store> {
        match self {
            Self::Node(node) => node.clone(),
            Self::Client(client) => client.clone(),
            Self::External(store) => store.clone(),
            #[cfg(feature = "etcd")]
            Self::Etcd(store) => store.clone(),
        }
    }

    /// Ends when a node of ours stops by itself, with the reason; never for a client.
    pub(crate) async fn stopped(&self) -> String {
        match self {
            Self::Node(node) => node.stopped().await,
            Self::Client(_) | Self::External(_) => std::future::pending().await,
            #[cfg(feature = "etcd")]
            Self::Etcd(_) => std::future::pending().await,
        }
    }

    /// Reads the certificates anew, if the store uses any, and takes another login; after an error the present ones stay in
    /// force.
    pub(crate) async fn renew_credentials(
        &self,
        section: &StoreSection,
    ) -> Result<Renewed, CredentialsError> {
        let raft = match section {
            StoreSection::Raft(raft) => raft,
            #[cfg(feature = "etcd")]
            StoreSection::Etcd3(section) => {
                let Self::Etcd(store) = self else { return Ok(Renewed::None) };
                let is_new = store.renew_login(etcd::credentials(section)).await;
                return Ok(if is_new { Renewed::Login } else { Renewed::None });
            }
            // The adapter keeps its connections, with what they were made from.
            StoreSection::Consul(consul)
                if consul.tls && consul.files().iter().any(|(_, file)| file.is_some()) =>
            {
                return Ok(Renewed::OnlyAtStart);
            }
            _ => return Ok(Renewed::None),
        };
        let Some(files) = tls(raft) else { return Ok(Renewed::None) };
        match self {
            Self::Node(node) => node.renew_certificates(files).await?,
            Self::Client(client) => client.renew_certificates(files).await?,
            _ => return Ok(Renewed::None),
        }
        Ok(Renewed::Certificates)
    }

    /// Leaves in order, if nobody else uses the store any more; otherwise as a crash would, which costs an election.
    pub(crate) async fn shutdown(self) {
        if let Self::Node(node) = self
            && let Some(node) = Arc::into_inner(node)
        {
            node.shutdown().await;
        }
    }
}

/// Starts this member's node of the embedded store, or connects to whatever store it is.
pub(crate) async fn open(config: &bellwether_config::Config) -> Result<Opened, StartError> {
    let StoreSection::Raft(raft) = &config.store else {
        let of = Of::member(config);
        #[cfg(feature = "etcd")]
        if let StoreSection::Etcd3(section) = &config.store {
            let config = etcd::config(section, of.prefix());
            return Ok(Opened::Etcd(Arc::new(bellwether_dcs_etcd::EtcdStore::start(config).await?)));
        }
        return Ok(Opened::External(connect(&config.store, &of).await?));
    };
    Ok(match node_config(raft, &config.scope, false) {
        Some(node) => Opened::Node(Arc::new(RaftStore::start(node).await?)),
        None => Opened::Client(Arc::new(connect_raft(raft, &config.scope).await?)),
    })
}

/// What a part of a Citus cluster sees of the others: the coordinator all of them, a worker the coordinator. `None` without Citus.
pub(crate) async fn open_groups(
    config: &bellwether_config::Config,
) -> Result<Option<Arc<dyn Store>>, StartError> {
    let Some(citus) = &config.citus else { return Ok(None) };
    let group = (!citus.is_coordinator()).then_some(Citus::COORDINATOR);
    connect(&config.store, &Of { group, ..Of::member(config) }).await.map(Some)
}

/// Whose state a store holds, and who asks.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "consul"), allow(dead_code, reason = "only some stores want to know all of it"))]
pub(crate) struct Of<'a> {
    pub(crate) cluster: &'a ClusterName,
    pub(crate) namespace: &'a str,
    /// The part of a Citus cluster; `None`: a cluster without Citus, or all parts of one.
    pub(crate) group: Option<u32>,
    pub(crate) member: Option<&'a MemberName>,
}

impl<'a> Of<'a> {
    /// The cluster that the member of this configuration belongs to.
    pub(crate) fn member(config: &'a bellwether_config::Config) -> Self {
        Self {
            cluster: &config.scope,
            namespace: &config.namespace,
            group: config.citus.as_ref().map(|citus| citus.group),
            member: Some(&config.name),
        }
    }

    /// What the keys of the cluster begin with.
    #[cfg(any(feature = "etcd", feature = "consul", feature = "zookeeper"))]
    fn prefix(&self) -> String {
        let base = bellwether_dcs::codec::keys::base_path(self.namespace, self.cluster);
        self.group.map_or_else(|| base.clone(), |group| format!("{base}{group}/"))
    }
}

/// A client of a store of any kind.
pub(crate) async fn connect(section: &StoreSection, of: &Of<'_>) -> Result<Arc<dyn Store>, StartError> {
    match section {
        StoreSection::Raft(raft) => Ok(Arc::new(connect_raft(raft, of.cluster).await?)),
        #[cfg(feature = "etcd")]
        StoreSection::Etcd3(section) => {
            let config = etcd::config(section, of.prefix());
            Ok(Arc::new(bellwether_dcs_etcd::EtcdStore::start(config).await?))
        }
        #[cfg(not(feature = "etcd"))]
        StoreSection::Etcd3(_) => Err(StartError::NotBuiltIn("etcd3")),
        #[cfg(feature = "consul")]
        StoreSection::Consul(section) => {
            Ok(Arc::new(bellwether_dcs_consul::ConsulStore::new(consul::config(section, of))?))
        }
        #[cfg(not(feature = "consul"))]
        StoreSection::Consul(_) => Err(StartError::NotBuiltIn("consul")),
        #[cfg(feature = "zookeeper")]
        StoreSection::ZooKeeper(section) => {
            let config = zookeeper::config(section, of.prefix())?;
            Ok(Arc::new(bellwether_dcs_zookeeper::ZooKeeperStore::new(config)?))
        }
        #[cfg(not(feature = "zookeeper"))]
        StoreSection::ZooKeeper(_) => Err(StartError::NotBuiltIn("zookeeper")),
    }
}

/// A client of the embedded store without a vote.
pub(crate) async fn connect_raft(
    raft: &Raft,
    cluster: &ClusterName,
) -> Result<RaftClient, bellwether_dcs_raft::StartError> {
    RaftClient::new(client_config(raft, cluster)).await
}

/// The settings of a node with a vote; `None` for a client.
pub(crate) fn node_config(raft: &Raft, cluster: &ClusterName, witness: bool) -> Option<Config> {
    let self_addr = raft.self_addr.as_ref()?.to_string();
    let data_dir = raft.data_dir.clone()?;
    let mut config = Config::new(cluster.as_str(), self_addr, data_dir);
    config.bind_addr = raft.bind_addr.as_ref().map(ToString::to_string);
    config.partner_addrs = raft.partner_addrs.iter().map(ToString::to_string).collect();
    config.password = password(raft);
    config.tls = tls(raft);
    config.timing = match raft.timing {
        RaftTiming::Default => Timing::DEFAULT,
        RaftTiming::Fast => Timing::FAST,
        RaftTiming::Wan => Timing::WAN,
    };
    config.witness = witness || raft.witness;
    config.insecure = raft.insecure;
    Some(config)
}

fn client_config(raft: &Raft, cluster: &ClusterName) -> ClientConfig {
    let addresses = raft.self_addr.iter().chain(&raft.partner_addrs).map(ToString::to_string).collect();
    ClientConfig {
        cluster: cluster.to_string(),
        addresses,
        password: password(raft),
        tls: tls(raft),
        insecure: raft.insecure,
    }
}

fn password(raft: &Raft) -> Option<Secret> {
    raft.password.as_ref().map(|password| Secret::new(password.expose_secret()))
}

pub(crate) fn tls(raft: &Raft) -> Option<TlsFiles> {
    let (cert, key, ca) = (raft.certfile.clone()?, raft.keyfile.clone()?, raft.cafile.clone()?);
    Some(TlsFiles { cert, key, ca })
}

#[cfg(test)]
mod tests;
