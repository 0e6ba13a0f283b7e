//! Who a client is, and how the proxy logs in to a server.
//!
//! Towards clients: [`hba`] says which method a connection must pass, [`secret`] is what is known of a user's password (from
//! [`userlist`] or by [`auth_query`]), and [`verify`] leads the exchange. Towards servers: [`login`] answers what a server asks, with
//! what the client's own exchange has left behind. With SCRAM that is the ClientKey, so that the proxy logs in as a user whose
//! password it never knew; see [`scram`].
//!
//! Deliberately not here: sockets, clocks, files and the source of randomness. Also `SCRAM-SHA-256-PLUS`: who ends TLS cannot pass
//! the channel binding on, and a client that asked for it would rightly refuse.

pub mod auth_query;
pub mod certificate;
pub mod hba;
pub mod login;
pub mod md5;
pub mod scram;
pub mod secret;
pub mod userlist;
pub mod verify;

/// Fresh random bytes, from which an exchange makes its nonce or its salt. Never used twice.
#[derive(Clone, Copy)]
pub struct Random(pub [u8; 18]);

// What is random is as good as secret until it was sent.
impl std::fmt::Debug for Random {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Random(..)")
    }
}
