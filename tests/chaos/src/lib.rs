//! Whole hosts on one machine: each has a network namespace with an address of its own, its own files, and its own
//! processes, and all are joined by a switch of ours that can lose, delay and refuse what they send.
//!
//! Two programs use them. [`faults`] does harm to a cluster while clients read and write, and [`history`] proves afterwards that
//! nothing acknowledged was lost and that no two servers acknowledged at a time. [`bench`] measures how long writes were away, of
//! Bellwether and of Patroni with etcd, on the same hosts in the same run.
//!
//! Everything lives in namespaces that die with the process ([`isolation`]): nothing is left on the machine, whatever happens.
//! The kernel needs `/dev/net/tun` and nothing else: no traffic control, no packet filter.
//!
//! Start with [`laboratory`].

pub mod alarms;
pub mod bench;
pub mod clients;
pub mod cluster;
pub mod faults;
pub mod history;
pub mod host;
pub mod interposed;
pub mod isolation;
pub mod laboratory;
pub mod network;
pub mod soak;
pub mod stack;
pub mod store;
pub mod vip;
