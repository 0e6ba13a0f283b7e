//! The configuration file of a node: what a newcomer would write, and may take as an example.

use std::path::Path;

use super::layout::{API_USER, CLUSTER, Layout, Node, ProxyPorts, SUPERUSER};

/// A socket's path may have 107 characters, and `/.s.PGSQL.12345.lock` is a part of it.
const SOCKET_DIR_MAX: usize = 85;

/// The text of `bellwether.yml`.
pub(super) fn text(layout: &Layout, node: &Node) -> String {
    let Node { name, postgres_port, api_port, store_port, .. } = node;
    let ProxyPorts { primary, replicas, pooled, stats } = node.proxy;
    let partners: Vec<_> = layout
        .nodes
        .iter()
        .filter(|other| other.name != node.name)
        .map(|other| format!("    - 127.0.0.1:{}\n", other.store_port))
        .collect();
    let partners = partners.concat();
    let passwords = &layout.passwords;
    let (superuser, replication, rewind) = (&passwords.superuser, &passwords.replication, &passwords.rewind);
    let (api, store) = (&passwords.api, &passwords.store);
    let (store_dir, data_dir) = (quoted(&node.store_dir()), quoted(&node.data_dir()));
    let (bin_dir, pgpass) = (quoted(&layout.bin_dir), quoted(&node.dir.join("pgpass")));
    let sockets =
        if node.dir.as_os_str().len() <= SOCKET_DIR_MAX { quoted(&node.dir) } else { "\"\"".to_owned() };
    format!(
        r#"# Node {name} of the demo cluster. Made by `bellwether demo`; the passwords are random.
scope: {CLUSTER}
name: {name}

restapi:
  listen: 127.0.0.1:{api_port}
  connect_address: 127.0.0.1:{api_port}
  authentication:
    username: {API_USER}
    password: "{api}"

raft:
  self_addr: 127.0.0.1:{store_port}
  partner_addrs:
{partners}  data_dir: {store_dir}
  password: "{store}"

router:
  bind: 127.0.0.1
  listeners:
    primary: {{port: {primary}}}
    replicas: {{port: {replicas}}}
    sync: {{enabled: false}}
    async: {{enabled: false}}
  stats: {{port: {stats}}}

pooler:
  listen_port: {pooled}

bootstrap:
  dcs:
    postgresql:
      use_pg_rewind: true
  initdb:
    - encoding: UTF8
    - locale: C
    - data-checksums

postgresql:
  listen: 127.0.0.1:{postgres_port}
  connect_address: 127.0.0.1:{postgres_port}
  data_dir: {data_dir}
  bin_dir: {bin_dir}
  pgpass: {pgpass}
  authentication:
    superuser:
      username: {SUPERUSER}
      password: "{superuser}"
    replication:
      username: replicator
      password: "{replication}"
    rewind:
      username: rewinder
      password: "{rewind}"
  pg_hba:
    - local all all scram-sha-256
    - host all all 127.0.0.1/32 scram-sha-256
    - host replication replicator 127.0.0.1/32 scram-sha-256
  parameters:
    password_encryption: scram-sha-256
    unix_socket_directories: {sockets}
    shared_buffers: 32MB
"#
    )
}

/// A path as a YAML scalar: JSON's quoting is YAML's too.
fn quoted(path: &Path) -> String {
    serde_json::Value::from(path.to_string_lossy()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_knows_its_partners_and_not_itself_as_one() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().join("with \"quotes\"");
        let layout = Layout::create(Some(&folder), None, "/usr/bin".into()).unwrap();
        let [first, second, third] = &layout.nodes[..] else { panic!("three nodes") };
        let text = text(&layout, first);
        for partner in [second, third] {
            assert!(text.contains(&format!("    - 127.0.0.1:{}\n", partner.store_port)), "{text}");
        }
        assert!(!text.contains(&format!("- 127.0.0.1:{}\n", first.store_port)), "{text}");
        assert!(text.contains(r#"with \"quotes\"/node1/data""#), "{text}");
    }
}
