//! The embedded store on real sockets of loopback and real files.

mod backup;
mod bootstrap;
mod certificates;
mod cluster;
mod compaction;
mod conformance;
mod damage;
mod failover;
mod isolation;
mod leases;
mod members;
mod peers;
