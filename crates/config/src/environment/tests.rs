//! Variables by the kind of key that they set.

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
        ("PATRONI_LOG_FORMAT", "levelname, message", json!({"log": {"format": ["levelname", "message"]}})),
        (
            "PATRONI_RESTAPI_ALLOWLIST",
            "10.0.0.1, 10.1.0.0/16",
            json!({"restapi": {"allowlist": ["10.0.0.1", "10.1.0.0/16"]}}),
        ),
        ("PATRONI_RESTAPI_USERNAME", "admin", json!({"restapi": {"authentication": {"username": "admin"}}})),
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
