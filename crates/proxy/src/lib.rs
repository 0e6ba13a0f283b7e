//! Sends every client to the right member of the cluster.
//!
//! Listeners have roles (`primary`, `replicas`, `sync`, `async`) and modes: `tcp` passes bytes through, `session`,
//! `transaction` and `statement` share server connections between clients. Where the members are and who may be written to
//! comes from the agent's `Topology`, by push; nothing is routed on a picture that may no longer be believed.
//!
//! Deliberately not here: the store, the health of PostgreSQL, and every decision about who leads.

pub mod routes;
