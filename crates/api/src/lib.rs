//! REST server: status, health checks, metrics, operations. What load balancers, operators and peers talk to.
//!
//! Every GET answers from the status that the agent published last ([`Control::status`]), without SQL and without the store,
//! so it answers within milliseconds while PostgreSQL or the store hang. "I am the primary" hangs on the leader lease alone,
//! and everything fails closed once the status is older than `ttl`. Paths, texts and the order of JSON fields are Patroni's.
//!
//! What is deliberately not here: any decision or effect. An unsafe call is checked for access and form, for what the status
//! already rules out, and handed to the agent through [`Control`], which checks again where it acts, and journals each
//! call with identity, origin and result.
//!
//! Differences from Patroni, all deliberate: HTTP/1.1 with keep-alive; 503 where Patroni closes the connection because the
//! store cannot be read; `/mpp` needs authentication; a broken body of `/reinitialize` starts nothing; a body without a
//! length is refused (411) even where a body is optional; 413 above 1 MiB and 408 for a body that does not arrive; health
//! checks fail once the agent has published nothing for `ttl`; `GET /journal?limit=` and `bellwether_*` metrics are ours.
//!
//! Start with [`control`] (what is asked of the agent), then `dispatch` (who answers what), `facts` and `health` (when a
//! check is 200). [`Api::bind`] opens the port, [`BoundApi::serve`] answers, [`ApiHandle`] changes the settings meanwhile.

mod access;
mod allowlist;
mod cluster_document;
mod config;
pub mod control;
mod dispatch;
mod facts;
mod health;
mod json;
mod listen;
mod metrics;
mod node_document;
mod operations;
mod quantity;
pub mod reference;
mod reply;
mod request;
mod restart;
mod schedule;
mod server;
#[cfg(test)]
#[path = "../tests/it/situations.rs"]
#[allow(dead_code, reason = "shared with the integration tests, which use other parts")]
mod situations;
pub mod switchover;
mod tls;

pub use config::{ApiConfig, BasicAuth, InvalidHeader, ServerTokens, TlsFiles, VerifyClient};
pub use control::{CallRecord, Caller, Control};
pub use listen::{BindError, ListenOn};
pub use server::{Api, ApiHandle, BoundApi};
pub use tls::TlsError;
