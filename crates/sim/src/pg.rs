//! Model PostgreSQL: one data directory and at most one server per host.
//!
//! Modelled because decisions depend on it: control file, timelines and forks, flushed and unflushed WAL, crash recovery, streaming
//! with slots, `synchronous_standby_names` as each walsender sees it, stop modes, promotion, rewind, base backups, hangs, and
//! backends that outlive their postmaster. Not modelled: SQL, archives, cascades, tablespaces.
//!
//! Start with [`Postgres`]; [`process`] starts, stops and promotes, [`replication`] moves WAL, [`commit`] lets clients write.

pub mod backup;
pub mod commit;
pub mod copy;
pub mod process;
pub mod reload;
pub mod replication;
pub mod slots;
pub mod sync_rule;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, rc::Rc};

use bellwether_ha::view::{ControlState, Upstream};
use bellwether_types::{Lsn, SystemId, TimelineId};

use crate::{schedule::Nanos, wal::Pos};
use slots::SlotState;
use sync_rule::SyncRule;

/// PostgreSQL of one host.
#[derive(Debug, Default)]
pub struct Postgres {
    pub data: Data,
    pub run: Run,
    /// Grows with every postmaster, so that what was meant for a former one is dropped.
    pub generation: u32,
    /// Every process of it is stopped (SIGSTOP), or hangs in the kernel.
    pub frozen: bool,
    /// Backends that outlived their postmaster; they can still finish what they were doing.
    pub orphans: Option<Orphans>,
}

#[derive(Clone, Copy, Debug)]
pub struct Orphans {
    pub until: Nanos,
    /// They wait for standbys before they tell a client anything.
    pub synchronous: bool,
}

/// What is on disk.
#[derive(Debug, Default)]
pub struct Data {
    pub files: Files,
    pub system_id: Option<SystemId>,
    /// All WAL that survives a loss of power.
    pub flushed: Pos,
    pub control: ControlFile,
    pub standby_signal: bool,
    pub backup_label: bool,
    /// A rewind began and did not end: the server cannot start.
    pub torn: bool,
    /// The agent's mark: a bootstrap began and did not end.
    pub in_the_making: bool,
    /// What that mark calls the bootstrap.
    pub founding: Option<String>,
    /// The roles of the cluster exist.
    pub has_roles: bool,
    pub upstream: Option<Upstream>,
    /// `synchronous_standby_names` in the files.
    pub sync_names: String,
    pub slots: BTreeMap<String, SlotState>,
    /// `hot_standby_feedback` is on, whatever the user wants.
    pub feedback: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Files {
    #[default]
    Empty,
    /// A copy in the making, or one that was given up.
    Partial,
    Present,
}

#[derive(Clone, Debug)]
pub struct ControlFile {
    pub state: ControlState,
    /// Of the latest checkpoint: lags behind the real one after a promotion until the first checkpoint.
    pub timeline: TimelineId,
    pub checkpoint: Lsn,
    /// Where the shutdown checkpoint record ends.
    pub shutdown_end: Option<Lsn>,
    /// Standbys: recovery must get this far before the data are consistent.
    pub minimum_recovery: Option<Pos>,
}

impl Default for ControlFile {
    fn default() -> Self {
        Self {
            state: ControlState::Unknown,
            timeline: TimelineId(1),
            checkpoint: Lsn::ZERO,
            shutdown_end: None,
            minimum_recovery: None,
        }
    }
}

#[derive(Debug, Default)]
pub enum Run {
    #[default]
    Down,
    /// Forked, does not accept connections yet.
    Starting {
        since: Nanos,
        stopping: bool,
    },
    Up(Box<Server>),
}

/// A server that accepts connections.
#[derive(Debug)]
pub struct Server {
    pub since: Nanos,
    pub in_recovery: bool,
    pub promoting: bool,
    /// The latest timeline that files in `pg_wal` tell of beyond its own history.
    pub newest_known: Option<TimelineId>,
    pub stop: Option<Stop>,
    /// Clients are connected or may connect.
    pub serves: bool,
    /// Primary: end of WAL in memory. Standby: end of WAL received.
    pub inserted: Pos,
    pub flush_pending: bool,
    /// Commits of clients that have no answer yet, in WAL order.
    pub waiting: Vec<Commit>,
    /// Walsenders, as indices into the connections of the world.
    pub senders: Vec<u32>,
    pub receiver: Option<u32>,
    pub receiver_retry: bool,
    /// `synchronous_standby_names` as a new session sees it.
    pub rule: Rc<SyncRule>,
    /// What the checkpointer told everybody: do commits wait at all?
    pub sync_defined: bool,
    /// Signals to read the files that the checkpointer has not answered.
    pub reloads: u32,
    /// What it has read and not told anybody yet, and how many signals that answers.
    pub reading: Option<(Rc<SyncRule>, u32)>,
    /// After a change of parameters (PostgreSQL 14 and later).
    pub replay_paused: bool,
    /// The same for the upstream of the WAL receiver.
    pub upstream: Option<Upstream>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    pub fast: bool,
    pub since: Nanos,
    /// The shutdown checkpoint is on disk.
    pub checkpointed: bool,
}

/// A commit of a client.
#[derive(Clone, Copy, Debug)]
pub struct Commit {
    pub pos: Pos,
    pub lsn: Lsn,
}

impl Postgres {
    pub fn server(&self) -> Option<&Server> {
        match &self.run {
            Run::Up(server) => Some(server),
            _ => None,
        }
    }

    pub fn server_mut(&mut self) -> Option<&mut Server> {
        match &mut self.run {
            Run::Up(server) => Some(server),
            _ => None,
        }
    }

    pub fn is_down(&self) -> bool {
        matches!(self.run, Run::Down)
    }

    /// Runs and is no standby.
    pub fn is_primary(&self) -> bool {
        self.server().is_some_and(|server| !server.in_recovery)
    }
}
