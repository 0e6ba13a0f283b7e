//! The local section over the dynamic one, and the first document of a new cluster.

use bellwether_config::{Config, Effective, Floors, dynamic, effective, initial_document};
use bellwether_types::{
    ServerRole,
    program::{CallbackAction, ReplicaCommand, ReplicaMethod},
};
use serde_json::{Value, json};

use crate::load::{MINIMAL, load_text};

fn config(extra_postgresql: &str) -> Config {
    let (_dir, loaded) = load_text(&MINIMAL.replace("raft:", &format!("{extra_postgresql}\nraft:")));
    loaded.unwrap_or_else(|error| panic!("{error}")).config
}

fn merged(local: &str, document: Value) -> Effective {
    effective(&config(local), &dynamic::parse(&document, Floors::patroni()).unwrap())
}

#[test]
fn local_keys_replace_dynamic_ones_but_parameters_merge() {
    let effective = merged(
        "  parameters: {work_mem: 8MB, max_connections: 7}\n  pg_hba: [local all all trust]\n  use_pg_rewind: false\n  use_slots: true",
        json!({"postgresql": {
            "parameters": {"work_mem": "4MB", "jit": "off", "max_connections": 300},
            "pg_hba": ["a", "b"], "pg_ident": ["x"],
            "use_pg_rewind": true, "use_slots": false,
            "remove_data_directory_on_rewind_failure": true
        }}),
    );
    assert_eq!(effective.parameters["work_mem"], "8MB");
    assert_eq!(effective.parameters["jit"], "off");
    assert_eq!(effective.parameters["max_connections"], "300");
    assert_eq!(effective.parameters["cluster_name"], "demo");
    assert_eq!(effective.pg_hba_for(ServerRole::Primary), Some(&["local all all trust".to_owned()][..]));
    assert_eq!(effective.pg_ident, Some(vec!["x".to_owned()]));
    assert!(!effective.settings.use_pg_rewind, "the local switch wins");
    assert!(!effective.settings.use_slots, "only the dynamic one counts");
    assert!(effective.settings.remove_data_directory_on_rewind_failure);
}

#[test]
fn roles_have_parameters_and_lines_of_their_own() {
    let effective = merged(
        "  parameters_replica: {work_mem: 1MB, max_connections: 5}\n  pg_hba: [a]\n  pg_hba_primary: [p]",
        json!({"postgresql": {"parameters": {"work_mem": "4MB"}}}),
    );
    assert_eq!(effective.parameters_for(ServerRole::Replica)["work_mem"], "1MB");
    assert_eq!(effective.parameters_for(ServerRole::Primary)["work_mem"], "4MB");
    assert_eq!(effective.parameters_for(ServerRole::Replica)["max_connections"], "100");
    assert_eq!(effective.pg_hba_for(ServerRole::Primary), Some(&["p".to_owned()][..]));
    assert_eq!(effective.pg_hba_for(ServerRole::Replica), Some(&["a".to_owned()][..]));
    assert_eq!(effective.messages.len(), 1, "{:?}", effective.messages);
}

#[test]
fn recovery_settings_leave_the_parameters_and_owned_ones_vanish() {
    let effective = merged(
        "  recovery_conf: {recovery_target_time: x, archive_cleanup_command: c}",
        json!({"postgresql": {"parameters": {"restore_command": "cp %f %p", "primary_conninfo": "x"}}}),
    );
    let recovery: Vec<(&str, &str)> =
        effective.recovery_conf.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(recovery, [("archive_cleanup_command", "c"), ("restore_command", "cp %f %p")]);
    assert!(!effective.parameters.contains_key("restore_command"));
    assert!(!effective.parameters.contains_key("primary_conninfo"));
}

#[test]
fn replica_methods_callbacks_and_options_are_ready_to_run() {
    let effective = merged(
        "  create_replica_methods: [wal_g, plain, basebackup]\n  wal_g: {command: /bin/x, no_leader: 1, threads: 4, fast: true}\n  \
         plain: {no_params: true, keep_data: true, url: x}\n  \
         basebackup: [{max-rate: 100M}, verbose, {pgdata: /x}, {compress: gzip}]\n  callbacks: {on_start: /bin/cb}\n  pg_ctl_timeout: 5",
        json!({}),
    );
    let ReplicaMethod::Command(method) = &effective.create_replica_methods[0] else {
        panic!("{:?}", effective.create_replica_methods)
    };
    assert_eq!((method.command.as_str(), method.no_leader, method.no_params), ("/bin/x", true, false));
    let passed = |method: &ReplicaCommand| method.options.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(passed(method), ["--no_leader=1", "--threads=4", "--fast=True"], "as Python writes them");
    let ReplicaMethod::Command(plain) = &effective.create_replica_methods[1] else { panic!("a command") };
    assert_eq!((plain.command.as_str(), plain.keep_data), ("plain", true), "its name is the command");
    assert_eq!(passed(plain), ["--url=x"], "it hears of nothing that is ours");
    assert_eq!(effective.create_replica_methods[2], ReplicaMethod::Basebackup);
    let none = merged("  create_replica_methods: []", json!({})).create_replica_methods;
    assert_eq!(none, [ReplicaMethod::Basebackup], "there must be some way");
    let options: Vec<String> = effective.basebackup.iter().map(ToString::to_string).collect();
    assert_eq!(options, ["--max-rate=100M", "--verbose"]);
    assert_eq!(effective.messages.len(), 2, "{:?}", effective.messages);
    assert_eq!(effective.callbacks[&CallbackAction::OnStart], "/bin/cb");
    assert_eq!(effective.pg_ctl_timeout.as_secs(), 5);
}

#[test]
fn a_standby_cluster_has_its_own_list_of_replica_methods() {
    let local = "  create_replica_methods: [wal_g, basebackup]\n  far: {command: /bin/far, from: there}";
    let methods = |section: Value| merged(local, json!({"standby_cluster": section})).create_replica_methods;
    let far = methods(json!({"host": "h", "create_replica_methods": ["far"]}));
    let [ReplicaMethod::Command(method)] = &far[..] else { panic!("{far:?}") };
    assert_eq!((method.command.as_str(), method.options.len()), ("/bin/far", 1), "described in `postgresql`");
    assert_eq!(methods(json!({"host": "h"})), [ReplicaMethod::Basebackup]);
    assert_eq!(methods(json!({})).len(), 2, "no standby cluster");
}

#[test]
fn a_new_cluster_gets_our_defaults_only_where_nobody_would_be_surprised() {
    let ours = json!({
        "ttl": 5, "loop_wait": 1, "retry_timeout": 2, "synchronous_mode": "quorum", "failsafe_mode": true,
        "quorum_takeover": true,
    });
    let with = |over: Value| {
        let mut document = ours.clone();
        document.as_object_mut().unwrap().extend(over.as_object().unwrap().clone());
        document
    };
    for (case, written, choice, as_patroni, embedded, expected) in [
        ("embedded store, our name", "{}", "auto", false, true, ours.clone()),
        ("started as patroni", "{}", "auto", true, true, json!({})),
        ("another store", "{}", "auto", false, false, json!({})),
        ("asked for Patroni's", "{}", "patroni", false, true, json!({})),
        (
            "as Patroni, timings are stored as it adjusts them",
            "{ttl: 20}",
            "auto",
            true,
            false,
            json!({"ttl": 20, "loop_wait": 1, "retry_timeout": 9}),
        ),
        ("under our own name they stay", "{ttl: 5}", "auto", false, false, json!({"ttl": 5})),
        ("asked for ours", "{}", "bellwether", true, false, ours.clone()),
        (
            "one timing keeps Patroni's others",
            "{ttl: 40}",
            "auto",
            false,
            true,
            json!({"synchronous_mode": "quorum", "failsafe_mode": true, "ttl": 40, "quorum_takeover": true}),
        ),
        (
            "whoever waits for the lease goes on to",
            "{quorum_takeover: false}",
            "auto",
            false,
            true,
            with(json!({"quorum_takeover": false})),
        ),
        (
            "there is no take-over in mode on",
            "{synchronous_mode: on}",
            "auto",
            false,
            true,
            json!({"ttl": 5, "loop_wait": 1, "retry_timeout": 2, "synchronous_mode": true, "failsafe_mode": true}),
        ),
        (
            "a mode that is named stays",
            "{synchronous_mode: false, failsafe_mode: false}",
            "auto",
            false,
            true,
            json!({"ttl": 5, "loop_wait": 1, "retry_timeout": 2, "synchronous_mode": false, "failsafe_mode": false}),
        ),
    ] {
        let (_dir, loaded) =
            load_text(&format!("{MINIMAL}\ndefaults: {choice}\nbootstrap:\n  dcs: {written}\n"));
        let document = initial_document(&loaded.unwrap().config, as_patroni, embedded);
        assert_eq!(document, expected, "{case}");
    }
}

/// A part of a Citus cluster: what Patroni 4.1 makes of the same settings.
#[test]
fn a_part_of_a_citus_cluster_has_the_parameters_that_citus_needs() {
    let part = |local: &str, document: Value| {
        let store = MINIMAL.find("raft:").unwrap();
        let text = format!(
            "{}{local}\netcd3: {{hosts: 'a:1'}}\ncitus: {{group: 1, database: d}}\n",
            &MINIMAL[..store]
        );
        let (_dir, loaded) = load_text(&text);
        let config = loaded.unwrap_or_else(|error| panic!("{error}")).config;
        let first = initial_document(&config, true, false);
        (effective(&config, &dynamic::parse(&document, Floors::patroni()).unwrap()), first)
    };
    let (plain, first) = part("", json!({}));
    let shown = |effective: &Effective, name: &str| effective.parameters[name].clone();
    assert_eq!(shown(&plain, "shared_preload_libraries"), "citus");
    assert_eq!(shown(&plain, "wal_level"), "logical");
    assert_eq!(shown(&plain, "max_prepared_transactions"), "200");
    assert_eq!(shown(&plain, "citus.local_hostname"), "localhost");
    assert_eq!(plain.settings.citus_database.as_deref(), Some("d"));
    assert_eq!(first["synchronous_mode"], "quorum");
    let local = "  use_unix_socket: true\n  parameters: {shared_preload_libraries: 'a, citus,b', unix_socket_directories: '/s, /t'}";
    let dynamic = json!({"postgresql": {"parameters": {
        "max_connections": 300, "max_prepared_transactions": 7, "wal_level": "replica",
        "citus.local_hostname": "elsewhere"
    }}});
    let (full, _) = part(local, dynamic);
    assert_eq!(shown(&full, "shared_preload_libraries"), "citus,a,b");
    assert_eq!(shown(&full, "wal_level"), "logical");
    assert_eq!(shown(&full, "max_prepared_transactions"), "7");
    assert_eq!(shown(&full, "citus.local_hostname"), "/s");
}
