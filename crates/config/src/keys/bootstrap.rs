//! Keys of `bootstrap`: read once, when a new cluster is created.

use super::{
    Applies::Bootstrap,
    Form::{Any, Flag, Int, Open, Text, Texts},
    Key, key,
};

pub(super) const BOOTSTRAP: &[Key] = &[
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
        "quorum_takeover",
        Flag,
        Bootstrap,
        "false",
        "In mode `quorum`, replace a primary that enough voters have stopped hearing before its lease ends. A new cluster that gets our defaults has it on.",
    ),
    key(
        "detect_timeout",
        Any,
        Bootstrap,
        "1s",
        "How long a voter must have got nothing from the primary before it suspects that it is gone; 200ms to 60s.",
    ),
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
