//! Bellwether on a host.

use bellwether_acceptance::cluster::merge;
use serde_json::{Value, json};

use super::{AGENT, EMBEDDED_STORE, Programs, configuration};
use crate::host::{Host, Recipe};

/// The section of the embedded store.
pub(super) fn embedded(host: &Host, peers: &[String]) -> Value {
    let own = host.address();
    let partners: Vec<String> =
        peers.iter().filter(|peer| **peer != own).map(|peer| format!("{peer}:{EMBEDDED_STORE}")).collect();
    json!({"raft": {
        "self_addr": format!("{own}:{EMBEDDED_STORE}"),
        "partner_addrs": partners,
        "data_dir": host.dir.join("store"),
        "password": "store-secret",
    }})
}

/// Starts the agent with this store.
pub(super) fn start(host: &mut Host, programs: &Programs, store: Value, dcs: &Value) {
    let mut document = configuration(host, dcs);
    merge(&mut document, store);
    let file = host.dir.join("bellwether.yml");
    host.account.write(&file, &document.to_string());
    let recipe = Recipe {
        program: programs.bellwether.clone(),
        arguments: vec!["run".to_owned(), file.display().to_string()],
        log: host.dir.join("agent.log"),
    };
    host.start(AGENT, recipe);
}
