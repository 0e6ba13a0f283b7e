//! The adapter against a real Consul server.

mod catalogue;
mod certificates;
mod conformance;
mod server;
mod sessions;
