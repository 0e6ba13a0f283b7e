//! Sharing of servers between clients, as plain state machines: bytes in, bytes and facts out.
//!
//! [`client`] is what is known of a client between and within transactions, [`server`] of a server; [`up`] and [`down`] carry
//! messages between the two and keep both in step. [`effects`] tells what a statement leaves behind in its session,
//! [`settings`] keeps what a client has set, and [`statements`] its prepared statements.
//!
//! Deliberately not here: sockets, clocks, pools.

pub(crate) mod client;
pub(crate) mod down;
pub(crate) mod effects;
pub(crate) mod gather;
pub(crate) mod server;
pub(crate) mod settings;
pub(crate) mod statements;
pub(crate) mod up;

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
