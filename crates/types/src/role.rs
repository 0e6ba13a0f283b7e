//! What PostgreSQL is doing, in the words that the REST API and the store use.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $text)] $variant),+ }

        impl $name {
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// The role published in the member key.
    Role {
        Primary = "primary",
        Replica = "replica",
        StandbyLeader = "standby_leader",
        /// Was primary; stopping or stopped.
        Demoted = "demoted",
        /// Promotion was asked for, the control file does not show it yet.
        Promoted = "promoted",
        /// No valid data directory.
        Uninitialized = "uninitialized",
    }
}

impl FromStr for Role {
    type Err = String;
    /// Accepts `master` as written by old peers.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "master" {
            return Ok(Role::Primary);
        }
        Self::ALL.iter().copied().find(|role| role.as_str() == text).ok_or_else(|| text.to_owned())
    }
}

/// The roles that may have parameters and lines of pg_hba.conf of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServerRole {
    Primary,
    Replica,
    StandbyLeader,
}

impl From<Role> for ServerRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Primary | Role::Promoted => Self::Primary,
            Role::StandbyLeader => Self::StandbyLeader,
            _ => Self::Replica,
        }
    }
}

words! {
    /// The state published in the member key. The order is the number that the metrics show; it never changes.
    PostgresState {
        Initdb = "initializing new cluster",
        InitdbFailed = "initdb failed",
        CustomBootstrap = "running custom bootstrap script",
        CustomBootstrapFailed = "custom bootstrap failed",
        CreatingReplica = "creating replica",
        Running = "running",
        Starting = "starting",
        BootstrapStarting = "starting after custom bootstrap",
        StartFailed = "start failed",
        Restarting = "restarting",
        RestartFailed = "restart failed",
        Stopping = "stopping",
        Stopped = "stopped",
        StopFailed = "stop failed",
        Crashed = "crashed",
    }
}

impl PostgresState {
    /// The number in `patroni_postgres_state`.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name in the comment of `patroni_postgres_state`.
    pub const fn metric_name(self) -> &'static str {
        match self {
            Self::Initdb => "initdb",
            Self::InitdbFailed => "initdb_failed",
            Self::CustomBootstrap => "custom_bootstrap",
            Self::CustomBootstrapFailed => "custom_bootstrap_failed",
            Self::CreatingReplica => "creating_replica",
            Self::Running => "running",
            Self::Starting => "starting",
            Self::BootstrapStarting => "bootstrap_starting",
            Self::StartFailed => "start_failed",
            Self::Restarting => "restarting",
            Self::RestartFailed => "restart_failed",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::StopFailed => "stop_failed",
            Self::Crashed => "crashed",
        }
    }
}

impl FromStr for PostgresState {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.iter().copied().find(|state| state.as_str() == text).ok_or_else(|| text.to_owned())
    }
}

words! {
    /// How a standby gets its WAL.
    ReplicationState {
        Streaming = "streaming",
        InArchiveRecovery = "in archive recovery",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_peers_say_master() {
        assert_eq!("master".parse::<Role>(), Ok(Role::Primary));
        assert_eq!(Role::Primary.as_str(), "primary");
        assert!("boss".parse::<Role>().is_err());
    }

    #[test]
    fn the_numbers_of_states_never_change() {
        assert_eq!(PostgresState::Initdb.index(), 0);
        assert_eq!(PostgresState::Running.index(), 5);
        assert_eq!(PostgresState::Stopped.index(), 12);
        assert_eq!(PostgresState::Crashed.index(), 14);
    }
}
