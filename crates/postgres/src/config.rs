//! What the configuration files are to say. Pure; [`crate::config_files`] writes them.

#[cfg(test)]
pub(crate) mod tests;
mod text;

use std::collections::BTreeMap;

use bellwether_types::ServerRole;

pub(crate) use self::text::{is_generated, render, render_lines, setting, without_recovery_settings};
use crate::{
    conninfo::Conninfo,
    control::ControlData,
    parameters::{self, RECOVERY, RECOVERY_TARGETS},
    settings::{Credentials, HostPort, PgSettings},
};

/// Everything about the configuration that is decided elsewhere and not in the settings.
#[derive(Clone, Debug)]
pub struct ConfigPlan {
    pub role: ServerRole,
    pub recovery: Recovery,
    /// The value to write; `None` = the one in the settings' parameters, if any.
    pub synchronous_standby_names: Option<String>,
    /// Parameters that win over the settings, for example a forced `hot_standby_feedback`.
    pub overrides: BTreeMap<String, String>,
    /// Recovery settings of a standby that win over the settings, for example the `restore_command` of a standby cluster.
    pub recovery_overrides: BTreeMap<String, String>,
}

impl ConfigPlan {
    /// A primary with the settings' own parameters.
    pub fn primary() -> Self {
        Self {
            role: ServerRole::Primary,
            recovery: Recovery::None,
            synchronous_standby_names: None,
            overrides: BTreeMap::new(),
            recovery_overrides: BTreeMap::new(),
        }
    }

    /// A replica of `upstream`, or of nobody.
    pub fn standby(upstream: Option<Upstream>) -> Self {
        Self { role: ServerRole::Replica, recovery: Recovery::Standby { upstream }, ..Self::primary() }
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
    /// Signal files and recovery settings stay as they are (custom bootstrap).
    AsFound,
}

impl Recovery {
    /// It ends by itself, so nobody needs to see it.
    fn ends_in_promotion(&self) -> bool {
        match self {
            Self::None | Self::Standby { .. } => false,
            Self::AsFound => true,
            Self::Targeted { settings } => {
                let set =
                    |name: &str| settings.get(name).map(String::as_str).filter(|value| !value.is_empty());
                let has_target = RECOVERY_TARGETS.iter().any(|target| set(target).is_some());
                !has_target || set("recovery_target_action") == Some("promote")
            }
        }
    }
}

/// The server to stream from.
#[derive(Clone, Debug)]
pub struct Upstream {
    pub address: HostPort,
    /// Further servers of a cluster elsewhere: the first of all that answers, or that may be written to if there is a slot.
    pub alternatives: Vec<HostPort>,
    /// `primary_slot_name`; `None` = no slot.
    pub slot: Option<String>,
    /// `None` = the replication role of the settings.
    pub credentials: Option<Credentials>,
    /// Written as `dbname`; needed by slot synchronisation of PostgreSQL 17 and later.
    pub database: Option<String>,
}

impl Upstream {
    pub fn new(address: HostPort, slot: Option<String>) -> Self {
        Self { address, alternatives: Vec::new(), slot, credentials: None, database: None }
    }

    pub(crate) fn addresses(&self) -> impl Iterator<Item = &HostPort> {
        std::iter::once(&self.address).chain(&self.alternatives)
    }

    pub(crate) fn credentials<'a>(&'a self, settings: &'a PgSettings) -> &'a Credentials {
        self.credentials.as_ref().unwrap_or(&settings.replication)
    }
}

/// A parameter that was written with another value than configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaisedParameter {
    pub name: String,
    pub configured: u32,
    /// The value of the control file, which is used.
    pub control: u32,
}

/// A parameter whose new value waits for a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingRestart {
    pub name: String,
    pub old_value: String,
    /// `?` if it could not be determined.
    pub new_value: String,
}

/// The complete content of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effective {
    /// In front of everything else.
    pub(crate) defaults: BTreeMap<String, String>,
    /// Everything but the recovery settings, the controlled parameters included.
    pub(crate) parameters: BTreeMap<String, String>,
    pub(crate) recovery: BTreeMap<String, String>,
    pub(crate) command_line: Vec<(String, String)>,
    pub(crate) raised: Vec<RaisedParameter>,
    pub(crate) warnings: Vec<String>,
}

/// Puts together what the files are to say. `control`: of the stopped server, when it is about to start as a standby.
pub(crate) fn effective(
    settings: &PgSettings,
    plan: &ConfigPlan,
    control: Option<&ControlData>,
    major: u32,
) -> Effective {
    let mut warnings = Vec::new();
    let mut parameters = BTreeMap::new();
    for (name, value) in
        settings.parameters.iter().chain(settings.role_parameters.get(&plan.role).into_iter().flatten())
    {
        let name = name.to_ascii_lowercase();
        if parameters::is_controlled(&name) {
            warnings.push(format!("parameter {name} is controlled by the cluster: its value is ignored"));
        } else {
            parameters.insert(name, value.clone());
        }
    }
    let mut given_recovery: BTreeMap<String, String> = BTreeMap::new();
    for name in RECOVERY {
        if let Some(value) = parameters.remove(name) {
            given_recovery.insert(name.to_owned(), value);
        }
    }
    given_recovery.extend(
        settings.recovery_conf.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())),
    );
    adapt_recovery(&mut given_recovery, major, &mut warnings);

    let mut controlled = parameters::controlled(settings, &mut warnings);
    let mut raised = Vec::new();
    match (&plan.recovery, control) {
        (Recovery::Standby { .. }, Some(control)) => {
            raised = parameters::raise_to_control(&mut controlled, control, &mut warnings);
        }
        // Parameter increases in the WAL must not abort a recovery that ends in a promotion.
        (recovery, _) if recovery.ends_in_promotion() => {
            controlled.insert("hot_standby".to_owned(), "off".to_owned());
        }
        _ => {}
    }
    let command_line = parameters::command_line(&controlled);
    parameters.extend(controlled);
    parameters.extend(plan.overrides.clone());
    if let Some(names) = &plan.synchronous_standby_names {
        parameters.insert("synchronous_standby_names".to_owned(), names.clone());
    }
    let mut plan = plan.clone();
    if let Recovery::Targeted { settings } = &mut plan.recovery {
        *settings = settings.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect();
        adapt_recovery(settings, major, &mut warnings);
    }
    let recovery = recovery(settings, &plan, given_recovery, major);
    let defaults = settings.failover_defaults.clone();
    Effective { defaults, parameters, recovery, command_line, raised, warnings }
}

/// Old names of recovery settings, and those that this version does not know.
fn adapt_recovery(given: &mut BTreeMap<String, String>, major: u32, warnings: &mut Vec<String>) {
    if let Some(file) = given.remove("trigger_file") {
        given.entry("promote_trigger_file".to_owned()).or_insert(file);
    }
    given.remove("standby_mode");
    let unknown: Vec<String> = given
        .keys()
        .filter(|name| !RECOVERY.contains(&name.as_str()) || (*name == "promote_trigger_file" && major >= 16))
        .cloned()
        .collect();
    for name in unknown {
        warnings.push(format!("recovery setting {name} is not known to PostgreSQL {major} and is left out"));
        given.remove(&name);
    }
}

fn recovery(
    settings: &PgSettings,
    plan: &ConfigPlan,
    given: BTreeMap<String, String>,
    major: u32,
) -> BTreeMap<String, String> {
    let owned = |name: &str| {
        name.starts_with("recovery_target") || ["primary_conninfo", "primary_slot_name"].contains(&name)
    };
    let mut values: BTreeMap<String, String> =
        RECOVERY_TARGETS.iter().map(|name| ((*name).to_owned(), String::new())).collect();
    match &plan.recovery {
        // Without effect on a primary, but pg_rewind looks for `restore_command` in the files of a stopped one.
        Recovery::AsFound => return BTreeMap::new(),
        Recovery::None => return given.into_iter().filter(|(name, _)| !owned(name)).collect(),
        Recovery::Standby { upstream } => {
            values.extend(given.into_iter().filter(|(name, _)| !owned(name)));
            values.extend(plan.recovery_overrides.clone());
            let set = |name: &str, value: String| (name.to_owned(), value);
            let conninfo = upstream.as_ref().map(|upstream| primary_conninfo(settings, upstream, major));
            values.extend([
                set("recovery_target_timeline", "latest".to_owned()),
                set("primary_conninfo", conninfo.unwrap_or_default()),
                set(
                    "primary_slot_name",
                    upstream.as_ref().and_then(|upstream| upstream.slot.clone()).unwrap_or_default(),
                ),
            ]);
        }
        Recovery::Targeted { settings } => {
            values.extend(given);
            values.extend(settings.clone());
        }
    }
    values
}

/// How this member connects to its upstream. The application name is what synchronous replication knows it by.
pub(crate) fn primary_conninfo(settings: &PgSettings, upstream: &Upstream, major: u32) -> String {
    let credentials = upstream.credentials(settings);
    let mut info = Conninfo::new(&upstream.address, credentials, major)
        .with("application_name", settings.member.as_str())
        .with("dbname", upstream.database.as_deref().unwrap_or_default())
        .with("krbsrvname", settings.krbsrvname.as_deref().unwrap_or_default());
    if credentials.password.is_some() {
        info.set("passfile", &settings.pgpass.to_string_lossy());
    }
    if !credentials.options.contains_key("sslmode") {
        info.set("sslmode", "prefer");
    }
    if !upstream.alternatives.is_empty() {
        let (hosts, ports) = lists(upstream);
        info.replace("host", &hosts);
        info.replace("port", &ports);
        // The slot is on one of them, and moves with the primary.
        if upstream.slot.is_some() {
            info.set("target_session_attrs", "read-write");
        }
    }
    info.to_string()
}

/// Hosts and ports as libpq takes them: one port counts for all hosts.
fn lists(upstream: &Upstream) -> (String, String) {
    let hosts: Vec<&str> = upstream.addresses().map(|address| address.host.as_str()).collect();
    let ports: Vec<String> = upstream.addresses().map(|address| address.port.to_string()).collect();
    let is_one = ports.iter().all(|port| *port == ports[0]);
    (hosts.join(","), if is_one { ports[0].clone() } else { ports.join(",") })
}
