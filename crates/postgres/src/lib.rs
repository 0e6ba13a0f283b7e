//! PostgreSQL control: files, processes, queries, clones, rewinds.
//!
//! Everything that touches the local PostgreSQL, 13 to 18, and nothing that decides *whether*: each choice arrives as an
//! argument. It knows neither the store nor the other members, and it never takes a server for dead because it was slow.
//!
//! Start with [`server::Server`] (files and processes), [`monitor::Monitor`] (the one connection) and
//! [`settings::PgSettings`] (what the configuration says).
//!
//! | topic | where |
//! |---|---|
//! | the postmaster: who it is, when it ends, how to end it | [`postmaster`], [`stop`], `process`, [`pidfile`] |
//! | configuration: what it is to say, what PostgreSQL accepts, writing it | [`config`], [`parameters`], `config_check`, [`config_files`], [`pending`] |
//! | synchronous replication: do commits wait, and for whom | [`checkpointer`], [`walsenders`], `rereading` |
//! | a standby and its upstream: leaving it for good, the end of its WAL receiver | [`detach`], [`receiver`] |
//! | logical replication slots | [`slots`] |
//! | facts: control file, data directory, one look at the running server | [`control`], [`datadir`], [`observation`], [`replication`] |
//! | long work, cancelled by a token | [`bootstrap`], [`clone`], [`rewind`] |
//! | other people's programs | [`program`], [`callbacks`] |
//!
//! Three rules hold everywhere: no password on a command line or in a log, no signal to a process that was not identified
//! through a pidfd, and no write into a data directory of unknown version.

pub mod bootstrap;
pub mod callbacks;
pub mod checkpointer;
pub mod citus;
pub mod clone;
pub mod commit_probe;
mod complaints;
pub mod config;
mod config_check;
pub mod config_files;
mod connect;
mod conninfo;
pub mod control;
pub mod custom_bootstrap;
pub mod datadir;
pub mod detach;
mod file_values;
pub mod leftover;
pub mod monitor;
pub mod observation;
pub mod parameters;
pub mod pending;
pub mod pidfile;
pub mod postmaster;
mod process;
pub mod program;
pub mod receiver;
pub mod replication;
mod rereading;
pub mod rewind;
pub mod server;
pub mod settings;
pub mod slots;
pub mod stop;
pub mod stop_watch;
mod timelines;
pub mod tls;
pub mod walsenders;
mod wire;

pub use connect::{ConnectError, Visit};
