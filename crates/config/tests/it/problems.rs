//! What a person reads when the configuration is wrong.

use std::fs;

use bellwether_config::{LoadErrorKind, load};

use crate::load::{MINIMAL, env, load_text, write};

/// The problems of a text, with the folder of the file cut off.
fn problems(text: &str) -> String {
    let (dir, loaded) = load_text(text);
    let error = loaded.expect_err("the text is wrong");
    error.to_string().replace(&format!("{}/", dir.path().display()), "")
}

fn warnings(text: &str) -> String {
    let (dir, loaded) = load_text(text);
    let warnings = loaded.unwrap_or_else(|error| panic!("{error}")).warnings;
    bellwether_config::render(&warnings).replace(&format!("{}/", dir.path().display()), "")
}

#[test]
fn all_problems_come_out_in_one_run_with_line_key_and_remedy() {
    let text = "\
scope: demo
restapi:
  listen: 127.0.0.1
  verify_client: always
  authentication: {username: admin}
log:
  level: LOUD
  loggers: {x: LOUD}
postgresql:
  listen: 127.0.0.1:99999
  authentication:
    superuser: {username: postgres}
    replication: nobody
  pg_hba: local all all trust
raft:
  self_addr: 127.0.0.1:2380
  partner_addrs: [127.0.0.2:2380, oops]
";
    insta::assert_snapshot!(problems(text), @r"
    patroni.yml: name: is not defined
      help: add `name`, unique in the cluster
    patroni.yml:3: restapi.listen: the port is missing (found `127.0.0.1`)
      help: write `host:port`, for example `10.0.0.11:8008`
    patroni.yml:4: restapi.verify_client: is not a word that is known here (found `always`)
      help: use one of: none, optional, required
    patroni.yml:5: restapi.authentication.password: is not defined
      help: give `username` and `password` together, or neither
    patroni.yml:7: log.level: is not a word that is known here (found `LOUD`)
      help: use one of: DEBUG, INFO, WARN, WARNING, ERROR, FATAL, CRITICAL
    patroni.yml:8: log.loggers.x: is not a word that is known here (found `LOUD`)
      help: use one of: DEBUG, INFO, WARN, WARNING, ERROR, FATAL, CRITICAL
    patroni.yml:9: postgresql.data_dir: is not defined
      help: add `postgresql.data_dir`, for example `/var/lib/postgresql/15/main`
    patroni.yml:10: postgresql.listen: `99999` is not a port (1 to 65535) (found `127.0.0.1:99999`)
      help: write `address:port` or `address,address:port`, for example `0.0.0.0:5432`
    patroni.yml:13: postgresql.authentication.replication: expects a map (found `nobody`)
      help: write the settings of `replication` below it, indented, as `key: value`
    patroni.yml:13: postgresql.authentication.replication.username: is not defined
      help: name the role, for example `replicator`
    patroni.yml:14: postgresql.pg_hba: expects a list of lines (found `local all all trust`)
      help: write one item per line of the file: `- local all all peer`
    patroni.yml:15: raft.data_dir: is not defined
      help: name a directory for the store's log, for example `/var/lib/bellwether/raft`
    patroni.yml:15: raft.password: is not defined
      help: give all partners the same `raft.password`, or certificates (`certfile`, `keyfile`, `cafile`); `insecure: true` goes without
    patroni.yml:17: raft.partner_addrs: the port is missing (found `oops`)
      help: write `host:port`, for example `10.0.0.11:2380`
    ");
}

#[test]
fn a_store_that_is_not_built_in_is_named() {
    let raft = MINIMAL.find("raft:").unwrap();
    insta::assert_snapshot!(problems(&format!("{}kubernetes: {{}}\n", &MINIMAL[..raft])), @r"
    patroni.yml:11: kubernetes: the store `kubernetes` is not yet built in
      help: use one of: consul, etcd3, raft, zookeeper
    ");
    insta::assert_snapshot!(problems(&format!("{}etcd: {{hosts: 'a:1'}}\n", &MINIMAL[..raft])), @r"
    patroni.yml:11: etcd: means etcd's protocol v2, which is not supported: its keys are not those of protocol v3, and members of both kinds would each elect a leader of their own
      help: move the cluster to protocol v3 while Patroni still runs it, then rename the section to `etcd3`; its keys are the same
    ");
    let none = &MINIMAL[..MINIMAL.find("raft:").unwrap()];
    insta::assert_snapshot!(problems(none), @r"
    patroni.yml: Can not find suitable configuration of distributed configuration store
    Available implementations: consul, etcd3, raft, zookeeper
      help: add a section `raft` with `self_addr`, `partner_addrs` and `data_dir`: the embedded store
    ");
    insta::assert_snapshot!(problems(&format!("{MINIMAL}citus: {{group: 0, database: d}}\n")), @r"
    patroni.yml:14: citus: needs a store that all groups share, and the embedded one belongs to one group
      help: use `etcd3`, `consul` or `zookeeper`, the same on every node of every group
    ");
    assert!(
        problems(&format!("{MINIMAL}citus: {{group: -1, database: d}}\n"))
            .contains("citus.group: must be between 0 and")
    );
}

#[test]
fn servers_on_one_port_and_addresses_for_nobody_are_found() {
    let one_port = MINIMAL.replace("127.0.0.1:8008", "'*:5432'").replace("127.0.0.1:2380", "127.0.0.1:5432");
    insta::assert_snapshot!(problems(&one_port), @r"
    patroni.yml:6: postgresql.listen: uses the same port as `restapi.listen` (found `127.0.0.1:5432`)
      help: give each server a port of its own
    patroni.yml:12: raft.self_addr: uses the same port as `restapi.listen` (found `127.0.0.1:5432`)
      help: give each server a port of its own
    ");
    let partners = "  data_dir: /r\n  password: x\n  partner_addrs: [10.0.0.2:2380, 10.0.0.3:2380]";
    let loopback = MINIMAL.replace("  data_dir: /tmp/demo/raft", partners);
    insta::assert_snapshot!(problems(&loopback), @r"
    patroni.yml:12: raft.self_addr: `127.0.0.1:2380` means this machine only, and the partners could not reach it (found `127.0.0.1:2380`)
      help: set it to an address of this node that the partners reach
    ");
}

#[test]
fn doubtful_values_are_warnings() {
    for (case, text, expected) in [
        (
            "a wildcard is published",
            MINIMAL.replace("127.0.0.1:8008", "0.0.0.0:8008"),
            "restapi.listen: is published to other members",
        ),
        (
            "two stores: the first in Patroni's order is used",
            MINIMAL.replace("raft:", "etcd3: {hosts: '127.0.0.1:1'}\nraft:"),
            "raft: is not used: `etcd3` names the store of this cluster",
        ),
        (
            "half a section for Citus",
            format!("{MINIMAL}citus: {{group: 0}}\n"),
            "citus: has no effect without both `group` and `database`",
        ),
        (
            "a partner that is this node",
            MINIMAL
                .replace("  data_dir: /tmp/demo/raft", "  data_dir: /r\n  partner_addrs: [127.0.0.1:2380]"),
            "raft.partner_addrs: names this node itself, which is left out (found `127.0.0.1:2380`)",
        ),
        (
            "two voters",
            MINIMAL.replace(
                "  data_dir: /tmp/demo/raft",
                "  data_dir: /r\n  insecure: true\n  partner_addrs: [127.0.0.1:2381]",
            ),
            "raft.partner_addrs: makes two voters",
        ),
        (
            "a relative data directory",
            MINIMAL.replace("/tmp/demo/pg1", "data"),
            "postgresql.data_dir: is relative",
        ),
        (
            "timings that cannot hold",
            format!("{MINIMAL}bootstrap:\n  dcs: {{ttl: 20, loop_wait: 10, retry_timeout: 10}}\n"),
            "Adjusting loop_wait from 10 to 1 and retry_timeout from 10 to 9.5",
        ),
        (
            "a controlled parameter",
            MINIMAL.replace("raft:", "  parameters: {max_connections: 5}\nraft:"),
            "patroni.yml:11: postgresql.parameters.max_connections: has no effect in a local file",
        ),
        (
            "tags that contradict each other",
            format!("{MINIMAL}tags: {{nofailover: true, failover_priority: 1}}\n"),
            "Conflicting configuration between nofailover: True and failover_priority: 1. Defaulting to nofailover: True",
        ),
        (
            "a watchdog mode nobody knows",
            format!("{MINIMAL}watchdog: {{mode: maybe}}\n"),
            "watchdog.mode: is not a word",
        ),
        (
            "a log type nobody knows",
            format!("{MINIMAL}log: {{type: odd}}\n"),
            "log.type: is not a word that is known here; the default is used (found `odd`)",
        ),
        (
            "a size that is no number",
            format!("{MINIMAL}log: {{max_queue_size: many}}\n"),
            "log.max_queue_size: expects a whole number; the default is used",
        ),
        (
            "a watchdog margin that is no number",
            format!("{MINIMAL}watchdog: {{safety_margin: much}}\n"),
            "watchdog.safety_margin: expects a whole number; the default is used",
        ),
        (
            "a watchdog that is no section",
            format!("{MINIMAL}watchdog: 5\n"),
            "watchdog: expects a map; the default is used",
        ),
        ("tags that are none", format!("{MINIMAL}tags: x\n"), "tags: expects a map; the default is used"),
        (
            "a flag that is none",
            format!("{MINIMAL}ctl: {{insecure: perhaps}}\n"),
            "ctl.insecure: is neither true nor false",
        ),
        (
            "a key twice",
            format!("{MINIMAL}name: pg2\n"),
            "patroni.yml:14: name: the key is given twice, first in line 2",
        ),
        (
            "a bootstrap method without command",
            format!("{MINIMAL}bootstrap: {{method: x}}\n"),
            "bootstrap.method: names no section",
        ),
    ] {
        let found = warnings(&text);
        assert!(found.contains(expected), "{case}: {found}");
        assert_eq!(found.matches("help:").count(), 1, "{case}: {found}");
    }
}

#[test]
fn values_that_would_hurt_are_refused() {
    for (case, text, expected) in [
        (
            "half a login",
            MINIMAL.replace(
                "  listen: 127.0.0.1:8008",
                "  listen: 127.0.0.1:8008\n  authentication: {password: x}",
            ),
            "restapi.authentication.username: is not defined",
        ),
        (
            "a certificate that is not there",
            MINIMAL
                .replace("  listen: 127.0.0.1:8008", "  listen: 127.0.0.1:8008\n  certfile: /nonexistent/c"),
            "restapi.certfile: cannot be used: there is no such file",
        ),
        (
            "an initdb option of ours",
            format!("{MINIMAL}bootstrap:\n  initdb: [{{pgdata: /x}}]\n"),
            "the option `pgdata` must not be given",
        ),
        (
            "a first document nobody can apply",
            format!("{MINIMAL}bootstrap:\n  dcs: {{ttl: 40s}}\n"),
            "bootstrap.dcs.ttl: ttl: expects a whole number without unit",
        ),
        (
            "the placeholder as a name",
            MINIMAL.replace("name: pg1", "name: __patroni_strict_sync_replica_placeholder__"),
            "name: 'name' can't be set to",
        ),
        (
            "partners in clear text by accident",
            MINIMAL.replace("  data_dir: /tmp/demo/raft", "  data_dir: /r\n  partner_addrs: [127.0.0.1:1]"),
            "raft.password: is not defined",
        ),
        (
            "some certificates",
            MINIMAL.replace("  data_dir: /tmp/demo/raft", "  data_dir: /r\n  certfile: /c"),
            "raft.keyfile: is not defined",
        ),
        (
            "parameters that are no map",
            MINIMAL.replace("raft:", "  parameters: [a]\nraft:"),
            "postgresql.parameters: expects a map",
        ),
        (
            "a data directory that is a file",
            MINIMAL.replace("/tmp/demo/pg1", "/etc/passwd"),
            "postgresql.data_dir: is not a directory",
        ),
    ] {
        let found = problems(&text);
        assert!(found.contains(expected), "{case}: {found}");
        assert!(
            found.contains("patroni.yml") && found.contains("help:") || case.contains("map"),
            "{case}: {found}"
        );
    }
}

#[test]
fn what_only_a_new_cluster_needs_does_not_stop_a_member_with_data() {
    let dir = tempfile::tempdir().unwrap();
    let text = MINIMAL.replace("/tmp/demo/pg1", &dir.path().display().to_string());
    let text = format!("{text}bootstrap:\n  initdb: [{{pgdata: /x}}]\n  dcs: {{ttl: 40s}}\n");
    assert!(problems(&text).contains("bootstrap.initdb") && problems(&text).contains("bootstrap.dcs.ttl"));
    write(&dir.path().join("PG_VERSION"), "15\n");
    let warnings = warnings(&text);
    assert!(warnings.contains("bootstrap.initdb") && warnings.contains("bootstrap.dcs.ttl"), "{warnings}");
}

#[test]
fn errors_have_a_kind() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.yml");
    for (text, kind, expected) in [
        ("a: [", LoadErrorKind::Syntax, "c.yml:"),
        ("- a\n", LoadErrorKind::Syntax, "c.yml does not contain a dict"),
        ("", LoadErrorKind::Syntax, "does not contain a dict"),
        ("{}", LoadErrorKind::Invalid, "Config is empty."),
        ("a: 1\n", LoadErrorKind::Invalid, "name: is not defined"),
    ] {
        write(&file, text);
        let error = load(Some(&file), &env(&[])).unwrap_err();
        assert_eq!(error.kind(), kind, "{text:?}");
        assert!(error.to_string().contains(expected), "{text:?}: {error}");
    }
    let socket = dir.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let error = load(Some(&socket), &env(&[])).unwrap_err();
    assert_eq!(error.kind(), LoadErrorKind::Unreadable);
    assert!(error.to_string().starts_with("invalid config path"), "{error}");
    fs::create_dir(dir.path().join("empty")).unwrap();
    let error = load(Some(&dir.path().join("empty")), &env(&[])).unwrap_err();
    assert_eq!(error.to_string(), "Config is empty.");
}
