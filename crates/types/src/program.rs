//! Programs that are run around PostgreSQL: their options, and users' commands.

use std::fmt;

use crate::secret::{REDACTED, is_secret};

/// One option of a program: `--name` or `--name=value`.
#[derive(Clone, PartialEq, Eq)]
pub struct ProgramOption {
    /// Without dashes.
    pub name: String,
    pub value: Option<String>,
}

impl ProgramOption {
    pub fn flag(name: impl Into<String>) -> Self {
        Self { name: name.into(), value: None }
    }

    pub fn with_value(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: Some(value.into()) }
    }
}

impl fmt::Debug for ProgramOption {
    /// As [`fmt::Display`], but a password stays out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(_) if is_secret(&self.name) => write!(f, "--{}={REDACTED}", self.name),
            _ => fmt::Display::fmt(self, f),
        }
    }
}

impl fmt::Display for ProgramOption {
    /// As it is passed to the program, passwords included.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "--{}={value}", self.name),
            None => write!(f, "--{}", self.name),
        }
    }
}

/// Options of pg_basebackup, initdb and pg_rewind that are ours to choose.
pub mod ours {
    pub const INITDB: [&str; 5] = ["pgdata", "nosync", "pwfile", "sync-only", "version"];

    pub const BASEBACKUP: [&str; 11] = [
        "pgdata",
        "format",
        "wal-method",
        "xlog-method",
        "gzip",
        "version",
        "dbname",
        "host",
        "port",
        "username",
        "password",
    ];

    pub const REWIND: [&str; 10] = [
        "target-pgdata",
        "source-pgdata",
        "source-server",
        "write-recovery-conf",
        "dry-run",
        "restore-target-wal",
        "config-file",
        "no-ensure-shutdown",
        "version",
        "help",
    ];
}

/// One way to make a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplicaMethod {
    /// `pg_basebackup`, with the options of the settings.
    Basebackup,
    Command(ReplicaCommand),
}

/// A user's command that makes a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaCommand {
    /// For logs.
    pub name: String,
    /// A command line.
    pub command: String,
    /// It needs no member to copy from.
    pub no_leader: bool,
    /// Do not add `--scope`, `--role`, `--datadir` and `--connstring`.
    pub no_params: bool,
    /// It works on what is in the data directory.
    pub keep_data: bool,
    /// In this order.
    pub options: Vec<ProgramOption>,
}

impl ReplicaMethod {
    /// Works while no member can be copied from.
    pub fn needs_no_source(&self) -> bool {
        matches!(self, Self::Command(command) if command.no_leader)
    }
}

/// The events for which a script may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CallbackAction {
    OnStart,
    OnStop,
    OnRestart,
    OnRoleChange,
    OnReload,
}

impl CallbackAction {
    pub const ALL: [Self; 5] =
        [Self::OnStart, Self::OnStop, Self::OnRestart, Self::OnReload, Self::OnRoleChange];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OnStart => "on_start",
            Self::OnStop => "on_stop",
            Self::OnRestart => "on_restart",
            Self::OnRoleChange => "on_role_change",
            Self::OnReload => "on_reload",
        }
    }
}
