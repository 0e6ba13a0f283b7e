//! Sends every client to the right member of the cluster.
//!
//! Listeners have roles (`primary`, `replicas`, `sync`, `async`) and modes: `tcp` passes bytes through, `session`,
//! `transaction` and `statement` share server connections between clients. Where the members are and who may be written to
//! comes from the agent's `Topology`, by push; nothing is routed on a picture that may no longer be believed.
//!
//! [`Proxy`] runs beside the agent, on its runtime, and tells the workers (`worker`) what has changed: threads of their own
//! with a loop over the kernel's events. A connection stays with one worker, and all that is known of it is in one place
//! there; no lock is taken and no other thread is woken while data moves.
//!
//! Deliberately not here: the store, the health of PostgreSQL, and every decision about who leads.

pub mod admin;
mod cancel;
mod clock;
mod control;
mod logins;
pub mod metrics;
mod pooling;
mod proxied;
mod quota;
mod refusal;
pub mod report;
pub mod routes;
pub mod settings;
pub mod split;
mod worker;

pub use control::{
    Proxy, ProxyHandle,
    ask::{Answer, Secrets},
    confirm::Peers,
    reload::ReloadWish,
};
