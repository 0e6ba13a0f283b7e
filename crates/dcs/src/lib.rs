//! The store (DCS): a small trait, Patroni's key layout and JSON, an in-memory store, and the suite every adapter must pass.
//!
//! - [`store`] has the [`Store`] trait and its three-ended writes. Start there.
//! - [`codec`] turns a [`Snapshot`] into a [`bellwether_types::cluster::Cluster`] and values into text.
//! - [`mirror`] keeps the decoded cluster up to date; [`ops`] has the usual writes with their preconditions.
//! - [`polling`] makes a watch for stores that can only say that something has changed.
//! - [`memory`] is a whole store in memory, with faults for tests; [`conformance`] is the suite.
//! - Adapters (`dcs-raft`, ...) know this crate; the agent and the command line see only `dyn Store`.
//!
//! No policy here: who may write what, and when, is decided in `ha`.

pub mod alarm;
pub mod codec;
pub mod conformance;
pub mod memory;
pub mod mirror;
pub mod ops;
pub mod polling;
pub mod store;

pub use memory::MemoryStore;
pub use mirror::{Mirror, MirrorState};
pub use store::{
    Capabilities, Check, CommitOutcome, Condition, Deadline, Entry, Key, Renewal, Snapshot, Store,
    StoreError, Watch, WatchEvent, Write,
};
