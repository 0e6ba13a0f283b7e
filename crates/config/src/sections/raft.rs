//! `raft`: the embedded store.

use std::path::PathBuf;

use secrecy::SecretString;

use crate::HostPort;

/// The embedded store on this node. None of it is applied on reload.
#[derive(Clone, Debug)]
pub struct Raft {
    /// The address by which partners reach this voter; `None` = a client without a vote.
    pub self_addr: Option<HostPort>,
    /// Where it listens; `self_addr` if not given.
    pub bind_addr: Option<HostPort>,
    /// The other voters, never this one.
    pub partner_addrs: Vec<HostPort>,
    /// Where log and snapshots live; given for every voter.
    pub data_dir: Option<PathBuf>,
    /// Shared by all partners: authenticates and encrypts when there are no certificates.
    pub password: Option<SecretString>,
    /// Ours: how patient elections are.
    pub timing: RaftTiming,
    /// Ours: mutual TLS.
    pub certfile: Option<PathBuf>,
    pub keyfile: Option<PathBuf>,
    pub cafile: Option<PathBuf>,
    /// Ours: talk to partners in clear text.
    pub insecure: bool,
    /// Ours: this node votes, but runs no PostgreSQL.
    pub witness: bool,
}

/// `raft.timing`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RaftTiming {
    #[default]
    Default,
    /// One rack, low latency.
    Fast,
    /// Data centres far apart.
    Wan,
}

/// Where shared cluster state lives.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Store {
    /// The embedded store.
    Raft(Raft),
}

impl Store {
    pub fn is_embedded(&self) -> bool {
        matches!(self, Self::Raft(_))
    }
}
