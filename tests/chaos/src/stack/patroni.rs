//! The real Patroni on a host.

use bellwether_acceptance::{cluster::merge, patroni};
use serde_json::Value;

use super::{AGENT, configuration};
use crate::host::{Host, Recipe};

pub(super) fn start(host: &mut Host, store: Value, dcs: &Value) {
    let mut document = configuration(host, dcs);
    merge(&mut document, store);
    let file = host.dir.join("patroni.yml");
    host.account.write(&file, &document.to_string());
    let recipe = Recipe {
        program: patroni::programs().join("patroni"),
        arguments: vec![file.display().to_string()],
        log: host.dir.join("agent.log"),
    };
    host.start(AGENT, recipe);
}
