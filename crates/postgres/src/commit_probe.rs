//! A commit that is tried: through the flush of the WAL and, where commits wait for standbys, their acknowledgement.
//!
//! It writes one logical message of a few bytes (prefix `bellwether`) in the maintenance database and touches no table. Logical slots
//! of other databases do not see it.

use std::{sync::Arc, time::Duration};

use bellwether_types::Lsn;
use tokio::time::Instant;
use tokio_postgres::error::SqlState;

use crate::{
    connect::{CONNECT_TIMEOUT, ConnectError, Session, superuser_session},
    postmaster::PostmasterId,
    settings::PgSettings,
};

/// What the session calls itself in `pg_stat_activity`.
pub const NAME: &str = "Bellwether commit probe";

/// Nothing may end it but the server: a commit that waits is what it is for.
const SESSION_OPTIONS: &str = "-c statement_timeout=0 -c idle_in_transaction_session_timeout=0 \
                               -c default_transaction_read_only=off -c pg_stat_statements.track=none";
/// A new connection now and then shows that the postmaster still takes them.
const OLD_AFTER: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// Not even one that is reserved for superusers.
    #[error("no connection is left")]
    NoConnectionLeft,
    #[error("the server took no new connection within {} s", limit.as_secs())]
    NoConnection { limit: Duration },
    #[error("no space is left on a disk of the server")]
    DiskFull,
    #[error("could not connect to the local server")]
    Connect(#[source] ConnectError),
    #[error("the commit failed")]
    Commit(#[source] tokio_postgres::Error),
    #[error("the server gave an answer that is not understood")]
    Answer,
}

impl ProbeError {
    fn of_sql(error: tokio_postgres::Error) -> Self {
        match error.code() {
            Some(code) if *code == SqlState::DISK_FULL => Self::DiskFull,
            Some(code) if *code == SqlState::TOO_MANY_CONNECTIONS => Self::NoConnectionLeft,
            _ => Self::Commit(error),
        }
    }
}

/// The session that tries commits, one at a time. It connects when it is needed.
#[derive(Debug, Default)]
pub struct CommitProbe {
    live: Option<Live>,
}

#[derive(Debug)]
struct Live {
    session: Session,
    postmaster: PostmasterId,
    since: Instant,
}

impl CommitProbe {
    /// A session on exactly this postmaster. Ends within some seconds. Safe to cancel.
    pub async fn connect(&mut self, settings: &Arc<PgSettings>, to: &PostmasterId) -> Result<(), ProbeError> {
        let is_good = |live: &Live| {
            live.postmaster == *to && !live.session.client.is_closed() && live.since.elapsed() < OLD_AFTER
        };
        if self.live.as_ref().is_some_and(is_good) {
            return Ok(());
        }
        self.live = None;
        let connecting = superuser_session(settings, NAME, SESSION_OPTIONS);
        let limit = CONNECT_TIMEOUT;
        let session = match tokio::time::timeout(limit, connecting).await {
            Ok(Ok(session)) => session,
            Ok(Err(ConnectError::Server(error))) if error.code() == Some(&SqlState::TOO_MANY_CONNECTIONS) => {
                return Err(ProbeError::NoConnectionLeft);
            }
            Ok(Err(error)) => return Err(ProbeError::Connect(error)),
            Err(_) => return Err(ProbeError::NoConnection { limit }),
        };
        self.live = Some(Live { session, postmaster: to.clone(), since: Instant::now() });
        Ok(())
    }

    /// Writes the message; where it ends in the WAL. May take for ever. Dropping the future closes nothing: call
    /// [`CommitProbe::disconnect`].
    pub async fn write(&mut self) -> Result<Lsn, ProbeError> {
        let client = &self.live.as_ref().ok_or(ProbeError::Answer)?.session.client;
        let begun = client.batch_execute("BEGIN").await;
        begun.map_err(ProbeError::of_sql)?;
        let statement = "SELECT pg_catalog.pg_logical_emit_message(true, 'bellwether', '')::text";
        let row = client.query_one(statement, &[]).await.map_err(ProbeError::of_sql)?;
        let text: &str = row.try_get(0).map_err(ProbeError::Commit)?;
        text.parse().map_err(|_| ProbeError::Answer)
    }

    /// Commits what was written. May take for ever.
    pub async fn commit(&mut self) -> Result<(), ProbeError> {
        let client = &self.live.as_ref().ok_or(ProbeError::Answer)?.session.client;
        client.batch_execute("COMMIT").await.map_err(ProbeError::of_sql)
    }

    pub fn disconnect(&mut self) {
        self.live = None;
    }
}
