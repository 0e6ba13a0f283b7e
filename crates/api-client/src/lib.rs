//! Wire types of the REST API and a typed HTTP client, for operators, peers and tests.
//!
//! Connections are kept warm; every call has a limit of its own; nothing is retried. "Nobody listens there" is told apart from
//! silence ([`ClientError::Refused`]), because the decision core takes only the first for evidence.
//!
//! Start with [`ApiClient`].

mod client;
mod error;
mod peer;

pub use client::{ApiClient, ClientConfig, Reply, sibling};
pub use error::{ClientError, ClientSetupError};
pub use peer::PeerStatus;
