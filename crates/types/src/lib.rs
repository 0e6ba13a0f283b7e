//! The words of the domain: names, WAL positions, timelines, times, and the state of a cluster as the store holds it.
//!
//! Plain data without I/O, clocks or async code. Every other crate knows this one; it knows nobody.
//!
//! Start with [`cluster::Cluster`] (what the store holds), [`settings::Settings`] (how the cluster is to behave) and
//! [`topology::Topology`] (what entry points may believe). Values are parsed once, at the edge: a value that exists is valid.

mod address;
mod alarm;
mod chain;
pub mod citus;
pub mod cluster;
mod duty;
pub mod failsafe;
mod failure;
mod id;
mod lsn;
pub mod measured;
mod name;
mod network;
pub mod program;
mod role;
pub mod secret;
pub mod settings;
pub mod slots;
pub mod status;
mod tags;
pub mod takeover;
mod time;
mod timeline;
pub mod topology;

pub use address::{HostPort, InvalidAddress, Listen};
pub use alarm::Alarm;
pub use chain::chain;
pub use duty::Duty;
pub use failure::Failure;
pub use id::{InvalidSystemId, LeaseId, Revision, SystemId, Term};
pub use lsn::{InvalidLsn, Lsn};
pub use name::{ClusterName, InvalidName, MemberName, PLACEHOLDER};
pub use network::{InvalidNetwork, Network};
pub use role::{PostgresState, ReplicationState, Role, ServerRole};
pub use tags::Tags;
pub use time::{Timestamp, WallTime};
pub use timeline::{InvalidHistory, Placement, TimelineHistory, TimelineId, TimelineSwitch, WalPosition};
