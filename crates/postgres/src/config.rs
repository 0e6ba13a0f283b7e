//! The files that configure PostgreSQL: what they are to say, and writing them.

use std::collections::BTreeMap;

use bellwether_types::Lsn;

use crate::settings::{ConfigRole, Credentials, HostPort};

/// Everything about the configuration that is decided elsewhere and not in the settings.
#[derive(Clone, Debug)]
pub struct ConfigPlan {
    pub role: ConfigRole,
    pub recovery: Recovery,
    /// The value to write; `None` = the one in the settings' parameters, if any.
    pub synchronous_standby_names: Option<String>,
    /// Parameters that win over the settings, for example a forced `hot_standby_feedback`.
    pub overrides: BTreeMap<String, String>,
}

impl ConfigPlan {
    pub fn primary() -> Self {
        Self {
            role: ConfigRole::Primary,
            recovery: Recovery::None,
            synchronous_standby_names: None,
            overrides: BTreeMap::new(),
        }
    }

    pub fn standby(upstream: Option<Upstream>) -> Self {
        Self {
            role: ConfigRole::Replica,
            recovery: Recovery::Standby { upstream },
            synchronous_standby_names: Some(String::new()),
            overrides: BTreeMap::new(),
        }
    }
}

/// How the server recovers when it starts.
#[derive(Clone, Debug)]
pub enum Recovery {
    /// As a primary: no signal file.
    None,
    /// `standby.signal`. Without an upstream it follows nobody.
    Standby { upstream: Option<Upstream> },
    /// `recovery.signal` with these settings (custom bootstrap).
    Targeted { settings: BTreeMap<String, String> },
}

/// The server to stream from.
#[derive(Clone, Debug)]
pub struct Upstream {
    pub address: HostPort,
    /// `primary_slot_name`; `None` = no slot.
    pub slot: Option<String>,
    /// `None` = the replication role of the settings.
    pub credentials: Option<Credentials>,
    /// Written as `dbname`; needed by slot synchronisation of PostgreSQL 17 and later.
    pub database: Option<String>,
}

/// A parameter that was written with another value than configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaisedParameter {
    pub name: String,
    pub configured: u32,
    /// The value of the control file, which is used.
    pub control: u32,
}

/// What [`apply`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Names of the files that now have another content.
    pub changed_files: Vec<&'static str>,
    /// Parameters raised to the control file's value on a standby: raise the pending-restart flag for them.
    pub raised: Vec<RaisedParameter>,
    /// For the command line of the postmaster.
    pub command_line: Vec<(String, String)>,
    /// For people: what was dropped or corrected.
    pub warnings: Vec<String>,
}

impl Applied {
    pub fn changed(&self) -> bool {
        !self.changed_files.is_empty()
    }
}

/// A parameter whose new value waits for a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingRestart {
    pub name: String,
    pub old_value: String,
    /// `?` if it could not be determined.
    pub new_value: String,
}

/// A position that a clean stop left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShutdownCheckpoint {
    /// C: where the shutdown checkpoint record starts.
    pub checkpoint: Lsn,
    /// S: where the segment switch before it starts, if archiving made one; otherwise C.
    pub optime: Lsn,
}
