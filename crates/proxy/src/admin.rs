//! The administration console: PgBouncer's commands, and its tables by PgBouncer's names of columns, so that its exporters and
//! habits go on working.
//!
//! [`Command::parse`] reads what an administrator types, [`table`] shows a [`Snapshot`] as the rows of a `SHOW`.
//!
//! Deliberately not here: doing what is asked, and who may ask.

mod command;
mod snapshot;
mod tables;

pub use command::{Command, CommandError, Show, Shutdown};
pub use snapshot::{Client, Database, Pool, Server, Snapshot, Totals, User};
pub use tables::{Table, table};
