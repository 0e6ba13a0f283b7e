//! What every command works with: the configuration, the store, the members' REST APIs, the person.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use bellwether_api_client::{Answer, ApiClient, BasicAuth, CertificateFiles, ClientError, Method, Verify};
use bellwether_config::{ClientConfig, Loaded, load_client};
use bellwether_dcs::{Deadline, Snapshot, Store, codec};
use bellwether_types::{
    ClusterName,
    cluster::{Cluster, Member},
};
use serde_json::Value;

use crate::{
    command::Globals,
    error::{CliError, OpenError},
    manner::Manner,
    terminal::{Dialogue, Terminal},
};

/// How long the store may take to answer.
const STORE_PATIENCE: Duration = Duration::from_secs(10);
/// How long a member may take to show that somebody listens.
pub(crate) const PROBE_PATIENCE: Duration = Duration::from_secs(2);
/// How long ordinary calls may take.
pub(crate) const CALL_PATIENCE: Duration = Duration::from_secs(10);
/// Calls that end only when the work is done (a restart, a switchover).
pub(crate) const WORK_PATIENCE: Duration = Duration::from_secs(600);

/// Opens the store that a configuration names. Only the binary knows the adapters.
#[async_trait]
pub trait OpenStore: Send + Sync {
    /// `config.scope` is the cluster that the command is about, and `config.store` is what the file says.
    async fn open(&self, config: &ClientConfig) -> Result<Arc<dyn Store>, OpenError>;
}

/// What a command needs of the process around it.
pub struct Surroundings {
    pub stores: Arc<dyn OpenStore>,
    pub terminal: Box<dyn Terminal>,
    /// The environment of the process.
    pub env: BTreeMap<String, String>,
    /// The whole command line of the program, for completion and manual pages.
    pub program: clap::Command,
}

impl std::fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings").field("program", &self.program.get_name()).finish_non_exhaustive()
    }
}

/// One run of a command.
pub(crate) struct Session {
    pub(crate) manner: Manner,
    pub(crate) talk: Dialogue,
    pub(crate) config: ClientConfig,
    /// The local configuration as written, secrets included: never shown as it is.
    pub(crate) document: Value,
    pub(crate) env: BTreeMap<String, String>,
    stores: Arc<dyn OpenStore>,
    api: ApiClient,
}

/// A cluster and its store.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) name: ClusterName,
    pub(crate) store: Arc<dyn Store>,
}

impl Target {
    pub(crate) async fn snapshot(&self) -> Result<Snapshot, CliError> {
        Ok(self.store.snapshot(deadline()).await?)
    }

    pub(crate) async fn cluster(&self) -> Result<Cluster, CliError> {
        Ok(codec::decode(&self.snapshot().await?))
    }
}

/// By when the store must have answered a call that is made now.
pub(crate) fn deadline() -> Deadline {
    Deadline::after(STORE_PATIENCE)
}

impl Session {
    pub(crate) fn new(
        manner: Manner,
        globals: &Globals,
        talk: Dialogue,
        env: BTreeMap<String, String>,
        stores: Arc<dyn OpenStore>,
    ) -> Result<Self, (CliError, Dialogue)> {
        match configuration(manner, globals, &env) {
            Ok((loaded, api)) => {
                let Loaded { config, document, .. } = loaded;
                Ok(Self { manner, talk, config, document, env, stores, api })
            }
            Err(error) => Err((error, talk)),
        }
    }

    /// The cluster that is meant, with its store opened.
    pub(crate) async fn target(&self, given: Option<&str>) -> Result<Target, CliError> {
        let name = self.cluster_name(given)?;
        let config = ClientConfig { scope: Some(name.clone()), ..self.config.clone() };
        if config.store.is_none() {
            return Err(CliError::with_help(
                "Can not find suitable configuration of distributed configuration store",
                "name a configuration file with `-c FILE`; a member's file serves",
            ));
        }
        Ok(Target { store: self.stores.open(&config).await?, name })
    }

    fn cluster_name(&self, given: Option<&str>) -> Result<ClusterName, CliError> {
        match given {
            Some(given) => ClusterName::new(given)
                .map_err(|error| CliError::refused(format!("`{given}` is no name of a cluster: {error}"))),
            None => self.config.scope.clone().ok_or_else(|| {
                CliError::Usage(
                    "Missing argument 'CLUSTER_NAME': the configuration has no `scope` either.".to_owned(),
                )
            }),
        }
    }

    /// Splits `CLUSTER MEMBER...`. In our own manner the cluster may be left out where the configuration names it.
    pub(crate) fn split_names<'a>(
        &self,
        names: &'a [String],
    ) -> Result<(Option<&'a str>, &'a [String]), CliError> {
        match (names.split_first(), self.manner, &self.config.scope) {
            (None, Manner::Patronictl, _) | (None, _, None) => {
                Err(CliError::Usage("Missing argument 'CLUSTER_NAME'.".to_owned()))
            }
            (None, Manner::Bellwether, Some(_)) => Ok((None, names)),
            (Some((first, _)), Manner::Bellwether, Some(scope)) if first != scope.as_str() => {
                Ok((None, names))
            }
            (Some((first, rest)), _, _) => Ok((Some(first), rest)),
        }
    }

    /// Calls a member's REST API. Every status is an answer.
    pub(crate) async fn call(
        &self,
        member: &Member,
        method: Method,
        path: &str,
        body: Option<&Value>,
        patience: Duration,
    ) -> Result<Answer, ClientError> {
        let url = member.api_url.as_deref().unwrap_or_default();
        self.api.call(method, url, path, body, patience).await
    }

    /// Where the agent of this node keeps its journal, if the configuration is a member's: beside the data directory.
    pub(crate) fn own_journal_dir(&self) -> Option<PathBuf> {
        let data_dir = &self.config.postgresql.as_ref()?.data_dir;
        let mut name = data_dir.file_name()?.to_owned();
        name.push(".bellwether");
        Some(data_dir.with_file_name(name))
    }

    /// Whether the member's REST API answers at all.
    pub(crate) async fn is_reachable(&self, member: &Member) -> bool {
        self.call(member, Method::GET, "liveness", None, PROBE_PATIENCE).await.is_ok()
    }
}

/// The leader, then the other members, as far as they have a REST API.
pub(crate) fn with_api(cluster: &Cluster) -> Vec<&Member> {
    let leader = cluster.leader_name();
    let mut members: Vec<&Member> =
        cluster.members.values().filter(|member| member.api_url.is_some()).collect();
    members.sort_by_key(|member| Some(&member.name) != leader);
    members
}

fn configuration(
    manner: Manner,
    globals: &Globals,
    env: &BTreeMap<String, String>,
) -> Result<(Loaded<ClientConfig>, ApiClient), CliError> {
    if globals.group.is_some() {
        return Err(CliError::refused("Citus clusters (--group) are not supported yet"));
    }
    let path = config_file(manner, globals, env)?;
    let loaded = load_client(path.as_deref(), env)?;
    for warning in &loaded.warnings {
        tracing::debug!(%warning, "the configuration has a doubtful value");
    }
    let api = ApiClient::new(client_settings(&loaded.config, globals.insecure))?;
    Ok((loaded, api))
}

fn config_file(
    manner: Manner,
    globals: &Globals,
    env: &BTreeMap<String, String>,
) -> Result<Option<PathBuf>, CliError> {
    let variables = match manner {
        Manner::Patronictl => ["PATRONICTL_CONFIG_FILE", "BELLWETHER_CONFIG"],
        Manner::Bellwether => ["BELLWETHER_CONFIG", "PATRONICTL_CONFIG_FILE"],
    };
    let named = variables.iter().find_map(|name| env.get(*name)).filter(|path| !path.is_empty());
    if let Some(path) = globals.config_file.clone().or_else(|| named.map(PathBuf::from)) {
        let is_readable = path.is_dir() || std::fs::File::open(&path).is_ok();
        return match is_readable {
            true => Ok(Some(path)),
            false => Err(CliError::refused(format!(
                "Provided config file {} not existing or no read rights. Check the -c/--config-file parameter",
                path.display()
            ))),
        };
    }
    let base = env
        .get("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| env.get("HOME").map(|home| PathBuf::from(home).join(".config")));
    let personal = base.map(|base| base.join("patroni/patronictl.yaml"));
    let system = Some(PathBuf::from("/etc/bellwether/bellwether.yml"));
    let order = match manner {
        Manner::Patronictl => [personal, system],
        Manner::Bellwether => [system, personal],
    };
    Ok(order.into_iter().flatten().find(|path| path.exists()))
}

fn client_settings(config: &ClientConfig, insecure: bool) -> bellwether_api_client::ClientConfig {
    let ctl = &config.ctl;
    bellwether_api_client::ClientConfig {
        authentication: ctl
            .authentication
            .as_ref()
            .map(|auth| BasicAuth { username: auth.username.clone(), password: auth.password.clone() }),
        cacert: ctl.cacert.clone(),
        certificate: ctl.certfile.clone().map(|certfile| CertificateFiles {
            certfile,
            keyfile: ctl.keyfile.clone(),
            keyfile_password: ctl.keyfile_password.clone(),
        }),
        verify: if ctl.insecure || insecure { Verify::Nothing } else { Verify::Full },
    }
}
