//! PostgreSQL's wire protocol (3.0 and 3.2) as bytes.
//!
//! For the proxy: [`frame`] finds the boundaries of messages in what was read, [`startup`] reads what a client says first,
//! [`message`] writes the messages that the proxy says itself, [`extended`] reads and renames prepared statements, and `auth`
//! verifies clients and logs in to servers.
//!
//! Deliberately not here: sockets, TLS, clocks. Bytes go in, bytes and facts come out.

pub mod auth;
pub mod extended;
pub mod frame;
pub mod message;
pub mod startup;
