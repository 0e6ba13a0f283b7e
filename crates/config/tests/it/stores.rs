//! The sections of stores that are somebody else's servers: what they mean, and what is told about mistakes.

use std::time::Duration;

use bellwether_config::{
    load, redacted, render,
    sections::{consul::Consul, store::Store, zookeeper::ZooKeeper},
};
use secrecy::ExposeSecret;

use crate::load::{MINIMAL, env, load_text, write};

/// The minimal file on another store.
fn on(section: &str) -> String {
    format!("{}{section}", &MINIMAL[..MINIMAL.find("raft:").unwrap()])
}

fn problems(section: &str) -> String {
    let (dir, loaded) = load_text(&on(section));
    let error = loaded.expect_err("the text is wrong");
    error.to_string().replace(&format!("{}/", dir.path().display()), "")
}

fn warnings(section: &str) -> String {
    let (dir, loaded) = load_text(&on(section));
    let warnings = loaded.unwrap_or_else(|error| panic!("{error}")).warnings;
    render(&warnings).replace(&format!("{}/", dir.path().display()), "")
}

fn consul(section: &str) -> Consul {
    let (_dir, loaded) = load_text(&on(section));
    match loaded.unwrap_or_else(|error| panic!("{error}")).config.store {
        Store::Consul(consul) => consul,
        other => panic!("{other:?}"),
    }
}

fn zookeeper(section: &str) -> ZooKeeper {
    let (_dir, loaded) = load_text(&on(section));
    match loaded.unwrap_or_else(|error| panic!("{error}")).config.store {
        Store::ZooKeeper(zookeeper) => zookeeper,
        other => panic!("{other:?}"),
    }
}

#[test]
fn consul_is_the_agent_here_unless_said_otherwise() {
    for (section, address, tls) in [
        ("consul: {}\n", "127.0.0.1:8500", false),
        ("consul: {port: 8501, scheme: https}\n", "127.0.0.1:8501", true),
        ("consul: {host: c1}\n", "c1:8500", false),
        ("consul: {host: 'c1:1', port: 2}\n", "c1:1", false),
        ("consul: {url: 'https://c2', host: c1}\n", "c2:8500", true),
        ("consul: {url: 'http://c2:7', scheme: https}\n", "c2:7", false),
    ] {
        let read = consul(section);
        assert_eq!((read.address.to_string().as_str(), read.tls), (address, tls), "{section}");
        assert!(read.verify && read.service.is_none(), "{section}");
    }
}

#[test]
fn every_key_of_consul_is_read() {
    let read = consul(
        "consul: {scheme: https, token: t, verify: off, dc: west, checks: [a, b], consistency: stale, \
         session_ttl_min: 2s, register_service: 'on', service_tags: [x], service_check_interval: 1m30s, \
         service_check_tls_server_name: api}\n",
    );
    assert_eq!(read.token.as_ref().map(|token| token.expose_secret()), Some("t"));
    assert!(!read.verify);
    assert_eq!(read.dc.as_deref(), Some("west"));
    assert_eq!(read.checks, ["a", "b"]);
    assert_eq!(read.session_ttl_min, Duration::from_secs(2));
    let service = read.service.clone().expect("it is to be registered");
    assert_eq!(service.tags, ["x"]);
    assert_eq!(service.check_interval, Duration::from_secs(90));
    assert_eq!(service.check_tls_server_name.as_deref(), Some("api"));
    assert_eq!(Store::Consul(read).minimum_ttl(), Duration::from_secs(4));
}

#[test]
fn every_key_of_zookeeper_is_read() {
    let read = zookeeper(
        "zookeeper: {hosts: 'z1, z2:2182', tick_time: 500, set_acls: {'CN=pg': [all], 'digest:a:b': READ}, \
         auth_data: {digest: 'me:secret'}, use_ssl: off}\n",
    );
    let hosts: Vec<String> = read.hosts.iter().map(ToString::to_string).collect();
    assert_eq!(hosts, ["z1:2181", "z2:2182"]);
    assert_eq!(read.set_acls["CN=pg"], ["all"]);
    assert_eq!(read.set_acls["digest:a:b"], ["READ"]);
    assert_eq!(read.auth_data["digest"].expose_secret(), "me:secret");
    assert_eq!(Store::ZooKeeper(read).minimum_ttl(), Duration::from_secs(1));
}

#[test]
fn mistakes_are_told_with_line_and_remedy() {
    insta::assert_snapshot!(problems("consul:\n  port: many\n  scheme: ftp\n  host: [a, b]\n  session_ttl_min: soon\n  key: /k\n"), @r"
    patroni.yml:11: consul.cert: is not defined
      help: give the certificate that `key` belongs to
    patroni.yml:12: consul.port: expects a whole number (found `many`)
      help: write a number without a unit
    patroni.yml:13: consul.scheme: is not a word that is known here (found `ftp`)
      help: use one of: http, https
    patroni.yml:14: consul.host: names several agents; a member talks to one
      help: name the agent on this machine
    patroni.yml:15: consul.session_ttl_min: is no span of time (found `soon`)
      help: write a number with a unit, for example `10s`
    patroni.yml:16: consul.key: cannot be used: there is no such file (found `/k`)
      help: check the path, and that the daemon's user may read it
    ");
    insta::assert_snapshot!(problems("zookeeper:\n  use_ssl: true\n  verify: false\n  tick_time: 1h\n  set_acls:\n    me: [ALL, EXECUTE]\n  auth_data: me\n"), @r"
    patroni.yml:11: zookeeper.hosts: is not defined
      help: name the servers of the ensemble: `hosts: [10.0.0.11:2181, 10.0.0.12:2181, 10.0.0.13:2181]`
    patroni.yml:13: zookeeper.verify: would let anybody pose as the ensemble, which is not supported (found `false`)
      help: name the authority of the servers' certificates in `cacert`, and remove `verify`
    patroni.yml:14: zookeeper.tick_time: must be between 10 ms and 60 s (found `1h`)
      help: write the servers' `tickTime` in milliseconds or with a unit, for example `2s`
    patroni.yml:16: zookeeper.set_acls.me: `EXECUTE` is no permission
      help: use some of: CREATE, READ, WRITE, DELETE, ADMIN, ALL
    patroni.yml:17: zookeeper.auth_data: expects a map
      help: write the settings of `auth_data` below it, indented, as `key: value`
    ");
    insta::assert_snapshot!(problems("zookeeper: {hosts: 'z1:x'}\n"), @r"
    patroni.yml:11: zookeeper.hosts: `x` is not a port (1 to 65535) (found `z1:x`)
      help: write `host:port`, for example `10.0.0.11:2181`
    ");
}

#[test]
fn doubtful_settings_are_warnings() {
    insta::assert_snapshot!(warnings("consul: {regster_service: true, host: c1, token: t, cacert: /etc/passwd, checks: [c], url: 'http://me:pw@c1'}\n"), @r"
    patroni.yml:4: restapi.listen: is published to other members, and means this machine only (found `127.0.0.1:8008`)
      help: set `restapi.connect_address` to an address that the others reach, `10.0.0.11:8008`
    patroni.yml:6: postgresql.listen: is published to other members, and means this machine only (found `127.0.0.1:5432`)
      help: set `postgresql.connect_address` to an address that the others reach, `10.0.0.11:5432`
    patroni.yml:11: consul.url: holds a login, which Consul does not know
      help: give a `token`
    patroni.yml:11: consul.cacert: has no effect, because Consul is talked to in clear text (found `/etc/passwd`)
      help: set `scheme: https`
    patroni.yml:11: consul.token: is sent in clear text
      help: set `scheme: https`, or use an agent on this machine
    patroni.yml:11: consul.checks: lets the lease end when a check fails, whatever time Consul has guaranteed: it is no fence then
      help: remove it; the session has a ttl of its own
    patroni.yml:11: consul.regster_service: is not a setting that is known here
      help: did you mean `register_service`?
    ");
    insta::assert_snapshot!(warnings("zookeeper: {hosts: z1, auth_date: {}, cacert: /c}\n"), @r"
    patroni.yml:4: restapi.listen: is published to other members, and means this machine only (found `127.0.0.1:8008`)
      help: set `restapi.connect_address` to an address that the others reach, `10.0.0.11:8008`
    patroni.yml:6: postgresql.listen: is published to other members, and means this machine only (found `127.0.0.1:5432`)
      help: set `postgresql.connect_address` to an address that the others reach, `10.0.0.11:5432`
    patroni.yml:11: zookeeper.cacert: has no effect, because ZooKeeper is talked to in clear text (found `/c`)
      help: set `use_ssl: true`
    patroni.yml:11: zookeeper.auth_date: is not a setting that is known here
      help: did you mean `auth_data`?
    ");
}

#[test]
fn credentials_of_stores_are_not_shown() {
    let (_dir, loaded) = load_text(&on("zookeeper: {hosts: z1, auth_data: {digest: 'me:secret'}}\n"));
    assert!(!redacted(&loaded.unwrap().document).to_string().contains("secret"));
    let (_dir, loaded) = load_text(&on("consul: {token: secret}\n"));
    let loaded = loaded.unwrap();
    assert!(!redacted(&loaded.document).to_string().contains("secret"));
    assert!(!format!("{:?}", loaded.config).contains("\"secret\""));
}

#[test]
fn variables_alone_name_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("patroni.yml");
    write(&file, &on(""));
    let environment = env(&[("PATRONI_CONSUL_HOST", "c1"), ("PATRONI_CONSUL_TOKEN", "t")]);
    let loaded = load(Some(&file), &environment).unwrap_or_else(|error| panic!("{error}"));
    assert!(matches!(loaded.config.store, Store::Consul(consul) if consul.address.host == "c1"));
}
