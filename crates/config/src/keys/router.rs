//! Keys of the proxy.

use super::{
    Applies::{Reload, Restart},
    Form::{Any, Flag, Int, Named, Section, Text, Texts, Words},
    Key, key,
};

const LISTENER: &[Key] = &[
    key("port", Int, Reload, "", "The port; 5000, 5001, 5002 and 5003 for the four customary listeners."),
    key("bind", Texts, Reload, "router.bind", "Addresses; a virtual one may be on another host at present."),
    key(
        "role",
        Words(&["primary", "replicas", "sync", "async"]),
        Reload,
        "its name, else primary",
        "Which members it leads to.",
    ),
    key(
        "mode",
        Words(&["tcp", "session", "transaction", "statement"]),
        Reload,
        "tcp",
        "How clients share servers; `tcp` gives each a connection of its own and passes all bytes through.",
    ),
    key(
        "split",
        Words(&["off", "conservative", "manual"]),
        Reload,
        "off",
        "Reads go to replicas, everything else to the primary; `manual`: only what the client sends there by a hint.",
    ),
    key(
        "split_consistency",
        Words(&["session", "eventual"]),
        Reload,
        "session",
        "`session`: a client sees all of its own writes on every replica.",
    ),
    key(
        "split_wait",
        Text,
        Reload,
        "50ms",
        "How long a replica is waited for that lacks a client's last write; then it is the primary.",
    ),
    key(
        "split_sticky",
        Text,
        Reload,
        "5s",
        "With `eventual`: for so long after its write a client reads at the primary.",
    ),
    key(
        "split_max_lag",
        Text,
        Reload,
        "",
        "Reads are no older than this, whoever wrote; else the primary answers. Not under a few times `split_wait`.",
    ),
    key(
        "split_max_lag_bytes",
        Any,
        Reload,
        "",
        "Replicas that are further behind are not asked; as the primary was within the last second.",
    ),
    key("enabled", Flag, Reload, "true", "`false` takes a customary listener away."),
];

const LISTENERS: &[Key] = &[
    key("primary", Section(LISTENER), Reload, "", "Reads and writes at the primary."),
    key("replicas", Section(LISTENER), Reload, "", "Reads at all replicas in turn."),
    key("sync", Section(LISTENER), Reload, "", "Reads at synchronous replicas."),
    key("async", Section(LISTENER), Reload, "", "Reads at asynchronous replicas."),
];

/// What stands behind a name in `pooler.databases`.
const DATABASE: &[Key] = &[
    key("pool_size", Int, Reload, "default_pool_size", "Servers for one user and role."),
    key("min_pool_size", Int, Reload, "of all", "Servers that are kept while there are clients."),
    key("reserve_pool_size", Int, Reload, "of all", "Servers beyond `pool_size`, as for all."),
    key(
        "max_db_connections",
        Int,
        Reload,
        "of all",
        "Servers for the database, whoever uses it; 0 = any number.",
    ),
    key("max_db_client_connections", Int, Reload, "of all", "Clients of the database; 0 = any number."),
    key("server_lifetime", Text, Reload, "of all", "Its servers are closed after so long; 0 = never."),
    key("split", Flag, Reload, "true", "`false` keeps its reads at the primary."),
];

/// What stands behind a name in `pooler.users`.
const USER: &[Key] = &[
    key(
        "pool_size",
        Int,
        Reload,
        "of the database",
        "Servers for one database and role; before the database's own.",
    ),
    key("reserve_pool_size", Int, Reload, "of the database", "Servers beyond `pool_size`, as for all."),
    key(
        "max_user_connections",
        Int,
        Reload,
        "of all",
        "Servers for the user, in all databases; 0 = any number.",
    ),
    key("max_user_client_connections", Int, Reload, "of all", "Clients that are this user; 0 = any number."),
    key("split", Flag, Reload, "true", "`false` keeps its reads at the primary."),
];

const SSLMODES: &[&str] = &["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

pub(super) const POOLER: &[Key] = &[
    key("listen_addr", Texts, Reload, "router.bind", "Addresses of the pools' port."),
    key(
        "listen_port",
        Int,
        Reload,
        "6432",
        "The port of the pools, which lead to the primary; `router.listeners` adds others.",
    ),
    key(
        "pool_mode",
        Words(&["session", "transaction", "statement"]),
        Reload,
        "transaction",
        "How long a client keeps its server.",
    ),
    key("default_pool_size", Int, Reload, "20", "Servers for one database, user and role."),
    key(
        "min_pool_size",
        Int,
        Reload,
        "0",
        "Servers that a pool keeps while it has clients; no more than its size.",
    ),
    key(
        "reserve_pool_size",
        Int,
        Reload,
        "0",
        "Servers beyond the size of a pool, once a client has waited for `reserve_pool_timeout`.",
    ),
    key("reserve_pool_timeout", Text, Reload, "5s", "After which the reserve is used; 0 = never."),
    key("max_db_connections", Int, Reload, "0", "Servers for one database, whoever uses it; 0 = any number."),
    key("max_user_connections", Int, Reload, "0", "Servers for one user, in all databases; 0 = any number."),
    key("max_db_client_connections", Int, Reload, "0", "Clients of one database; 0 = any number."),
    key("max_user_client_connections", Int, Reload, "0", "Clients that are one user; 0 = any number."),
    key("admin_users", Texts, Reload, "", "Who may do everything on the console (database `pgbouncer`)."),
    key("stats_users", Texts, Reload, "", "Who may look there."),
    key("max_client_conn", Int, Reload, "10000", "Clients of pools that may be connected."),
    key("max_prepared_statements", Int, Reload, "200", "Prepared statements that are kept on a server."),
    key(
        "query_wait_timeout",
        Text,
        Reload,
        "120s",
        "How long a client waits for a server, also while there is no primary.",
    ),
    key("client_login_timeout", Text, Reload, "60s", "For a client to log in."),
    key("server_connect_timeout", Text, Reload, "5s", "For a server to take a connection and the login."),
    key(
        "server_idle_timeout",
        Text,
        Reload,
        "600s",
        "Servers that nobody has used for so long are closed; 0 = never.",
    ),
    key(
        "server_lifetime",
        Text,
        Reload,
        "3600s",
        "Servers are closed after so long, once nobody has them; 0 = never.",
    ),
    key(
        "server_reset_query",
        Text,
        Reload,
        "DISCARD ALL",
        "Sent before another client has a server on which something may be left.",
    ),
    key(
        "auth_type",
        Words(&["scram-sha-256", "md5", "plain", "trust", "cert", "hba"]),
        Reload,
        "scram-sha-256",
        "How clients show who they are.",
    ),
    key(
        "auth_file",
        Text,
        Reload,
        "",
        "PgBouncer's userlist.txt; who is not in it, or without it, is looked up at a server.",
    ),
    key(
        "auth_hba_file",
        Text,
        Reload,
        "",
        "With `auth_type: hba`: lines as in pg_hba.conf, the first that matches says what a client must show.",
    ),
    key(
        "auth_ident_file",
        Text,
        Reload,
        "",
        "Which names in certificates may be which users (pg_ident.conf).",
    ),
    key(
        "auth_query",
        Text,
        Reload,
        "",
        "Returns name and secret of the user `$1`; for lookups by `auth_user`, or by the superuser.",
    ),
    key(
        "auth_user",
        Text,
        Reload,
        "the superuser",
        "Who runs `auth_query`; its password stands in `auth_file`.",
    ),
    key("auth_dbname", Text, Reload, "postgresql.database", "The database in which `auth_query` runs."),
    key(
        "client_tls_sslmode",
        Words(SSLMODES),
        Reload,
        "prefer",
        "Whether clients are encrypted: `require` refuses others, `verify-ca` asks for certificates.",
    ),
    key(
        "client_tls_cert_file",
        Text,
        Reload,
        "",
        "Certificate (PEM) that clients are shown; without it they are not encrypted.",
    ),
    key("client_tls_key_file", Text, Reload, "", "Key of the certificate (PEM)."),
    key("client_tls_ca_file", Text, Reload, "", "CA bundle for certificates of clients."),
    key(
        "server_tls_sslmode",
        Words(SSLMODES),
        Reload,
        "prefer",
        "Whether and how connections to servers are encrypted, as libpq has it.",
    ),
    key("server_tls_ca_file", Text, Reload, "", "CA bundle for servers."),
    key("server_tls_cert_file", Text, Reload, "", "Client certificate (PEM) for servers."),
    key("server_tls_key_file", Text, Reload, "", "Key of the client certificate (PEM)."),
    key("databases", Named(&[], DATABASE), Reload, "", "What differs, by database."),
    key("users", Named(&[], USER), Reload, "", "What differs, by user."),
];

const STATS: &[Key] = &[
    key("port", Int, Reload, "7000", "Port of the page."),
    key("bind", Texts, Reload, "router.bind", "Addresses of the page."),
    key("enabled", Flag, Reload, "true", "`false` takes the page away."),
];

const REPLICAS: &[Key] = &[key(
    "fallback",
    Words(&["none", "leader"]),
    Reload,
    "none",
    "Who serves readers when there is no replica.",
)];

pub(super) const ROUTER: &[Key] = &[
    key("bind", Texts, Reload, "*", "Addresses on which the listeners listen."),
    key(
        "listeners",
        Named(LISTENERS, LISTENER),
        Reload,
        "",
        "Ports by name; those that are not customary need a `port`.",
    ),
    key("stats", Section(STATS), Reload, "", "The statistics page: `/`, `/;csv`, `/stats.json`, `/metrics`."),
    key("threads", Int, Restart, "1", "Threads that carry data, 1 to 64."),
    key("maxconn", Int, Reload, "10000", "Clients that may be connected."),
    key(
        "balance",
        Words(&["roundrobin", "leastconn", "random"]),
        Reload,
        "roundrobin",
        "Which of several replicas is next.",
    ),
    key(
        "max_view_age",
        Text,
        Reload,
        "half of ttl",
        "New connections to the primary rest on no older confirmation by the store.",
    ),
    key("max_replica_lag", Any, Reload, "100MB", "Replicas that are further behind get no clients."),
    key("replicas", Section(REPLICAS), Reload, "", "Rules for readers."),
    key("connect_timeout", Text, Reload, "5s", "For one attempt to reach a member."),
    key("queue_timeout", Text, Reload, "5s", "How long a client waits for a member that can serve it."),
    key("queue_max", Int, Reload, "10000", "Clients that may wait for a member."),
    key(
        "drain_timeout",
        Text,
        Reload,
        "30s",
        "How long connections to a replica go on that serves no readers any more.",
    ),
    key("idle_timeout", Text, Reload, "", "Connections on which nothing moves for so long are closed."),
];
