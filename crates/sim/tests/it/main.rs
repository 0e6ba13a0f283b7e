//! The simulator's own tests: that it is deterministic, that it bites, that the core survives it, and that the model PostgreSQL
//! behaves like PostgreSQL where decisions depend on it.

mod bugs;
mod calm;
mod changes;
mod clean;
mod coverage;
mod determinism;
mod failsafe;
mod mended;
mod sites;
mod stores;
mod takeover;
mod troubles;
mod votes;
mod wiped;
