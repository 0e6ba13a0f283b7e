//! `postgresql`: what only the local file may say. The rest meets the dynamic section in [`crate::effective()`].

use std::{collections::BTreeMap, fmt, path::PathBuf};

use secrecy::SecretString;
use serde_json::{Map, Value};

use crate::{HostPort, Listen, section::Section};

/// The PostgreSQL server of this member.
#[derive(Clone, Debug)]
pub struct Postgresql {
    pub listen: Listen,
    /// Published as `conn_url`; the local address of `listen` if not given.
    pub connect_address: HostPort,
    pub proxy_address: Option<HostPort>,
    pub data_dir: PathBuf,
    /// Where `postgresql.conf` and the like live; `data_dir` if not given.
    pub config_dir: PathBuf,
    /// The name of the configuration file without `.conf`.
    pub config_base_name: String,
    /// `None` = found by `PATH`.
    pub bin_dir: Option<PathBuf>,
    /// Alternative names of programs; ask [`Postgresql::program`].
    pub bin_name: BTreeMap<String, String>,
    /// The maintenance database.
    pub database: String,
    /// The password file that the daemon writes.
    pub pgpass: PathBuf,
    pub krbsrvname: Option<String>,
    pub use_unix_socket: bool,
    pub use_unix_socket_repl: bool,
    pub authentication: Authentication,
    /// The keys that the dynamic configuration may give too, as written here.
    pub(crate) shared: Shared,
}

/// A part of the document that may hold passwords (in options of commands, in recovery settings), and so prints without.
#[derive(Clone)]
pub(crate) struct Shared(pub(crate) Map<String, Value>);

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::redacted(&Value::Object(self.0.clone())).fmt(f)
    }
}

impl Postgresql {
    /// The path of a program of PostgreSQL (`initdb`, `pg_rewind`, ...).
    pub fn program(&self, name: &str) -> PathBuf {
        let name = self.bin_name.get(name).map_or(name, String::as_str);
        self.bin_dir.as_ref().map_or_else(|| PathBuf::from(name), |dir| dir.join(name))
    }
}

/// The roles that the daemon connects as.
#[derive(Clone, Debug)]
pub struct Authentication {
    pub superuser: Credentials,
    pub replication: Credentials,
    /// `None` = the superuser rewinds.
    pub rewind: Option<Credentials>,
}

impl Authentication {
    pub fn rewind(&self) -> &Credentials {
        self.rewind.as_ref().unwrap_or(&self.superuser)
    }
}

/// A role and how to connect as it.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// `None`: the operating system's user, as libpq does.
    pub username: Option<String>,
    pub password: Option<SecretString>,
    pub sslpassword: Option<SecretString>,
    /// libpq's `sslmode sslcert sslkey sslrootcert sslcrl sslcrldir gssencmode channel_binding sslnegotiation`, as given.
    pub connection: BTreeMap<String, String>,
}

const LISTEN_HELP: &str = "write `address:port` or `address,address:port`, for example `0.0.0.0:5432`";
const ADDRESS_HELP: &str = "write `host:port`, for example `10.0.0.11:5432`";

/// libpq's settings that a role may have, apart from passwords.
const CONNECTION: [&str; 9] = [
    "sslmode",
    "sslcert",
    "sslkey",
    "sslrootcert",
    "sslcrl",
    "sslcrldir",
    "gssencmode",
    "channel_binding",
    "sslnegotiation",
];

/// Keys that only a local file may give.
pub(crate) const LOCAL_ONLY: [&str; 7] =
    ["connect_address", "proxy_address", "listen", "config_dir", "data_dir", "pgpass", "authentication"];

/// Keys read here and nowhere else.
const READ_HERE: [&str; 8] = [
    "bin_dir",
    "bin_name",
    "config_base_name",
    "database",
    "krbsrvname",
    "use_unix_socket",
    "use_unix_socket_repl",
    "name",
];

impl Postgresql {
    /// `None` if something that is needed is missing (which has been reported).
    pub(crate) fn read(section: &Section<'_>, home: Option<&str>) -> Option<Self> {
        section.required_text("listen", "add `postgresql.listen`, for example `0.0.0.0:5432`");
        section.required_text(
            "data_dir",
            "add `postgresql.data_dir`, for example `/var/lib/postgresql/15/main`",
        );
        let listen = section.parsed("listen", LISTEN_HELP, |text| Listen::parse(text, Some(5432)));
        let address = |text: &str| match HostPort::parse(text, Some(5432)) {
            Ok(address) if address.host.is_empty() => Err(crate::InvalidAddress::NoHost),
            other => other,
        };
        let connect_address = section.parsed("connect_address", ADDRESS_HELP, address);
        let proxy_address = section.parsed("proxy_address", ADDRESS_HELP, address);
        let authentication = Authentication::read(&section.child("authentication"));
        let shared = read_shared(section);
        let usable = listen.is_some() && section.has("data_dir");
        // Stand in for what is missing, so that the rest is read, and its problems told, all the same.
        let listen = listen.unwrap_or(Listen { hosts: Vec::new(), port: 0 });
        let data_dir = section.file("data_dir").unwrap_or_default();
        let pgpass = || PathBuf::from(home.unwrap_or("/var/lib/postgresql")).join("pgpass");
        let read = Self {
            connect_address: connect_address.unwrap_or_else(|| listen.local_address()),
            listen,
            proxy_address,
            config_dir: section.file("config_dir").unwrap_or_else(|| data_dir.clone()),
            data_dir,
            config_base_name: section
                .filled_text("config_base_name")
                .unwrap_or_else(|| "postgresql".to_owned()),
            bin_dir: section.file("bin_dir"),
            bin_name: section.text_map("bin_name").unwrap_or_default(),
            database: section.filled_text("database").unwrap_or_else(|| "postgres".to_owned()),
            pgpass: section.file("pgpass").unwrap_or_else(pgpass),
            krbsrvname: section.filled_text("krbsrvname"),
            use_unix_socket: section.flag("use_unix_socket").unwrap_or(false),
            use_unix_socket_repl: section.flag("use_unix_socket_repl").unwrap_or(false),
            authentication,
            shared: Shared(shared),
        };
        usable.then_some(read)
    }
}

/// The keys that meet the dynamic section later; their shape is checked here, where their lines are known.
fn read_shared(section: &Section<'_>) -> Map<String, Value> {
    let mut shared = Map::new();
    for entry in section.entries() {
        let key = entry.key.as_str();
        if LOCAL_ONLY.contains(&key) || READ_HERE.contains(&key) || entry.node.is_null() {
            continue;
        }
        let value = entry.node.to_value();
        match crate::effective::check_shape(key, &value) {
            Ok(()) => {
                shared.insert(key.to_owned(), value);
            }
            Err(reason) => {
                let remedy = if key.starts_with("pg_") && !key.starts_with("pg_ctl") {
                    "write one item per line of the file: `- local all all peer`"
                } else {
                    "see the reference page of the section `postgresql`"
                };
                section.report.problem(section.about(key, reason).help(remedy));
            }
        }
    }
    shared
}

impl Authentication {
    fn read(section: &Section<'_>) -> Self {
        for role in ["superuser", "replication"] {
            if section.child(role).filled_text("username").is_none() {
                let example = if role == "superuser" { "postgres" } else { "replicator" };
                section.child(role).missing("username", &format!("name the role, for example `{example}`"));
            }
        }
        Self {
            superuser: Credentials::read(&section.child("superuser")),
            replication: Credentials::read(&section.child("replication")),
            rewind: section.has("rewind").then(|| Credentials::read(&section.child("rewind"))),
        }
    }
}

impl Credentials {
    fn read(section: &Section<'_>) -> Self {
        Self {
            username: section.filled_text("username"),
            password: section.secret("password"),
            sslpassword: section.secret("sslpassword"),
            connection: CONNECTION
                .iter()
                .filter_map(|key| Some(((*key).to_owned(), section.filled_text(key)?)))
                .collect(),
        }
    }
}
