//! The adapter against real ZooKeeper servers.

mod conformance;
mod server;
mod sessions;
mod tls;
