//! REST server: status, health checks, metrics, operations.

pub mod control;

pub use control::{CallRecord, Caller, Control};
