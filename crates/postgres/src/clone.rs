//! A new standby from a base backup.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{replication::Target, settings::PgSettings};

/// How far a clone has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CloneProgress {
    pub attempt: u32,
    pub bytes_done: u64,
    /// An estimate of the server; grows if the database does.
    pub bytes_total: u64,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloneError {
    #[error("basebackup option `{option}` is not allowed")]
    ForbiddenOption { option: String },
    #[error("pg_basebackup ended with {status}: {last_line}")]
    Exited { status: String, last_line: String },
    #[error("{what}")]
    Io {
        what: String,
        #[source]
        cause: std::io::Error,
    },
    #[error("cancelled")]
    Cancelled,
}

/// Wipes the data directory and fills it by pg_basebackup from `source`; two attempts. After a failure or cancellation the
/// directory is empty. Cancel by the token, not by dropping the future.
pub async fn basebackup(
    _settings: &PgSettings,
    _source: &Target,
    _progress: &watch::Sender<CloneProgress>,
    _cancel: &CancellationToken,
) -> Result<(), CloneError> {
    Err(CloneError::Io { what: "not built yet".to_owned(), cause: crate::not_built() })
}
