//! What is installed on the hosts: Bellwether, or Patroni with etcd.

mod bellwether;
mod etcd;
mod patroni;

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use bellwether_acceptance::{
    binary,
    cluster::merge,
    configuration::{self, Place},
};
use serde_json::{Value, json};

use crate::{host::Host, laboratory::Laboratory};

/// Ports, the same on every host.
pub const POSTGRES: u16 = 5432;
pub const REST: u16 = 8008;
pub const EMBEDDED_STORE: u16 = 5010;
pub const ETCD_CLIENTS: u16 = 2379;
pub const ETCD_PEERS: u16 = 2380;

/// The name of the cluster.
pub const SCOPE: &str = "chaos";
/// The service that runs PostgreSQL.
pub const AGENT: &str = "agent";
pub const ETCD: &str = "etcd";

/// A way to run a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Stack {
    /// Bellwether with the embedded store, and the defaults of a new cluster.
    Bellwether,
    /// The same with asynchronous replication, which may lose what was written last, and a lease of five seconds.
    BellwetherAsync,
    /// Bellwether with etcd on the same hosts.
    BellwetherEtcd,
    /// Patroni with etcd on the same hosts, at its default timings (ttl 30).
    Patroni,
    /// The same at the shortest timings that it takes (ttl 20).
    PatroniFast,
}

impl fmt::Display for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bellwether => "bellwether",
            Self::BellwetherAsync => "bellwether-async",
            Self::BellwetherEtcd => "bellwether-etcd",
            Self::Patroni => "patroni",
            Self::PatroniFast => "patroni-fast",
        })
    }
}

impl Stack {
    pub fn uses_etcd(self) -> bool {
        matches!(self, Self::BellwetherEtcd | Self::Patroni | Self::PatroniFast)
    }

    /// Whether commits wait for a standby in its settings.
    pub fn is_synchronous(self) -> bool {
        self != Self::BellwetherAsync
    }

    pub fn is_patroni(self) -> bool {
        matches!(self, Self::Patroni | Self::PatroniFast)
    }

    /// The port over which the members of the store talk with each other.
    pub fn store_port(self) -> u16 {
        if self.uses_etcd() { ETCD_PEERS } else { EMBEDDED_STORE }
    }

    /// Writes the files of every host and starts what belongs there. `dcs` is laid over the cluster's first settings.
    pub fn install(self, laboratory: &mut Laboratory, dcs: &Value) -> io::Result<()> {
        self.install_with(laboratory, dcs, &json!({}))
    }

    /// The same with `patch` laid over the configuration of every agent of ours.
    pub fn install_with(self, laboratory: &mut Laboratory, dcs: &Value, patch: &Value) -> io::Result<()> {
        let peers: Vec<String> = laboratory.hosts.iter().map(Host::address).collect();
        let programs = Programs::gather(&laboratory.dir)?;
        if self.uses_etcd() {
            for host in &mut laboratory.hosts {
                etcd::start(host, &peers);
            }
        }
        for host in &mut laboratory.hosts {
            match self {
                Self::Bellwether => {
                    bellwether::start(host, &programs, with(bellwether::embedded(host, &peers), patch), dcs)
                }
                Self::BellwetherAsync => {
                    let mut asynchronous =
                        json!({"ttl": 5, "loop_wait": 1, "retry_timeout": 2, "synchronous_mode": false});
                    merge(&mut asynchronous, dcs.clone());
                    let store = with(bellwether::embedded(host, &peers), patch);
                    bellwether::start(host, &programs, store, &asynchronous);
                }
                Self::BellwetherEtcd => {
                    bellwether::start(host, &programs, with(etcd::section(&peers), patch), dcs)
                }
                Self::Patroni => patroni::start(host, etcd::section(&peers), dcs),
                Self::PatroniFast => {
                    let mut fastest = json!({"ttl": 20, "loop_wait": 1, "retry_timeout": 3});
                    merge(&mut fastest, dcs.clone());
                    patroni::start(host, etcd::section(&peers), &fastest);
                }
            }
        }
        Ok(())
    }
}

/// Copies that the account of the nodes can run.
#[derive(Debug)]
struct Programs {
    bellwether: PathBuf,
}

impl Programs {
    fn gather(dir: &Path) -> io::Result<Self> {
        let bellwether = dir.join("bellwether");
        if !bellwether.exists() {
            fs::copy(binary::beside_this_program()?, &bellwether)?;
        }
        Ok(Self { bellwether })
    }
}

/// What both agents read: everything but the store.
fn configuration(host: &Host, dcs: &Value) -> Value {
    let mut document = configuration::without_store(&Place {
        scope: SCOPE,
        name: &host.name,
        dir: &host.dir,
        address: &host.address(),
        networks: &["127.0.0.1/32", "10.77.0.0/24", "fd77::/64"],
        postgres_port: POSTGRES,
        api_port: REST,
    });
    // Nobody is there to copy a member anew whose rewind broke in the middle, with its source.
    let unattended = json!({"postgresql": {"remove_data_directory_on_rewind_failure": true}});
    merge(&mut document, unattended);
    merge(&mut document, json!({"bootstrap": {"dcs": dcs}}));
    document
}

fn with(mut document: Value, patch: &Value) -> Value {
    merge(&mut document, patch.clone());
    document
}
