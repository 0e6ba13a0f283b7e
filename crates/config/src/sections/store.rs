//! Which store holds the state of the cluster: one section names it, the first in Patroni's order where there are several.

use std::time::Duration;

use crate::{
    Problem,
    section::Section,
    sections::{consul::Consul, etcd::Etcd, raft::Raft, zookeeper::ZooKeeper},
};

/// Where shared cluster state lives.
#[derive(Clone, Debug)]
pub enum Store {
    /// The embedded store.
    Raft(Raft),
    /// etcd, by its v3 API.
    Etcd3(Etcd),
    Consul(Consul),
    ZooKeeper(ZooKeeper),
}

/// The store sections of `patroni.yml`, in the order in which Patroni looks for them.
pub(crate) const STORES: [&str; 7] =
    ["consul", "etcd", "etcd3", "exhibitor", "kubernetes", "raft", "zookeeper"];
/// Those that can be used.
const BUILT_IN: [&str; 4] = ["consul", "etcd3", "raft", "zookeeper"];

impl Store {
    pub fn is_embedded(&self) -> bool {
        matches!(self, Self::Raft(_))
    }

    /// The word for it in the log.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Raft(_) => "raft",
            Self::Etcd3(_) => "etcd",
            Self::Consul(_) => "consul",
            Self::ZooKeeper(_) => "zookeeper",
        }
    }

    /// The section of the embedded store, if that is the one.
    pub fn raft(&self) -> Option<&Raft> {
        match self {
            Self::Raft(raft) => Some(raft),
            Self::Etcd3(_) | Self::Consul(_) | Self::ZooKeeper(_) => None,
        }
    }

    /// The shortest `ttl` that the store can keep.
    pub fn minimum_ttl(&self) -> Duration {
        match self {
            Self::Raft(_) => Duration::from_secs(1),
            Self::Etcd3(_) => Duration::from_secs(2),
            // A session gets half of it, and there are none below the servers' minimum.
            Self::Consul(consul) => 2 * consul.session_ttl_min,
            // The servers grant no session below two ticks.
            Self::ZooKeeper(zookeeper) => 2 * zookeeper.tick_time,
        }
    }

    /// The store that the document names; `None` if there is none that can be used (which has been reported).
    pub(crate) fn read(root: &Section<'_>) -> Option<Self> {
        let named: Vec<&str> = STORES.into_iter().filter(|name| root.has(name)).collect();
        let name = match named.as_slice() {
            [] => {
                none(root);
                return None;
            }
            [name] => *name,
            // Patroni takes the first in this order, and its peers are where it is.
            [first, others @ ..] => {
                for other in others {
                    let reason = format!("is not used: `{first}` names the store of this cluster");
                    let warning = root.about(other, reason);
                    root.report.warn(warning.help("keep the section of the store that the cluster uses"));
                }
                *first
            }
        };
        match name {
            "raft" => Raft::read(&root.child("raft")).map(Self::Raft),
            "etcd3" => Etcd::read(&root.child("etcd3")).map(Self::Etcd3),
            "consul" => Consul::read(&root.child("consul")).map(Self::Consul),
            "zookeeper" => ZooKeeper::read(&root.child("zookeeper")).map(Self::ZooKeeper),
            "etcd" => {
                let reason = "means etcd's protocol v2, which is not supported: its keys are not those of protocol v3, and \
                              members of both kinds would each elect a leader of their own";
                root.report.problem(root.about(name, reason).help(
                    "move the cluster to protocol v3 while Patroni still runs it, then rename the section to `etcd3`; its keys are the same",
                ));
                None
            }
            name => {
                let problem = root.about(name, format!("the store `{name}` is not yet built in"));
                root.report.problem(problem.help(format!("use one of: {}", BUILT_IN.join(", "))));
                None
            }
        }
    }
}

fn none(root: &Section<'_>) {
    let reason = format!(
        "Can not find suitable configuration of distributed configuration store\nAvailable implementations: {}",
        BUILT_IN.join(", ")
    );
    root.report.problem(
        Problem::new("", reason).at(&root.origin).help(
            "add a section `raft` with `self_addr`, `partner_addrs` and `data_dir`: the embedded store",
        ),
    );
}
