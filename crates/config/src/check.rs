//! Rules across sections, and what can be seen on this machine without connecting to anything.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    slice,
};

use crate::{
    Floors, Listen, Problem,
    config::Config,
    dynamic,
    effective::is_controlled,
    initial_document,
    node::Node,
    section::Section,
    sections::{raft::Raft, store::Store},
};

/// The rules for a member.
pub(crate) fn member(config: &Config, root: &Section<'_>) {
    if config.citus.is_some() && config.store.is_embedded() {
        let problem = root
            .about("citus", "needs a store that all groups share, and the embedded one belongs to one group");
        root.report.problem(
            problem.help("use `etcd3`, `consul` or `zookeeper`, the same on every node of every group"),
        );
    }
    match &config.store {
        Store::Raft(raft) => self::raft(raft, root),
        Store::Etcd3(etcd) => store_files("etcd3", etcd.files(), root),
        Store::Consul(consul) => store_files("consul", consul.files(), root),
        Store::ZooKeeper(_) => {}
    }
    ports(config, root);
    published_addresses(config, root);
    directories(config, root);
    api_files(root);
    tags(config, root);
    initdb(config, root);
    first_document(config, root);
    ineffective_parameters(root);
}

/// The rules for a vote in the embedded store.
pub(crate) fn raft(raft: &Raft, root: &Section<'_>) {
    let section = root.child("raft");
    if raft.self_addr.is_some() && raft.partner_addrs.len() == 1 {
        let warning =
            section.about("partner_addrs", "makes two voters, and the store stops when either is lost");
        section.report.warn(warning.help("add a third node, or a witness (`bellwether witness`)"));
    }
    for (key, file) in [("certfile", &raft.certfile), ("keyfile", &raft.keyfile), ("cafile", &raft.cafile)] {
        if let Some(file) = file {
            exists(&section, key, file);
        }
    }
    if raft.data_dir.as_ref().is_some_and(|dir| dir.is_relative()) {
        relative(&section, "data_dir");
    }
}

fn store_files(store: &str, files: [(&'static str, &Option<PathBuf>); 3], root: &Section<'_>) {
    let section = root.child(store);
    for (key, file) in files {
        if let Some(file) = file {
            exists(&section, key, file);
        }
    }
}

/// Two servers of ours on one port: the second would not start.
fn ports(config: &Config, root: &Section<'_>) {
    let raft = config.store.raft();
    let bind = raft.and_then(|raft| raft.bind_addr.as_ref().or(raft.self_addr.as_ref()));
    let bind = bind.map(|address| Listen { hosts: vec![address.host.clone()], port: address.port });
    let mut listeners = vec![
        ("restapi", "listen", &config.restapi.listen),
        ("postgresql", "listen", &config.postgresql.listen),
    ];
    if let Some(bind) = &bind {
        let own = raft.is_some_and(|raft| raft.bind_addr.is_some());
        let key = if own { "bind_addr" } else { "self_addr" };
        listeners.push(("raft", key, bind));
    }
    for (at, (section, key, listen)) in listeners.iter().enumerate() {
        for (earlier, earlier_key, other) in &listeners[..at] {
            if listen.port == other.port && overlap(listen, other) {
                let reason = format!("uses the same port as `{earlier}.{earlier_key}`");
                let problem = root.child(section).about(key, reason);
                root.report.problem(problem.help("give each server a port of its own"));
                break;
            }
        }
    }
}

fn overlap(left: &Listen, right: &Listen) -> bool {
    left.is_wildcard() || right.is_wildcard() || left.hosts.iter().any(|host| right.hosts.contains(host))
}

/// Addresses that others are told must be some that others can use.
fn published_addresses(config: &Config, root: &Section<'_>) {
    let neighbours = match &config.store {
        Store::Raft(raft) => raft.partner_addrs.as_slice(),
        Store::Etcd3(etcd) => &etcd.hosts,
        // The agent on this machine says nothing about the other members.
        Store::Consul(consul) => slice::from_ref(&consul.address),
        Store::ZooKeeper(zookeeper) => &zookeeper.hosts,
    };
    let elsewhere = neighbours.iter().any(|neighbour| !neighbour.is_local_only());
    let published = [
        ("restapi", &config.restapi.connect_address, "8008"),
        ("postgresql", &config.postgresql.connect_address, "5432"),
    ];
    for (name, address, port) in published {
        let section = root.child(name);
        let key = if section.has("connect_address") { "connect_address" } else { "listen" };
        let reason = if address.is_wildcard() {
            "is published to other members, and no address that anybody could connect to"
        } else if address.is_local_only() && elsewhere {
            "is published to other members, and means this machine only"
        } else {
            continue;
        };
        let remedy =
            format!("set `{name}.connect_address` to an address that the others reach, `10.0.0.11:{port}`");
        root.report.warn(section.about(key, reason).help(remedy));
    }
    let own = config.store.raft().and_then(|raft| raft.self_addr.as_ref());
    if let Some(own) = own.filter(|own| own.is_local_only() && elsewhere) {
        let section = root.child("raft");
        let reason = format!("`{own}` means this machine only, and the partners could not reach it");
        root.report.problem(
            section
                .about("self_addr", reason)
                .help("set it to an address of this node that the partners reach"),
        );
    }
}

/// What cannot be used for a new cluster keeps this member from starting only where there may be a new cluster to make.
fn tell_of_bootstrap(config: &Config, root: &Section<'_>, problem: Problem) {
    if config.postgresql.data_dir.join("PG_VERSION").exists() {
        root.report.warn(problem);
    } else {
        root.report.problem(problem);
    }
}

fn initdb(config: &Config, root: &Section<'_>) {
    let section = root.child("bootstrap");
    for reason in &config.bootstrap.refused_initdb {
        let problem = section.about("initdb", reason.as_str());
        tell_of_bootstrap(config, root, problem.help("remove it: bellwether passes what is needed itself"));
    }
}

/// The document of `bootstrap.dcs` must be one that members can apply, and is better applied as it was written.
fn first_document(config: &Config, root: &Section<'_>) {
    let section = root.child("bootstrap");
    if !section.has("dcs") {
        return;
    }
    let dcs = section.child("dcs");
    let place = |message: &str| {
        let key = message.split([':', '=', ' ']).next().unwrap_or("");
        let top = key.split('.').next().unwrap_or("");
        if dcs.has(top) { dcs.about(top, message) } else { section.about("dcs", message) }
    };
    let document = initial_document(config, false, config.store.is_embedded());
    match dynamic::parse(&document, Floors::bellwether(config.store.minimum_ttl())) {
        Ok(dynamic) => {
            for message in dynamic.messages {
                let remedy =
                    "choose values for which `loop_wait + 2*retry_timeout <= ttl` holds, above their minimum";
                root.report.warn(place(&message).help(remedy));
            }
        }
        Err(error) => {
            for reason in error.reasons {
                let problem = place(&reason).help("no member could apply the document; correct the value");
                tell_of_bootstrap(config, root, problem);
            }
        }
    }
}

/// Parameters that must be the same on every member have no effect in a local file.
fn ineffective_parameters(root: &Section<'_>) {
    let section = root.child("postgresql");
    if !section.node("parameters").is_some_and(Node::is_map) {
        return;
    }
    let parameters = section.child("parameters");
    for entry in parameters.entries().iter().filter(|entry| is_controlled(&entry.key)) {
        let warning =
            parameters.about(&entry.key, "has no effect in a local file: every member needs the same");
        root.report.warn(warning.help(
            "put it into `bootstrap.dcs.postgresql.parameters`, or run `bellwether edit-config` for a running cluster",
        ));
    }
}

fn directories(config: &Config, root: &Section<'_>) {
    let section = root.child("postgresql");
    let own = &config.postgresql;
    for (key, dir) in [("data_dir", &own.data_dir), ("config_dir", &own.config_dir)] {
        if dir.is_relative() && section.has(key) {
            relative(&section, key);
        }
        if dir.exists() && !dir.is_dir() && section.has(key) {
            let problem = section.about(key, "is not a directory");
            section.report.problem(problem.help("name a directory; it may be absent or empty"));
        }
    }
    if let Some(bin_dir) = &own.bin_dir
        && !own.program("postgres").exists()
    {
        let reason = format!("does not contain `{}`", own.program("postgres").display());
        let warning = section.about("bin_dir", reason).found(bin_dir.display().to_string());
        section.report.warn(warning.help("name the directory with PostgreSQL's programs"));
    }
    let readable_by_others = fs::metadata(&own.pgpass)
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o077 != 0);
    if readable_by_others {
        let reason = format!("the password file {} may be read by others", own.pgpass.display());
        let warning = section.about("pgpass", reason);
        section.report.warn(warning.help(format!("run `chmod 0600 {}`", own.pgpass.display())));
    }
}

fn api_files(root: &Section<'_>) {
    for (name, keys) in
        [("restapi", ["certfile", "keyfile", "cafile"]), ("ctl", ["certfile", "keyfile", "cacert"])]
    {
        let section = root.child(name);
        for key in keys {
            if let Some(file) = section.file(key) {
                exists(&section, key, &file);
            }
        }
    }
}

fn exists(section: &Section<'_>, key: &str, file: &Path) {
    if let Err(error) = fs::metadata(file) {
        let problem = section.about(key, format!("cannot be used: {}", reason(&error)));
        section.report.problem(problem.help("check the path, and that the daemon's user may read it"));
    }
}

fn reason(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file",
        std::io::ErrorKind::PermissionDenied => "permission denied",
        _ => "it cannot be read",
    }
}

fn relative(section: &Section<'_>, key: &str) {
    let warning = section.about(key, "is relative to the directory that the daemon is started in");
    section.report.warn(warning.help("write an absolute path"));
}

/// A flag and a priority that say different things: the flag wins, as in Patroni.
fn tags(config: &Config, root: &Section<'_>) {
    if root.node("tags").is_none_or(|tags| !tags.is_map()) {
        return;
    }
    let section = root.child("tags");
    for (flag, priority) in [("nofailover", "failover_priority"), ("nosync", "sync_priority")] {
        let (Some(on), Some(level)) = (
            section.node(flag).map(|node| node.to_value()),
            section.node(priority).map(|node| node.to_value()),
        ) else {
            continue;
        };
        let excluded = if flag == "nofailover" { config.tags.nofailover() } else { config.tags.nosync() };
        let by_priority = level.as_i64().is_some_and(|level| level <= 0);
        if excluded != by_priority {
            let on = if on == serde_json::Value::Bool(true) || excluded { "True" } else { "False" };
            let reason = format!(
                "Conflicting configuration between {flag}: {on} and {priority}: {level}. Defaulting to {flag}: {on}"
            );
            section.report.warn(section.about(flag, reason).help("keep one of the two tags"));
        }
    }
}

/// Configuration files with passwords in them that everybody may read.
pub(crate) fn files_with_secrets(files: &[PathBuf]) -> Vec<Problem> {
    let open = files
        .iter()
        .filter(|file| fs::metadata(file).is_ok_and(|found| found.permissions().mode() & 0o004 != 0));
    open.map(|file| {
        Problem::new("", format!("{} holds passwords and may be read by everybody", file.display()))
            .help(format!("run `chmod 0640 {}`", file.display()))
    })
    .collect()
}
