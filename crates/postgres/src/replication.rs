//! The two replication commands that the agent needs, on the local and on remote servers.

use bellwether_types::{SystemId, TimelineHistory, WalPosition};

use crate::settings::{Credentials, HostPort};

/// Where and as whom to connect.
#[derive(Clone, Debug)]
pub struct Target {
    pub address: HostPort,
    pub credentials: Credentials,
}

/// The answer to IDENTIFY_SYSTEM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub system_id: SystemId,
    /// On a standby the timeline being replayed, and the end of what was received or replayed.
    pub position: WalPosition,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplicationError {
    #[error("could not connect to {address}")]
    Connect {
        address: HostPort,
        #[source]
        cause: std::io::Error,
    },
    #[error("{address} refused: {message}")]
    Refused { address: HostPort, sqlstate: String, message: String },
    #[error("{address} gave an answer that is not understood: {what}")]
    Protocol { address: HostPort, what: String },
}

pub async fn identify_system(target: &Target) -> Result<Identity, ReplicationError> {
    Err(not_built(target))
}

/// The history of the server's present timeline, with its tip; also asks whether it is in recovery.
pub async fn timeline_history(target: &Target) -> Result<TimelineHistory, ReplicationError> {
    Err(not_built(target))
}

fn not_built(target: &Target) -> ReplicationError {
    ReplicationError::Protocol { address: target.address.clone(), what: "not built yet".to_owned() }
}
