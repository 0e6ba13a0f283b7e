//! The adapter against a real Consul server.

mod catalogue;
mod conformance;
mod server;
mod sessions;
