//! A configuration out of a running PostgreSQL: its parameters, its hba and ident files, where it listens.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use bellwether_cli::Terminal as _;
use bellwether_types::chain;
use serde_json::{Map, Value, json};
use tokio_postgres::{Client, Config, NoTls};

use super::{GenerateError, UNKNOWN, frame, own_address};

const PATIENCE: Duration = Duration::from_secs(10);

/// Parameters that say where something of this member is: they belong to its own file, not to the cluster's configuration.
const OF_THE_MEMBER: [&str; 3] = ["archive_command", "hba_file", "ident_file"];

/// What has a place of its own in the configuration, or is the daemon's to decide.
const LEFT_OUT: [&str; 9] = [
    "port",
    "listen_addresses",
    "data_directory",
    "config_file",
    "cluster_name",
    "primary_conninfo",
    "primary_slot_name",
    "synchronous_standby_names",
    "external_pid_file",
];

/// Parameters that the cluster controls, wherever their values come from; and where the server keeps its files.
const ALWAYS: &str = "'hot_standby', 'max_connections', 'max_locks_per_transaction', 'max_prepared_transactions', \
    'max_replication_slots', 'max_wal_senders', 'max_worker_processes', 'track_commit_timestamp', 'wal_keep_segments', \
    'wal_keep_size', 'wal_level', 'wal_log_hints', 'listen_addresses', 'port', 'data_directory', 'config_file', 'hba_file', \
    'ident_file', 'cluster_name'";

/// Everything that the running server tells about itself, as a configuration.
pub(super) fn document(dsn: Option<String>, env: &BTreeMap<String, String>) -> Result<Value, GenerateError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("the kernel gives a process its first threads");
    let server = target(dsn, env)?;
    let parameters = runtime.block_on(async {
        let client = connect(&server).await?;
        read(&client).await
    })?;
    build(&server, parameters)
}

/// The connection string, and libpq's variables for what it does not name.
fn target(dsn: Option<String>, env: &BTreeMap<String, String>) -> Result<Config, GenerateError> {
    let mut config: Config =
        dsn.unwrap_or_default().parse().map_err(|error| GenerateError::Connect(chain(&error)))?;
    let variable = |name: &str| env.get(name).filter(|value| !value.is_empty());
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        config.host(variable("PGHOST").map_or("/var/run/postgresql", String::as_str));
    }
    if config.get_ports().is_empty() {
        config.port(variable("PGPORT").and_then(|port| port.parse().ok()).unwrap_or(5432));
    }
    if config.get_user().is_none() {
        config.user(variable("PGUSER").or_else(|| variable("USER")).map_or("postgres", String::as_str));
    }
    if config.get_dbname().is_none() {
        let user = config.get_user().unwrap_or("postgres").to_owned();
        config.dbname(variable("PGDATABASE").cloned().unwrap_or(user));
    }
    if config.get_password().is_none() {
        let password = match variable("PGPASSWORD") {
            Some(password) => Some(password.clone()),
            None => {
                let mut terminal = bellwether_cli::Console;
                terminal.err("Please enter the user password:\n");
                terminal.read_secret().map_err(|error| GenerateError::Connect(error.to_string()))?
            }
        };
        config.password(password.unwrap_or_default());
    }
    config.connect_timeout(PATIENCE).application_name("Patroni");
    Ok(config)
}

async fn connect(server: &Config) -> Result<Client, GenerateError> {
    let (client, connection) =
        server.connect(NoTls).await.map_err(|error| GenerateError::Connect(chain(&error)))?;
    // Ends with the client.
    tokio::spawn(connection);
    let row = client.query_one("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user", &[]);
    if row.await?.get::<_, bool>(0) { Ok(client) } else { Err(GenerateError::NoSuperuser) }
}

/// Every parameter that somebody has set, and those that the cluster controls.
async fn read(client: &Client) -> Result<BTreeMap<String, String>, GenerateError> {
    let statement = format!(
        "SELECT name, pg_catalog.current_setting(name) FROM pg_catalog.pg_settings WHERE context <> 'internal' \
         AND (source IN ('configuration file', 'command line', 'environment variable') OR name IN ({ALWAYS})) \
         AND category <> 'Write-Ahead Log / Recovery Target' OR name IN ('data_directory', 'config_file')"
    );
    let rows = client.query(&statement, &[]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

fn build(server: &Config, parameters: BTreeMap<String, String>) -> Result<Value, GenerateError> {
    let text = |name: &str| parameters.get(name).map_or("", String::as_str);
    let data_dir = PathBuf::from(text("data_directory"));
    let config_dir = Path::new(text("config_file")).parent().unwrap_or(&data_dir).to_owned();
    let listen = match text("listen_addresses") {
        "" => "127.0.0.1",
        addresses => addresses,
    };
    let (host, port) = (own_address(), text("port"));
    let reachable = listen.split(',').map(str::trim).find(|address| {
        !matches!(*address, "*" | "0.0.0.0" | "::" | "localhost" | "127.0.0.1" | "::1")
            || listen == *address && host.starts_with("127.")
    });
    let address = reachable.filter(|address| *address != "*").map_or(host.as_str(), |address| address);
    let mut document = frame(&host, &format!("{listen}:{port}"), &format!("{address}:{port}"));
    if !text("cluster_name").is_empty() {
        document["scope"] = json!(text("cluster_name"));
    }
    let section = &mut document["postgresql"];
    section["data_dir"] = json!(data_dir);
    if config_dir != data_dir {
        section["config_dir"] = json!(config_dir);
    }
    section["bin_dir"] = json!(bin_dir(&data_dir).unwrap_or_default());
    section["authentication"] = authentication(server);
    for (key, parameter, default) in
        [("pg_hba", "hba_file", "pg_hba.conf"), ("pg_ident", "ident_file", "pg_ident.conf")]
    {
        let file = match text(parameter) {
            "" => config_dir.join(default),
            file => PathBuf::from(file),
        };
        let lines = lines(&file)?;
        if !lines.is_empty() {
            section[key] = json!(lines);
        }
    }
    // Files at their usual place need no parameter, and with one the daemon would not own them.
    let usual = ["pg_hba.conf", "pg_ident.conf"].map(|name| config_dir.join(name).display().to_string());
    let (own, shared): (Map<String, Value>, Map<String, Value>) = parameters
        .iter()
        .filter(|(name, value)| !LEFT_OUT.contains(&name.as_str()) && !usual.contains(value))
        .map(|(name, value)| (name.clone(), json!(value)))
        .partition(|(name, _)| OF_THE_MEMBER.contains(&name.as_str()));
    section["parameters"] = Value::Object(own);
    document["bootstrap"]["dcs"]["postgresql"]["parameters"] = Value::Object(shared);
    Ok(document)
}

/// The superuser is the one of this connection; nobody knows the others.
fn authentication(server: &Config) -> Value {
    let password = server.get_password().map(String::from_utf8_lossy).filter(|password| !password.is_empty());
    json!({
        "superuser": {
            "username": server.get_user().unwrap_or(UNKNOWN),
            "password": password.unwrap_or(UNKNOWN.into()),
        },
        "replication": {"username": UNKNOWN, "password": UNKNOWN},
    })
}

/// Where the program of the running postmaster lies.
fn bin_dir(data_dir: &Path) -> Option<PathBuf> {
    let file = fs::read_to_string(data_dir.join("postmaster.pid")).ok()?;
    let pid: u32 = file.lines().next()?.trim().parse().ok()?;
    let program = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    program.parent().map(Path::to_owned)
}

/// The lines of a file that say something.
fn lines(file: &Path) -> Result<Vec<String>, GenerateError> {
    let text =
        fs::read_to_string(file).map_err(|cause| GenerateError::Read { path: file.to_owned(), cause })?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_fill_in_what_the_connection_string_leaves_open() {
        let env = [("PGHOST", "h"), ("PGPORT", "7"), ("PGUSER", "u"), ("PGPASSWORD", "p")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let config = target(Some("port=9 dbname=d".to_owned()), &env).unwrap();
        assert_eq!(config.get_hosts(), [tokio_postgres::config::Host::Tcp("h".to_owned())]);
        assert_eq!(
            (config.get_ports(), config.get_user(), config.get_dbname()),
            (&[9][..], Some("u"), Some("d"))
        );
        assert_eq!(target(None, &env).unwrap().get_dbname(), Some("u"));
        assert!(matches!(target(Some("nonsense".to_owned()), &env), Err(GenerateError::Connect(_))));
    }
}
