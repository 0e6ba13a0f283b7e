//! What can go wrong with a guardian.

use std::{io, path::PathBuf, process::ExitStatus, time::Duration};

use bellwether_types::Timestamp;

use crate::{protocol, target::Target};

/// A guardian could not be started. No process is left behind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    #[error("could not make `{}` absolute", path.display())]
    Path {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("could not create the guardian's socket")]
    Socket {
        #[source]
        cause: io::Error,
    },
    #[error("could not open the guardian's log `{}`; is the directory there and ours?", path.display())]
    Log {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("could not start `{} guardian`", exe.display())]
    Start {
        exe: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("the guardian ended before it was ready ({}); `{}` says why", status.map_or_else(|| "status unknown".to_owned(), |status| status.to_string()), log.display())]
    Ended { status: Option<ExitStatus>, log: PathBuf },
    #[error("the guardian was not ready within {within:?}")]
    NotReady { within: Duration },
    #[error(
        "the guardian speaks version {theirs} of the protocol and this agent {}; restart the agent to run one version",
        protocol::VERSION
    )]
    Version { theirs: u16 },
}

/// A request to the guardian did not end well. After `Timeout` and `Socket` it is unknown whether it was carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    #[error("the guardian is not running any more")]
    Gone,
    #[error("the guardian did not answer within {within:?}")]
    Timeout { within: Duration },
    #[error("could not talk to the guardian")]
    Socket {
        #[source]
        cause: io::Error,
    },
    /// Nothing to extend: it has fired, or was not armed. Arm it anew, or stop being the leader.
    #[error("the guardian is not armed; it has fired {firings} times")]
    NotArmed { firings: u32 },
    #[error("the new deadline had already passed; the old one ({armed:?}) is still in force")]
    DeadlinePassed { armed: Option<Timestamp> },
    /// The deadline came before the request did: PostgreSQL is being killed at this moment.
    #[error("the guardian's deadline passed before the request reached it; it fires")]
    TooLate,
    #[error("no process {} that started at tick {}", target.pid, target.start_ticks)]
    NoSuchProcess { target: Target },
    #[error("the guardian did not understand the request; it runs another version")]
    NotUnderstood,
}
