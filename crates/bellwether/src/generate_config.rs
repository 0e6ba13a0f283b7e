//! `patroni --generate-sample-config` and `--generate-config`: a configuration to start from, out of nothing or out of a
//! running PostgreSQL. What the environment says (`PATRONI_*`) is kept; what nobody knows is `#FIXME`.

mod instance;

use std::{
    fs,
    io::Write as _,
    net::{IpAddr, ToSocketAddrs as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use bellwether_config::{local_document, patch};
use serde_json::{Map, Value, json};

use crate::{exit::Status, run, validate_config::major_version};

/// What a person must fill in.
const UNKNOWN: &str = "#FIXME";

/// What to make the configuration from.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    Nothing,
    /// A running server; without a connection string libpq's variables name it.
    Instance {
        dsn: Option<String>,
    },
}

/// Why none could be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GenerateError {
    #[error("Failed to get postgres version: `{}` cannot be run", program.display())]
    Version { program: PathBuf },
    #[error("the PATRONI_* variables cannot be used: {0}")]
    Environment(#[from] bellwether_config::LoadError),
    #[error("Failed to establish PostgreSQL connection: {0}")]
    Connect(String),
    #[error("The provided user does not have superuser privilege")]
    NoSuperuser,
    #[error("Failed to read the settings of PostgreSQL: {0}")]
    Query(#[from] tokio_postgres::Error),
    #[error("Failed to read {}: {cause}", path.display())]
    Read { path: PathBuf, cause: std::io::Error },
    #[error("Failed to write {}: {cause}", path.display())]
    Write { path: PathBuf, cause: std::io::Error },
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "data and problems of a command")]
pub(crate) fn run(origin: Origin, file: Option<&Path>) -> Status {
    let made = made(origin).map(|document| text(&document)).and_then(|text| match file {
        None => {
            print!("{text}");
            Ok(())
        }
        Some(path) => {
            write(path, &text).map_err(|cause| GenerateError::Write { path: path.to_owned(), cause })
        }
    });
    match made {
        Ok(()) => Status::Ok,
        Err(error) => {
            eprintln!("{error}");
            Status::Failed
        }
    }
}

fn made(origin: Origin) -> Result<Value, GenerateError> {
    let environment = run::environment();
    let local = local_document(&environment)?;
    let mut document = match origin {
        Origin::Nothing => {
            let program = program(&local, "postgres");
            let version = major_version(&program).ok_or(GenerateError::Version { program })?;
            let section = &local["postgresql"];
            let replicator = section["authentication"]["replication"]["username"].as_str();
            sample(
                version.parse().unwrap_or(9.6),
                section["bin_dir"].as_str().unwrap_or(""),
                replicator.unwrap_or("replicator"),
            )
        }
        Origin::Instance { dsn } => instance::document(dsn, &environment)?,
    };
    patch(&mut document, &local);
    Ok(document)
}

fn program(local: &Value, name: &str) -> PathBuf {
    let section = &local["postgresql"];
    let name = section["bin_name"][name].as_str().unwrap_or(name);
    section["bin_dir"].as_str().map_or_else(|| PathBuf::from(name), |dir| Path::new(dir).join(name))
}

/// What every generated configuration has, for addresses of this host.
fn frame(host: &str, postgres_listen: &str, postgres_address: &str) -> Value {
    json!({
        "scope": UNKNOWN,
        "name": hostname(),
        "log": {
            "type": "plain",
            "level": "INFO",
            "traceback_level": "ERROR",
            "format": bellwether_config::sections::log::DEFAULT_LOG_FORMAT,
            "max_queue_size": 1000,
        },
        "restapi": {"listen": format!("{host}:8008"), "connect_address": format!("{host}:8008")},
        "bootstrap": {"dcs": {
            "ttl": 30, "loop_wait": 10, "retry_timeout": 10,
            "postgresql": {"use_slots": true},
        }},
        "postgresql": {
            "listen": postgres_listen,
            "connect_address": postgres_address,
            "data_dir": UNKNOWN,
        },
        "tags": {
            "failover_priority": 1, "sync_priority": 1, "noloadbalance": false, "clonefrom": true,
            "nostream": false,
        },
    })
}

fn sample(version: f64, bin_dir: &str, replicator: &str) -> Value {
    let host = own_address();
    let address = format!("{host}:5432");
    let mut document = frame(&host, &address, &address);
    let method = if version >= 10.0 { "scram-sha-256" } else { "md5" };
    let mut parameters = json!({
        "hot_standby": "on", "max_connections": 100, "max_locks_per_transaction": 64, "max_prepared_transactions": 0,
        "max_replication_slots": 10, "max_wal_senders": 10, "max_worker_processes": 8, "track_commit_timestamp": "off",
        "wal_level": "replica", "wal_log_hints": "on",
    });
    if version >= 13.0 {
        parameters["wal_keep_size"] = json!("128MB");
    } else {
        parameters["wal_keep_segments"] = json!(8);
    }
    let mut authentication = json!({
        "superuser": {"username": "postgres", "password": UNKNOWN},
        "replication": {"username": replicator, "password": UNKNOWN},
    });
    if version >= 11.0 {
        authentication["rewind"] = json!({"username": "rewind_user", "password": UNKNOWN});
    }
    let dynamic = &mut document["bootstrap"]["dcs"]["postgresql"];
    dynamic["parameters"] = parameters;
    dynamic["use_pg_rewind"] = json!(true);
    let local = &mut document["postgresql"];
    local["bin_dir"] = json!(bin_dir);
    local["authentication"] = authentication;
    local["parameters"] = json!({"password_encryption": method});
    local["pg_hba"] =
        json!([format!("host all all all {method}"), format!("host replication {replicator} all {method}"),]);
    document
}

fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// An address under which others may reach this host; loopback if its name means nothing else.
fn own_address() -> String {
    let resolved = (hostname().as_str(), 0).to_socket_addrs();
    let addresses: Vec<IpAddr> =
        resolved.map(|found| found.map(|address| address.ip()).collect()).unwrap_or_default();
    let best = addresses
        .iter()
        .find(|address| address.is_ipv4() && !address.is_loopback())
        .or_else(|| addresses.iter().find(|address| address.is_ipv4()));
    best.map_or_else(|| "127.0.0.1".to_owned(), IpAddr::to_string)
}

/// The document with a paragraph for each section, in the order in which people read them.
fn text(document: &Value) -> String {
    const FIRST: [&str; 5] = ["scope", "namespace", "name", "log", "restapi"];
    const LAST: [&str; 4] = ["bootstrap", "postgresql", "watchdog", "tags"];
    let empty = Map::new();
    let sections = document.as_object().unwrap_or(&empty);
    let others = sections.keys().map(String::as_str);
    let others = others.filter(|key| !FIRST.contains(key) && !LAST.contains(key));
    let order = FIRST.into_iter().chain(others).chain(LAST);
    let mut text = String::new();
    for (key, value) in order.filter_map(|key| Some((key, sections.get(key)?))) {
        if value.is_object() && !text.is_empty() {
            text.push('\n');
        }
        if key == "bootstrap" {
            text.push_str(
                "# Read once, by the member that creates the cluster. In a cluster that exists already this section has no\n\
                 # effect: `patronictl edit-config` changes the settings that all members share.\n",
            );
        }
        text.push_str(&bellwether_cli::yaml(&json!({key: value})));
    }
    text
}

/// It may hold passwords, so only its owner may read it.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        fs::create_dir_all(dir)?;
    }
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    // The mode above counts only for a new file.
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_what_its_version_needs_and_reads_back() {
        for (version, method, keep, rewind) in [
            (15.0, "scram-sha-256", "wal_keep_size", true),
            (12.0, "scram-sha-256", "wal_keep_segments", true),
            (10.0, "scram-sha-256", "wal_keep_segments", false),
            (9.6, "md5", "wal_keep_segments", false),
        ] {
            let document = sample(version, "/b", "rep");
            let parameters = &document["bootstrap"]["dcs"]["postgresql"]["parameters"];
            assert!(parameters.get(keep).is_some(), "{version}");
            assert_eq!(document["postgresql"]["parameters"]["password_encryption"], method, "{version}");
            assert_eq!(document["postgresql"]["authentication"].get("rewind").is_some(), rewind, "{version}");
            let text = text(&document);
            assert_eq!(bellwether_config::parse_yaml(&text, "sample").unwrap(), document, "{text}");
        }
    }

    #[test]
    fn sections_stand_in_the_order_of_reading() {
        let text = text(
            &json!({"tags": {"a": 1}, "scope": "s", "etcd3": {"url": "u"}, "bootstrap": {"dcs": {}}, "name": "n"}),
        );
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            lines,
            [
                "scope: s",
                "name: n",
                "",
                "etcd3:",
                "  url: u",
                "",
                "bootstrap:",
                "  dcs: {}",
                "",
                "tags:",
                "  a: 1"
            ]
        );
    }
}
