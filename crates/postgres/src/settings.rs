//! What this crate must know about one member; the agent fills it from the configuration.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

pub use bellwether_types::HostPort;
use bellwether_types::{
    ClusterName, MemberName, ServerRole,
    program::{CallbackAction, ProgramOption, ReplicaMethod},
};
use secrecy::SecretString;

/// Everything about the local PostgreSQL that comes from the configuration. Plain data; a new configuration is a new value.
#[derive(Clone, Debug)]
pub struct PgSettings {
    pub member: MemberName,
    pub cluster: ClusterName,
    pub data_dir: PathBuf,
    /// Where postgresql.conf, pg_hba.conf and pg_ident.conf live; usually the data directory.
    pub config_dir: PathBuf,
    /// `postgresql`: the main file is `<config_base_name>.conf`.
    pub config_base_name: String,
    /// Directory of PostgreSQL's programs; `None` = search PATH.
    pub bin_dir: Option<PathBuf>,
    /// Alternative program names: `pg_ctl` -> `pg_ctl.custom`.
    pub bin_names: BTreeMap<String, String>,
    /// The value of `listen_addresses`, without ports.
    pub listen_addresses: String,
    pub port: u16,
    /// Where other members reach this server.
    pub connect_address: HostPort,
    /// The database for the agent's own connections.
    pub database: String,
    pub superuser: Credentials,
    pub replication: Credentials,
    /// For pg_rewind; `None` = the superuser.
    pub rewind: Option<Credentials>,
    /// The password file that this crate writes (mode 0600).
    pub pgpass: PathBuf,
    pub krbsrvname: Option<String>,
    /// Local superuser connections go over the unix socket.
    pub use_unix_socket: bool,
    /// Local replication connections go over the unix socket.
    pub use_unix_socket_repl: bool,
    /// Local merged over dynamic parameters, without those the cluster controls (see [`crate::parameters::split`]).
    pub parameters: BTreeMap<String, String>,
    /// Values of the dynamic configuration for parameters that the cluster controls, unchecked.
    pub controlled: BTreeMap<String, String>,
    /// `parameters_{role}`: merged over `parameters` for that role.
    pub role_parameters: BTreeMap<ServerRole, BTreeMap<String, String>>,
    pub pg_hba: Option<Vec<String>>,
    pub pg_ident: Option<Vec<String>>,
    /// `pg_hba_{role}`: replaces `pg_hba` for that role.
    pub role_pg_hba: BTreeMap<ServerRole, Vec<String>>,
    pub role_pg_ident: BTreeMap<ServerRole, Vec<String>>,
    /// Settings that shorten a failover. They stand in front of everything else in the file: whatever a user sets, in any file, wins.
    pub failover_defaults: BTreeMap<String, String>,
    /// Extra recovery settings.
    pub recovery_conf: BTreeMap<String, String>,
    /// Included instead of `<base>.base.conf`.
    pub custom_conf: Option<PathBuf>,
    pub bootstrap: BootstrapSettings,
    /// `None`: no part of a Citus cluster.
    pub citus: Option<CitusSettings>,
    /// How a replica is made, in order; the first that succeeds wins.
    pub replica_methods: Vec<ReplicaMethod>,
    pub basebackup: Vec<ProgramOption>,
    pub rewind_options: Vec<ProgramOption>,
    pub callbacks: BTreeMap<CallbackAction, String>,
    pub pre_promote: Option<String>,
    pub before_stop: Option<String>,
    /// How long a start may take before it is no longer waited for.
    pub pg_ctl_timeout: Duration,
    /// Where the postmaster's own output goes; `None` = the agent's stdout and stderr.
    pub log_file: Option<PathBuf>,
    /// Environment variables that no PostgreSQL process may see, as prefixes of names. Users' scripts see Kubernetes' ones of them.
    pub scrub_env: BTreeSet<String>,
}

/// `bootstrap`, as far as PostgreSQL is concerned.
#[derive(Clone, Debug, Default)]
pub struct BootstrapSettings {
    /// Who makes the first data directory; `None` = initdb.
    pub custom: Option<CustomBootstrap>,
    pub initdb: Vec<ProgramOption>,
    /// Lines appended to the fresh pg_hba.conf when it is not otherwise managed.
    pub pg_hba: Vec<String>,
    pub post_bootstrap: Option<String>,
}

/// The part of a Citus cluster that a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CitusSettings {
    /// The database with the extension.
    pub database: String,
    pub is_coordinator: bool,
}

/// A user's command that makes the first data directory, usually from a backup.
#[derive(Clone, Debug)]
pub struct CustomBootstrap {
    /// For logs: the name of its section.
    pub name: String,
    /// A command line.
    pub command: String,
    /// Do not add `--scope` and `--datadir`.
    pub no_params: bool,
    pub recovery: FirstRecovery,
    pub options: Vec<ProgramOption>,
}

/// How a data directory recovers that a user's command has made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstRecovery {
    /// Not at all, or only to the end of its own WAL.
    None,
    /// As the command has left it: signal files and recovery settings stay.
    AsFound,
    /// With these settings, until it is promoted.
    Targeted(BTreeMap<String, String>),
}

/// A role of PostgreSQL that the agent logs in with. The password never reaches a command line, a log or an error.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// Empty: the name of the operating system's user.
    pub username: String,
    pub password: Option<SecretString>,
    /// libpq's connection options beginning with `ssl`, and `gssencmode`, `channel_binding`.
    pub options: BTreeMap<String, String>,
}

impl Credentials {
    pub fn new(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self {
            username: username.into(),
            password: Some(SecretString::from(password.into())),
            options: BTreeMap::new(),
        }
    }
}

impl PgSettings {
    /// Defaults for everything that has one. Passwords, hooks and parameters are left out.
    pub fn new(member: MemberName, cluster: ClusterName, data_dir: PathBuf, listen: HostPort) -> Self {
        Self {
            member,
            cluster,
            config_dir: data_dir.clone(),
            config_base_name: "postgresql".to_owned(),
            bin_dir: None,
            bin_names: BTreeMap::new(),
            listen_addresses: listen.host.clone(),
            port: listen.port,
            connect_address: listen,
            database: "postgres".to_owned(),
            superuser: Credentials::default(),
            replication: Credentials::default(),
            rewind: None,
            pgpass: data_dir.with_extension("pgpass"),
            data_dir,
            krbsrvname: None,
            use_unix_socket: false,
            use_unix_socket_repl: false,
            parameters: BTreeMap::new(),
            controlled: BTreeMap::new(),
            role_parameters: BTreeMap::new(),
            pg_hba: None,
            pg_ident: None,
            role_pg_hba: BTreeMap::new(),
            role_pg_ident: BTreeMap::new(),
            failover_defaults: [("wal_retrieve_retry_interval".to_owned(), "100ms".to_owned())].into(),
            recovery_conf: BTreeMap::new(),
            custom_conf: None,
            bootstrap: BootstrapSettings::default(),
            citus: None,
            replica_methods: vec![ReplicaMethod::Basebackup],
            basebackup: Vec::new(),
            rewind_options: Vec::new(),
            callbacks: BTreeMap::new(),
            pre_promote: None,
            before_stop: None,
            pg_ctl_timeout: Duration::from_secs(60),
            log_file: None,
            scrub_env: ["PATRONI_", "BELLWETHER_", "KUBERNETES_", "NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_FD"]
                .map(str::to_owned)
                .into(),
        }
    }

    /// The role for pg_rewind and for asking a source server.
    pub fn rewind_credentials(&self) -> &Credentials {
        self.rewind.as_ref().unwrap_or(&self.superuser)
    }

    /// The main configuration file, which this crate writes.
    pub fn config_file(&self) -> PathBuf {
        self.config_dir.join(format!("{}.conf", self.config_base_name))
    }

    pub(crate) fn base_config_file(&self) -> PathBuf {
        self.config_dir.join(format!("{}.base.conf", self.config_base_name))
    }
}
