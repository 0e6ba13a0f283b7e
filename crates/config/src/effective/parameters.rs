//! Server parameters: which ones the daemon owns, and how two sections become one.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::scalar_text;
use crate::{
    sections::postgresql::Postgresql,
    value::{Unit, int_with_unit, lenient_bool},
};

/// What a controlled parameter may be set to by the dynamic configuration.
enum Rule {
    AtLeast(i64),
    /// Megabytes.
    Size(i64),
    Flag,
    OnlyTrue,
    WalLevel,
}

/// Parameters that must be the same on every member: only the dynamic section sets them.
const CONTROLLED: [(&str, &str, Rule); 12] = [
    ("hot_standby", "on", Rule::OnlyTrue),
    ("wal_level", "replica", Rule::WalLevel),
    ("max_connections", "100", Rule::AtLeast(25)),
    ("max_wal_senders", "10", Rule::AtLeast(3)),
    ("max_prepared_transactions", "0", Rule::AtLeast(0)),
    ("max_locks_per_transaction", "64", Rule::AtLeast(32)),
    ("max_replication_slots", "10", Rule::AtLeast(4)),
    ("max_worker_processes", "8", Rule::AtLeast(2)),
    ("track_commit_timestamp", "off", Rule::Flag),
    ("wal_log_hints", "on", Rule::Flag),
    ("wal_keep_size", WAL_KEEP_SIZE, Rule::Size(16)),
    (SEGMENTS, "8", Rule::AtLeast(1)),
];
const WAL_KEEP_SIZE: &str = "128MB";
/// The old name and unit of `wal_keep_size`.
const SEGMENTS: &str = "wal_keep_segments";
const SEGMENT_MB: i64 = 16;

/// Parameters that nobody may set: the daemon derives them.
const NEVER: [&str; 3] = ["listen_addresses", "port", "cluster_name"];

/// Parameters that belong into the recovery settings.
const RECOVERY: [&str; 6] = [
    "archive_cleanup_command",
    "restore_command",
    "recovery_end_command",
    "recovery_min_apply_delay",
    "trigger_file",
    "promote_trigger_file",
];

/// Recovery settings that the daemon decides.
pub(super) fn is_owned_recovery(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.starts_with("recovery_target") || matches!(name.as_str(), "primary_conninfo" | "primary_slot_name")
}

/// Whether only the dynamic section (or nobody) sets a parameter.
pub(crate) fn is_controlled(name: &str) -> bool {
    CONTROLLED.iter().any(|(controlled, ..)| controlled.eq_ignore_ascii_case(name))
        || NEVER.iter().any(|never| never.eq_ignore_ascii_case(name))
}

/// Sets a parameter, whatever the case that it was written in before.
pub(super) fn set(parameters: &mut BTreeMap<String, String>, name: &str, value: String) {
    parameters.retain(|present, _| !present.eq_ignore_ascii_case(name));
    parameters.insert(name.to_owned(), value);
}

/// What a part of a Citus cluster needs, whatever is configured. Citus demands the first place among the libraries, commits on
/// several nodes by prepared transactions, and moves shards by logical replication.
pub(super) fn suit_citus(parameters: &mut BTreeMap<String, String>, local: &Postgresql) {
    let find = |parameters: &BTreeMap<String, String>, name: &str| {
        let found = parameters.iter().find(|(given, _)| given.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.clone())
    };
    let number = |name: &str| find(parameters, name).and_then(|text| text.parse::<u64>().ok());
    if number("max_prepared_transactions") == Some(0) {
        let doubled = number("max_connections").unwrap_or(100).saturating_mul(2);
        set(parameters, "max_prepared_transactions", doubled.to_string());
    }
    let libraries = find(parameters, "shared_preload_libraries").unwrap_or_default();
    let others = libraries.split(',').map(str::trim).filter(|name| !name.is_empty() && *name != "citus");
    let libraries: Vec<&str> = ["citus"].into_iter().chain(others).collect();
    set(parameters, "shared_preload_libraries", libraries.join(","));
    set(parameters, "wal_level", "logical".to_owned());
    let socket_dirs = find(parameters, "unix_socket_directories").filter(|_| local.use_unix_socket);
    let socket_dir =
        socket_dirs.as_deref().and_then(|dirs| dirs.split(',').map(str::trim).find(|dir| !dir.is_empty()));
    let host = socket_dir.map_or_else(|| own_host(local), str::to_owned);
    set(parameters, "citus.local_hostname", host);
}

/// Where a server finds itself by TCP.
fn own_host(local: &Postgresql) -> String {
    let hosts = &local.listen.hosts;
    let everywhere = ["*", "0.0.0.0", "127.0.0.1", "localhost"];
    let is_loopback = |host: &String| everywhere.iter().any(|own| host.eq_ignore_ascii_case(own));
    match hosts.first() {
        Some(first) if !hosts.iter().any(is_loopback) && !local.use_unix_socket => first.clone(),
        _ => "localhost".to_owned(),
    }
}

/// The scalars of a map as text.
pub(super) fn texts(section: &Map<String, Value>) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    for (name, value) in section {
        if let Some(text) = scalar_text(value) {
            set(&mut texts, name, text);
        }
    }
    texts
}

/// Local over dynamic, parameter by parameter; controlled ones from the dynamic section alone.
pub(super) fn merge(
    dynamic: &Map<String, Value>,
    local: &Map<String, Value>,
    messages: &mut Vec<String>,
) -> BTreeMap<String, String> {
    let mut parameters = BTreeMap::new();
    for section in [dynamic, local] {
        for (name, text) in texts(section) {
            if !is_controlled(&name) {
                set(&mut parameters, &name, text);
            }
        }
    }
    for (name, default, rule) in &CONTROLLED {
        let value =
            dynamic.iter().find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        let value = value.filter(|value| !value.is_null());
        let text = match value.map(|value| (value, accepted(value, rule))) {
            Some((_, Some(text))) => text,
            Some((value, None)) => {
                let found = scalar_text(value).unwrap_or_else(|| value.to_string());
                messages.push(format!(
                    "postgresql parameter {name}={found} failed validation, defaulting to {default}"
                ));
                (*default).to_owned()
            }
            None if *name == SEGMENTS => continue,
            None => (*default).to_owned(),
        };
        if *name != SEGMENTS {
            set(&mut parameters, name, text);
        } else if !dynamic.contains_key("wal_keep_size")
            && let Ok(segments) = text.parse::<i64>()
        {
            set(&mut parameters, "wal_keep_size", format!("{}MB", segments.saturating_mul(SEGMENT_MB)));
        }
    }
    parameters
}

/// The text to use for a value that the rule accepts.
fn accepted(value: &Value, rule: &Rule) -> Option<String> {
    match rule {
        Rule::AtLeast(least) => {
            int_with_unit(value, None).filter(|number| number >= least).map(|number| number.to_string())
        }
        Rule::Size(least) => {
            int_with_unit(value, Some(Unit::Megabytes)).filter(|size| size >= least).map(|size| match value {
                Value::String(text) if text.ends_with('B') => text.clone(),
                _ => format!("{size}MB"),
            })
        }
        Rule::Flag => lenient_bool(value).map(|on| if on { "on" } else { "off" }.to_owned()),
        Rule::OnlyTrue => lenient_bool(value).filter(|on| *on).map(|_| "on".to_owned()),
        Rule::WalLevel => match value.as_str()?.to_ascii_lowercase().as_str() {
            "hot_standby" | "replica" => Some("replica".to_owned()),
            "logical" => Some("logical".to_owned()),
            _ => None,
        },
    }
}

/// Parameters of one role, without controlled ones.
pub(super) fn for_role(
    section: &Map<String, Value>,
    role: &str,
    messages: &mut Vec<String>,
) -> BTreeMap<String, String> {
    let mut own = texts(section);
    own.retain(|name, _| {
        let refused = is_controlled(name);
        if refused {
            messages.push(format!(
                "postgresql.parameters_{role}: {name} is the same in every role, and is left out; set it in the dynamic configuration"
            ));
        }
        !refused
    });
    own
}

/// Moves recovery settings out of the parameters; those that the daemon decides vanish.
pub(super) fn take_recovery(parameters: &mut BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut recovery = BTreeMap::new();
    parameters.retain(|name, value| {
        if RECOVERY.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            recovery.insert(name.to_ascii_lowercase(), value.clone());
            return false;
        }
        !is_owned_recovery(name)
    });
    recovery
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merged(dynamic: Value, local: Value) -> (BTreeMap<String, String>, Vec<String>) {
        let mut messages = Vec::new();
        let (Value::Object(dynamic), Value::Object(local)) = (dynamic, local) else { unreachable!() };
        (merge(&dynamic, &local, &mut messages), messages)
    }

    #[test]
    fn controlled_parameters_come_from_the_store_or_have_their_default() {
        for (name, dynamic, expected) in [
            ("max_connections", json!(null), "100"),
            ("max_connections", json!(200), "200"),
            ("max_connections", json!("200"), "200"),
            ("max_connections", json!(24), "100"),
            ("max_connections", json!("many"), "100"),
            ("hot_standby", json!("off"), "on"),
            ("wal_level", json!("hot_standby"), "replica"),
            ("wal_level", json!("logical"), "logical"),
            ("wal_level", json!("minimal"), "replica"),
            ("wal_log_hints", json!(false), "off"),
            ("track_commit_timestamp", json!("yes"), "on"),
            ("wal_keep_size", json!("1GB"), "1GB"),
            ("wal_keep_size", json!(32), "32MB"),
            ("wal_keep_size", json!("8MB"), "128MB"),
        ] {
            let (parameters, messages) = merged(json!({name: dynamic.clone()}), json!({name: "7777"}));
            assert_eq!(parameters[name], expected, "{name}: {dynamic}");
            let refused = messages.iter().any(|message| message.contains("failed validation, defaulting to"));
            let default = merged(json!({}), json!({})).0[name] == expected;
            assert_eq!(
                refused,
                default && !dynamic.is_null() && dynamic != json!("hot_standby"),
                "{name}: {dynamic}"
            );
        }
        assert_eq!(merged(json!({"wal_keep_segments": 4}), json!({})).0["wal_keep_size"], "64MB");
        let both = merged(json!({"wal_keep_segments": 4, "wal_keep_size": "2GB"}), json!({})).0;
        assert_eq!(both["wal_keep_size"], "2GB");
        assert!(!both.contains_key("wal_keep_segments"));
    }

    #[test]
    fn other_parameters_are_merged_one_by_one_and_without_case() {
        let (parameters, messages) = merged(
            json!({"work_mem": "4MB", "timezone": "UTC", "port": 1, "log_file_mode": 384}),
            json!({"TimeZone": "Europe/Berlin", "jit": false, "listen_addresses": "*"}),
        );
        assert_eq!(parameters["work_mem"], "4MB");
        assert_eq!(parameters["TimeZone"], "Europe/Berlin");
        assert_eq!(parameters["jit"], "off");
        assert_eq!(parameters["log_file_mode"], "384");
        for absent in ["timezone", "port", "listen_addresses"] {
            assert!(!parameters.contains_key(absent), "{absent}");
        }
        assert!(messages.is_empty(), "{messages:?}");
    }
}
