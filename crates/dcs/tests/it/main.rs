//! The store in memory against the conformance suite, and what is built on top of any store.

mod broken;
mod codec;
mod conformance;
mod manual_time;
mod mirror;
mod ops;
