//! Keys of the sections that name a store, and the part of a Citus cluster, which is a level of the keys in it.

use super::{
    Applies::{Reload, Restart},
    Form::{Any, Flag, Int, Number, Secret, Text, Texts, Words},
    Key, key, secret_file,
};

pub(super) const ETCD3: &[Key] = &[
    key("hosts", Texts, Restart, "", "The members of etcd, `host:port` each; tried in this order."),
    key("host", Text, Restart, "", "One member of etcd, `host:port`."),
    key("port", Int, Restart, "2379", "Port of hosts that are written without one."),
    key("url", Secret, Restart, "", "`https://user:password@host:port` instead of `hosts`."),
    key("proxy", Secret, Restart, "", "As `url`, for a proxy in front of etcd; implies `use_proxies`."),
    key("use_proxies", Flag, Restart, "false", "Use the hosts as they are: do not ask etcd for its members."),
    key("protocol", Words(&["http", "https"]), Restart, "http", "`https`: etcd serves TLS."),
    key("srv", Text, Restart, "", "Domain whose SRV records name the members; preferred to `hosts`."),
    key("discovery_srv", Text, Restart, "", "Another name of `srv`."),
    key("srv_domain", Text, Restart, "", "Another name of `srv`."),
    key(
        "srv_suffix",
        Text,
        Restart,
        "",
        "Asks for `_etcd-client-SUFFIX._tcp` instead of `_etcd-client._tcp`.",
    ),
    key("username", Text, Reload, "", "Name of the etcd user."),
    key("password", Secret, Reload, "", "Its password."),
    secret_file("password_file", Reload),
    key(
        "cacert",
        Text,
        Restart,
        "",
        "Who may have signed etcd's certificates (PEM); without it the system's authorities.",
    ),
    key("cert", Text, Restart, "", "Our certificate for etcd (PEM)."),
    key("key", Text, Restart, "cert", "Key of the certificate (PEM)."),
];

pub(super) const CONSUL: &[Key] = &[
    key("host", Text, Restart, "127.0.0.1", "The agent, `host` or `host:port`."),
    key("port", Int, Restart, "8500", "Its port, if `host` or `url` is written without one."),
    key("scheme", Words(&["http", "https"]), Restart, "http", "`https`: the agent serves TLS."),
    key("url", Secret, Restart, "", "`https://host:port` instead of `host`, `port` and `scheme`."),
    key("token", Secret, Restart, "", "ACL token; services are registered with a new one after a reload."),
    secret_file("token_file", Restart),
    key("verify", Flag, Restart, "true", "Check the agent's certificate."),
    key(
        "cacert",
        Text,
        Restart,
        "",
        "Who may have signed the agent's certificate (PEM); without it the system's authorities.",
    ),
    key("cert", Text, Restart, "", "Our certificate for the agent (PEM)."),
    key("key", Text, Restart, "cert", "Key of the certificate (PEM)."),
    key("dc", Text, Restart, "", "Datacenter, if it is not the agent's own."),
    key(
        "consistency",
        Words(&["default", "consistent", "stale"]),
        Restart,
        "consistent",
        "Accepted for Patroni's sake; reads are always consistent.",
    ),
    key(
        "checks",
        Texts,
        Restart,
        "",
        "Health checks that the session hangs on. With any, the lease is no fence: it ends when a check fails.",
    ),
    key(
        "session_ttl_min",
        Text,
        Restart,
        "10s",
        "The servers' setting of that name, if theirs is another; the shortest `ttl` is twice that.",
    ),
    key("register_service", Flag, Reload, "false", "Register the member as a service of the cluster's name."),
    key("service_tags", Texts, Reload, "", "Tags of the service besides the role."),
    key("service_check_interval", Text, Reload, "5s", "How often Consul asks the REST API for the role."),
    key(
        "service_check_tls_server_name",
        Text,
        Reload,
        "",
        "The name in the REST API's certificate, for that check.",
    ),
];

pub(super) const ZOOKEEPER: &[Key] = &[
    key("hosts", Texts, Restart, "", "The servers, `host:port` each; the port is 2181 unless given."),
    key(
        "tick_time",
        Text,
        Restart,
        "2s",
        "The servers' `tickTime`, milliseconds without a unit; the shortest `ttl` is twice that.",
    ),
    key(
        "set_acls",
        Any,
        Restart,
        "",
        "Who may do what with our znodes: principal and a list of permissions.",
    ),
    key("auth_data", Any, Restart, "", "What each session presents: scheme and credential."),
    key(
        "use_ssl",
        Flag,
        Restart,
        "false",
        "The connections are encrypted, and the servers' certificates verified.",
    ),
    key("cacert", Text, Restart, "the system's", "File with the authorities of the servers' certificates."),
    key("cert", Text, Restart, "", "File with our certificate, for servers that ask for one."),
    key("key", Text, Restart, "", "File with its key; in `cert` if not given."),
    key("key_password", Secret, Restart, "", "What the key is encrypted with."),
    key("verify", Flag, Restart, "true", "`false` is refused: certificates are verified always."),
    key(
        "check_hostname",
        Flag,
        Restart,
        "false",
        "Ours: a certificate must bear the name that `hosts` has for its server. Patroni's client never checks that.",
    ),
];

pub(super) const RAFT: &[Key] = &[
    key(
        "self_addr",
        Text,
        Restart,
        "",
        "`host:port` by which partners reach this vote; without it this node is a client.",
    ),
    key("bind_addr", Text, Restart, "self_addr", "`host:port` to listen on."),
    key("partner_addrs", Texts, Restart, "", "The other votes, `host:port` each."),
    key("data_dir", Text, Restart, "", "Where log and snapshots live."),
    key("password", Secret, Restart, "", "Shared by all partners; authenticates and encrypts."),
    secret_file("password_file", Restart),
    key("timing", Words(&["default", "fast", "wan"]), Restart, "default", "How patient elections are."),
    key(
        "certfile",
        Text,
        Reload,
        "",
        "Certificate of this node (PEM), for both directions; must name the host of `self_addr`.",
    ),
    key("keyfile", Text, Reload, "", "Key of the certificate (PEM)."),
    key("cafile", Text, Reload, "", "CA that signed every partner's certificate (PEM)."),
    key("insecure", Flag, Restart, "false", "Talk to partners in clear text."),
    key("witness", Flag, Restart, "false", "This node votes, but runs no PostgreSQL."),
    untimed("min_timeout"),
    untimed("max_timeout"),
    untimed("connection_timeout"),
    untimed("append_entries_period"),
    untimed("connection_retry_time"),
    untimed("leader_fallback_timeout"),
];

/// The raft library of Patroni has it; ours has `timing` for all of them.
const fn untimed(name: &'static str) -> Key {
    key(name, Number, Restart, "", "Accepted for Patroni's sake; see `timing`.")
}

pub(super) const CITUS: &[Key] = &[
    key("group", Int, Restart, "", "`0` is the coordinator, every other number a worker."),
    key("database", Text, Restart, "", "The database with the extension `citus`; made with a new cluster."),
];
