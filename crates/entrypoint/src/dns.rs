//! A name that leads to the leader, kept by dynamic updates.
//!
//! [`plan`] says what the records should be, whether this member may write them, and when to try again. [`update`] is one atomic change
//! as plain data; it goes out as a message of our own ([`message`], [`wire`], signed with a [`key`]), or by `nsupdate -g` where Kerberos
//! is asked for ([`gss`]). [`manager`] is the task.

pub mod gss;
pub mod key;
pub mod manager;
pub mod message;
pub mod plan;
pub mod servers;
pub mod update;
pub mod wire;
