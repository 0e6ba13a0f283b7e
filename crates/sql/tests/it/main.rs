//! The scanner against PostgreSQL's grammar, and our reads against a real hot standby.
//!
//! `BELLWETHER_TEST_SQL_CORPUS` names a directory of SQL files, PostgreSQL's own regression tests for example, that are read in
//! addition to what stands here (`make sql-corpus`).

mod corpus;
mod oracle;
#[path = "../../../postgres/tests/it/server_under_test.rs"]
#[expect(dead_code, reason = "it can more than these tests need")]
mod server_under_test;
mod standby;
