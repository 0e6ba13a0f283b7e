//! The adapter against real etcd servers on loopback.

mod conformance;
mod failover;
mod login;
mod servers;
mod srv;
mod wait;
