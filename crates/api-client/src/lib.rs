//! HTTP client of the REST API: for members that ask each other, for operators' commands, for tests.
//!
//! Speaks to Bellwether and to Patroni members alike, so reading is tolerant. Deliberately without retries and without
//! judgement: a call ends in an answer or in a [`ClientError`] that says *how* it failed, because a refused connection
//! and a silent one are different evidence about a peer.
//!
//! Start with [`ApiClient`]. The process must have installed a default TLS provider of rustls before the first client is
//! made (`rustls::crypto::ring::default_provider().install_default()`).

mod client;
mod config;
mod error;
mod peer;

pub use client::{Answer, ApiClient, FailsafeReply, endpoint};
pub use config::{BasicAuth, CertificateFiles, ClientConfig, Verify};
pub use error::{ClientError, ConfigError};
pub use peer::{Observed, PeerStatus, PeerWal};
pub use reqwest::Method;
