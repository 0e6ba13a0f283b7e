//! From files and environment to a checked configuration.

use std::{collections::BTreeMap, fmt, path::Path};

use bellwether_types::{ClusterName, MemberName, Tags};
use serde_json::Value;

use crate::{
    check,
    config::{ClientConfig, Config, DefaultsChoice, ProxyConfig, WitnessConfig},
    node::Node,
    problem::{LoadError, Origin, Problem},
    section::{Report, Section},
    sections::{
        bootstrap::Bootstrap,
        citus::Citus,
        dns::Dns,
        log::Log,
        pooler::{AuthType, Pooler},
        postgresql::Postgresql,
        raft::Raft,
        restapi::{Ctl, RestApi},
        router::Router,
        store::{STORES, Store},
        vip::Vip,
        watchdog::Watchdog,
    },
    source::{self, Source},
    unknown,
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
/// process environment; only `PATRONI_*` and `HOME` are looked at. Every problem comes out in one run.
pub fn load(path: Option<&Path>, env: &BTreeMap<String, String>) -> Result<Loaded, LoadError> {
    read(path, env, |root| {
        let raft = root.child("raft");
        if raft.flag("witness") == Some(true) {
            let problem = raft.about("witness", "this node is a witness and runs no PostgreSQL");
            root.report.problem(problem.help("start it with `bellwether witness`, or remove `raft.witness`"));
            return None;
        }
        let config = member(root, env);
        if let Some(config) = &config {
            check::member(config, root);
        }
        config
    })
}

/// A store that the command line names, instead of the one in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreAddress {
    /// The section that it stands for: `etcd3`, `consul`, ...
    pub section: String,
    pub host: String,
    pub port: u16,
    /// Replaces `namespace` too, if given.
    pub namespace: Option<String>,
}

/// Loads what the command line needs; a member's file serves, and so does a short one with `scope` and a store.
///
/// Nothing at all is a configuration too: a cluster and a store may be named on the command line (`store`, which replaces
/// every section of an external store). What is wrong with sections that only an agent needs is told as a warning.
pub fn load_client(
    path: Option<&Path>,
    env: &BTreeMap<String, String>,
    store: Option<&StoreAddress>,
) -> Result<Loaded<ClientConfig>, LoadError> {
    let mut source = match source::read(path, env) {
        Err(LoadError::Empty) if path.is_none() => Source::empty(),
        source => source?,
    };
    if let Some(store) = store {
        replace_store(&mut source.root, store);
    }
    let own = Report::default();
    let agents = Report::default();
    let config = {
        let (root, full) = (Section::root(&source.root, &own), Section::root(&source.root, &agents));
        let (restapi, postgresql) = (full.child("restapi"), full.child("postgresql"));
        ClientConfig {
            name: name(&full),
            scope: scope(&root),
            namespace: namespace(&root),
            log: Log::read(&full.child("log")),
            ctl: Ctl::read(&root.child("ctl"), &restapi),
            restapi: restapi.has("listen").then(|| RestApi::read(&restapi)).flatten(),
            postgresql: postgresql.has("listen").then(|| Postgresql::read(&postgresql, home(env))).flatten(),
            store: STORES.iter().any(|store| root.has(store)).then(|| Store::read(&root)).flatten(),
        }
    };
    let (found, _) = own.into_parts();
    let (for_agents, _) = agents.into_parts();
    let mut problems = [source.problems, found].concat();
    in_order(&mut problems);
    if !problems.is_empty() {
        return Err(LoadError::Invalid(problems));
    }
    let mut warnings = [
        source.warnings,
        for_agents,
        unknown::warnings(&source.root),
        if source.holds_secrets { check::files_with_secrets(&source.files) } else { Vec::new() },
    ]
    .concat();
    in_order(&mut warnings);
    Ok(Loaded { config, warnings, document: source.root.to_value() })
}

fn replace_store(root: &mut Node, store: &StoreAddress) {
    for section in ["zookeeper", "exhibitor", "consul", "etcd", "etcd3"] {
        root.remove(section);
    }
    let text = |text: &str| Node::text(text, Origin::default());
    let address = match store.host.contains(':') {
        true => format!("[{}]:{}", store.host, store.port),
        false => format!("{}:{}", store.host, store.port),
    };
    let key = if store.section == "zookeeper" { "hosts" } else { "host" };
    root.insert_at(&[&store.section, key], text(&address));
    if let Some(namespace) = &store.namespace {
        root.remove("namespace");
        root.insert("namespace", text(namespace));
    }
}

/// Loads the configuration of a witness: `name`, `scope` and `raft`.
pub fn load_witness(
    path: Option<&Path>,
    env: &BTreeMap<String, String>,
) -> Result<Loaded<WitnessConfig>, LoadError> {
    read(path, env, |root| {
        let raft = root.child("raft");
        if !raft.has("self_addr") {
            raft.missing("self_addr", "give the address of this witness's vote");
        }
        let (name, scope) = (required_name(root), required_scope(root));
        let (log, raft) = (Log::read(&root.child("log")), Raft::read(&raft));
        if let Some(raft) = &raft {
            check::raft(raft, root);
        }
        Some(WitnessConfig { name: name?, scope: scope?, namespace: namespace(root), log, raft: raft? })
    })
}

/// Loads the configuration of a proxy without an agent: `scope`, a store, `router` or `pooler`.
pub fn load_proxy(
    path: Option<&Path>,
    env: &BTreeMap<String, String>,
) -> Result<Loaded<ProxyConfig>, LoadError> {
    read(path, env, |root| {
        let scope = required_scope(root);
        let (router, pooler) = (Router::read(root), Pooler::read(root));
        if router.is_none() {
            root.missing("router", "write `router: {}` for the customary listeners, or `pooler:` for pools");
        }
        if let Some(pooler) = &pooler {
            check_who_is_asked(pooler, &root.child("pooler"));
        }
        let (log, store) = (Log::read(&root.child("log")), Store::read(root));
        let ctl = Ctl::read(&root.child("ctl"), &root.child("restapi"));
        Some(ProxyConfig {
            name: name(root).or_else(|| PROXY.parse().ok())?,
            scope: scope?,
            namespace: namespace(root),
            log,
            ctl,
            store: store?,
            tags: tags(root),
            router: Box::new(router?),
            pooler: pooler.map(Box::new),
        })
    })
}

/// The name of a proxy that the file gives none.
const PROXY: &str = "proxy";

/// Without an agent there is no superuser who could look passwords up.
fn check_who_is_asked(pooler: &Pooler, section: &Section<'_>) {
    let shows_passwords = !matches!(pooler.auth_type, AuthType::Trust | AuthType::Cert);
    if pooler.auth_query.is_some() && pooler.auth_user.is_none() {
        section
            .missing("auth_user", "name the user who runs `auth_query`; its password stands in `auth_file`");
    } else if shows_passwords && pooler.auth_file.is_none() && pooler.auth_user.is_none() {
        section.missing("auth_file", "name a userlist.txt, and `auth_user` for users that are not in it");
    }
}

fn read<T>(
    path: Option<&Path>,
    env: &BTreeMap<String, String>,
    build: impl FnOnce(&Section<'_>) -> Option<T>,
) -> Result<Loaded<T>, LoadError> {
    let source = source::read(path, env)?;
    let report = Report::default();
    let config = build(&Section::root(&source.root, &report));
    let (found, doubtful) = report.into_parts();
    let mut problems = [source.problems, found].concat();
    let mut warnings = [
        source.warnings,
        doubtful,
        unknown::warnings(&source.root),
        if source.holds_secrets { check::files_with_secrets(&source.files) } else { Vec::new() },
    ]
    .concat();
    in_order(&mut problems);
    in_order(&mut warnings);
    match config {
        Some(config) if problems.is_empty() => {
            Ok(Loaded { config, warnings, document: source.root.to_value() })
        }
        _ => Err(LoadError::Invalid(problems)),
    }
}

/// By file and line. A section may be read twice (for a fallback); its problems are told once.
fn in_order(problems: &mut Vec<Problem>) {
    let mut seen: Vec<Problem> = Vec::new();
    problems.retain(|problem| {
        let new = !seen.contains(problem);
        if new {
            seen.push(problem.clone());
        }
        new
    });
    problems.sort_by(|left, right| {
        (&left.origin.source, left.origin.line).cmp(&(&right.origin.source, right.origin.line))
    });
}

#[cfg(test)]
pub(crate) fn read_member(root: &Section<'_>) -> Option<Config> {
    let config = member(root, &BTreeMap::new())?;
    check::member(&config, root);
    Some(config)
}

fn member(root: &Section<'_>, env: &BTreeMap<String, String>) -> Option<Config> {
    // Every section is read before the first missing one ends the attempt, so that all problems are told.
    let (name, scope) = (required_name(root), required_scope(root));
    let restapi = RestApi::read(&root.child("restapi"));
    let ctl = Ctl::read(&root.child("ctl"), &root.child("restapi"));
    let log = Log::read(&root.child("log"));
    let watchdog = Watchdog::read(&root.lenient().child("watchdog"));
    let bootstrap = Bootstrap::read(&root.child("bootstrap"));
    let postgresql = Postgresql::read(&root.child("postgresql"), home(env));
    let store = Store::read(root);
    let citus = Citus::read(root);
    let router = Router::read(root);
    let (vip, dns) = (Vip::read(root), Dns::read(root));
    let pooler = Pooler::read(root);
    let defaults = root.choice(
        "defaults",
        &[
            ("auto", DefaultsChoice::Auto),
            ("patroni", DefaultsChoice::Patroni),
            ("bellwether", DefaultsChoice::Bellwether),
        ],
    );
    Some(Config {
        name: name?,
        scope: scope?,
        namespace: namespace(root),
        defaults: defaults.unwrap_or_default(),
        log,
        restapi: restapi?,
        ctl,
        watchdog,
        tags: tags(root),
        bootstrap,
        postgresql: postgresql?,
        store: store?,
        citus,
        router: router.map(Box::new),
        vip,
        dns,
        pooler: pooler.map(Box::new),
    })
}

fn tags(root: &Section<'_>) -> Tags {
    let section = root.lenient().child("tags");
    let tags = section.entries().iter().map(|tag| (tag.key.clone(), tag.node.to_value()));
    Tags(tags.filter(|(_, value)| !value.is_null()).collect())
}

fn name(root: &Section<'_>) -> Option<MemberName> {
    root.parsed("name", "choose another name; it is a part of keys in the store", str::parse)
}

fn scope(root: &Section<'_>) -> Option<ClusterName> {
    root.parsed("scope", "choose another name; it is a part of keys in the store", str::parse)
}

fn required_name(root: &Section<'_>) -> Option<MemberName> {
    root.required_text("name", "add `name`, unique in the cluster");
    name(root)
}

fn required_scope(root: &Section<'_>) -> Option<ClusterName> {
    root.required_text("scope", "add `scope`, the name of the cluster");
    scope(root)
}

/// With one slash at the start, none at the end and no double ones.
fn namespace(root: &Section<'_>) -> String {
    let written = root.filled_text("namespace").unwrap_or_else(|| "service".to_owned());
    let parts: Vec<&str> = written.split('/').filter(|part| !part.is_empty()).collect();
    format!("/{}", parts.join("/"))
}

fn home(env: &BTreeMap<String, String>) -> Option<&str> {
    env.get("HOME").map(String::as_str).filter(|home| !home.is_empty())
}
