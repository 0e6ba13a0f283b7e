//! The store adapter for ZooKeeper 3.6 or later.
//!
//! - [`Config`] says where the ensemble is and how to talk to it; [`ZooKeeperStore`] is a [`Store`](bellwether_dcs::Store).
//! - `tree` reads all znodes of the cluster at one moment; `plan` turns a transaction into a `multi` (pure, start there);
//!   `commit` sends it.
//! - `lease` is a session: leased keys are its ephemeral znodes. `guarantee` says how long the ensemble keeps it (pure).
//! - `watch` waits for znode events and reads again.
//!
//! What ZooKeeper cannot promise: a watch tells the latest content, not every step (`every_change` is false); a lease belongs to
//! the client that it was granted to; the keys that one transaction leases must hang on one lease; a key that moves to
//! another lease is a new key (its `created` changes).
//!
//! Deliberately absent: SASL, Exhibitor, and servers before 3.6, which cannot read several znodes at one moment.

mod commit;
mod config;
mod error;
mod guarantee;
mod lease;
mod leases;
mod plan;
mod servers;
mod store;
mod tls;
mod tree;
mod watch;

pub use config::{AclRule, Config, ConfigError, TlsFiles};
pub use store::ZooKeeperStore;
