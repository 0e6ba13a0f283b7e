//! `vip-manager` from Debian 11 moves an address with the leader, by what it reads in Consul. (To etcd it speaks protocol v2 only, which
//! neither Patroni's `etcd3` nor we use.)

use std::process::{Child, Stdio};

use bellwether_acceptance::{
    Cluster, Node, Options, PATIENCE,
    cluster::SCOPE,
    namespace::{INTERFACE, Namespace},
    wait::until,
};
use serde_json::json;

const ADDRESS: &str = "10.77.7.7";

/// The host of a node, as far as the address is concerned.
struct Host {
    name: String,
    namespace: Namespace,
    manager: Child,
}

impl Host {
    fn of(node: &Node, cluster: &Cluster) -> Self {
        let mut namespace = Namespace::make();
        let port = cluster.consul().port();
        namespace.let_out(port);
        let log = std::fs::File::create(cluster.dir().join(format!("vip-manager-{}.log", node.name)));
        let log = log.expect("a log");
        let manager = namespace
            .command("vip-manager")
            .args(["--ip", ADDRESS, "--netmask", "24", "--interface", INTERFACE, "--interval", "200"])
            .args(["--dcs-type", "consul", "--dcs-endpoints", &format!("http://127.0.0.1:{port}")])
            .args(["--trigger-key", &format!("/service/{SCOPE}/leader"), "--trigger-value", &node.name])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .expect("vip-manager is installed (scripts/prerequisites stores)");
        Self { name: node.name.clone(), namespace, manager }
    }

    fn has_address(&self) -> bool {
        self.namespace.addresses().contains(&format!("inet {ADDRESS}/24"))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.manager.kill();
        let _ = self.manager.wait();
    }
}

async fn address_is_with(leader: &Node, hosts: &[Host]) {
    until(format!("the address is with {}", leader.name), PATIENCE, || {
        hosts.iter().all(|host| host.has_address() == (host.name == leader.name))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vip_manager_moves_the_address_with_the_leader() {
    let timings = json!({"ttl": 20, "loop_wait": 1, "retry_timeout": 4});
    let options = Options::nodes(2).on_consul().with(json!({"bootstrap": {"dcs": timings}}));
    let cluster = Cluster::start_with(options).await;
    let first = cluster.whole().await;
    let second = cluster.others(first)[0];
    let hosts: Vec<Host> = cluster.nodes.iter().map(|node| Host::of(node, &cluster)).collect();
    address_is_with(first, &hosts).await;

    let reply = first.api.post("/switchover", json!({"leader": first.name})).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    address_is_with(second, &hosts).await;
    assert_eq!(cluster.whole().await.name, second.name);

    // Stopped in order, the leader gives the lock up.
    second.stop().await;
    address_is_with(first, &hosts).await;
}
