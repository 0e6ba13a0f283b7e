//! `PATRONI_*` environment variables: which key each one sets, and how its text is read.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use crate::{
    node::{Kind, Node},
    problem::{Origin, Problem},
    value::{int_with_unit, lenient_bool},
    yaml,
};

/// How the text of a variable is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
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
const FIXED: &[Group] = &[
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
const SUFFIXES: &[(&str, Form)] = &[
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

/// The part of the configuration that comes from the environment, as a map; and what could not be read.
pub(crate) fn read(env: &BTreeMap<String, String>) -> (Node, Vec<Problem>) {
    let mut root = Node::empty_map(Origin { source: Some("environment".into()), line: None });
    let mut problems = Vec::new();
    let mut set = |path: &[&str], name: &str, text: &str, form: Form| {
        let origin = Origin { source: Some(format!("environment variable {name}").into()), line: None };
        match convert(text, form, &origin) {
            Ok(Some(node)) => root.insert_at(path, node),
            Ok(None) => {}
            Err(problem) => problems.push(*problem),
        }
    };
    for (prefix, parents, names) in FIXED {
        for (suffix, key, form) in *names {
            let name = format!("{prefix}{suffix}");
            if let Some(text) = env.get(&name).filter(|text| !text.is_empty()) {
                set(&[parents, &[*key][..]].concat(), &name, text, *form);
            }
        }
    }
    for (name, text) in env {
        if let Some((section, key, form)) = pattern(name) {
            set(&[&section, &key], name, text, form);
        }
    }
    for section in ["ETCD", "ETCD3"] {
        let lower = section.to_ascii_lowercase();
        if !env.keys().any(|name| pattern(name).is_some_and(|(of, ..)| of == lower)) {
            continue;
        }
        for key in ["username", "password", "password_file"] {
            let name = format!("PATRONI_{section}_{}", key.to_ascii_uppercase());
            if let Some(text) = env.get(&name).filter(|text| !text.is_empty()) {
                set(&[&lower, key], &name, text, Form::Text);
            }
        }
    }
    (root, problems)
}

/// Whether a variable is one of those that the daemon takes out of its own environment at the start.
pub fn is_recognised(name: &str) -> bool {
    name == "PATRONI_CONFIGURATION"
        || is_fixed(name)
        || pattern(name).is_some()
        || ["PATRONI_ETCD_", "PATRONI_ETCD3_"]
            .iter()
            .filter_map(|prefix| name.strip_prefix(prefix))
            .any(|rest| matches!(rest, "USERNAME" | "PASSWORD" | "PASSWORD_FILE"))
}

fn is_fixed(name: &str) -> bool {
    FIXED.iter().any(|(prefix, _, names)| {
        name.strip_prefix(prefix).is_some_and(|rest| names.iter().any(|(suffix, ..)| *suffix == rest))
    })
}

fn pattern(name: &str) -> Option<(String, String, Form)> {
    if is_fixed(name) {
        return None;
    }
    let (section, suffix) = name.strip_prefix("PATRONI_")?.split_once('_')?;
    let (_, form) = SUFFIXES.iter().find(|(known, _)| *known == suffix)?;
    let form = match (section, suffix) {
        ("", _) => return None,
        ("CITUS", "GROUP") => Form::Int,
        ("CITUS", "DATABASE") => Form::Text,
        ("CITUS", _) | (_, "GROUP" | "DATABASE") => return None,
        _ => *form,
    };
    Some((section.to_ascii_lowercase(), suffix.to_ascii_lowercase(), form))
}

/// `Ok(None)`: not set. A port or flag that cannot be read counts as not set, as it does in Patroni: container platforms
/// make variables of this form on their own.
fn convert(text: &str, form: Form, origin: &Origin) -> Result<Option<Node>, Box<Problem>> {
    Ok(match form {
        Form::Text => Some(Node::text(text, origin.clone())),
        Form::LogFormat if text.contains("%(") => Some(Node::text(text, origin.clone())),
        Form::LogFormat | Form::List => Some(yaml_part(text, ('[', ']'), "list", origin)?),
        Form::Map => Some(yaml_part(text, ('{', '}'), "map", origin)?),
        Form::Int => int_with_unit(&Value::String(text.to_owned()), None)
            .map(|number| Node::scalar(number.into(), text, origin.clone())),
        Form::Flag => lenient_bool(&Value::String(text.to_owned()))
            .map(|flag| Node::scalar(flag.into(), text, origin.clone())),
    })
}

fn yaml_part(
    text: &str,
    (open, close): (char, char),
    what: &str,
    origin: &Origin,
) -> Result<Node, Box<Problem>> {
    let trimmed = text.trim();
    let block = open == '[' && trimmed.starts_with('-');
    let wrapped = if block || trimmed.starts_with(open) {
        trimmed.to_owned()
    } else {
        format!("{open}{trimmed}{close}")
    };
    let source: Arc<str> = origin.source.clone().unwrap_or_else(|| "environment".into());
    let problem = |reason: String| {
        Box::new(
            Problem::new("", reason)
                .at(origin)
                .help(format!("write a YAML {what}; put items with special characters into quotes")),
        )
    };
    let (mut node, _) = yaml::parse(&wrapped, &source).map_err(|error| problem(error.reason))?;
    if matches!((&node.kind, open), (Kind::List(_), '[') | (Kind::Map(_), '{')) {
        forget_lines(&mut node);
        Ok(node)
    } else {
        Err(problem(format!("is not a YAML {what}")))
    }
}

/// Lines inside a variable tell nobody anything.
fn forget_lines(node: &mut Node) {
    node.origin.line = None;
    match &mut node.kind {
        Kind::Scalar(_) => {}
        Kind::List(items) => items.iter_mut().for_each(forget_lines),
        Kind::Map(entries) => entries.iter_mut().for_each(|entry| {
            entry.origin.line = None;
            forget_lines(&mut entry.node);
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn value(variables: &[(&str, &str)]) -> Value {
        let env = variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let (node, problems) = read(&env);
        assert!(problems.is_empty(), "{problems:?}");
        node.to_value()
    }

    #[test]
    fn every_kind_of_variable_sets_its_key() {
        for (name, text, expected) in [
            ("PATRONI_NAME", "pg1", json!({"name": "pg1"})),
            ("PATRONI_NAME", "", json!({})),
            ("PATRONI_THREAD_POOL_SIZE", "7", json!({"thread_pool_size": "7"})),
            ("PATRONI_LOGLEVEL", "DEBUG", json!({"log": {"level": "DEBUG"}})),
            (
                "PATRONI_LOG_STATIC_FIELDS",
                "app: x, n: 1",
                json!({"log": {"static_fields": {"app": "x", "n": 1}}}),
            ),
            (
                "PATRONI_LOG_FORMAT",
                "%(asctime)s %(message)s",
                json!({"log": {"format": "%(asctime)s %(message)s"}}),
            ),
            (
                "PATRONI_LOG_FORMAT",
                "[levelname, {message: msg}]",
                json!({"log": {"format": ["levelname", {"message": "msg"}]}}),
            ),
            (
                "PATRONI_LOG_FORMAT",
                "levelname, message",
                json!({"log": {"format": ["levelname", "message"]}}),
            ),
            (
                "PATRONI_RESTAPI_ALLOWLIST",
                "10.0.0.1, 10.1.0.0/16",
                json!({"restapi": {"allowlist": ["10.0.0.1", "10.1.0.0/16"]}}),
            ),
            (
                "PATRONI_RESTAPI_USERNAME",
                "admin",
                json!({"restapi": {"authentication": {"username": "admin"}}}),
            ),
            ("PATRONI_CTL_INSECURE", "on", json!({"ctl": {"insecure": true}})),
            ("PATRONI_CTL_INSECURE", "perhaps", json!({})),
            ("PATRONI_LOG_MODE", "0640", json!({"log": {"mode": 416}})),
            ("PATRONI_LOG_FILE_NUM", "6", json!({"log": {"file_num": 6}})),
            ("PATRONI_RESTAPI_REQUEST_QUEUE_SIZE", "9", json!({"restapi": {"request_queue_size": 9}})),
            ("PATRONI_POSTGRESQL_DATA_DIR", "/d", json!({"postgresql": {"data_dir": "/d"}})),
            ("PATRONI_POSTGRESQL_BIN_PG_CTL", "x", json!({"postgresql": {"bin_name": {"pg_ctl": "x"}}})),
            (
                "PATRONI_REWIND_SSLMODE",
                "require",
                json!({"postgresql": {"authentication": {"rewind": {"sslmode": "require"}}}}),
            ),
            (
                "PATRONI_RAFT_PARTNER_ADDRS",
                "10.0.0.2:2222, 10.0.0.3:2222",
                json!({"raft": {"partner_addrs": ["10.0.0.2:2222", "10.0.0.3:2222"]}}),
            ),
            (
                "PATRONI_RAFT_PARTNER_ADDRS",
                "'10.0.0.2:2222'",
                json!({"raft": {"partner_addrs": ["10.0.0.2:2222"]}}),
            ),
            ("PATRONI_ETCD3_HOSTS", "a:2379,b:2379", json!({"etcd3": {"hosts": ["a:2379", "b:2379"]}})),
            ("PATRONI_ETCD3_HOST", "", json!({"etcd3": {"host": ""}})),
            ("PATRONI_CONSUL_PORT", "8501", json!({"consul": {"port": 8501}})),
            ("PATRONI_X_PORT", "tcp://10.0.0.1:80", json!({})),
            ("PATRONI_CONSUL_VERIFY", "off", json!({"consul": {"verify": false}})),
            ("PATRONI_CONSUL_TOKEN", "t", json!({"consul": {"token": "t"}})),
            ("PATRONI_CONSUL_REGISTER_SERVICE", "on", json!({"consul": {"register_service": true}})),
            ("PATRONI_CONSUL_SERVICE_TAGS", "a, b", json!({"consul": {"service_tags": ["a", "b"]}})),
            ("PATRONI_CONSUL_SCHEME", "https", json!({})),
            ("PATRONI_ZOOKEEPER_HOSTS", "a:1, b:2", json!({"zookeeper": {"hosts": ["a:1", "b:2"]}})),
            (
                "PATRONI_ZOOKEEPER_AUTH_DATA",
                "digest: 'me:secret'",
                json!({"zookeeper": {"auth_data": {"digest": "me:secret"}}}),
            ),
            (
                "PATRONI_ZOOKEEPER_SET_ACLS",
                "CN=pg: [ALL]",
                json!({"zookeeper": {"set_acls": {"CN=pg": ["ALL"]}}}),
            ),
            ("PATRONI_ZOOKEEPER_USE_SSL", "off", json!({"zookeeper": {"use_ssl": "off"}})),
            (
                "PATRONI_KUBERNETES_LABELS",
                "application: patroni",
                json!({"kubernetes": {"labels": {"application": "patroni"}}}),
            ),
            ("PATRONI_CITUS_GROUP", "0", json!({"citus": {"group": 0}})),
            ("PATRONI_ETCD_GROUP", "0", json!({})),
            ("PATRONI_ETCD3_PASSWORD", "x", json!({})),
            (
                "PATRONI_SUPERUSER_PASSWORD_FILE",
                "/run/x",
                json!({"postgresql": {"authentication": {"superuser": {"password_file": "/run/x"}}}}),
            ),
            ("PATRONI_SOMETHING_ELSE", "x", json!({})),
            ("OTHER", "x", json!({})),
        ] {
            assert_eq!(value(&[(name, text)]), expected, "{name}={text}");
        }
    }

    #[test]
    fn names_depend_on_each_other_where_patroni_says_so() {
        assert_eq!(
            value(&[("PATRONI_ETCD3_PASSWORD", "x"), ("PATRONI_ETCD3_HOST", "h")]),
            json!({"etcd3": {"host": "h", "password": "x"}})
        );
        assert_eq!(
            value(&[("PATRONI_LOGLEVEL", "DEBUG"), ("PATRONI_LOG_LEVEL", "INFO")]),
            json!({"log": {"level": "INFO"}})
        );
    }

    #[test]
    fn a_variable_that_is_no_list_is_named() {
        let env = BTreeMap::from([("PATRONI_RAFT_PARTNER_ADDRS".to_owned(), "a:1]".to_owned())]);
        let (_, problems) = read(&env);
        assert_eq!(problems[0].origin.to_string(), "environment variable PATRONI_RAFT_PARTNER_ADDRS");
    }

    #[test]
    fn recognised_names_are_those_that_set_something() {
        for (name, recognised) in [
            ("PATRONI_NAME", true),
            ("PATRONI_CONFIGURATION", true),
            ("PATRONI_ETCD_USERNAME", true),
            ("PATRONI_FOO_HOSTS", true),
            ("PATRONI_FOO_BAR", false),
            ("PATRONICTL_CONFIG_FILE", false),
        ] {
            assert_eq!(is_recognised(name), recognised, "{name}");
        }
    }
}
