//! A real server on 127.0.0.1 with a hand-made status behind it.

mod calls;
mod client;
mod documents;
mod harness;
#[allow(dead_code, reason = "shared with the unit tests, which use other parts")]
mod situations;
mod tls;
mod waiting;
