//! `postgresql`: what only the local file may say. The rest meets the dynamic section in [`crate::effective()`].

use std::{collections::BTreeMap, path::PathBuf};

use secrecy::SecretString;
use serde_json::{Map, Value};

use crate::{HostPort, Listen};

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
    pub(crate) shared: Map<String, Value>,
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
