//! The two replication commands that the agent needs, on the local and on remote servers.

use std::{collections::BTreeMap, io, time::Duration};

use bellwether_types::{InvalidHistory, SystemId, TimelineHistory, TimelineId, WalPosition};
use bytes::Bytes;

use crate::{
    program::blocking,
    settings::{Credentials, HostPort, PgSettings},
    tls::{Tls, TlsError},
    wire::{Connection, Rows, WireError},
};

/// For the whole conversation: connect, log in, ask.
const LIMIT: Duration = Duration::from_secs(3);

/// Where and as whom to connect.
#[derive(Clone, Debug)]
pub struct Target {
    /// A host beginning with `/` is a socket directory.
    pub address: HostPort,
    pub credentials: Credentials,
}

/// The answer to IDENTIFY_SYSTEM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub system_id: SystemId,
    /// On a primary the timeline being written and the end of flushed WAL; on a standby those of what was replayed or received.
    pub position: WalPosition,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplicationError {
    #[error("could not talk to {address}")]
    Connect {
        address: HostPort,
        #[source]
        cause: io::Error,
    },
    #[error("{address} did not answer within {limit:?}")]
    Timeout { address: HostPort, limit: Duration },
    #[error("{address} refused ({sqlstate}): {message}")]
    Refused { address: HostPort, sqlstate: String, message: String },
    #[error("{address} gave an answer that is not understood: {what}")]
    Answer { address: HostPort, what: String },
    #[error("the TLS options of the role can't be used")]
    Tls(#[source] TlsError),
    /// The whole history is refused: a line that is skipped could be the fork.
    #[error("{address} has a broken timeline history")]
    History {
        address: HostPort,
        #[source]
        cause: InvalidHistory,
    },
}

impl ReplicationError {
    /// Whether the server could not be reached (and so nothing was said about it).
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Timeout { .. })
    }

    /// Whether trying again without human help can succeed.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Timeout { .. } => true,
            // Starting up or out of connections passes; a wrong password or a missing pg_hba line does not.
            Self::Refused { sqlstate, .. } => sqlstate == "57P03" || sqlstate == "53300",
            Self::Answer { .. } | Self::Tls(_) | Self::History { .. } => false,
        }
    }
}

impl PgSettings {
    /// The local server, for replication commands.
    pub async fn local_replication_target(&self) -> Target {
        let address = self.local_address(self.use_unix_socket_repl).await;
        Target { address, credentials: self.replication.clone() }
    }
}

/// Asks a server who it is and where its WAL ends. The role needs REPLICATION. Ends within 3 s; safe to cancel.
pub async fn identify_system(target: &Target) -> Result<Identity, ReplicationError> {
    let rows = converse(target, async |connection| connection.query("IDENTIFY_SYSTEM").await).await?;
    identity(target, &rows)
}

/// Whether the server may be written to. The role needs REPLICATION. Ends within 3 s; safe to cancel.
///
/// # Errors
/// If it could not be asked.
pub async fn is_writable(target: &Target) -> Result<bool, ReplicationError> {
    let rows =
        converse(target, async |connection| connection.query("SHOW transaction_read_only").await).await?;
    // What libpq asks for `target_session_attrs=read-write`.
    cell(&rows, 0)
        .map(|answer| answer == "off")
        .ok_or_else(|| not_understood(target, "transaction_read_only"))
}

/// The history of the server's present timeline, with its tip. Ends within 3 s; safe to cancel.
pub async fn timeline_history(target: &Target) -> Result<TimelineHistory, ReplicationError> {
    let (identity_rows, history) = converse(target, async |connection| {
        let identity = connection.query("IDENTIFY_SYSTEM").await?;
        let timeline = cell(&identity, 1).unwrap_or_default();
        // The first timeline has no history file, and the server would report an error.
        if timeline == "1" || timeline.parse::<u32>().is_err() {
            return Ok((identity, None));
        }
        let history = connection.query(&format!("TIMELINE_HISTORY {timeline}")).await?;
        Ok((identity, Some(history)))
    })
    .await?;
    let tip = identity(target, &identity_rows)?.position;
    let text = match &history {
        None => String::new(),
        Some(rows) => cell(rows, 1).ok_or_else(|| not_understood(target, "no history file"))?,
    };
    TimelineHistory::parse(tip, &text)
        .map_err(|cause| ReplicationError::History { address: target.address.clone(), cause })
}

fn identity(target: &Target, rows: &Rows) -> Result<Identity, ReplicationError> {
    let parsed = (|| {
        let timeline = TimelineId(cell(rows, 1)?.parse().ok()?);
        let position = WalPosition { timeline, lsn: cell(rows, 2)?.parse().ok()? };
        Some(Identity { system_id: cell(rows, 0)?.parse().ok()?, position })
    })();
    parsed.ok_or_else(|| not_understood(target, "the columns of IDENTIFY_SYSTEM"))
}

/// A column of the first row as text.
fn cell(rows: &Rows, column: usize) -> Option<String> {
    let bytes: &Bytes = rows.first()?.get(column)?.as_ref()?;
    Some(String::from_utf8_lossy(bytes).into_owned())
}

fn not_understood(target: &Target, what: &str) -> ReplicationError {
    ReplicationError::Answer { address: target.address.clone(), what: what.to_owned() }
}

/// Runs commands on a fresh physical replication connection.
async fn converse<T>(
    target: &Target,
    commands: impl AsyncFnOnce(&mut Connection) -> Result<T, WireError>,
) -> Result<T, ReplicationError> {
    let address = target.address.clone();
    let parameters = BTreeMap::from([
        ("user", target.credentials.username.as_str()),
        ("replication", "true"),
        ("application_name", "Patroni"),
    ]);
    let credentials = target.credentials.clone();
    let tls = blocking(move || Tls::of(&credentials)).await.map_err(ReplicationError::Tls)?;
    let conversation = async {
        let mut connection = Connection::open(&target.address, &tls).await?;
        connection.log_in(&parameters, &target.credentials).await?;
        commands(&mut connection).await
    };
    match tokio::time::timeout(LIMIT, conversation).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(WireError::Io(cause))) => Err(ReplicationError::Connect { address, cause }),
        Ok(Err(WireError::Server { sqlstate, message })) => {
            Err(ReplicationError::Refused { address, sqlstate, message })
        }
        Ok(Err(WireError::Unexpected(what))) => Err(ReplicationError::Answer { address, what }),
        Err(_) => Err(ReplicationError::Timeout { address, limit: LIMIT }),
    }
}
