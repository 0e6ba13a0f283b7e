//! The look at a node: store, REST API, data directory, server, units. Reads only.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use bellwether_api_client::{ApiClient, Method};
use bellwether_config::{Config, Loaded, render};
use bellwether_dcs::{Deadline, codec};
use bellwether_postgres::{
    control,
    datadir::{self, DataDirState},
    postmaster::Postmaster,
    settings::{HostPort, PgSettings},
};
use bellwether_types::cluster::Cluster;
use secrecy::ExposeSecret;
use tokio_postgres::{Client, NoTls, config::SslMode};

use super::{
    AdoptError,
    findings::{Data, Findings, Server},
};
use crate::{failure, run, store};

const PATIENCE: Duration = Duration::from_secs(5);
const UNIT_DIRECTORIES: [&str; 3] = ["/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];
const READS_FILES: &str =
    "rolsuper OR has_function_privilege(oid, 'pg_read_binary_file(text,bigint,bigint,boolean)', 'EXECUTE')";

pub(super) async fn at(loaded: &Loaded) -> Result<Findings, AdoptError> {
    let config = &loaded.config;
    let client = ApiClient::new(run::client_config(config))?;
    let data = data(config).await;
    let server = match data.postmaster {
        Some(_) => Some(server(config).await.map_err(|error| failure::causes(&error))),
        None => None,
    };
    Ok(Findings {
        me: config.name.clone(),
        scope: config.scope.to_string(),
        store_is_embedded: config.store.is_embedded(),
        doubts: render(&loaded.warnings).lines().map(|line| line.trim().to_owned()).collect(),
        cluster: cluster(config).await,
        agent: agent(config, &client).await,
        server,
        units: units(),
        data,
    })
}

async fn cluster(config: &Config) -> Result<Cluster, String> {
    // A store that is founded with the first node has nobody who could answer yet.
    if config.store.is_embedded() {
        return Ok(Cluster::default());
    }
    let of = store::Of::member(config);
    let store = store::connect(&config.store, &of).await.map_err(|error| failure::causes(&error))?;
    let snapshot =
        store.snapshot(Deadline::after(PATIENCE)).await.map_err(|error| failure::causes(&error))?;
    Ok(codec::decode(&snapshot))
}

async fn agent(config: &Config, client: &ApiClient) -> Option<serde_json::Value> {
    let url = config.restapi.api_url();
    let status = client.call(Method::GET, &url, "patroni", None, PATIENCE).await.ok()?.json()?;
    // Another cluster's agent, or something else, may listen there.
    let is_ours = status["patroni"]["scope"] == config.scope.as_str();
    is_ours.then_some(status)
}

async fn data(config: &Config) -> Data {
    let path = config.postgresql.data_dir.clone();
    let state = datadir::inspect(&path);
    let unusable = match &state {
        DataDirState::Unreadable { reason } | DataDirState::Incomplete { reason } => Some(reason.clone()),
        DataDirState::Missing | DataDirState::Empty | DataDirState::Present { .. } => None,
    };
    let mut data = Data { major: state.major(), unusable, path, ..Data::default() };
    if data.major.is_none() {
        return data;
    }
    data.postmaster = Postmaster::find(&data.path).ok().flatten().map(|found| found.id().pid);
    match control::read(&pg_settings(config)).await {
        Ok(control) => {
            data.system_id = Some(control.system_id);
            data.allows_rewind = Some(control.allows_rewind());
        }
        Err(error) => data.unusable = Some(failure::causes(&error)),
    }
    data
}

/// As much as reading the control file needs.
fn pg_settings(config: &Config) -> PgSettings {
    let local = &config.postgresql;
    let listen = HostPort { host: local.listen.hosts.join(","), port: local.listen.port };
    let mut settings =
        PgSettings::new(config.name.clone(), config.scope.clone(), local.data_dir.clone(), listen);
    settings.bin_dir.clone_from(&local.bin_dir);
    settings.bin_names.clone_from(&local.bin_name);
    settings
}

async fn server(config: &Config) -> Result<Server, tokio_postgres::Error> {
    let local = &config.postgresql;
    let superuser = &local.authentication.superuser;
    let mut target = tokio_postgres::Config::new();
    target
        .host(&local.connect_address.host)
        .port(local.connect_address.port)
        .dbname(&local.database)
        .application_name("bellwether adopt")
        .options("-c search_path=pg_catalog -c statement_timeout=5s")
        .ssl_mode(SslMode::Disable)
        .connect_timeout(PATIENCE);
    if let Some(name) = &superuser.username {
        target.user(name);
    }
    if let Some(password) = &superuser.password {
        target.password(password.expose_secret());
    }
    let (client, connection) = target.connect(NoTls).await?;
    let driver = tokio::spawn(connection);
    let answers = ask(config, &client).await;
    driver.abort();
    answers
}

async fn ask(config: &Config, client: &Client) -> Result<Server, tokio_postgres::Error> {
    let names = async |query: &str| -> Result<Vec<String>, tokio_postgres::Error> {
        Ok(client.query(query, &[]).await?.iter().map(|row| row.get(0)).collect())
    };
    let in_recovery = client.query_one("SELECT pg_is_in_recovery()", &[]).await?.get(0);
    let standbys = names(
        "SELECT application_name FROM pg_stat_replication WHERE application_name !~ '^pg_|backup' ORDER BY 1",
    )
    .await?;
    let slots: BTreeSet<String> =
        names("SELECT slot_name::text FROM pg_replication_slots WHERE NOT temporary")
            .await?
            .into_iter()
            .collect();
    let missing_roles = missing_roles(config, client).await?;
    Ok(Server {
        in_recovery,
        standbys,
        missing_roles,
        other_values: other_values(config, client).await?,
        slots,
    })
}

/// Roles as the configuration names them: what each must be able to do, and what to say to PostgreSQL if it is not.
async fn missing_roles(config: &Config, client: &Client) -> Result<Vec<String>, tokio_postgres::Error> {
    let authentication = &config.postgresql.authentication;
    let rewind = authentication.rewind.as_ref();
    let wanted = [
        ("superuser", Some(&authentication.superuser), "rolsuper", "SUPERUSER"),
        ("replication", Some(&authentication.replication), "rolsuper OR rolreplication", "REPLICATION"),
        (
            "rewind",
            rewind,
            READS_FILES,
            "-- and EXECUTE on the functions that pg_rewind's documentation names",
        ),
    ];
    let mut missing = Vec::new();
    for (kind, role, condition, right) in wanted {
        let Some(name) = role.and_then(|role| role.username.as_ref()) else { continue };
        let query = format!("SELECT rolcanlogin AND ({condition}) FROM pg_roles WHERE rolname = $1");
        let found = client.query_opt(&query, &[name]).await?;
        if !found.is_some_and(|row| row.get(0)) {
            missing.push(format!("{kind} role: CREATE ROLE \"{name}\" LOGIN PASSWORD '...' {right}"));
        }
    }
    Ok(missing)
}

/// What the agent sets by itself and the server has otherwise.
async fn other_values(
    config: &Config,
    client: &Client,
) -> Result<Vec<(String, String, String)>, tokio_postgres::Error> {
    let mut others = Vec::new();
    let query = "SELECT name, setting FROM pg_settings WHERE name IN ('wal_level', 'hot_standby', 'wal_log_hints', \
                 'cluster_name', 'port') ORDER BY name";
    for row in client.query(query, &[]).await? {
        let (name, present): (String, String) = (row.get(0), row.get(1));
        let coming = match name.as_str() {
            "wal_level" if present == "minimal" => "replica".to_owned(),
            "hot_standby" | "wal_log_hints" => "on".to_owned(),
            "cluster_name" => config.scope.to_string(),
            "port" => config.postgresql.listen.port.to_string(),
            _ => continue,
        };
        if coming != present {
            let present = if present.is_empty() { "empty".to_owned() } else { present };
            others.push((name, present, coming));
        }
    }
    Ok(others)
}

/// Units by the names that packages and guides give them.
fn units() -> Vec<PathBuf> {
    let mut names = BTreeSet::new();
    let mut found = Vec::new();
    for directory in UNIT_DIRECTORIES {
        for entry in std::fs::read_dir(Path::new(directory)).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_patroni = name.starts_with("patroni") && name.ends_with(".service");
            if is_patroni && names.insert(name) {
                found.push(entry.path());
            }
        }
    }
    found
}
