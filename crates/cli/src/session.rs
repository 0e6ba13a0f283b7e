//! What every command works with: the configuration, the store, the members' REST APIs, the person.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use bellwether_api_client::{
    Answer, ApiClient, BasicAuth, CertificateFiles, ClientError, Method, PeerStatus, Verify,
};
use bellwether_config::{
    ClientConfig, Loaded, StoreAddress, load_client, sections::store::Store as StoreSection,
};
use bellwether_dcs::{Deadline, Snapshot, Store};
use bellwether_types::{
    ClusterName,
    cluster::{Cluster, Member},
};
use serde_json::Value;

use crate::{
    command::Globals,
    error::{CliError, OpenError},
    groups::{COORDINATOR, Groups, Part},
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
    /// `--group`.
    pub(crate) group: Option<i32>,
    stores: Arc<dyn OpenStore>,
    api: ApiClient,
}

/// A cluster and its store.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) name: ClusterName,
    /// Its keys begin below the cluster; for [`Part::EveryGroup`] with the number of the group.
    pub(crate) store: Arc<dyn Store>,
    pub(crate) part: Part,
}

impl Target {
    pub(crate) async fn snapshot(&self) -> Result<Snapshot, CliError> {
        Ok(self.store.snapshot(deadline()).await?)
    }

    pub(crate) async fn groups(&self) -> Result<Groups, CliError> {
        Ok(Groups::decode(self.part, &self.snapshot().await?))
    }

    /// The cluster; of all groups, the coordinator's.
    pub(crate) async fn cluster(&self) -> Result<Cluster, CliError> {
        Ok(self.groups().await?.main().clone())
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
                Ok(Self { manner, talk, config, document, env, group: globals.group, stores, api })
            }
            Err(error) => Err((error, talk)),
        }
    }

    /// The cluster that is meant, with its store opened: of a Citus cluster the group of `--group`, or all of them.
    pub(crate) async fn target(&self, given: Option<&str>) -> Result<Target, CliError> {
        let part = match (self.group, self.own_group()) {
            (Some(group), _) => Part::Group(group),
            (None, Some(_)) => Part::EveryGroup,
            (None, None) => Part::Plain,
        };
        self.target_part(given, part).await
    }

    /// As [`Session::target`], with the configuration's own group where none was given.
    pub(crate) async fn target_of_own_group(&self, given: Option<&str>) -> Result<Target, CliError> {
        let part = self.group.or_else(|| self.own_group()).map_or(Part::Plain, Part::Group);
        self.target_part(given, part).await
    }

    pub(crate) async fn target_part(&self, given: Option<&str>, part: Part) -> Result<Target, CliError> {
        let name = self.cluster_name(given)?;
        let Some(store) = &self.config.store else {
            return Err(CliError::with_help(
                "Can not find suitable configuration of distributed configuration store\n\
                 Available implementations: consul, etcd3, raft, zookeeper",
                "name a configuration file with `-c FILE`; a member's file serves",
            ));
        };
        let mut config = ClientConfig { scope: Some(name.clone()), ..self.config.clone() };
        match part {
            Part::Plain => {}
            _ if matches!(store, StoreSection::Raft(_)) => {
                return Err(CliError::refused("the embedded store does not keep Citus clusters"));
            }
            // A group is a cluster that is named by its number, in the namespace of the whole.
            Part::Group(group) => {
                config.namespace = format!("{}/{name}", config.namespace);
                config.scope = Some(
                    ClusterName::new(group.to_string())
                        .map_err(|error| CliError::refused(format!("--group {group}: {error}")))?,
                );
            }
            Part::EveryGroup => {}
        }
        Ok(Target { store: self.stores.open(&config).await?, name, part })
    }

    /// The group that the configuration's own member belongs to; `None` without Citus.
    pub(crate) fn own_group(&self) -> Option<i32> {
        let citus = self.document.get("citus")?;
        citus.get("database").filter(|database| database.is_string())?;
        match citus.get("group")? {
            Value::Number(number) => number.as_i64()?.try_into().ok(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    fn cluster_name(&self, given: Option<&str>) -> Result<ClusterName, CliError> {
        match given {
            Some(given) => ClusterName::new(given)
                .map_err(|error| CliError::refused(format!("`{given}` is no name of a cluster: {error}"))),
            None => self.config.scope.clone().ok_or_else(|| {
                let message = "Missing argument 'CLUSTER_NAME': the configuration has no `scope` either.";
                match self.manner {
                    Manner::Patronictl => CliError::refused(message),
                    Manner::Bellwether => CliError::Usage(message.to_owned()),
                }
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

    /// What a member says of itself when it is asked.
    pub(crate) async fn status(&self, api_url: &str, patience: Duration) -> Result<PeerStatus, ClientError> {
        self.api.get_status(api_url, patience).await
    }

    /// Where the agent of this node keeps its journal, if the configuration is a member's: beside the data directory.
    pub(crate) fn own_journal_dir(&self) -> Option<PathBuf> {
        let data_dir = &self.config.postgresql.as_ref()?.data_dir;
        let mut name = data_dir.file_name()?.to_owned();
        name.push(".bellwether");
        Some(data_dir.with_file_name(name))
    }

    /// The same cluster, where a request to it is written: of all groups, the coordinator's.
    pub(crate) async fn target_to_write(&self, target: &Target) -> Result<Target, CliError> {
        let part = if target.part == Part::EveryGroup { Part::Group(COORDINATOR) } else { target.part };
        self.target_part(Some(target.name.as_str()), part).await
    }

    /// Says that a member was passed over.
    pub(crate) fn not_accessible(&mut self, member: &Member, error: &ClientError) {
        if self.manner == Manner::Bellwether {
            self.talk.warn(error);
        }
        self.talk.warn(format!("Member {} is not accessible", member.name));
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
    let path = config_file(manner, globals, env)?;
    let store = globals.dcs_url.as_deref().map(store_address).transpose()?;
    let loaded = load_client(path.as_deref(), env, store.as_ref())?;
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

/// `[scheme://]host[:port][/namespace]`. Without a scheme, the port tells the kind of store.
fn store_address(url: &str) -> Result<StoreAddress, CliError> {
    const KNOWN: [(&str, u16); 5] =
        [("zookeeper", 2181), ("exhibitor", 8181), ("consul", 8500), ("etcd", 2379), ("etcd3", 2379)];
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, url),
    };
    let (address, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            let port = port.parse::<u16>();
            let bad = |_| CliError::refused(format!("the DCS url {url} has no port that is a number"));
            (host, Some(port.map_err(bad)?))
        }
        _ => (address, None),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let section = match scheme {
        Some(scheme) => scheme,
        None => KNOWN.iter().find(|(_, usual)| Some(*usual) == port).map_or("etcd", |(name, _)| name),
    };
    let Some((_, usual)) = KNOWN.iter().find(|(name, _)| *name == section) else {
        return Err(CliError::refused(format!("Unknown dcs scheme: {section}")));
    };
    Ok(StoreAddress {
        // Protocol v2 has gone from etcd; the same servers speak v3.
        section: if section == "etcd" { "etcd3" } else { section }.to_owned(),
        host: if host.is_empty() { "localhost" } else { host }.to_owned(),
        port: port.unwrap_or(*usual),
        namespace: Some(path.trim_matches('/').to_owned()).filter(|path| !path.is_empty()),
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_named_by_its_url() {
        let read = |url| {
            let StoreAddress { section, host, port, namespace } = store_address(url).unwrap();
            format!("{section} {host} {port} {}", namespace.unwrap_or_default())
        };
        for (url, expected) in [
            ("etcd3://10.0.0.1:2479/other", "etcd3 10.0.0.1 2479 other"),
            ("etcd://10.0.0.1", "etcd3 10.0.0.1 2379 "),
            ("10.0.0.1:8500", "consul 10.0.0.1 8500 "),
            ("10.0.0.1:2181/", "zookeeper 10.0.0.1 2181 "),
            ("10.0.0.1:1234", "etcd3 10.0.0.1 1234 "),
            ("zookeeper://zk", "zookeeper zk 2181 "),
            ("etcd3://[::1]:2379/a/b", "etcd3 ::1 2379 a/b"),
        ] {
            assert_eq!(read(url), expected, "{url}");
        }
        assert_eq!(store_address("foo://x").unwrap_err().to_string(), "Unknown dcs scheme: foo");
    }
}
