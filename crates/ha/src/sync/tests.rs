//! Tests of synchronous replication that need more than one of its files.

mod counting;
mod model;
mod rules;
mod scenes;
mod vectors;
