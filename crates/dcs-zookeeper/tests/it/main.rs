//! The adapter against real ZooKeeper servers.

mod conformance;
mod link;
mod server;
mod sessions;
