//! What is known where: in the store, at each member, on the old primary, and on the way.

use crate::overlap::{Electorate, Names};

/// The member that leads at the beginning.
pub const OLD: u8 = 0;

/// The most members that there may be. States have room for all of them, so that they can be copied as they are.
pub const MOST: usize = 5;

/// Where WAL ends. Timeline 2 is what a take-over begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pos {
    pub timeline: u8,
    pub lsn: u8,
}

/// What the store holds. Revisions are told apart key by key: only whether they are equal matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Store {
    pub leader: Option<u8>,
    pub leader_revision: u8,
    pub sync: Electorate,
    pub sync_revision: u8,
    pub epoch: Epoch,
    pub epoch_revision: u8,
    /// Who took over.
    pub taken: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Epoch {
    None,
    Open { leader_revision: u8, sync_revision: u8 },
    Closed,
    Taken,
}

impl Store {
    /// The epoch whose transaction may still be applied.
    pub fn live_epoch(&self) -> Option<u8> {
        match self.epoch {
            Epoch::Open { leader_revision, sync_revision }
                if self.leader.is_some()
                    && leader_revision == self.leader_revision
                    && sync_revision == self.sync_revision =>
            {
                Some(self.epoch_revision)
            }
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Promise {
    pub epoch: u8,
    pub position: Pos,
}

/// A transaction of take-over that was sent and may arrive at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Taking {
    pub epoch: u8,
    pub leader_revision: u8,
    pub sync_revision: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    pub is_primary: bool,
    /// All WAL on disk.
    pub wal: Pos,
    /// In the files: PostgreSQL connects there by itself.
    pub upstream: Option<u8>,
    pub receiver: Option<u8>,
    pub promise: Option<Promise>,
    /// The store as this agent saw it last; `None` after its start.
    pub view: Option<Store>,
    /// It was given the lock and has not read the store since: it knows that its view is older.
    pub is_view_older: bool,
    /// What others promised for the epoch of the own promise, as told: positions by member.
    pub collected: [Option<Pos>; MOST],
    pub taking: Option<Taking>,
}

/// A walsender of the old primary. It outlives its standby's end of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sender {
    /// The list that it acts by.
    pub text: Names,
    /// What its standby has reported, when that arrives.
    pub reported: u8,
    /// What has arrived.
    pub known: u8,
}

/// The old primary: its PostgreSQL, and what its agent tries to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Primary {
    pub shown: Names,
    pub senders: [Option<Sender>; MOST],
    /// Acknowledged to clients up to here.
    pub acknowledged: u8,
    /// The last write of `/sync`, and the revision that it was made on. Its agent remembers it until it sees a later one: it may have landed.
    pub pending: Option<(u8, Electorate)>,
    /// It is still on its way.
    pub in_flight: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub store: Store,
    pub members: [Member; MOST],
    pub old: Primary,
    /// Where timeline 2 begins.
    pub branch: Option<u8>,
    /// Acknowledged by the successor, on timeline 2.
    pub acknowledged_later: u8,
    pub crashes: u8,
    /// A second leader was chosen after the successor: nothing more is looked at.
    pub finished: bool,
}

impl State {
    /// What makes a search worth it.
    pub fn is_take_over_from_the_living(&self) -> bool {
        self.store.taken.is_some() && self.members[usize::from(OLD)].is_primary
    }

    /// Everything that was ever acknowledged is in WAL that ends at `at`.
    pub fn has_everything(&self, at: Pos) -> bool {
        let common = match (at.timeline, self.branch) {
            (2, Some(branch)) => branch,
            _ => at.lsn,
        };
        let later = match at.timeline {
            2 => at.lsn >= self.acknowledged_later,
            _ => self.acknowledged_later == 0,
        };
        common >= self.old.acknowledged && later
    }
}
