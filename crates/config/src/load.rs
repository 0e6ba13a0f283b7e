//! From files and environment to a checked configuration.

use std::{collections::BTreeMap, fmt, path::Path};

use serde_json::Value;

use crate::{
    config::{ClientConfig, Config, WitnessConfig},
    problem::{LoadError, Problem},
};

/// A configuration that can be used, and what was noticed on the way.
pub struct Loaded<T = Config> {
    pub config: T,
    /// Unknown keys and doubtful values; they do not keep the configuration from being used.
    pub warnings: Vec<Problem>,
    /// The merged local document, secrets included: for comparison on reload, never for people.
    pub document: Value,
}

impl<T> Loaded<T> {
    /// The merged local document with every secret replaced, for people.
    pub fn redacted(&self) -> Value {
        crate::redact::redacted(&self.document)
    }
}

impl<T: fmt::Debug> fmt::Debug for Loaded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("config", &self.config)
            .field("warnings", &self.warnings)
            .field("document", &self.redacted())
            .finish()
    }
}

/// Loads the configuration of a member.
///
/// `path` is a file or a directory of `*.yml`/`*.yaml`; one that does not exist counts as not given. `env` is the
/// process environment; only `PATRONI_*` is looked at. Every problem comes out in one run.
pub fn load(path: Option<&Path>, env: &BTreeMap<String, String>) -> Result<Loaded, LoadError> {
    let _ = (path, env);
    Err(LoadError::Empty)
}

/// Loads what the command line needs; a member's file serves, and so does a short one with `scope` and a store.
pub fn load_client(
    path: Option<&Path>,
    env: &BTreeMap<String, String>,
) -> Result<Loaded<ClientConfig>, LoadError> {
    let _ = (path, env);
    Err(LoadError::Empty)
}

/// Loads the configuration of a witness: `name`, `scope` and `raft`.
pub fn load_witness(
    path: Option<&Path>,
    env: &BTreeMap<String, String>,
) -> Result<Loaded<WitnessConfig>, LoadError> {
    let _ = (path, env);
    Err(LoadError::Empty)
}
