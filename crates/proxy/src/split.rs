//! Reads to replicas, everything else to the primary, on one address.
//!
//! Plain state and decisions: [`Session::decide`] says for each statement of a client where it goes, [`choose`] which replica
//! that is, [`Bans`] which of them are left alone for a while, and [`after_failure`] what an error of a replica means. What a
//! statement is comes from `bellwether_sql`. In doubt it is the primary.
//!
//! Deliberately not here: connections, and asking servers for positions; the caller tells what it has heard.

mod bans;
mod choice;
mod failure;
mod session;
mod settings;

pub use bans::Bans;
pub use choice::{Candidate, Choice, NoReplica, Rejection, choose};
pub use failure::{Failure, Remedy, after_failure};
pub use session::{AtLeast, Decision, Place, Session, Statement, Why};
pub use settings::{Consistency, Fallback, Mode, SplitSettings};

use bellwether_types::{Lsn, TimelineId};

/// A place in the WAL that must have been replayed, or has been.
///
/// A client's write at `lsn` of timeline 4 is in a server on timeline 4 or a later one that has replayed `lsn`: either the write
/// came before the later timeline began, and then it is part of it, or it was lost and is nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub timeline: TimelineId,
    pub lsn: Lsn,
}

impl Position {
    /// Whether who has replayed up to here shows a write that ended at `write`.
    pub fn shows(self, write: Position) -> bool {
        self.timeline >= write.timeline && self.lsn >= write.lsn
    }

    /// Whoever shows this shows both.
    pub fn and(self, other: Position) -> Position {
        Position { timeline: self.timeline.max(other.timeline), lsn: self.lsn.max(other.lsn) }
    }
}

#[cfg(test)]
mod tests;
