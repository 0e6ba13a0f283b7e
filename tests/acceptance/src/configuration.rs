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
    pub postgres_port: u16,
    pub api_port: u16,
    /// `None`: this node has no vote in the store and only uses it.
    pub store_port: Option<u16>,
    /// The store addresses of the other nodes.
    pub partners: Vec<u16>,
}

/// A complete configuration with the defaults of a new cluster: ttl 5, loop_wait 1, retry_timeout 2.
pub fn document(place: &Place<'_>) -> Value {
    let Place { scope, name, dir, postgres_port, api_port, store_port, partners } = place;
    let partners: Vec<String> = partners.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let mut store = json!({"partner_addrs": partners, "password": "store-secret"});
    if let Some(port) = store_port {
        store["self_addr"] = json!(format!("127.0.0.1:{port}"));
        store["data_dir"] = json!(dir.join("store"));
    }
    json!({
        "scope": scope,
        "name": name,
        "restapi": {
            "listen": format!("127.0.0.1:{api_port}"),
            "connect_address": format!("127.0.0.1:{api_port}"),
            "authentication": {"username": rest::USER, "password": rest::PASSWORD},
        },
        "raft": store,
        "bootstrap": {
            "dcs": {"postgresql": {"use_pg_rewind": true}},
            "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "data-checksums"],
        },
        "postgresql": {
            "listen": format!("127.0.0.1:{postgres_port}"),
            "connect_address": format!("127.0.0.1:{postgres_port}"),
            "data_dir": dir.join("data"),
            "bin_dir": binary::postgres_bin_dir(),
            "pgpass": dir.join("pgpass"),
            "authentication": {
                "superuser": {"username": sql::SUPERUSER, "password": sql::PASSWORD},
                "replication": {"username": "replicator", "password": "replication-secret"},
                "rewind": {"username": "rewinder", "password": "rewind-secret"},
            },
            "pg_hba": [
                "local all all scram-sha-256",
                "host all all 127.0.0.1/32 scram-sha-256",
                "host replication replicator 127.0.0.1/32 scram-sha-256",
            ],
            "parameters": {
                "password_encryption": "scram-sha-256",
                "unix_socket_directories": dir,
                "shared_buffers": "32MB",
            },
        },
    })
}
