//! The store in an etcd cluster, over its v3 API: the same keys, values and leases that Patroni's `etcd3` uses.
//!
//! - [`EtcdStore`] is the [`bellwether_dcs::Store`]; [`EtcdConfig`] says where etcd is and how to log in.
//! - `cluster` sends a request to one endpoint after the other and knows what may be repeated; `endpoints` is the list,
//!   `connection` one HTTP/2 connection, `discovery` finds more of them.
//! - `guard` refuses answers of members that lag behind or belong to somebody else's cluster.
//! - `transaction`, `lease`, `renewals` and `watching` translate; `proto` is the part of etcd's protocol that they use.
//!
//! The protocol's messages are declared by hand: about thirty small structs, instead of a protobuf compiler that every
//! build would need.

mod auth;
mod cluster;
mod config;
mod connection;
mod discovery;
mod endpoints;
mod failure;
mod guard;
mod lease;
mod proto;
mod renewals;
mod store;
mod tls;
mod transaction;
mod watching;

pub use config::{Credentials, Endpoint, EtcdConfig, InvalidEndpoint, Srv, TlsFiles};
pub use store::{EtcdStore, StartError};
pub use tls::TlsError;
