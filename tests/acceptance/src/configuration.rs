//! The configuration of a node, as a document that a test may change before it is written (JSON is YAML).

use std::path::Path;

use serde_json::{Value, json};

use crate::{binary, rest, sql};

/// What a configuration is made from.
#[derive(Clone, Debug)]
pub struct Place<'a> {
    pub scope: &'a str,
    pub name: &'a str,
    pub dir: &'a Path,
    /// Where it listens.
    pub address: &'a str,
    /// From where others come.
    pub networks: &'a [&'a str],
    pub postgres_port: u16,
    pub api_port: u16,
}

/// A complete configuration of a node on the loopback, with the embedded store and the defaults of a new cluster: ttl 5, loop_wait 1,
/// retry_timeout 2.
pub fn document(place: &Place<'_>, store_port: Option<u16>, partners: &[u16]) -> Value {
    let partners: Vec<String> = partners.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let mut store = json!({"partner_addrs": partners, "password": "store-secret"});
    if let Some(port) = store_port {
        store["self_addr"] = json!(format!("127.0.0.1:{port}"));
        store["data_dir"] = json!(place.dir.join("store"));
    }
    let mut document = without_store(place);
    document["raft"] = store;
    document
}

/// The same without a store; the real Patroni reads it as well.
pub fn without_store(place: &Place<'_>) -> Value {
    let Place { scope, name, dir, address, networks, postgres_port, api_port } = place;
    let mut pg_hba = vec!["local all all scram-sha-256".to_owned()];
    for network in *networks {
        pg_hba.push(format!("host all all {network} scram-sha-256"));
        pg_hba.push(format!("host replication replicator {network} scram-sha-256"));
    }
    json!({
        "scope": scope,
        "name": name,
        "restapi": {
            "listen": format!("{address}:{api_port}"),
            "connect_address": format!("{address}:{api_port}"),
            "authentication": {"username": rest::USER, "password": rest::PASSWORD},
        },
        "bootstrap": {
            "dcs": {"postgresql": {"use_pg_rewind": true}},
            "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "data-checksums"],
        },
        "postgresql": {
            "listen": format!("{address}:{postgres_port}"),
            "connect_address": format!("{address}:{postgres_port}"),
            "data_dir": dir.join("data"),
            "bin_dir": binary::postgres_bin_dir(),
            "pgpass": dir.join("pgpass"),
            "authentication": {
                "superuser": {"username": sql::SUPERUSER, "password": sql::PASSWORD},
                "replication": {"username": "replicator", "password": "replication-secret"},
                "rewind": {"username": "rewinder", "password": "rewind-secret"},
            },
            "pg_hba": pg_hba,
            "parameters": {
                "password_encryption": "scram-sha-256",
                "unix_socket_directories": dir,
                "shared_buffers": "32MB",
            },
        },
    })
}
