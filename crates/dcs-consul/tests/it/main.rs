//! The adapter against a real Consul server.

mod catalogue;
mod conformance;
mod link;
mod server;
mod sessions;
