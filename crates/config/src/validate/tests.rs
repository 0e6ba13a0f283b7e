//! The answers in these tables are Patroni 4.1's own, to the same documents.

use std::{collections::BTreeMap, fs};

use super::*;

const BASE: &str = "\
scope: s
name: n
restapi: {listen: '127.0.0.1:18008', connect_address: '10.0.0.1:18008'}
etcd3: {url: 'http://10.0.0.9:2379'}
bootstrap: {dcs: {ttl: 30, loop_wait: 10, retry_timeout: 10}}
postgresql:
  listen: 127.0.0.1:15432
  connect_address: 10.0.0.1:15432
  data_dir: DIR/data
  bin_dir: DIR/bin
  authentication: {superuser: {username: u, password: p}, replication: {username: r, password: p}}
";

/// A folder with programs and a configuration in it.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("bin")).unwrap();
    for program in ["pg_ctl", "initdb", "pg_controldata", "pg_basebackup", "postgres", "pg_isready"] {
        fs::write(dir.path().join("bin").join(program), "").unwrap();
    }
    dir
}

/// Judges the base with other files merged over it.
fn judged(changes: &[&str]) -> Validation {
    let dir = folder();
    let conf = dir.path().join("conf");
    fs::create_dir(&conf).unwrap();
    fs::write(conf.join("0.yml"), BASE.replace("DIR", &dir.path().display().to_string())).unwrap();
    for (at, change) in changes.iter().enumerate() {
        fs::write(conf.join(format!("{}.yml", at + 1)), change).unwrap();
    }
    validate(Some(&conf), &BTreeMap::new()).unwrap()
}

fn lines(validation: &Validation) -> Vec<String> {
    let line = |problem: &Problem| problem.as_patroni_tells().lines().next().unwrap_or_default().to_owned();
    validation.problems.iter().map(line).collect()
}

#[test]
fn each_key_has_patronis_rule_and_words() {
    assert_eq!(lines(&judged(&[])), Vec::<String>::new());
    for (change, told) in [
        ("name: null", vec!["name  is not defined."]),
        ("name: 5", vec!["name 5 is not a string"]),
        ("name: [a]", vec!["name ['a'] is not a string"]),
        ("{scope: null, restapi: null}", vec!["scope  is not defined.", "restapi  is not defined."]),
        (
            "restapi: {connect_address: 'localhost:1'}",
            vec![
                "restapi.connect_address localhost:1 didn't pass validation: must not contain \"127.0.0.1\", \"0.0.0.0\", \"*\", \"::1\", \"localhost\"",
            ],
        ),
        ("restapi: {connect_address: null}", vec!["restapi.connect_address  is not defined."]),
        (
            "restapi: {request_queue_size: 5000}",
            vec!["restapi.request_queue_size 5000 didn't pass validation: Wrong value"],
        ),
        ("restapi: {request_queue_size: '5'}", vec!["restapi.request_queue_size 5 is not an integer"]),
        (
            "restapi: {authentication: {username: a}}",
            vec!["restapi.authentication.password  is not defined."],
        ),
        ("restapi: {authentication: x}", vec!["restapi.authentication x is not a dictionary"]),
        (
            "restapi: {verify_client: foo}",
            vec!["restapi.verify_client foo didn't pass validation: Wrong value"],
        ),
        ("restapi: {server_tokens: minimal}", vec![]),
        ("restapi: {allowlist: [5]}", vec!["restapi.allowlist.0 5 is not a string"]),
        ("restapi: {http_extra_headers: a}", vec!["restapi.http_extra_headers a is not a dictionary"]),
        ("thread_pool_size: 2", vec!["thread_pool_size 2 didn't pass validation: Wrong value"]),
        ("log: x", vec!["log x is not a dictionary"]),
        ("log: {level: debug}", vec!["log.level debug didn't pass validation: Wrong value"]),
        ("log: {mode: 512}", vec!["log.mode 512 didn't pass validation: Wrong value"]),
        ("log: {format: 5}", vec!["log.format 5 didn't pass validation: Should be a string or a list"]),
        (
            "log: {deduplicate_heartbeat_logs: 'on'}",
            vec!["log.deduplicate_heartbeat_logs on is not a boolean"],
        ),
        (
            "ctl: {insecure: 'on', cacert: 5}",
            vec!["ctl.insecure on is not a boolean", "ctl.cacert 5 is not a string"],
        ),
        ("watchdog: {mode: auto}", vec!["watchdog.mode auto didn't pass validation: Wrong value"]),
        ("watchdog: {mode: false}", vec![]),
        (
            "watchdog: {mode: 5}",
            vec!["watchdog.mode 5 didn't pass validation: expected type is not a string"],
        ),
        (
            "watchdog: {safety_margin: -2}",
            vec!["watchdog.safety_margin -2 didn't pass validation: Wrong value"],
        ),
        (
            "tags: {nofailover: true, failover_priority: 1}",
            vec!["tags  Multiple of ('nofailover', 'failover_priority') provided"],
        ),
        ("tags: {nosync: a, x: {y: z}}", vec!["tags.nosync a is not a boolean"]),
        (
            "tags: {failover_priority: -1}",
            vec!["tags.failover_priority -1 didn't pass validation: Wrong value"],
        ),
        ("bootstrap: {dcs: null}", vec!["bootstrap.dcs  is not defined."]),
        ("bootstrap: null", vec![]),
        ("bootstrap: {dcs: {ttl: 10}}", vec!["bootstrap.dcs.ttl 10 didn't pass validation: Wrong value"]),
        ("bootstrap: {dcs: {ttl: '40s'}}", vec!["bootstrap.dcs.ttl 40s didn't pass validation: Wrong value"]),
        ("bootstrap: {dcs: {ttl: '40'}}", vec![]),
        (
            "bootstrap: {dcs: {member_slots_ttl: 30min, maximum_lag_on_failover: -1}}",
            vec!["bootstrap.dcs.maximum_lag_on_failover -1 didn't pass validation: Wrong value"],
        ),
        (
            "bootstrap: {dcs: {synchronous_mode: maybe, synchronous_node_count: 0}}",
            vec![
                "bootstrap.dcs.synchronous_mode maybe didn't pass validation: invalid value for synchronous_mode",
                "bootstrap.dcs.synchronous_node_count 0 didn't pass validation: Wrong value",
            ],
        ),
        (
            "bootstrap: {dcs: {standby_cluster: {host: h, port: '5432'}}}",
            vec!["bootstrap.dcs.standby_cluster.port 5432 is not an integer"],
        ),
        (
            "bootstrap: {dcs: {standby_cluster: {}}}",
            vec![
                "bootstrap.dcs.standby_cluster.host  is not defined.",
                "bootstrap.dcs.standby_cluster.port  is not defined.",
                "bootstrap.dcs.standby_cluster.restore_command  is not defined.",
            ],
        ),
        (
            "bootstrap: {dcs: {postgresql: {parameters: {max_connections: 300000}}}}",
            vec![
                "bootstrap.dcs.postgresql.parameters.max_connections 300000 didn't pass validation: Wrong value",
            ],
        ),
        (
            "bootstrap: {dcs: {postgresql: {use_slots: x, pg_hba: []}}}",
            vec![
                "bootstrap.dcs.postgresql.pg_hba [] is an empty list",
                "bootstrap.dcs.postgresql.use_slots x is not a boolean",
            ],
        ),
        ("bootstrap: {initdb: {}}", vec!["bootstrap.initdb {} is not a list"]),
        (
            "bootstrap: {initdb: [5]}",
            vec!["bootstrap.initdb.0 5 is not a string", "bootstrap.initdb.0 5 is not a dictionary"],
        ),
        (
            "postgresql: {listen: '*,127.0.0.1:1'}",
            vec!["postgresql.listen *,127.0.0.1:1 didn't pass validation: expecting '*' alone"],
        ),
        (
            "postgresql: {listen: '127.0.0.1:x'}",
            vec!["postgresql.listen 127.0.0.1:x didn't pass validation: contains a wrong value"],
        ),
        (
            "postgresql: {authentication: {superuser: null}}",
            vec!["postgresql.authentication.superuser  is not defined."],
        ),
        (
            "postgresql: {authentication: {rewind: {}}}",
            vec!["postgresql.authentication.rewind.username  is not defined."],
        ),
        ("postgresql: {pg_hba: x}", vec!["postgresql.pg_hba x is not a list"]),
        (
            "postgresql: {pg_ctl_timeout: a, use_pg_rewind: 'yes'}",
            vec![
                "postgresql.pg_ctl_timeout a didn't pass validation: Wrong value",
                "postgresql.use_pg_rewind yes is not a boolean",
            ],
        ),
        (
            "postgresql: {data_dir: ''}",
            vec!["postgresql.data_dir  didn't pass validation: is an empty string"],
        ),
        (
            "postgresql: {data_dir: /proc/self}",
            vec![
                "postgresql.data_dir /proc/self didn't pass validation: doesn't look like a valid data directory",
            ],
        ),
        (
            "postgresql: {bin_dir: /nonexistent}",
            vec!["postgresql.bin_dir  Directory '/nonexistent' does not exist."],
        ),
        (
            "etcd3: null",
            vec![
                "consul  is not defined.",
                "etcd  is not defined.",
                "etcd3  is not defined.",
                "exhibitor  is not defined.",
                "kubernetes  is not defined.",
                "raft  is not defined.",
                "zookeeper  is not defined.",
            ],
        ),
        (
            "etcd3: {url: null, port: 1}",
            vec![
                "etcd3.host  is not defined.",
                "etcd3.hosts  is not defined.",
                "etcd3.srv  is not defined.",
                "etcd3.srv_suffix  is not defined.",
                "etcd3.url  is not defined.",
                "etcd3.proxy  is not defined.",
            ],
        ),
        ("etcd3: {hosts: []}", vec!["etcd3.hosts [] is an empty list"]),
        ("etcd3: {hosts: 5}", vec!["etcd3.hosts 5 is not a string", "etcd3.hosts 5 is not a list"]),
        (
            "{etcd3: null, consul: {url: x, consistency: foo, checks: x}}",
            vec![
                "consul.checks x is not a list",
                "consul.consistency foo didn't pass validation: Wrong value",
            ],
        ),
    ] {
        let found = lines(&judged(&[change]));
        assert_eq!(found, told, "{change}");
    }
}

#[test]
fn every_problem_says_where_and_what_to_do() {
    let validation = judged(&["\nname: 5\nlog: {level: x}\n"]);
    assert_eq!(validation.problems.len(), 2);
    let text = validation.problems[1].as_patroni_tells();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("log.level x didn't pass validation: Wrong value"));
    assert!(lines.next().unwrap().ends_with("/conf/1.yml:3"), "{text}");
    assert_eq!(lines.next(), Some("  help: use one of: DEBUG, INFO, WARN, WARNING, ERROR, FATAL, CRITICAL"));
}

#[test]
fn what_only_this_program_refuses_is_told_too() {
    assert_eq!(lines(&judged(&["citus: {group: 0, database: d}"])), Vec::<String>::new());
    let embedded = "{etcd3: null, raft: {self_addr: '10.0.0.1:2380', data_dir: /r, password: x}}";
    let told = lines(&judged(&[embedded, "citus: {group: 0, database: d}"]));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("citus "), "{told:?}");
    let secret = judged(&["etcd3: {username: u, password: 12345}"]);
    assert_eq!(lines(&secret), ["etcd3.password  is not a string"], "a secret is not shown");
}

#[test]
fn what_must_be_asked_is_returned() {
    let validation =
        judged(&["{etcd3: {url: null, hosts: ['10.0.0.9', '10.0.0.8:1']}, postgresql: {listen: '*:5'}}"]);
    assert_eq!(lines(&validation), Vec::<String>::new());
    let mut asked = Vec::new();
    for probe in &validation.probes {
        let (what, problem) = match probe {
            Probe::Free { addresses, problem } => (format!("free {addresses:?}"), problem),
            Probe::Reachable { address, problem } => (format!("up {address}"), problem),
            Probe::Version { data_version, problem, .. } => (format!("version {data_version}"), problem),
        };
        asked.push((what, problem.reason.clone(), problem.path.clone()));
    }
    let port = |port| format!("didn't pass validation: Port {port} is already in use.");
    let at = |host: &str, port| format!("free {:?}", [HostPort::new(host, port)]);
    assert_eq!(
        asked,
        [
            (at("127.0.0.1", 18008), port(18008), "restapi.listen".to_owned()),
            (at("localhost", 5), port(5), "postgresql.listen".to_owned()),
            (
                "up 10.0.0.9:2379".to_owned(),
                "didn't pass validation: 10.0.0.9 is not reachable".to_owned(),
                "etcd3.hosts.0".to_owned()
            ),
            (
                "up 10.0.0.8:1".to_owned(),
                "didn't pass validation: 10.0.0.8:1 is not reachable".to_owned(),
                "etcd3.hosts.1".to_owned()
            ),
        ]
    );
}

#[test]
fn the_data_directory_must_fit_the_programs() {
    let dir = folder();
    let data = dir.path().join("data");
    fs::create_dir_all(data.join("global")).unwrap();
    fs::write(data.join("PG_VERSION"), "14\n").unwrap();
    fs::write(data.join("global/pg_control"), "").unwrap();
    let file = dir.path().join("c.yml");
    fs::write(&file, BASE.replace("DIR", &dir.path().display().to_string())).unwrap();
    let judge = || validate(Some(&file), &BTreeMap::new()).unwrap();
    assert_eq!(
        lines(&judge()),
        [format!(
            "postgresql.data_dir {} didn't pass validation: data dir for the cluster is not empty, but doesn't contain \
             \"pg_wal\" directory",
            data.display()
        )]
    );
    fs::create_dir(data.join("pg_wal")).unwrap();
    fs::remove_file(dir.path().join("bin/pg_isready")).unwrap();
    let validation = judge();
    assert_eq!(
        lines(&validation),
        [format!(
            "postgresql.bin_dir  does not contain 'pg_isready' in '{}'",
            dir.path().join("bin").display()
        )]
    );
    assert!(
        validation
            .probes
            .iter()
            .any(|probe| matches!(probe, Probe::Version { data_version, .. } if data_version == "14"))
    );
}
