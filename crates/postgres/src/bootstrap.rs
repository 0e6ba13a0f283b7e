//! A new database cluster: initdb, roles, and the `post_bootstrap` hook.

use tokio_util::sync::CancellationToken;

use crate::settings::PgSettings;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BootstrapError {
    #[error("initdb option `{option}` is not allowed")]
    ForbiddenOption { option: String },
    #[error("{program} ended with {status}: {last_line}")]
    Exited { program: &'static str, status: String, last_line: String },
    #[error("{what}")]
    Io {
        what: String,
        #[source]
        cause: std::io::Error,
    },
    #[error("could not create the roles")]
    Roles(#[source] tokio_postgres::Error),
    #[error("cancelled")]
    Cancelled,
}

/// Runs initdb into the (missing or empty) data directory and appends `bootstrap.pg_hba`. On failure or cancellation what
/// was made is left for the caller to set aside.
pub async fn initdb(_settings: &PgSettings, _cancel: &CancellationToken) -> Result<(), BootstrapError> {
    Err(not_built())
}

/// On the running new primary: superuser, `post_bootstrap`, replication and rewind roles.
pub async fn create_roles(_settings: &PgSettings, _cancel: &CancellationToken) -> Result<(), BootstrapError> {
    Err(not_built())
}

fn not_built() -> BootstrapError {
    BootstrapError::Io { what: "not built yet".to_owned(), cause: crate::not_built() }
}
