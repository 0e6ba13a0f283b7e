//! Which store a cluster has, and the servers of one that is not embedded.

use std::{path::Path, process::Child};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{consul::Consul, etcd::Etcd, ports::Ports, processes, zookeeper::ZooKeeper};

/// The store of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    Embedded,
    /// Three servers of their own.
    Etcd,
    /// A server of its own; members are registered there as services.
    Consul,
    /// A server of its own.
    ZooKeeper,
}

impl Store {
    /// By the name of the test that runs a scenario on it ([`crate::on_stores`]).
    pub fn named(name: &str) -> Self {
        match name {
            "embedded" => Self::Embedded,
            "etcd" => Self::Etcd,
            "consul" => Self::Consul,
            "zookeeper" => Self::ZooKeeper,
            other => panic!("no store is called {other}"),
        }
    }

    /// As short as this store allows. Patroni's defaults would make every test take minutes.
    pub fn shortest_timings(self) -> Value {
        match self {
            // Its sessions get half of `ttl`, and there are none below 10 s.
            Self::Consul => json!({"ttl": 20, "loop_wait": 1, "retry_timeout": 4}),
            _ => json!({"ttl": 5, "loop_wait": 1, "retry_timeout": 2}),
        }
    }
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
    pub(crate) async fn start(store: Store, ports: &mut Ports, dir: &Path) -> Self {
        match store {
            Store::Embedded => Self::None,
            Store::Etcd => Self::Etcd(Etcd::start(ports, dir).await),
            Store::Consul => Self::Consul(Consul::start(ports, dir).await),
            Store::ZooKeeper => Self::ZooKeeper(ZooKeeper::start(ports, dir).await),
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

    /// Stops the servers in their tracks, so that nobody hears anything from them, or lets them go on. False if there are none.
    pub(crate) fn signal(&self, signal: Signal) -> bool {
        match self {
            Self::None => return false,
            Self::Etcd(etcd) => etcd.signal(signal),
            Self::Consul(consul) => signal_server(consul.child(), signal),
            Self::ZooKeeper(zookeeper) => signal_server(zookeeper.child(), signal),
        }
        true
    }
}

pub(crate) fn signal_server(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).expect("a process id");
    assert!(processes::send(pid, signal), "the server of the store runs");
}
