//! The store adapter for Consul 1.8 or later, through the HTTP interface of an agent.
//!
//! - [`Config`] says where the agent is; [`ConsulStore`] is a [`Store`](bellwether_dcs::Store); [`service`] registers the member as a
//!   service, beside and independent of the store.
//! - `plan` turns a transaction of the trait into operations of `/v1/txn` (pure, start there); `commit` sends it.
//! - `lease` are sessions; `read` reads all keys at one index; `watch` asks blocking queries; `http` is the way there.
//!
//! A session gets half of a lease's ttl, because Consul ends it up to twice its ttl after the last renewal; the lease is guaranteed
//! for that half and no longer. A renewal that comes when that end may have begun is not believed. What Consul cannot promise: a watch tells the latest content, not every step (`every_change` is
//! false), and with `checks` a session ends when a health check says so, whatever was guaranteed.
//!
//! The process must have installed a default TLS provider of rustls before the first store is made.

mod commit;
mod config;
mod http;
mod lease;
mod plan;
mod read;
pub mod service;
mod store;
mod watch;

pub use config::{Config, ConfigError, Tls};
pub use store::ConsulStore;
