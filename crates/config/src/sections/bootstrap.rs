//! `bootstrap`: read only by the member that initialises a new cluster.

use std::{collections::BTreeMap, fmt};

use serde_json::{Map, Value};

/// One option of an external program: `--name` or `--name=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandOption {
    /// Without dashes.
    pub name: String,
    pub value: Option<String>,
}

impl fmt::Display for CommandOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "--{}={value}", self.name),
            None => write!(f, "--{}", self.name),
        }
    }
}

/// How a new cluster begins.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// `bootstrap.dcs` as written; see [`crate::initial_document`].
    pub dcs: Map<String, Value>,
    pub method: BootstrapMethod,
    pub initdb: Vec<CommandOption>,
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
    pub options: Vec<CommandOption>,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self {
            dcs: Map::new(),
            method: BootstrapMethod::Initdb,
            initdb: Vec::new(),
            pg_hba: Vec::new(),
            post_bootstrap: None,
        }
    }
}
