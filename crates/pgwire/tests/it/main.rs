//! Against a real PostgreSQL and its own client.

mod authentication;
mod hostile;
#[path = "../../../postgres/tests/it/server_under_test.rs"]
#[expect(dead_code, reason = "it can more than these tests need")]
mod server_under_test;
