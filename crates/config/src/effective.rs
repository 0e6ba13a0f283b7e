//! What PostgreSQL is to be run with: the local section over the dynamic one.

mod parameters;

pub(crate) use parameters::is_controlled;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use bellwether_types::{
    ServerRole,
    program::{CallbackAction, ProgramOption, ReplicaCommand, ReplicaMethod, ours},
    settings::Settings,
};
use serde_json::{Map, Value};

use crate::{
    Config,
    dynamic::{Dynamic, read_postgresql_switches},
    sections::bootstrap::{options, passed_on},
    value::{Unit, int_with_unit, lenient_bool},
};

/// The merged `postgresql` section.
#[derive(Clone, Debug, PartialEq)]
pub struct Effective {
    /// The dynamic settings with what the local section overrides (`use_pg_rewind` and the like).
    pub settings: Settings,
    /// Server parameters as text, the controlled ones included (not `listen_addresses` and `port`). `wal_keep_size` is given
    /// for every version; before PostgreSQL 13 it is `wal_keep_segments`, at 16 MB each. Names are compared without case.
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
    pub callbacks: BTreeMap<CallbackAction, String>,
    /// In order; the first that succeeds wins.
    pub create_replica_methods: Vec<ReplicaMethod>,
    /// Options of `pg_basebackup`.
    pub basebackup: Vec<ProgramOption>,
    /// Options of `pg_rewind`.
    pub rewind: Vec<ProgramOption>,
    /// How long a start may take; zero = for ever.
    pub pg_ctl_timeout: Duration,
    pub pre_promote: Option<String>,
    pub before_stop: Option<String>,
    /// What was left out or replaced, to be logged as warnings.
    pub messages: Vec<String>,
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
}

/// Merges the local section over the dynamic one: server parameters one by one, every other key as a whole.
///
/// Controlled parameters come from the dynamic section or have their default; a local value for one is dropped.
pub fn effective(config: &Config, dynamic: &Dynamic) -> Effective {
    let local = &config.postgresql.shared.0;
    let mut section = dynamic.postgresql.clone();
    for (key, value) in local {
        if key != "use_slots" {
            section.insert(key.clone(), value.clone());
        }
    }
    // In a standby cluster only the list of that section counts, for every member.
    if let Some(standby) = &dynamic.settings.standby_cluster {
        section.remove("create_replica_method");
        match &standby.create_replica_methods {
            Some(methods) => section.insert("create_replica_methods".to_owned(), methods.clone().into()),
            None => section.remove("create_replica_methods"),
        };
    }
    let mut messages = Vec::new();
    let mut settings = dynamic.settings.clone();
    let mut switches = section.clone();
    switches.remove("use_slots");
    read_postgresql_switches(&switches, &mut settings);
    settings.citus_database = config.citus.as_ref().map(|citus| citus.database.clone());

    let part = |section: &Map<String, Value>, key: &str| match section.get(key) {
        Some(Value::Object(map)) => map.clone(),
        _ => Map::new(),
    };
    let mut parameters = parameters::merge(
        &part(&dynamic.postgresql, "parameters"),
        &part(local, "parameters"),
        &mut messages,
    );
    parameters::set(&mut parameters, "cluster_name", config.scope.to_string());
    if config.citus.is_some() {
        parameters::suit_citus(&mut parameters, &config.postgresql);
    }
    let mut recovery_conf = parameters::take_recovery(&mut parameters);
    recovery_conf.extend(parameters::texts(&part(&section, "recovery_conf")));
    recovery_conf.retain(|name, _| !parameters::is_owned_recovery(name));

    let mut parameters_by_role = BTreeMap::new();
    let (mut pg_hba_by_role, mut pg_ident_by_role) = (BTreeMap::new(), BTreeMap::new());
    for (role, name) in ROLES {
        let own = parameters::for_role(&part(&section, &format!("parameters_{name}")), name, &mut messages);
        if !own.is_empty() {
            parameters_by_role.insert(role, own);
        }
        if let Some(hba) = lines(&section, &format!("pg_hba_{name}")) {
            pg_hba_by_role.insert(role, hba);
        }
        if let Some(ident) = lines(&section, &format!("pg_ident_{name}")) {
            pg_ident_by_role.insert(role, ident);
        }
    }
    let text = |key: &str| section.get(key).and_then(scalar_text).filter(|text| !text.is_empty());
    Effective {
        settings,
        parameters,
        parameters_by_role,
        pg_hba: lines(&section, "pg_hba"),
        pg_hba_by_role,
        pg_ident: lines(&section, "pg_ident"),
        pg_ident_by_role,
        recovery_conf,
        custom_conf: text("custom_conf").map(PathBuf::from),
        callbacks: callbacks(&part(&section, "callbacks")),
        create_replica_methods: replica_methods(&section),
        basebackup: program_options(&section, "basebackup", &ours::BASEBACKUP, &mut messages),
        rewind: program_options(&section, "rewind", &ours::REWIND, &mut messages),
        pg_ctl_timeout: section
            .get("pg_ctl_timeout")
            .and_then(|value| int_with_unit(value, Some(Unit::Seconds)))
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map_or(Duration::from_secs(60), Duration::from_secs),
        pre_promote: text("pre_promote"),
        before_stop: text("before_stop"),
        messages,
    }
}

const ROLES: [(ServerRole, &str); 3] = [
    (ServerRole::Primary, "primary"),
    (ServerRole::Replica, "replica"),
    (ServerRole::StandbyLeader, "standby_leader"),
];

/// A scalar as PostgreSQL's files want it: booleans become `on` and `off`.
fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::Bool(true) => Some("on".to_owned()),
        Value::Bool(false) => Some("off".to_owned()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn lines(section: &Map<String, Value>, key: &str) -> Option<Vec<String>> {
    let items = section.get(key)?.as_array()?;
    Some(items.iter().filter_map(scalar_text).collect())
}

fn callbacks(section: &Map<String, Value>) -> BTreeMap<CallbackAction, String> {
    let command = |name: &str| section.get(name).and_then(scalar_text).filter(|text| !text.is_empty());
    CallbackAction::ALL.into_iter().filter_map(|action| Some((action, command(action.as_str())?))).collect()
}

/// `compress` is passed on only where the server compresses (PostgreSQL 15 and later).
fn program_options(
    section: &Map<String, Value>,
    key: &str,
    forbidden: &[&str],
    messages: &mut Vec<String>,
) -> Vec<ProgramOption> {
    let Some(value) = section.get(key) else { return Vec::new() };
    let (mut options, wrong) = options(value, forbidden);
    messages.extend(wrong.into_iter().map(|reason| format!("postgresql.{key}: {reason}")));
    options.retain(|option| {
        let server_side = option.value.as_ref().is_some_and(|value| value.starts_with("server"));
        let keep = option.name != "compress" || server_side;
        if !keep {
            messages.push(format!(
                "postgresql.{key}: the option `compress` must start with `server`, and is left out"
            ));
        }
        keep
    });
    options
}

fn replica_methods(section: &Map<String, Value>) -> Vec<ReplicaMethod> {
    let listed = section.get("create_replica_methods").or_else(|| section.get("create_replica_method"));
    let mut names: Vec<String> = match listed {
        Some(Value::Array(items)) => items.iter().filter_map(scalar_text).collect(),
        Some(Value::String(text)) => text.split(',').map(|name| name.trim().to_owned()).collect(),
        _ => Vec::new(),
    };
    names.retain(|name| !name.is_empty());
    if names.is_empty() {
        // Without any there would be no replica, ever.
        names.push("basebackup".to_owned());
    }
    names.into_iter().map(|name| replica_method(section, name)).collect()
}

fn replica_method(section: &Map<String, Value>, name: String) -> ReplicaMethod {
    if name == "basebackup" {
        return ReplicaMethod::Basebackup;
    }
    let fields = match section.get(&name) {
        Some(Value::Object(fields)) => fields.clone(),
        _ => Map::new(),
    };
    let flag = |key: &str| fields.get(key).and_then(lenient_bool).unwrap_or(false);
    let command = fields
        .get("command")
        .and_then(scalar_text)
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| name.clone());
    let (no_leader, no_params, keep_data) = (flag("no_leader"), flag("no_params"), flag("keep_data"));
    // The flags are for the command, too, unless it wants to hear of nothing that is ours.
    let is_for_command = |key: &str| match key {
        "command" => false,
        "no_leader" | "no_params" | "keep_data" => !no_params,
        _ => true,
    };
    let passed = fields.iter().filter(|(key, _)| is_for_command(key));
    let options = passed.map(|(key, value)| passed_on(key, value)).collect();
    ReplicaMethod::Command(ReplicaCommand { name, command, no_leader, no_params, keep_data, options })
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
        "pg_ctl_timeout" => match int_with_unit(value, Some(Unit::Seconds)) {
            Some(seconds) if seconds >= 0 => Ok(()),
            _ => Err("expects seconds, 0 or more"),
        },
        _ => Ok(()),
    }
}
