//! Patroni's rules for each key, as a table. Keys that it does not look at are not listed.

use crate::value::Unit;

/// A key of a map.
pub(super) struct Field {
    pub(super) key: &'static str,
    pub(super) rule: Rule,
    pub(super) needed: bool,
}

/// What a value must be.
pub(super) enum Rule {
    Text,
    Flag,
    /// A plain integer in a range.
    Int(i64, i64),
    /// A number, perhaps as text and with a unit, of so much or more.
    Quantity(Option<Unit>, i64),
    /// A number, perhaps as text, in a range.
    Parameter(i64, i64),
    Words(&'static [&'static str]),
    WordsAnyCase(&'static [&'static str]),
    Map,
    Fields(&'static [Field]),
    /// Not empty.
    List(&'static Rule),
    LogFormat,
    WatchdogMode,
    SynchronousMode,
    OptionOrMap,
    /// `host:port` for other members.
    Published,
    /// `host:port` of this machine; PostgreSQL may have several hosts.
    Listen {
        several: bool,
    },
    StackSize,
}

const fn field(key: &'static str, rule: Rule) -> Field {
    Field { key, rule, needed: false }
}

const fn needed(key: &'static str, rule: Rule) -> Field {
    Field { key, rule, needed: true }
}

const MANY: i64 = i64::MAX;
const FEW: i64 = i64::MIN;

pub(super) const ROOT: &[Field] = &[
    needed("name", Rule::Text),
    needed("scope", Rule::Text),
    field("thread_pool_size", Rule::Int(5, MANY)),
    field("thread_stack_size", Rule::StackSize),
    field("log", Rule::Fields(LOG)),
    field("ctl", Rule::Fields(CTL)),
    needed("restapi", Rule::Fields(RESTAPI)),
    field("bootstrap", Rule::Fields(BOOTSTRAP)),
    field("citus", Rule::Fields(CITUS)),
    needed("postgresql", Rule::Fields(POSTGRESQL)),
    field("watchdog", Rule::Fields(WATCHDOG)),
    field("tags", Rule::Fields(TAGS)),
];

const LEVELS: &[&str] = &["DEBUG", "INFO", "WARN", "WARNING", "ERROR", "FATAL", "CRITICAL"];

const LOG: &[Field] = &[
    field("type", Rule::Words(&["plain", "json"])),
    field("level", Rule::Words(LEVELS)),
    field("traceback_level", Rule::Words(&["DEBUG", "ERROR"])),
    field("format", Rule::LogFormat),
    field("dateformat", Rule::Text),
    field("static_fields", Rule::Map),
    field("max_queue_size", Rule::Int(FEW, MANY)),
    field("dir", Rule::Text),
    field("file_num", Rule::Int(FEW, MANY)),
    field("file_size", Rule::Int(FEW, MANY)),
    field("mode", Rule::Int(0, 511)),
    field("loggers", Rule::Map),
    field("deduplicate_heartbeat_logs", Rule::Flag),
];

const CTL: &[Field] = &[
    field("insecure", Rule::Flag),
    field("cacert", Rule::Text),
    field("certfile", Rule::Text),
    field("keyfile", Rule::Text),
    field("keyfile_password", Rule::Text),
];

const BASIC: &[Field] = &[needed("username", Rule::Text), needed("password", Rule::Text)];

const RESTAPI: &[Field] = &[
    needed("listen", Rule::Listen { several: false }),
    needed("connect_address", Rule::Published),
    field("authentication", Rule::Fields(BASIC)),
    field("certfile", Rule::Text),
    field("keyfile", Rule::Text),
    field("keyfile_password", Rule::Text),
    field("cafile", Rule::Text),
    field("ciphers", Rule::Text),
    field("verify_client", Rule::Words(&["none", "optional", "required"])),
    field("allowlist", Rule::List(&Rule::Text)),
    field("allowlist_include_members", Rule::Flag),
    field("http_extra_headers", Rule::Map),
    field("https_extra_headers", Rule::Map),
    field("request_queue_size", Rule::Int(0, 4096)),
    field("thread_pool_size", Rule::Int(5, MANY)),
    field("server_tokens", Rule::WordsAnyCase(&["Original", "ProductOnly", "Minimal"])),
];

const BOOTSTRAP: &[Field] = &[
    needed("dcs", Rule::Fields(DCS)),
    field("method", Rule::Text),
    field("initdb", Rule::List(&Rule::OptionOrMap)),
];

const DCS: &[Field] = &[
    field("ttl", Rule::Quantity(None, 20)),
    field("loop_wait", Rule::Quantity(None, 1)),
    field("retry_timeout", Rule::Quantity(None, 3)),
    field("maximum_lag_on_failover", Rule::Quantity(None, 0)),
    field("maximum_lag_on_syncnode", Rule::Quantity(None, -1)),
    field("member_slots_ttl", Rule::Quantity(Some(Unit::Seconds), 0)),
    field("postgresql", Rule::Fields(DCS_POSTGRESQL)),
    field("primary_start_timeout", Rule::Quantity(None, 0)),
    field("primary_stop_timeout", Rule::Quantity(None, 0)),
    field("standby_cluster", Rule::Fields(STANDBY_CLUSTER)),
    field("synchronous_mode", Rule::SynchronousMode),
    field("synchronous_mode_strict", Rule::Flag),
    field("synchronous_node_count", Rule::Quantity(None, 1)),
];

const DCS_POSTGRESQL: &[Field] = &[
    field("parameters", Rule::Fields(PARAMETERS)),
    field("pg_hba", Rule::List(&Rule::Text)),
    field("pg_ident", Rule::List(&Rule::Text)),
    field("use_pg_rewind", Rule::Flag),
    field("use_slots", Rule::Flag),
];

const PARAMETERS: &[Field] = &[
    field("max_connections", Rule::Parameter(1, 262_143)),
    field("max_locks_per_transaction", Rule::Parameter(10, 2_147_483_647)),
    field("max_prepared_transactions", Rule::Parameter(0, 262_143)),
    field("max_replication_slots", Rule::Parameter(0, 262_143)),
    field("max_wal_senders", Rule::Parameter(0, 262_143)),
    field("max_worker_processes", Rule::Parameter(0, 262_143)),
];

const STANDBY_CLUSTER: &[Field] = &[
    field("host", Rule::Text),
    field("port", Rule::Int(0, 65_535)),
    field("restore_command", Rule::Text),
    field("primary_slot_name", Rule::Text),
    field("create_replica_methods", Rule::List(&Rule::Text)),
    field("archive_cleanup_command", Rule::Text),
    field("recovery_min_apply_delay", Rule::Text),
];

const CITUS: &[Field] = &[needed("database", Rule::Text), needed("group", Rule::Int(FEW, MANY))];

const ROLE: &[Field] = &[needed("username", Rule::Text)];

const AUTHENTICATION: &[Field] = &[
    needed("replication", Rule::Fields(ROLE)),
    needed("superuser", Rule::Fields(ROLE)),
    field("rewind", Rule::Fields(ROLE)),
];

const POSTGRESQL: &[Field] = &[
    needed("listen", Rule::Listen { several: true }),
    needed("connect_address", Rule::Published),
    field("proxy_address", Rule::Published),
    needed("authentication", Rule::Fields(AUTHENTICATION)),
    needed("data_dir", Rule::Text),
    field("bin_name", Rule::Map),
    field("parameters", Rule::Map),
    field("pg_hba", Rule::List(&Rule::Text)),
    field("pg_ident", Rule::List(&Rule::Text)),
    field("pg_ctl_timeout", Rule::Quantity(None, 0)),
    field("use_pg_rewind", Rule::Flag),
];

const WATCHDOG: &[Field] = &[
    field("mode", Rule::WatchdogMode),
    field("device", Rule::Text),
    field("safety_margin", Rule::Int(-1, MANY)),
];

const TAGS: &[Field] = &[
    field("nofailover", Rule::Flag),
    field("failover_priority", Rule::Int(0, MANY)),
    field("clonefrom", Rule::Flag),
    field("noloadbalance", Rule::Flag),
    field("replicatefrom", Rule::Text),
    field("nosync", Rule::Flag),
    field("sync_priority", Rule::Int(0, MANY)),
    field("nostream", Rule::Flag),
];

/// The sections that name a store, in the order in which they are told.
pub(super) const STORES: &[Field] = &[
    field("consul", Rule::Fields(CONSUL)),
    field("etcd", Rule::Fields(ETCD)),
    field("etcd3", Rule::Fields(ETCD)),
    field("exhibitor", Rule::Fields(EXHIBITOR)),
    field("kubernetes", Rule::Fields(KUBERNETES)),
    field("raft", Rule::Fields(RAFT)),
    field("zookeeper", Rule::Fields(ZOOKEEPER)),
];

/// Sections whose servers are named in one of several ways, and the port of those named without one.
pub(super) const SERVERS: &[(&str, &[&str], u16)] = &[
    ("consul", &["host", "url"], 8500),
    ("etcd", ETCD_WAYS, 2379),
    ("etcd3", ETCD_WAYS, 2379),
    ("zookeeper", &["hosts"], 2181),
];
const ETCD_WAYS: &[&str] = &["host", "hosts", "srv", "srv_suffix", "url", "proxy"];

const CONSUL: &[Field] = &[
    field("url", Rule::Text),
    field("port", Rule::Int(0, 65_535)),
    field("scheme", Rule::Text),
    field("token", Rule::Text),
    field("verify", Rule::Flag),
    field("cacert", Rule::Text),
    field("cert", Rule::Text),
    field("key", Rule::Text),
    field("dc", Rule::Text),
    field("checks", Rule::List(&Rule::Text)),
    field("register_service", Rule::Flag),
    field("service_tags", Rule::List(&Rule::Text)),
    field("service_check_interval", Rule::Text),
    field("service_check_tls_server_name", Rule::Text),
    field("consistency", Rule::Words(&["default", "consistent", "stale"])),
];

const ETCD: &[Field] = &[
    field("srv", Rule::Text),
    field("srv_suffix", Rule::Text),
    field("url", Rule::Text),
    field("proxy", Rule::Text),
    field("username", Rule::Text),
    field("password", Rule::Text),
];

const EXHIBITOR: &[Field] = &[
    needed("hosts", Rule::List(&Rule::Text)),
    needed("port", Rule::Int(0, 65_535)),
    field("poll_interval", Rule::Int(FEW, MANY)),
];

const KUBERNETES: &[Field] = &[
    needed("labels", Rule::Map),
    field("bypass_api_service", Rule::Flag),
    field("namespace", Rule::Text),
    field("scope_label", Rule::Text),
    field("role_label", Rule::Text),
    field("leader_label_value", Rule::Text),
    field("follower_label_value", Rule::Text),
    field("standby_leader_label_value", Rule::Text),
    field("tmp_role_label", Rule::Text),
    field("use_endpoints", Rule::Flag),
    field("cacert", Rule::Text),
    field("ports", Rule::List(&Rule::Map)),
    field("bootstrap_labels", Rule::Map),
];

/// Where this program differs on purpose: a node without `self_addr` or partners is legal, and a partner that does not
/// answer yet is usual.
const RAFT: &[Field] = &[field("password", Rule::Text), field("data_dir", Rule::Text)];

const ZOOKEEPER: &[Field] = &[
    field("use_ssl", Rule::Flag),
    field("cacert", Rule::Text),
    field("cert", Rule::Text),
    field("key", Rule::Text),
    field("key_password", Rule::Text),
    field("verify", Rule::Flag),
    field("set_acls", Rule::Map),
    field("auth_data", Rule::Map),
];
