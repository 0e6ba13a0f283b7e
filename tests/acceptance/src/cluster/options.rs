//! What a cluster is made from.

use serde_json::{Value, json};

use super::merge;
use crate::servers::Store;

/// What a cluster is made from.
#[derive(Debug)]
pub struct Options {
    pub(super) nodes: usize,
    pub(super) patch: Value,
    pub(super) links: bool,
    pub(super) routers: bool,
    pub(super) store: Store,
}

impl Options {
    /// With the defaults of a new cluster.
    pub fn nodes(nodes: usize) -> Self {
        Self { nodes, patch: json!({}), links: false, routers: false, store: Store::Embedded }
    }

    /// Lays this over the configuration of every node (as a JSON merge patch).
    pub fn with(mut self, patch: Value) -> Self {
        merge(&mut self.patch, patch);
        self
    }

    /// The store is this one, with the shortest timings that it allows.
    pub fn on(mut self, store: Store) -> Self {
        self.store = store;
        self.with(json!({"bootstrap": {"dcs": store.shortest_timings()}}))
    }

    /// As a cluster with an embedded store is by itself: quorum commit, and failsafe mode.
    pub fn in_quorum_mode(self) -> Self {
        self.with(json!({"bootstrap": {"dcs": {"synchronous_mode": "quorum", "failsafe_mode": true}}}))
    }

    /// The store is etcd, on servers of its own.
    pub fn on_etcd(mut self) -> Self {
        self.store = Store::Etcd;
        self
    }

    /// The store is Consul, on a server of its own, and members are registered there as services.
    pub fn on_consul(mut self) -> Self {
        self.store = Store::Consul;
        self
    }

    /// The store is ZooKeeper, on a server of its own.
    pub fn on_zookeeper(mut self) -> Self {
        self.store = Store::ZooKeeper;
        self
    }

    /// Each node has a proxy, with listeners for the primary, for replicas and for pooled transactions.
    pub fn with_routers(mut self) -> Self {
        self.routers = true;
        self
    }

    /// The nodes of an embedded store reach each other over [`Cluster::links`] only.
    pub fn with_links(mut self) -> Self {
        self.links = true;
        self
    }
}
