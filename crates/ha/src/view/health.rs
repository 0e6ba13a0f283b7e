//! How the local server and its disks are, beyond being alive: what was found out beside the loop. Facts only.

use std::time::Duration;

use bellwether_types::{Lsn, Timestamp, measured::Measured};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Health {
    pub stopped: Stopped,
    /// The last commit that was tried; `None`: none in this life of the server.
    pub probe: Option<Probe>,
    /// What the server said of its sessions with its last answer; a primary only.
    pub activity: Option<Activity>,
    pub disks: Option<Disks>,
    /// Pages with a wrong checksum that were read since the agent looked first.
    pub checksum_failures: u64,
    /// How fast store, disk and loop are here.
    #[serde(default)]
    pub measured: Measured,
}

/// How much of the server a signal (SIGSTOP) has stopped. No guess: the kernel says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stopped {
    #[default]
    Nothing,
    /// It takes no connection and starts nothing; sessions that are there go on.
    Postmaster,
    /// Nobody is served.
    Everything,
}

/// A commit that was tried on the primary. One at a time: it goes on until it ends, or the server does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    pub began_at: Timestamp,
    pub stage: ProbeStage,
    /// Where it is in the WAL, once it is written there.
    pub at: Option<Lsn>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ProbeStage {
    Connecting,
    Committing,
    Committed { after: Duration },
    Failed { why: ProbeFailure },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ProbeFailure {
    /// Not even those that are reserved for superusers are left.
    NoConnectionLeft,
    /// No new connection within some seconds, although the postmaster is there.
    NoConnection,
    DiskFull,
    Other(String),
}

/// The sessions of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activity {
    pub clients: u32,
    /// How many sessions users have that are no superusers.
    pub clients_allowed: u32,
    /// Sessions that wait for WAL to be written or flushed.
    pub flushing: u32,
    /// Sessions whose commit waits for synchronous standbys.
    pub waiting_for_standbys: u32,
    /// The tried commit is among these.
    pub probe_waits_for_standbys: bool,
}

/// The file systems that PostgreSQL writes to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Disks {
    pub looked_at: Timestamp,
    pub wal: Disk,
    pub data: Disk,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Disk {
    /// Bytes.
    pub size: u64,
    /// Bytes that PostgreSQL can still take.
    pub free: u64,
    pub read_only: bool,
    /// If it goes on filling as it did lately; `None`: it does not.
    pub full_in: Option<Duration>,
}
