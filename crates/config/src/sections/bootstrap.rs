//! `bootstrap`: read only by the member that initialises a new cluster.

use std::collections::BTreeMap;

use bellwether_types::program::{ProgramOption, ours};
use serde_json::{Map, Value};

use crate::{node::Node, section::Section};

/// How a new cluster begins.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// The file has this section: the member may found a cluster. Without it, it waits for one.
    pub is_given: bool,
    /// `bootstrap.dcs` as written; see [`crate::initial_document`].
    pub dcs: Map<String, Value>,
    pub method: BootstrapMethod,
    pub initdb: Vec<ProgramOption>,
    /// What was wrong with `initdb`: a new cluster is not made with any.
    pub(crate) refused_initdb: Vec<String>,
    /// Lines appended to a fresh `pg_hba.conf` when `postgresql.pg_hba` and `hba_file` are not set.
    pub pg_hba: Vec<String>,
    /// Run once with a connection string after the first start.
    pub post_bootstrap: Option<String>,
}

/// Who makes the first data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootstrapMethod {
    Initdb,
    Custom(CustomBootstrap),
}

/// A command that makes the first data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomBootstrap {
    pub name: String,
    pub command: String,
    /// Do not add `--scope` and `--datadir`.
    pub no_params: bool,
    pub keep_existing_recovery_conf: bool,
    /// Recovery settings to write before the first start.
    pub recovery_conf: Option<BTreeMap<String, String>>,
    /// Every other key, passed as `--key=value`.
    pub options: Vec<ProgramOption>,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self {
            is_given: false,
            dcs: Map::new(),
            method: BootstrapMethod::Initdb,
            initdb: Vec::new(),
            refused_initdb: Vec::new(),
            pg_hba: Vec::new(),
            post_bootstrap: None,
        }
    }
}

impl Bootstrap {
    pub(crate) fn read(section: &Section<'_>) -> Self {
        if section.has("users") {
            section.report.warn(
                section.about("users", "User creation is not be supported starting from v4.0.0. Please use \"bootstrap.post_bootstrap\" script to create users."),
            );
        }
        // A `dcs` that is no map is reported by `child`.
        let _ = section.child("dcs");
        let initdb = section.node("initdb").map(Node::to_value).unwrap_or_default();
        let (initdb, refused_initdb) = options(&initdb, &ours::INITDB);
        Self {
            is_given: section.is_given(),
            dcs: match section.node("dcs").map(Node::to_value) {
                Some(Value::Object(dcs)) => dcs,
                _ => Map::new(),
            },
            method: read_method(section),
            initdb,
            refused_initdb,
            pg_hba: section.texts("pg_hba").unwrap_or_default(),
            post_bootstrap: section
                .filled_text("post_bootstrap")
                .or_else(|| section.filled_text("post_init")),
        }
    }
}

/// `method` counts only if the section it names has a `command`; otherwise `initdb` runs.
fn read_method(section: &Section<'_>) -> BootstrapMethod {
    let Some(name) = section.filled_text("method").filter(|name| name != "initdb") else {
        return BootstrapMethod::Initdb;
    };
    let own = section.child(&name);
    let Some(command) = own.filled_text("command") else {
        let reason = "names no section with a `command`, so `initdb` makes the data directory";
        let warning = section.about("method", reason);
        section.report.warn(warning.help(format!("add `bootstrap.{name}.command`, or remove `method`")));
        return BootstrapMethod::Initdb;
    };
    const OURS: [&str; 6] =
        ["command", "no_params", "keep_existing_recovery_conf", "recovery_conf", "scope", "datadir"];
    BootstrapMethod::Custom(CustomBootstrap {
        command,
        no_params: own.flag("no_params").unwrap_or(false),
        keep_existing_recovery_conf: own.flag("keep_existing_recovery_conf").unwrap_or(false),
        recovery_conf: own.text_map("recovery_conf"),
        options: own
            .entries()
            .iter()
            .filter(|entry| !OURS.contains(&entry.key.as_str()))
            .map(|entry| passed_on(&entry.key, &entry.node.to_value()))
            .collect(),
        name,
    })
}

/// A key of a user's own method, as its command gets it: `--key=value`. The command was written for Patroni, which writes values as
/// Python does.
pub(crate) fn passed_on(name: &str, value: &Value) -> ProgramOption {
    let text = match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    ProgramOption { name: name.to_owned(), value: Some(text) }
}

/// Reads the options of an external program: a list of `option` or `{option: value}`, or a map of them. A true flag is an
/// option without value, a false one is left out.
pub(crate) fn options(value: &Value, forbidden: &[&str]) -> (Vec<ProgramOption>, Vec<String>) {
    let mut wrong = Vec::new();
    let mut pairs: Vec<(&str, Option<&Value>)> = Vec::new();
    match value {
        Value::Null => {}
        Value::Object(map) => pairs.extend(map.iter().map(|(name, value)| (name.as_str(), Some(value)))),
        Value::Array(items) => {
            for item in items {
                match item {
                    Value::String(text) => pairs.push((text, None)),
                    Value::Object(map) if map.len() == 1 => {
                        pairs.extend(map.iter().map(|(name, value)| (name.as_str(), Some(value))));
                    }
                    other => wrong.push(format!("expects `option` or `option: value`, not {other}")),
                }
            }
        }
        other => wrong.push(format!("expects a list or a map of options, not {other}")),
    }
    let mut options = Vec::new();
    for (name, value) in pairs {
        let name = name.trim_start_matches('-');
        if forbidden.contains(&name) {
            wrong.push(format!("the option `{name}` must not be given"));
            continue;
        }
        let value = match value {
            None | Some(Value::Bool(true) | Value::Null) => None,
            Some(Value::Bool(false)) => continue,
            Some(Value::Object(_) | Value::Array(_)) => {
                wrong.push(format!("the option `{name}` expects a text"));
                continue;
            }
            Some(Value::String(text)) => Some(text.clone()),
            Some(other) => Some(other.to_string()),
        };
        options.push(ProgramOption { name: name.to_owned(), value });
    }
    (options, wrong)
}
