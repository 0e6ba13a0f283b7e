//! Real clusters for behaviour tests: the real binary, real PostgreSQL, a real store, on loopback.
//!
//! [`Cluster::start`] makes nodes in a folder of their own, with free ports and generated configurations, and keeps their
//! agents running as systemd would. A test then does harm ([`Node::kill_tree`], [`Node::freeze_agent`], ...), watches from
//! outside as an operator or a client would (REST, SQL, processes), and reads the journal for the reason. What a test
//! started is killed by process id when the cluster is dropped; after a failure logs and journals stay and are shown.
//!
//! Deliberately not here: any use of our own crates. The tests know the binary only by what it shows to the outside, so
//! that they would notice a change of it. Nothing waits for seconds; everything waits for a condition
//! ([`wait::eventually`]).
//!
//! Start with [`cluster`], then read any file in `tests/it/`, one per behaviour.
//!
//! | variable | meaning |
//! |---|---|
//! | `BELLWETHER_BINARY` | the binary to test, instead of the one in the target directory |
//! | `BELLWETHER_TEST_PG_BIN` | the directory of PostgreSQL's programs, instead of Debian's version 15 |
//! | `BELLWETHER_TEST_PATRONI` | the directory of the real Patroni's programs, instead of where `scripts/prerequisites` puts them |
//! | `BELLWETHER_MATRIX` | run the expensive variations as well (`make test-matrix` sets it) |

pub mod account;
pub mod binary;
pub mod citus;
pub mod cluster;
mod conditions;
pub mod configuration;
pub mod consul;
pub mod disk;
pub mod etcd;
pub mod haproxy;
pub mod journal;
pub mod ledger;
pub mod links;
pub mod mounts;
pub mod namespace;
pub mod node;
pub mod patroni;
pub mod pki;
pub mod ports;
pub mod processes;
pub mod rest;
pub mod router;
pub mod run;
mod servers;
pub mod sql;
pub mod supervisor;
pub mod wait;
pub mod writer;
pub mod zookeeper;

pub use cluster::{Cluster, Options};
pub use node::Node;
pub use servers::Store;
pub use wait::{PATIENCE, eventually};

/// The same scenario on each of these stores, as tests that are named after them:
/// `on_stores!(a_switchover_loses_no_row: etcd, consul)`. A scenario takes the [`Store`].
#[macro_export]
macro_rules! on_stores {
    ($scenario:ident: $($store:ident),+) => {
        mod $scenario {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $store() {
                    super::$scenario($crate::Store::named(stringify!($store))).await;
                }
            )+
        }
    };
}

/// Whether the expensive variations run too.
pub fn is_matrix() -> bool {
    std::env::var_os("BELLWETHER_MATRIX").is_some()
}
