//! The proxy in front of real servers, fed with pictures of a cluster by hand.

mod cancel;
mod doors;
mod front;
mod limits;
mod pooled;
mod roles;
#[path = "../../../postgres/tests/it/server_under_test.rs"]
#[expect(dead_code, reason = "it can more than these tests need")]
mod server_under_test;
mod timeouts;
