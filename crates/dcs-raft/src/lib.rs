//! The embedded store: Raft consensus among the members themselves, over mutual TLS.
//!
//! Gives every member a linearizable store of a few kilobytes without a server to install: [`RaftStore`] is a member's
//! own node (log, vote, state) and client in one, [`RaftClient`] a client without a vote. Both are
//! [`Store`](bellwether_dcs::Store)s.
//!
//! Where to start:
//! - [`Config`] says what a node needs; [`RaftStore::start`] runs it on a runtime of its own.
//! - `state` is what the log means: a pure function from commands to keys, revisions and leases.
//! - `leases` is the one thing that is *not* in the log: when a lease was last renewed, in the store leader's memory.
//! - `storage` keeps log, vote, snapshot and identity on disk; `net` carries frames between nodes; `bootstrap` decides
//!   whether an empty directory founds a store or joins one; `offline` works on a directory whose node is stopped.
//!
//! Deliberately absent: Patroni's key layout (see `bellwether_dcs`), values of more than a megabyte, several clusters
//! in one store, reads that may be stale, and any decision about who leads PostgreSQL.

mod bootstrap;
mod client;
mod clock;
mod command;
mod config;
mod consensus;
mod leadership;
mod leases;
mod membership;
mod net;
mod node;
mod offline;
mod router;
mod runtime;
mod serve;
mod state;
mod status;
mod storage;
mod store;
mod watching;

pub use client::{ClientConfig, RaftClient};
pub use config::{Config, ConfigError, Secret, Timing, TlsFiles};
pub use membership::MembershipError;
pub use net::credentials::CredentialsError;
pub use offline::{
    Backup, ForceQuorum, OfflineError, RecoveryRecord, inspect_backup, recover_force_quorum, restore_from,
};
pub use status::{MemberInfo, MemberRole, StoreStatus};
pub use storage::StorageError;
pub use store::{RaftStore, StartError};
