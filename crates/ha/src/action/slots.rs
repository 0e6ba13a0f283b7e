//! How and why replication slots are changed.

use std::time::Duration;

use bellwether_types::Lsn;
use serde::{Deserialize, Serialize};

/// Why a slot is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DropWhy {
    /// Nobody is known to need it.
    Unknown,
    /// Its member has been away for `member_slots_ttl`.
    Expired { ttl: Duration },
    /// The WAL that it needs is gone.
    Lost,
    /// One of the same name and another kind, database or plugin is wanted.
    Changed,
    /// Nobody moves the `xmin` by which it holds back vacuum.
    HasXmin,
    /// It does not reserve WAL: somebody else made it.
    NoRestartLsn,
    /// A failover slot of the time when this was the primary, which keeps the server from synchronising the present one.
    NotSynced,
    /// Its member is away, and what it holds back fills the disk of the WAL.
    DiskFull,
}

/// How far to move a logical slot. It takes a session in its own database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogicalAdvance {
    pub database: String,
    pub to: Lsn,
}
