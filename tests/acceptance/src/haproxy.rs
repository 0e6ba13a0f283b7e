//! A real HAProxy in front of a cluster, with the configuration that Patroni's users have.

use std::{
    fs::File,
    process::{Child, Command, Stdio},
};

use crate::cluster::Cluster;

/// A running HAProxy. Dropping it kills it.
#[derive(Debug)]
pub struct HaProxy {
    child: Child,
    /// Leads to the primary, found by `OPTIONS /primary`.
    pub primary: u16,
    /// The same by `OPTIONS /master`.
    pub master: u16,
    /// Leads to the replicas in turn.
    pub replicas: u16,
}

impl HaProxy {
    /// Starts it in front of all nodes. It looks more often than on a real host, so that tests need not wait.
    pub fn start(cluster: &mut Cluster) -> Self {
        let [primary, master, replicas] = [(); 3].map(|()| cluster.free_port());
        let mut text = "global\n    maxconn 200\n\
             defaults\n    mode tcp\n    retries 2\n    timeout client 30m\n    timeout connect 4s\n    timeout server 30m\n    \
             timeout check 5s\n"
            .to_owned();
        for (name, port, check) in [
            ("primary", primary, "/primary"),
            ("master", master, "/master"),
            ("replicas", replicas, "/replica"),
        ] {
            text += &format!(
                "listen {name}\n    bind 127.0.0.1:{port}\n    option httpchk OPTIONS {check}\n    \
                 http-check expect status 200\n    \
                 default-server inter 250ms fall 2 rise 1 on-marked-down shutdown-sessions\n"
            );
            for node in &cluster.nodes {
                let (server, api) = (node.postgres_port, node.api_port);
                text +=
                    &format!("    server {} 127.0.0.1:{server} maxconn 100 check port {api}\n", node.name);
            }
        }
        let file = cluster.dir().join("haproxy.cfg");
        std::fs::write(&file, text).expect("a configuration");
        let log = File::create(cluster.dir().join("haproxy.log")).expect("a log");
        let child = Command::new("setpriv")
            // It must not outlive this process, however that ends.
            .args(["--pdeathsig", "KILL", "haproxy", "-db", "-f"])
            .arg(file)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .expect("setpriv and haproxy are installed (scripts/prerequisites stores)");
        Self { child, primary, master, replicas }
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
