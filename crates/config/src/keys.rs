//! Every key of the local file: one table for unknown keys, editor completion and the reference page.
//!
//! What a key means is decided where it is read (`sections`); a test holds the two together.

mod stores;

use stores::{CONSUL, ETCD3, RAFT, ZOOKEEPER};

/// One key.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) form: Form,
    pub(crate) applies: Applies,
    /// As a person would write it; empty if there is none.
    pub(crate) default: &'static str,
    pub(crate) doc: &'static str,
}

/// What stands behind a key.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    Text,
    Secret,
    Flag,
    Int,
    Number,
    Words(&'static [&'static str]),
    /// A list of texts, or one text.
    Texts,
    /// Anything at all: not looked into.
    Any,
    /// A map of these keys.
    Section(&'static [Key]),
    /// A map of these keys and others.
    Open(&'static [Key]),
}

/// When a change of the key takes effect.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Applies {
    Reload,
    Restart,
    /// Read once, when a new cluster is created.
    Bootstrap,
    /// Never: the key has no effect in a local file.
    Never,
}

use Applies::{Bootstrap, Never, Reload, Restart};
use Form::{Any, Flag, Int, Open, Secret, Section, Text, Texts, Words};

const fn key(
    name: &'static str,
    form: Form,
    applies: Applies,
    default: &'static str,
    doc: &'static str,
) -> Key {
    Key { name, form, applies, default, doc }
}

/// The root of the document.
pub(crate) const ROOT: &[Key] = &[
    key("name", Text, Restart, "", "Name of this member, unique in the cluster."),
    key("scope", Text, Restart, "", "Name of the cluster."),
    key("namespace", Text, Restart, "/service", "Prefix of the cluster's keys in the store."),
    key(
        "defaults",
        Words(&["auto", "patroni", "bellwether"]),
        Bootstrap,
        "auto",
        "Whose defaults a new cluster is created with.",
    ),
    key("thread_pool_size", Int, Restart, "5", "Accepted for Patroni's sake; has no effect."),
    key("thread_stack_size", Any, Restart, "512kB", "Accepted for Patroni's sake; has no effect."),
    key("log", Section(LOG), Reload, "", "Where and how the daemon logs."),
    key("restapi", Section(RESTAPI), Reload, "", "The REST server of this member."),
    key("ctl", Section(CTL), Reload, "", "How other members' REST APIs are called."),
    key("watchdog", Section(WATCHDOG), Reload, "", "What stops PostgreSQL when the agent cannot."),
    key("tags", Open(TAGS), Reload, "", "Tags of this member; any other name is published as it is."),
    key("bootstrap", Open(BOOTSTRAP), Bootstrap, "", "How a new cluster begins."),
    key("postgresql", Open(POSTGRESQL), Reload, "", "The PostgreSQL server of this member."),
    key("raft", Section(RAFT), Restart, "", "The embedded store."),
    key("citus", Any, Restart, "", "Citus clusters; not yet supported."),
    key("consul", Section(CONSUL), Restart, "", "Consul, through the agent on this machine."),
    key("etcd", Any, Restart, "", "etcd by its protocol v2: not supported, see `etcd3`."),
    key("etcd3", Section(ETCD3), Restart, "", "etcd by its protocol v3."),
    key("exhibitor", Any, Restart, "", "Not yet built in."),
    key("kubernetes", Any, Restart, "", "Not yet built in."),
    key("zookeeper", Section(ZOOKEEPER), Restart, "", "A ZooKeeper ensemble."),
    key("ttl", Any, Never, "", ""),
    key("loop_wait", Any, Never, "", ""),
    key("retry_timeout", Any, Never, "", ""),
    key("maximum_lag_on_failover", Any, Never, "", ""),
    key("maximum_lag_on_syncnode", Any, Never, "", ""),
    key("synchronous_mode", Any, Never, "", ""),
    key("synchronous_mode_strict", Any, Never, "", ""),
    key("synchronous_node_count", Any, Never, "", ""),
    key("failsafe_mode", Any, Never, "", ""),
    key("pause", Any, Never, "", ""),
    key("standby_cluster", Any, Never, "", ""),
    key("slots", Any, Never, "", ""),
    key("ignore_slots", Any, Never, "", ""),
];

/// Of every key that names the file of a secret.
const SECRET_FILE: &str =
    "File that holds it, instead: an absolute path, or the name of a credential of the service manager.";

const LEVELS: &[&str] = &["DEBUG", "INFO", "WARN", "WARNING", "ERROR", "FATAL", "CRITICAL"];

const LOG: &[Key] = &[
    key("type", Words(&["plain", "json"]), Reload, "plain", "Form of the log lines."),
    key("level", Words(LEVELS), Reload, "INFO", "The least severe level that is logged."),
    key(
        "traceback_level",
        Words(&["DEBUG", "ERROR"]),
        Reload,
        "ERROR",
        "From which level on chains of causes are shown.",
    ),
    key(
        "format",
        Any,
        Reload,
        "%(asctime)s %(levelname)s: %(message)s",
        "Template of a line; for json also a list of fields.",
    ),
    key(
        "dateformat",
        Text,
        Reload,
        "",
        "strftime pattern of the time; without it `YYYY-MM-DD HH:MM:SS,mmm`.",
    ),
    key("static_fields", Any, Reload, "", "Fields added to every JSON record."),
    key("max_queue_size", Int, Reload, "1000", "Records that may wait to be written."),
    key("dir", Text, Reload, "", "Directory of the log file; without it standard error is used."),
    key("file_size", Int, Reload, "25000000", "Bytes after which the file is rotated."),
    key("file_num", Int, Reload, "4", "Rotated files that are kept."),
    key("mode", Any, Reload, "", "File mode in octal, for example 0640."),
    key("loggers", Any, Reload, "", "Levels by logger."),
    key(
        "deduplicate_heartbeat_logs",
        Flag,
        Reload,
        "false",
        "Drop a heartbeat line that repeats the one before.",
    ),
];

const BASIC: &[Key] = &[
    key("username", Text, Reload, "", "Name for HTTP Basic."),
    key("password", Secret, Reload, "", "Password for HTTP Basic."),
    key("password_file", Text, Reload, "", SECRET_FILE),
];

const RESTAPI: &[Key] = &[
    key("listen", Text, Reload, "", "`host:port` to listen on; `*` or no host for every interface."),
    key("connect_address", Text, Reload, "listen", "`host:port` by which others reach this API."),
    key("authentication", Section(BASIC), Reload, "", "Asked for by unsafe methods."),
    key("certfile", Text, Reload, "", "Certificate (PEM); switches the API to HTTPS."),
    key("keyfile", Text, Reload, "", "Key of the certificate (PEM)."),
    key("keyfile_password", Secret, Reload, "", "Password of the key."),
    key("keyfile_password_file", Text, Reload, "", SECRET_FILE),
    key("cafile", Text, Reload, "", "CA bundle for client certificates."),
    key("ciphers", Text, Reload, "", "Accepted for Patroni's sake; the TLS library chooses."),
    key(
        "verify_client",
        Words(&["none", "optional", "required"]),
        Reload,
        "none",
        "When a client certificate is needed.",
    ),
    key("allowlist", Texts, Reload, "", "Hosts, addresses and networks that may call unsafe methods."),
    key("allowlist_include_members", Flag, Reload, "false", "Also allow the members' addresses."),
    key("http_extra_headers", Any, Reload, "", "Headers added to each response."),
    key("https_extra_headers", Any, Reload, "", "Headers added as well with TLS."),
    key("request_queue_size", Int, Restart, "5", "Connections that may wait to be accepted, 0 to 4096."),
    key("thread_pool_size", Int, Restart, "5", "Accepted for Patroni's sake; has no effect."),
    key(
        "server_tokens",
        Words(&["Original", "ProductOnly", "Minimal"]),
        Reload,
        "Original",
        "What the header `Server` tells.",
    ),
];

const CTL: &[Key] = &[
    key("authentication", Section(BASIC), Reload, "restapi.authentication", "Sent to REST APIs."),
    key("insecure", Flag, Reload, "false", "Skip the check of the server's certificate."),
    key("cacert", Text, Reload, "restapi.cafile", "CA bundle for servers."),
    key("certfile", Text, Reload, "", "Client certificate (PEM)."),
    key("keyfile", Text, Reload, "", "Key of the client certificate (PEM)."),
    key("keyfile_password", Secret, Reload, "", "Password of the key."),
    key("keyfile_password_file", Text, Reload, "", SECRET_FILE),
];

const WATCHDOG: &[Key] = &[
    key(
        "mode",
        Words(&["off", "automatic", "required"]),
        Reload,
        "automatic",
        "Use of the kernel watchdog; `required` refuses leadership without it.",
    ),
    key("device", Text, Reload, "/dev/watchdog", "The watchdog device."),
    key(
        "safety_margin",
        Int,
        Reload,
        "5",
        "Seconds before the end of the ttl at which the device fires; -1 = half of the ttl.",
    ),
    key(
        "driver",
        Words(&["default", "testing"]),
        Restart,
        "default",
        "`testing` rehearses: nothing is fenced.",
    ),
    key(
        "guardian",
        Words(&["auto", "on", "off"]),
        Restart,
        "auto",
        "The process that kills PostgreSQL when the lease ends.",
    ),
];

const TAGS: &[Key] = &[
    key("nofailover", Flag, Reload, "false", "Never lead."),
    key(
        "failover_priority",
        Int,
        Reload,
        "1",
        "Of equally advanced members the higher one leads; 0 = never.",
    ),
    key("noloadbalance", Flag, Reload, "false", "Answer 503 to replica health checks."),
    key("clonefrom", Flag, Reload, "false", "Preferred source of base backups."),
    key("nosync", Flag, Reload, "false", "Never be a synchronous standby."),
    key("sync_priority", Int, Reload, "1", "Preference among synchronous standbys; 0 = never."),
    key("replicatefrom", Text, Reload, "", "Stream from this member instead of the leader."),
    key("nostream", Flag, Reload, "false", "Recover from the archive only."),
];

const BOOTSTRAP: &[Key] = &[
    key("dcs", Open(DCS), Bootstrap, "", "The first dynamic configuration."),
    key(
        "method",
        Text,
        Bootstrap,
        "initdb",
        "Name of the section beside this key whose `command` makes the data directory.",
    ),
    key("initdb", Any, Bootstrap, "", "Options of initdb."),
    key("pg_hba", Texts, Bootstrap, "", "Lines for a fresh pg_hba.conf."),
    key("post_bootstrap", Text, Bootstrap, "", "Command run once with a connection string."),
    key("post_init", Text, Bootstrap, "", "Old name of `post_bootstrap`."),
    key("users", Any, Bootstrap, "", "Removed; use `post_bootstrap`."),
];

const DCS: &[Key] = &[
    key("ttl", Int, Bootstrap, "30", "Seconds that the leader lock lasts without renewal."),
    key("loop_wait", Int, Bootstrap, "10", "Longest sleep of the agent, in seconds."),
    key("retry_timeout", Int, Bootstrap, "10", "Seconds that store and PostgreSQL operations are retried."),
    key("maximum_lag_on_failover", Int, Bootstrap, "1048576", "Bytes that a candidate may lag."),
    key(
        "maximum_lag_on_syncnode",
        Int,
        Bootstrap,
        "-1",
        "Bytes that a synchronous standby may lag; -1 = no limit.",
    ),
    key("max_timelines_history", Int, Bootstrap, "0", "Entries kept in the history; 0 = all."),
    key("check_timeline", Flag, Bootstrap, "false", "Refuse candidates on an older timeline."),
    key(
        "primary_start_timeout",
        Int,
        Bootstrap,
        "300",
        "Seconds that a primary may take to start before it is failed over.",
    ),
    key("master_start_timeout", Int, Bootstrap, "", "Old name of `primary_start_timeout`."),
    key(
        "primary_stop_timeout",
        Int,
        Bootstrap,
        "0",
        "Seconds that a planned stop of a primary may take before it becomes an immediate one; 0 = `primary_start_timeout`, a `ttl` at least.",
    ),
    key("master_stop_timeout", Int, Bootstrap, "", "Old name of `primary_stop_timeout`."),
    key(
        "primary_race_backoff",
        Int,
        Bootstrap,
        "0",
        "Seconds to delay the leader race while WAL still arrives.",
    ),
    key("synchronous_mode", Any, Bootstrap, "off", "`off`, `on` or `quorum`."),
    key("synchronous_mode_strict", Flag, Bootstrap, "false", "Never go on without a synchronous standby."),
    key("synchronous_node_count", Int, Bootstrap, "1", "How many synchronous standbys are wanted."),
    key(
        "failsafe_mode",
        Flag,
        Bootstrap,
        "false",
        "Keep the primary when the store is down and all members answer.",
    ),
    key("pause", Flag, Bootstrap, "", "Maintenance mode."),
    key("standby_cluster", Any, Bootstrap, "", "The cluster that this one follows."),
    key("slots", Any, Bootstrap, "", "Permanent replication slots."),
    key("permanent_slots", Any, Bootstrap, "", "Old name of `slots`."),
    key("permanent_replication_slots", Any, Bootstrap, "", "Old name of `slots`."),
    key("ignore_slots", Any, Bootstrap, "", "Slots that the daemon leaves alone."),
    key("member_slots_ttl", Any, Bootstrap, "30min", "How long the slot of an absent member is kept."),
    key("postgresql", Any, Bootstrap, "", "The dynamic `postgresql` section."),
];

const CREDENTIALS: &[Key] = &[
    key("username", Text, Reload, "", "Name of the role."),
    key("password", Secret, Reload, "", "Its password."),
    key("password_file", Text, Reload, "", SECRET_FILE),
    key("sslmode", Text, Reload, "", "As in libpq."),
    key("sslcert", Text, Reload, "", "As in libpq."),
    key("sslkey", Text, Reload, "", "As in libpq."),
    key("sslpassword", Secret, Reload, "", "As in libpq."),
    key("sslpassword_file", Text, Reload, "", SECRET_FILE),
    key("sslrootcert", Text, Reload, "", "As in libpq."),
    key("sslcrl", Text, Reload, "", "As in libpq."),
    key("sslcrldir", Text, Reload, "", "As in libpq."),
    key("gssencmode", Text, Reload, "", "As in libpq."),
    key("channel_binding", Text, Reload, "", "As in libpq."),
    key("sslnegotiation", Text, Reload, "", "As in libpq."),
];

const AUTHENTICATION: &[Key] = &[
    key("superuser", Section(CREDENTIALS), Reload, "", "The role that the daemon manages PostgreSQL with."),
    key("replication", Section(CREDENTIALS), Reload, "", "The role that replicas stream with."),
    key("rewind", Section(CREDENTIALS), Reload, "superuser", "The role that pg_rewind connects with."),
];

const BIN_NAME: &[Key] = &[
    key("pg_ctl", Text, Reload, "pg_ctl", "Name of the program."),
    key("initdb", Text, Reload, "initdb", "Name of the program."),
    key("pg_controldata", Text, Reload, "pg_controldata", "Name of the program."),
    key("pg_basebackup", Text, Reload, "pg_basebackup", "Name of the program."),
    key("postgres", Text, Reload, "postgres", "Name of the program."),
    key("pg_isready", Text, Reload, "pg_isready", "Name of the program."),
    key("pg_rewind", Text, Reload, "pg_rewind", "Name of the program."),
];

const CALLBACKS: &[Key] = &[
    key("on_start", Text, Reload, "", "Command."),
    key("on_stop", Text, Reload, "", "Command."),
    key("on_restart", Text, Reload, "", "Command."),
    key("on_reload", Text, Reload, "", "Command."),
    key("on_role_change", Text, Reload, "", "Command."),
];

const POSTGRESQL: &[Key] = &[
    key(
        "listen",
        Text,
        Reload,
        "",
        "`address[,address]:port` of PostgreSQL; a change needs a restart of PostgreSQL.",
    ),
    key("connect_address", Text, Reload, "listen", "`host:port` by which others reach PostgreSQL."),
    key("proxy_address", Text, Reload, "", "`host:port` of a pooler in front of PostgreSQL."),
    key("data_dir", Text, Restart, "", "The data directory."),
    key("config_dir", Text, Restart, "data_dir", "Where postgresql.conf and the like live."),
    key("config_base_name", Text, Restart, "postgresql", "Name of the configuration file without `.conf`."),
    key("bin_dir", Text, Restart, "", "Directory of PostgreSQL's programs; without it `PATH` is searched."),
    key("bin_name", Section(BIN_NAME), Reload, "", "Other names of PostgreSQL's programs."),
    key("database", Text, Restart, "postgres", "The maintenance database."),
    key("pgpass", Text, Restart, "~/pgpass", "The password file that the daemon writes."),
    key("krbsrvname", Text, Reload, "", "Kerberos service name."),
    key("use_unix_socket", Flag, Reload, "false", "Connect to the local server by its socket."),
    key("use_unix_socket_repl", Flag, Reload, "false", "The same for local replication connections."),
    key("authentication", Section(AUTHENTICATION), Reload, "", "The roles that the daemon connects as."),
    key("parameters", Any, Reload, "", "Server parameters of this member."),
    key("parameters_primary", Any, Reload, "", "Merged over `parameters` on a primary."),
    key("parameters_replica", Any, Reload, "", "Merged over `parameters` on a replica."),
    key("parameters_standby_leader", Any, Reload, "", "Merged over `parameters` on a standby leader."),
    key("pg_hba", Texts, Reload, "", "Lines of pg_hba.conf."),
    key("pg_hba_primary", Texts, Reload, "", "Instead of `pg_hba` on a primary."),
    key("pg_hba_replica", Texts, Reload, "", "Instead of `pg_hba` on a replica."),
    key("pg_hba_standby_leader", Texts, Reload, "", "Instead of `pg_hba` on a standby leader."),
    key("pg_ident", Texts, Reload, "", "Lines of pg_ident.conf."),
    key("pg_ident_primary", Texts, Reload, "", "Instead of `pg_ident` on a primary."),
    key("pg_ident_replica", Texts, Reload, "", "Instead of `pg_ident` on a replica."),
    key("pg_ident_standby_leader", Texts, Reload, "", "Instead of `pg_ident` on a standby leader."),
    key("recovery_conf", Any, Reload, "", "Extra recovery settings."),
    key("custom_conf", Text, Reload, "", "File included instead of the original postgresql.conf."),
    key("callbacks", Section(CALLBACKS), Reload, "", "Commands run at events."),
    key(
        "create_replica_methods",
        Texts,
        Reload,
        "basebackup",
        "Ways to create a replica; the first that succeeds wins.",
    ),
    key("create_replica_method", Texts, Reload, "", "Old name of `create_replica_methods`."),
    key("basebackup", Any, Reload, "", "Options of pg_basebackup."),
    key("pg_ctl_timeout", Int, Reload, "60", "Seconds that a start may take."),
    key("use_pg_rewind", Flag, Reload, "false", "Rewind a diverged former leader."),
    key("rewind", Any, Reload, "", "Options of pg_rewind."),
    key(
        "remove_data_directory_on_rewind_failure",
        Flag,
        Reload,
        "false",
        "Wipe and clone after a failed rewind.",
    ),
    key(
        "remove_data_directory_on_diverged_timelines",
        Flag,
        Reload,
        "false",
        "Wipe and clone instead of rewinding.",
    ),
    key("pre_promote", Text, Reload, "", "Fencing command; failure cancels the promotion."),
    key("before_stop", Text, Reload, "", "Command run before PostgreSQL is stopped."),
    key("use_slots", Any, Never, "", ""),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{node::Node, section::Report, yaml};

    /// Every path of the table below `keys`, and whether somebody must read it.
    fn paths(keys: &[Key], above: &str, all: &mut Vec<(String, bool)>) {
        for key in keys {
            let path = if above.is_empty() { key.name.to_owned() } else { format!("{above}.{}", key.name) };
            let read = key.applies != Never && !key.doc.starts_with("Accepted for Patroni's sake");
            all.push((path.clone(), read));
            if let Section(inner) | Open(inner) = key.form {
                paths(inner, &path, all);
            }
        }
    }

    fn asked_of(text: &str) -> BTreeSet<String> {
        let (root, _): (Node, _) = yaml::parse(text, &"t.yml".into()).unwrap();
        let report = Report::default();
        crate::load::read_member(&crate::section::Section::root(&root, &report))
            .expect("the text is complete");
        report.asked.borrow().clone()
    }

    #[test]
    fn the_table_and_what_is_read_agree() {
        let text = "\
scope: s
name: n
restapi: {listen: '127.0.0.1:1', authentication: {username: u, password: p}}
ctl: {authentication: {username: u, password: p}}
log: {loggers: {}}
bootstrap: {dcs: {}, initdb: []}
raft: {self_addr: '127.0.0.1:2', data_dir: /d}
postgresql:
  listen: 127.0.0.1:3
  data_dir: /d
  parameters: {}
  authentication: {superuser: {username: u}, replication: {username: u}, rewind: {username: u}}
";
        let mut asked = asked_of(text);
        let raft = text.find("raft:").unwrap()..text.find("postgresql:").unwrap();
        for store in
            ["etcd3: {hosts: '127.0.0.1:2'}\n", "consul: {}\n", "zookeeper: {hosts: '127.0.0.1:2'}\n"]
        {
            let mut other = text.to_owned();
            other.replace_range(raft.clone(), store);
            asked.extend(asked_of(&other));
        }

        let mut table = Vec::new();
        paths(ROOT, "", &mut table);
        let known: BTreeSet<&str> = table.iter().map(|(path, _)| path.as_str()).collect();
        let unlisted: Vec<&String> = asked.iter().filter(|path| !known.contains(path.as_str())).collect();
        assert_eq!(unlisted, Vec::<&String>::new(), "read, but not in the table");

        // Tags, the dynamic document and keys shared with it are taken as a whole, and so are stores not built in.
        // Files of secrets are read before anything else.
        let whole = ["tags.", "bootstrap.dcs.", "postgresql.", "exhibitor", "kubernetes", "tags"];
        let unread: Vec<&str> = table
            .iter()
            .filter(|(path, read)| *read && !asked.contains(path))
            .map(|(path, _)| path.as_str())
            .filter(|path| !whole.iter().any(|prefix| path.starts_with(prefix)))
            .filter(|path| crate::secret_files::of(path.rsplit('.').next().unwrap_or_default()).is_none())
            .collect();
        assert_eq!(unread, Vec::<&str>::new(), "in the table, but not read");
    }
}
