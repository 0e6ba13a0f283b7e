//! pg_rewind: the facts to decide on, crash recovery before it, and the run.

use bellwether_types::{Lsn, TimelineHistory, TimelineId, WalPosition};
use tokio_util::sync::CancellationToken;

use crate::{replication::Target, settings::PgSettings};

/// Where the local WAL ends, as input of the question whether it fits the leader's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalWalEnd {
    pub position: WalPosition,
    /// `false`: this server wrote WAL itself (it was a primary).
    pub was_standby: bool,
    /// Of a cleanly stopped primary: where its shutdown checkpoint record ends, if it could be found.
    pub shutdown_checkpoint_end: Option<Lsn>,
}

/// What the history of another server says about our WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Divergence {
    /// It can follow.
    None,
    /// It must be rewound (or cloned anew). `fork`: where the histories part, if known.
    Diverged { fork: Option<(TimelineId, Lsn)> },
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RewindError {
    #[error("the source {address} is not reachable")]
    SourceUnreachable { address: String },
    /// The source is fine and the rewind failed all the same: the data directory may be damaged.
    #[error("pg_rewind ended with {status}: {last_line}")]
    Failed { status: String, last_line: String },
    #[error("{what}")]
    Io {
        what: String,
        #[source]
        cause: std::io::Error,
    },
    #[error("cancelled")]
    Cancelled,
}

/// Compares the end of the local WAL with the history of the leader. Pure.
pub fn compare(_local: &LocalWalEnd, _leader: &TimelineHistory) -> Divergence {
    Divergence::Diverged { fork: None }
}

/// Where the local WAL ends according to the control file of the stopped server; `None` = no verdict possible.
pub async fn local_end_of_stopped(_settings: &PgSettings) -> Result<Option<LocalWalEnd>, RewindError> {
    Err(not_built())
}

/// Runs crash recovery in single-user mode, archiving off, so that pg_rewind finds a cleanly stopped server.
pub async fn crash_recover(_settings: &PgSettings, _cancel: &CancellationToken) -> Result<(), RewindError> {
    Err(not_built())
}

/// Archives WAL segments that are still waiting; returns how many.
pub async fn archive_ready_wal(_settings: &PgSettings) -> Result<usize, RewindError> {
    Err(not_built())
}

/// Runs pg_rewind on the stopped server. Cancel by the token, not by dropping the future.
pub async fn run(
    _settings: &PgSettings,
    _source: &Target,
    _cancel: &CancellationToken,
) -> Result<(), RewindError> {
    Err(not_built())
}

fn not_built() -> RewindError {
    RewindError::Io { what: "not built yet".to_owned(), cause: crate::not_built() }
}
