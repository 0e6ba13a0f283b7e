//! What a statement does: may a replica answer it, and what does it leave behind in its session?
//!
//! For the proxy. [`Reader::facts`] reads a text once and keeps what it found by the text. [`facts::Facts::class`] then says with the
//! [`catalogue::Catalogue`] of the database whether it is a read, and a [`Judge`] remembers that for all texts that differ in values alone.
//! PostgreSQL's own grammar decides ([`grammar`]); a scanner of our
//! own ([`fast`]) answers for the plain statements that most clients send, and is held against the grammar by tests. When in doubt
//! it is no read. For transaction pooling, [`effect::effects`] and [`pins::Pins`] say what ties a session to its connection;
//! they need the scanner alone.
//!
//! Deliberately not here: sessions, replicas, sockets. Texts go in, facts come out. A client cannot harm the process with a text:
//! the grammar limits the depth of what it reads, and longer texts than [`LONGEST`] never reach it.

pub mod catalogue;
pub mod effect;
pub mod facts;
pub mod fast;
pub mod grammar;
pub mod hint;
mod judge;
mod keyword;
mod memory;
mod pattern;
pub mod pins;
mod reader;
pub mod token;

pub use judge::{Judge, Verdict};
pub use reader::{LONGEST, Reader};
