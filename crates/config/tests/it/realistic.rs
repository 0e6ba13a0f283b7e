//! A `patroni.yml` with every section, as a whole.

use std::time::Duration;

use bellwether_config::{
    Floors, dynamic, effective, initial_document,
    sections::{
        bootstrap::BootstrapMethod,
        log::LogLevel,
        raft::RaftTiming,
        restapi::{ServerTokens, VerifyClient},
        store::Store,
        watchdog::{SafetyMargin, WatchdogMode},
    },
};
use bellwether_types::program::ReplicaMethod;
use bellwether_types::settings::SyncMode;
use secrecy::ExposeSecret;
use serde_json::json;

use crate::load::load_text;

const PATRONI: &str = include_str!("patroni.yml");

#[test]
fn a_patroni_yml_with_every_section_means_what_it_says() {
    let (_dir, loaded) = load_text(PATRONI);
    let loaded = loaded.unwrap_or_else(|error| panic!("{error}"));
    assert!(loaded.warnings.is_empty(), "{:#?}", loaded.warnings);
    let config = loaded.config;

    assert_eq!((config.scope.as_str(), config.name.as_str()), ("batman", "postgresql0"));
    assert_eq!(config.namespace, "/db");
    assert_eq!(config.log.mode, Some(0o644));
    assert_eq!(config.log.loggers["urllib3"], LogLevel::Debug);
    assert!(config.log.deduplicate_heartbeat_logs);

    assert_eq!(config.restapi.listen.to_string(), "0.0.0.0:8008");
    assert_eq!(config.restapi.verify_client, VerifyClient::Optional);
    assert_eq!(config.restapi.server_tokens, ServerTokens::Minimal);
    assert_eq!(config.restapi.allowlist, ["10.0.0.0/24", "monitor.example"]);
    assert!(config.restapi.allowlist_include_members);
    let peer = config.ctl.authentication.as_ref().expect("falls back to the API's");
    assert_eq!((peer.username.as_str(), peer.password.expose_secret()), ("admin", "secret-api"));

    let Store::Raft(raft) = &config.store else { panic!("{:?}", config.store) };
    assert_eq!(
        raft.partner_addrs.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["10.0.0.12:2222", "10.0.0.13:2222"]
    );
    assert_eq!(raft.timing, RaftTiming::Wan);

    let BootstrapMethod::Custom(method) = &config.bootstrap.method else {
        panic!("{:?}", config.bootstrap.method)
    };
    assert_eq!(method.command, "/usr/local/bin/restore --now");
    assert!(method.keep_existing_recovery_conf && !method.no_params);
    assert_eq!(method.options[0].to_string(), "--stanza=main");
    let initdb: Vec<String> = config.bootstrap.initdb.iter().map(ToString::to_string).collect();
    assert_eq!(initdb, ["--encoding=UTF8", "--data-checksums"]);
    assert_eq!(config.bootstrap.post_bootstrap.as_deref(), Some("/usr/local/bin/setup"));

    let postgresql = &config.postgresql;
    assert_eq!(postgresql.listen.listen_addresses(), "0.0.0.0,127.0.0.1");
    assert_eq!(postgresql.authentication.superuser.connection["sslmode"], "verify-ca");
    assert_eq!(postgresql.authentication.rewind().username.as_deref(), Some("rewind_user"));
    assert!(postgresql.use_unix_socket && !postgresql.use_unix_socket_repl);

    assert_eq!(config.watchdog.mode, WatchdogMode::Required);
    assert_eq!(config.watchdog.safety_margin, SafetyMargin::HalfTtl);
    assert_eq!(config.watchdog.device_timeout(Duration::from_secs(31)), Duration::from_secs(15));
    assert!(!config.watchdog.guardian_enabled());
    assert_eq!(config.tags.failover_priority(), 2);
    assert_eq!(config.tags.0["rack"], json!("b7"));

    let document = initial_document(&config, true, true);
    let dynamic = dynamic::parse(&document, Floors::patroni()).unwrap();
    assert_eq!(dynamic.settings.synchronous_mode, SyncMode::Quorum);
    assert!(dynamic.settings.slots.contains_key("keep_me"));
    let effective = effective(&config, &dynamic);
    assert_eq!(effective.parameters["max_connections"], "150");
    assert_eq!(effective.parameters["log_file_mode"], "416", "0640 is octal, and PostgreSQL gets the number");
    assert_eq!(effective.parameters["jit"], "off");
    assert_eq!(effective.recovery_conf["restore_command"], "cp ../wal/%f %p");
    assert!(effective.settings.use_pg_rewind);
    assert!(effective.settings.remove_data_directory_on_rewind_failure);
    let ReplicaMethod::Command(method) = &effective.create_replica_methods[0] else {
        panic!("{:?}", effective.create_replica_methods)
    };
    assert!(method.keep_data && method.no_params && !method.no_leader);
    assert_eq!(effective.messages, Vec::<String>::new());
}

#[test]
fn no_secret_of_it_is_ever_printed() {
    let (_dir, loaded) = load_text(PATRONI);
    let loaded = loaded.unwrap();
    let printed = format!("{loaded:#?} {}", loaded.redacted());
    assert!(!printed.contains("secret-"), "{printed}");
    assert_eq!(loaded.redacted()["raft"]["password"], json!("[redacted]"));
}
