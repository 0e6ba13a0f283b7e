//! Keys of the proxy.

use super::{
    Applies::{Reload, Restart},
    Form::{Any, Flag, Int, Open, Section, Text, Texts, Words},
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
    key("enabled", Flag, Reload, "true", "`false` takes a customary listener away."),
];

const LISTENERS: &[Key] = &[
    key("primary", Section(LISTENER), Reload, "", "Reads and writes at the primary."),
    key("replicas", Section(LISTENER), Reload, "", "Reads at all replicas in turn."),
    key("sync", Section(LISTENER), Reload, "", "Reads at synchronous replicas."),
    key("async", Section(LISTENER), Reload, "", "Reads at asynchronous replicas."),
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
        Open(LISTENERS),
        Reload,
        "",
        "Ports by name; those that are not customary need a `port`.",
    ),
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
