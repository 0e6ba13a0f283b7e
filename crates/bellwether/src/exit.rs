//! Exit statuses. Documented in `docs/src/reference/exit-codes.md`; the systemd unit does not restart after the permanent ones.

use std::process::ExitCode;

use bellwether_agent::{AgentEnd, StartError};
use bellwether_ha::action::Exit;

/// Why a process of ours ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Status {
    Ok = 0,
    /// Anything that may be different the next time.
    Failed = 1,
    /// The command line is wrong (clap uses it too).
    Usage = 2,
    /// The data directory belongs to another cluster, or is a replica without a cluster. Permanent.
    ForeignData = 65,
    /// The store's own files are damaged, or its identity is unclear. Permanent.
    StoreUnusable = 66,
    /// A port is in use, or an address cannot be bound.
    Address = 69,
    /// Another live agent has this name. Permanent.
    DuplicateName = 76,
    /// The configuration cannot be used. Permanent.
    Config = 78,
}

impl Status {
    /// Statuses after which a restart without a person's help is pointless.
    pub(crate) const PERMANENT: [Status; 4] =
        [Status::ForeignData, Status::StoreUnusable, Status::DuplicateName, Status::Config];

    /// Patroni knows only 0 and 1.
    pub(crate) fn code(self, as_patroni: bool) -> ExitCode {
        match self {
            Self::Ok | Self::Usage => ExitCode::from(self as u8),
            _ if as_patroni => ExitCode::from(1),
            _ => ExitCode::from(self as u8),
        }
    }
}

impl From<&StartError> for Status {
    fn from(error: &StartError) -> Self {
        match error {
            StartError::DuplicateName { .. } => Self::DuplicateName,
            StartError::Stopped => Self::Ok,
            _ => Self::Failed,
        }
    }
}

impl From<&AgentEnd> for Status {
    fn from(end: &AgentEnd) -> Self {
        match end {
            AgentEnd::Decided(Exit::Stopped) => Self::Ok,
            AgentEnd::Decided(Exit::BootstrapFailed) | AgentEnd::ServiceEnded => Self::Failed,
            AgentEnd::Decided(Exit::ForeignSystemId { .. } | Exit::ReplicaWithoutCluster) => {
                Self::ForeignData
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn under_the_name_patroni_failures_are_one() {
        assert_eq!(Status::Config.code(true), ExitCode::from(1));
        assert_eq!(Status::Config.code(false), ExitCode::from(78));
        assert_eq!(Status::Ok.code(true), ExitCode::SUCCESS);
        assert!(!Status::PERMANENT.contains(&Status::Failed));
    }
}
