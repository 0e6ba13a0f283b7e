//! One module per section of the file: its struct, its defaults and how it is read.

pub mod bootstrap;
pub mod citus;
pub mod consul;
pub mod dns;
pub mod etcd;
pub mod log;
pub mod pooler;
pub mod postgresql;
pub mod raft;
pub mod restapi;
pub mod router;
mod servers;
pub mod store;
pub mod vip;
pub mod watchdog;
pub mod zookeeper;
