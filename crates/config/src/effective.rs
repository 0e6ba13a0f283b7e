//! What PostgreSQL is to be run with: the local section over the dynamic one.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use bellwether_types::{Role, settings::Settings};
use serde_json::Value;

use crate::{Config, dynamic::Dynamic, sections::bootstrap::CommandOption};

/// The merged `postgresql` section.
#[derive(Clone, Debug, PartialEq)]
pub struct Effective {
    /// The dynamic settings with what the local section overrides (`use_pg_rewind` and the like).
    pub settings: Settings,
    /// Server parameters as text, the controlled ones included (not `listen_addresses` and `port`).
    pub parameters: BTreeMap<String, String>,
    /// Merged over `parameters` in that role.
    pub parameters_by_role: BTreeMap<ServerRole, BTreeMap<String, String>>,
    /// Lines; `None` = the file is not ours.
    pub pg_hba: Option<Vec<String>>,
    pub pg_hba_by_role: BTreeMap<ServerRole, Vec<String>>,
    pub pg_ident: Option<Vec<String>>,
    pub pg_ident_by_role: BTreeMap<ServerRole, Vec<String>>,
    /// Extra recovery settings.
    pub recovery_conf: BTreeMap<String, String>,
    /// Included instead of `<base>.base.conf`.
    pub custom_conf: Option<PathBuf>,
    pub callbacks: BTreeMap<Callback, String>,
    /// In order; the first that succeeds wins.
    pub create_replica_methods: Vec<ReplicaMethod>,
    /// Options of `pg_basebackup`.
    pub basebackup: Vec<CommandOption>,
    /// Options of `pg_rewind`.
    pub rewind: Vec<CommandOption>,
    /// How long a start may take; zero = for ever.
    pub pg_ctl_timeout: Duration,
    pub pre_promote: Option<String>,
    pub before_stop: Option<String>,
    /// What was left out or replaced, to be logged as warnings.
    pub messages: Vec<String>,
}

/// The roles that may have parameters and hba lines of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

/// When a callback runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Callback {
    OnStart,
    OnStop,
    OnRestart,
    OnReload,
    OnRoleChange,
}

/// One way to create a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplicaMethod {
    /// `pg_basebackup` with [`Effective::basebackup`].
    Basebackup,
    Command(ReplicaCommand),
}

/// A command that creates a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaCommand {
    pub name: String,
    pub command: String,
    /// Works without a member to copy from.
    pub no_leader: bool,
    pub no_params: bool,
    pub keep_data: bool,
    /// Every other key, passed as `--key=value`.
    pub options: Vec<CommandOption>,
}

impl Effective {
    /// The server parameters in a role.
    pub fn parameters_for(&self, role: ServerRole) -> BTreeMap<String, String> {
        let mut parameters = self.parameters.clone();
        if let Some(own) = self.parameters_by_role.get(&role) {
            parameters.extend(own.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        parameters
    }

    pub fn pg_hba_for(&self, role: ServerRole) -> Option<&[String]> {
        self.pg_hba_by_role.get(&role).or(self.pg_hba.as_ref()).map(Vec::as_slice)
    }

    pub fn pg_ident_for(&self, role: ServerRole) -> Option<&[String]> {
        self.pg_ident_by_role.get(&role).or(self.pg_ident.as_ref()).map(Vec::as_slice)
    }
}

/// Merges the local section over the dynamic one.
pub fn effective(_config: &Config, dynamic: &Dynamic) -> Effective {
    Effective {
        settings: dynamic.settings.clone(),
        parameters: BTreeMap::new(),
        parameters_by_role: BTreeMap::new(),
        pg_hba: None,
        pg_hba_by_role: BTreeMap::new(),
        pg_ident: None,
        pg_ident_by_role: BTreeMap::new(),
        recovery_conf: BTreeMap::new(),
        custom_conf: None,
        callbacks: BTreeMap::new(),
        create_replica_methods: vec![ReplicaMethod::Basebackup],
        basebackup: Vec::new(),
        rewind: Vec::new(),
        pg_ctl_timeout: Duration::from_secs(60),
        pre_promote: None,
        before_stop: None,
        messages: Vec::new(),
    }
}

/// Whether the value of a key of the `postgresql` section has the right shape.
pub(crate) fn check_shape(key: &str, value: &Value) -> Result<(), &'static str> {
    let is_text = |value: &Value| !value.is_object() && !value.is_array();
    match key {
        "parameters"
        | "parameters_primary"
        | "parameters_replica"
        | "parameters_standby_leader"
        | "recovery_conf"
        | "callbacks" => match value.as_object() {
            None => Err("expects a map"),
            Some(map) if !map.values().all(is_text) => Err("expects a map of texts and numbers"),
            Some(_) => Ok(()),
        },
        _ if key.starts_with("pg_hba") || key.starts_with("pg_ident") => match value.as_array() {
            None => Err("expects a list of lines"),
            Some(lines) if !lines.iter().all(Value::is_string) => {
                Err("expects a list of lines; a line with `: ` in it must be in quotes")
            }
            Some(_) => Ok(()),
        },
        "custom_conf" | "pre_promote" | "before_stop" if !is_text(value) => Err("expects a text"),
        "pg_ctl_timeout" => match crate::value::int_with_unit(value, Some(crate::Unit::Seconds)) {
            Some(seconds) if seconds >= 0 => Ok(()),
            _ => Err("expects seconds, 0 or more"),
        },
        _ => Ok(()),
    }
}
