//! Which store a cluster has, and the servers of one that is not embedded.

use std::path::Path;

use serde_json::{Value, json};

use crate::{consul::Consul, etcd::Etcd, ports::Ports, zookeeper::ZooKeeper};

/// The store of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Embedded,
    Etcd,
    Consul,
    ZooKeeper,
}

/// The servers of a store that is not embedded.
#[derive(Debug)]
pub(crate) enum Servers {
    None,
    Etcd(Etcd),
    Consul(Consul),
    ZooKeeper(ZooKeeper),
}

impl Servers {
    pub(crate) async fn start(kind: Kind, ports: &mut Ports, dir: &Path) -> Self {
        match kind {
            Kind::Embedded => Self::None,
            Kind::Etcd => Self::Etcd(Etcd::start(ports, dir).await),
            Kind::Consul => Self::Consul(Consul::start(ports, dir).await),
            Kind::ZooKeeper => Self::ZooKeeper(ZooKeeper::start(ports, dir).await),
        }
    }

    /// What takes the place of the embedded store in a member's configuration.
    pub(crate) fn patch(&self) -> Value {
        match self {
            Self::None => json!({}),
            Self::Etcd(etcd) => json!({"raft": null, "etcd3": etcd.section()}),
            Self::Consul(consul) => json!({"raft": null, "consul": consul.section()}),
            Self::ZooKeeper(zookeeper) => json!({"raft": null, "zookeeper": zookeeper.section()}),
        }
    }
}
