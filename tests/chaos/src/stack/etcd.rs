//! An etcd of three or five members, one on each host.

use serde_json::{Value, json};

use super::{ETCD, ETCD_CLIENTS, ETCD_PEERS};
use crate::host::{Host, Recipe};

pub(super) fn section(peers: &[String]) -> Value {
    let hosts: Vec<String> = peers.iter().map(|peer| format!("{peer}:{ETCD_CLIENTS}")).collect();
    json!({"etcd3": {"hosts": hosts}})
}

pub(super) fn start(host: &mut Host, peers: &[String]) {
    let (name, address) = (host.name.clone(), host.address());
    let cluster: Vec<String> =
        (1..).zip(peers).map(|(number, peer)| format!("node{number}=http://{peer}:{ETCD_PEERS}")).collect();
    let clients = format!("http://{address}:{ETCD_CLIENTS}");
    let peer = format!("http://{address}:{ETCD_PEERS}");
    let data = host.dir.join("etcd").display().to_string();
    let arguments = [
        ["--name", &name],
        ["--data-dir", &data],
        ["--listen-client-urls", &clients],
        ["--advertise-client-urls", &clients],
        ["--listen-peer-urls", &peer],
        ["--initial-advertise-peer-urls", &peer],
        ["--initial-cluster", &cluster.join(",")],
        ["--initial-cluster-state", "new"],
    ];
    let recipe = Recipe {
        program: "etcd".into(),
        arguments: arguments.concat().into_iter().map(str::to_owned).collect(),
        log: host.dir.join("etcd.log"),
    };
    host.start(ETCD, recipe);
}
