//! PostgreSQL control: files, processes, queries, clones, rewinds.
//!
//! Everything that touches the local PostgreSQL, 13 to 18, and nothing that decides *whether*: each choice arrives as an
//! argument. It knows neither the store nor the other members, and it never takes a server for dead because it was slow.
//!
//! Start with [`server::Server`] (files and processes), [`monitor::Monitor`] (the one connection) and
//! [`settings::PgSettings`] (what the configuration says). Long work is in [`bootstrap`], [`clone`] and [`rewind`].

pub mod bootstrap;
pub mod callbacks;
pub mod clone;
pub mod config;
mod config_check;
pub mod config_files;
mod connect;
mod conninfo;
pub mod control;
pub mod datadir;
mod file_values;
pub mod monitor;
pub mod observation;
pub mod parameters;
mod pending;
pub mod pidfile;
pub mod postmaster;
mod process;
pub mod program;
pub mod replication;
pub mod rewind;
pub mod server;
pub mod settings;
pub mod stop;
pub mod tls;
mod wire;

pub use connect::ConnectError;
