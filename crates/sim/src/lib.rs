//! Deterministic simulation of whole clusters around the real decision core.
//!
//! A seed stands for a cluster (how many members, which mode, which timings) and for everything that goes wrong in it. A
//! [`World`](world::World) plays it in virtual time: [`bellwether_ha::decide`] is the real one; PostgreSQL, store, network, clocks and
//! the agent's hands are models. After each step that matters the [`invariant`]s are checked. The same seed gives the same run, byte
//! for byte, so that every violation can be repeated and looked at with `--trace`.
//!
//! Deliberately absent: threads, real time, I/O, SQL, and JSON (the codec has tests of its own).
//!
//! Start with [`scenario`] (what a seed stands for), [`faults`] (what goes wrong), [`agent`] (how the core is driven), [`pg`] (what it
//! drives), and [`invariant`] (what must hold).

pub mod agent;
pub mod bug;
pub mod calm;
pub mod configuration;
pub mod coverage;
pub mod event;
pub mod faults;
pub mod founding;
pub mod host;
pub mod invariant;
pub mod membership;
pub mod names;
pub mod network;
pub mod operations;
pub mod patroni;
pub mod pg;
pub mod probe;
pub mod random;
pub mod remote;
pub mod scenario;
pub mod schedule;
pub mod shrink;
pub mod sites;
pub mod store;
pub mod trace;
pub mod trouble;
pub mod wal;
pub mod world;

pub use bug::Bug;
pub use coverage::Coverage;
pub use shrink::shrink;
pub use trace::Verbosity;
pub use world::{Outcome, Stats, run, run_calm};
