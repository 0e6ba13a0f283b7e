//! Tests of synchronous replication that need more than one of its files.

mod model;
mod rules;
mod vectors;
