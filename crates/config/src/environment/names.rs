//! The tables: which variable sets which key, and how its text is read.

/// How the text of a variable is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Kept as text.
    Text,
    /// A YAML list; the brackets may be left out.
    List,
    /// A YAML map; the braces may be left out.
    Map,
    /// A list unless it holds `%(name)`.
    LogFormat,
    Int,
    Flag,
}

/// A group of fixed names: prefix, the keys above, and name to key.
type Group = (&'static str, &'static [&'static str], &'static [(&'static str, &'static str, Form)]);

const CREDENTIALS: &[(&str, &str, Form)] = &[
    ("USERNAME", "username", Form::Text),
    ("PASSWORD", "password", Form::Text),
    ("PASSWORD_FILE", "password_file", Form::Text),
    ("SSLMODE", "sslmode", Form::Text),
    ("SSLCERT", "sslcert", Form::Text),
    ("SSLKEY", "sslkey", Form::Text),
    ("SSLPASSWORD", "sslpassword", Form::Text),
    ("SSLROOTCERT", "sslrootcert", Form::Text),
    ("SSLCRL", "sslcrl", Form::Text),
    ("SSLCRLDIR", "sslcrldir", Form::Text),
    ("GSSENCMODE", "gssencmode", Form::Text),
    ("CHANNEL_BINDING", "channel_binding", Form::Text),
    ("SSLNEGOTIATION", "sslnegotiation", Form::Text),
];

/// Names that set one key each. An empty value counts as not set.
pub(super) const FIXED: &[Group] = &[
    (
        "PATRONI_",
        &[],
        &[
            ("NAME", "name", Form::Text),
            ("NAMESPACE", "namespace", Form::Text),
            ("SCOPE", "scope", Form::Text),
            ("THREAD_POOL_SIZE", "thread_pool_size", Form::Text),
            ("THREAD_STACK_SIZE", "thread_stack_size", Form::Text),
        ],
    ),
    // The old names come first, so that the new ones win.
    (
        "PATRONI_",
        &["log"],
        &[
            ("LOGLEVEL", "level", Form::Text),
            ("LOGFORMAT", "format", Form::Text),
            ("LOG_DATEFMT", "dateformat", Form::Text),
        ],
    ),
    (
        "PATRONI_LOG_",
        &["log"],
        &[
            ("TYPE", "type", Form::Text),
            ("LEVEL", "level", Form::Text),
            ("TRACEBACK_LEVEL", "traceback_level", Form::Text),
            ("FORMAT", "format", Form::LogFormat),
            ("DATEFORMAT", "dateformat", Form::Text),
            ("STATIC_FIELDS", "static_fields", Form::Map),
            ("MAX_QUEUE_SIZE", "max_queue_size", Form::Int),
            ("DIR", "dir", Form::Text),
            ("MODE", "mode", Form::Int),
            ("FILE_SIZE", "file_size", Form::Int),
            ("FILE_NUM", "file_num", Form::Int),
            ("LOGGERS", "loggers", Form::Map),
            ("DEDUPLICATE_HEARTBEAT_LOGS", "deduplicate_heartbeat_logs", Form::Flag),
        ],
    ),
    (
        "PATRONI_RESTAPI_",
        &["restapi"],
        &[
            ("LISTEN", "listen", Form::Text),
            ("CONNECT_ADDRESS", "connect_address", Form::Text),
            ("CERTFILE", "certfile", Form::Text),
            ("KEYFILE", "keyfile", Form::Text),
            ("KEYFILE_PASSWORD", "keyfile_password", Form::Text),
            ("CAFILE", "cafile", Form::Text),
            ("CIPHERS", "ciphers", Form::Text),
            ("VERIFY_CLIENT", "verify_client", Form::Text),
            ("HTTP_EXTRA_HEADERS", "http_extra_headers", Form::Map),
            ("HTTPS_EXTRA_HEADERS", "https_extra_headers", Form::Map),
            ("ALLOWLIST", "allowlist", Form::List),
            ("ALLOWLIST_INCLUDE_MEMBERS", "allowlist_include_members", Form::Flag),
            ("REQUEST_QUEUE_SIZE", "request_queue_size", Form::Int),
            ("SERVER_TOKENS", "server_tokens", Form::Text),
        ],
    ),
    (
        "PATRONI_RESTAPI_",
        &["restapi", "authentication"],
        &[
            ("USERNAME", "username", Form::Text),
            ("PASSWORD", "password", Form::Text),
            ("PASSWORD_FILE", "password_file", Form::Text),
        ],
    ),
    (
        "PATRONI_CTL_",
        &["ctl"],
        &[
            ("INSECURE", "insecure", Form::Flag),
            ("CACERT", "cacert", Form::Text),
            ("CERTFILE", "certfile", Form::Text),
            ("KEYFILE", "keyfile", Form::Text),
            ("KEYFILE_PASSWORD", "keyfile_password", Form::Text),
        ],
    ),
    (
        "PATRONI_CTL_",
        &["ctl", "authentication"],
        &[
            ("USERNAME", "username", Form::Text),
            ("PASSWORD", "password", Form::Text),
            ("PASSWORD_FILE", "password_file", Form::Text),
        ],
    ),
    (
        "PATRONI_POSTGRESQL_",
        &["postgresql"],
        &[
            ("LISTEN", "listen", Form::Text),
            ("CONNECT_ADDRESS", "connect_address", Form::Text),
            ("PROXY_ADDRESS", "proxy_address", Form::Text),
            ("CONFIG_DIR", "config_dir", Form::Text),
            ("DATA_DIR", "data_dir", Form::Text),
            ("PGPASS", "pgpass", Form::Text),
            ("BIN_DIR", "bin_dir", Form::Text),
        ],
    ),
    (
        "PATRONI_POSTGRESQL_BIN_",
        &["postgresql", "bin_name"],
        &[
            ("PG_CTL", "pg_ctl", Form::Text),
            ("INITDB", "initdb", Form::Text),
            ("PG_CONTROLDATA", "pg_controldata", Form::Text),
            ("PG_BASEBACKUP", "pg_basebackup", Form::Text),
            ("POSTGRES", "postgres", Form::Text),
            ("PG_ISREADY", "pg_isready", Form::Text),
            ("PG_REWIND", "pg_rewind", Form::Text),
        ],
    ),
    ("PATRONI_SUPERUSER_", &["postgresql", "authentication", "superuser"], CREDENTIALS),
    ("PATRONI_REPLICATION_", &["postgresql", "authentication", "replication"], CREDENTIALS),
    ("PATRONI_REWIND_", &["postgresql", "authentication", "rewind"], CREDENTIALS),
    (
        "PATRONI_RAFT_",
        &["raft"],
        &[
            ("DATA_DIR", "data_dir", Form::Text),
            ("SELF_ADDR", "self_addr", Form::Text),
            ("PARTNER_ADDRS", "partner_addrs", Form::List),
            ("PASSWORD", "password", Form::Text),
            ("PASSWORD_FILE", "password_file", Form::Text),
            ("BIND_ADDR", "bind_addr", Form::Text),
            ("MIN_TIMEOUT", "min_timeout", Form::Text),
            ("MAX_TIMEOUT", "max_timeout", Form::Text),
            ("CONNECTION_TIMEOUT", "connection_timeout", Form::Text),
            ("APPEND_ENTRIES_PERIOD", "append_entries_period", Form::Text),
            ("CONNECTION_RETRY_TIME", "connection_retry_time", Form::Text),
            ("LEADER_FALLBACK_TIMEOUT", "leader_fallback_timeout", Form::Text),
        ],
    ),
];

/// `PATRONI_<SECTION>_<SUFFIX>` sets `<section>.<suffix>` for any section. An empty value is kept.
pub(super) const SUFFIXES: &[(&str, Form)] = &[
    ("HOST", Form::Text),
    ("HOSTS", Form::List),
    ("PORT", Form::Int),
    ("USE_PROXIES", Form::Flag),
    ("PROTOCOL", Form::Text),
    ("SRV", Form::Text),
    ("SRV_SUFFIX", Form::Text),
    ("URL", Form::Text),
    ("PROXY", Form::Text),
    ("CACERT", Form::Text),
    ("CERT", Form::Text),
    ("KEY", Form::Text),
    ("VERIFY", Form::Flag),
    ("TOKEN", Form::Text),
    ("CHECKS", Form::List),
    ("DC", Form::Text),
    ("CONSISTENCY", Form::Text),
    ("REGISTER_SERVICE", Form::Flag),
    ("SERVICE_CHECK_INTERVAL", Form::Text),
    ("SERVICE_CHECK_TLS_SERVER_NAME", Form::Text),
    ("SERVICE_TAGS", Form::List),
    ("NAMESPACE", Form::Text),
    ("CONTEXT", Form::Text),
    ("USE_ENDPOINTS", Form::Flag),
    ("SCOPE_LABEL", Form::Text),
    ("ROLE_LABEL", Form::Text),
    ("POD_IP", Form::Text),
    ("PORTS", Form::List),
    ("LABELS", Form::Map),
    ("BYPASS_API_SERVICE", Form::Flag),
    ("RETRIABLE_HTTP_CODES", Form::List),
    ("KEY_PASSWORD", Form::Text),
    ("USE_SSL", Form::Text),
    ("SET_ACLS", Form::Map),
    ("GROUP", Form::Text),
    ("DATABASE", Form::Text),
    ("LEADER_LABEL_VALUE", Form::Text),
    ("FOLLOWER_LABEL_VALUE", Form::Text),
    ("STANDBY_LEADER_LABEL_VALUE", Form::Text),
    ("TMP_ROLE_LABEL", Form::Text),
    ("AUTH_DATA", Form::Map),
    ("BOOTSTRAP_LABELS", Form::Map),
];
