//! Real etcd servers, each cluster on a loopback address of its own, so that ports are never contended for.

use std::{
    fs::{self, File},
    net::Ipv4Addr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use bellwether_dcs::{Deadline, Store as _, conformance::link::Link};
use bellwether_dcs_etcd::{Endpoint, EtcdConfig, EtcdStore};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::wait::until;

pub(crate) const PREFIX: &str = "/service/test/";
const FIRST_CLIENT_PORT: u16 = 2379;
const FIRST_PEER_PORT: u16 = 22380;

/// A cluster of etcd servers. Dropping it kills them.
pub(crate) struct Servers {
    pub(crate) members: Vec<Member>,
    secure: bool,
    pub(crate) dir: TempDir,
}

pub(crate) struct Member {
    command: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
    pub(crate) endpoint: Endpoint,
}

impl Member {
    /// `host:port` for clients.
    pub(crate) fn address(&self) -> String {
        format!("{}:{}", self.endpoint.host, self.endpoint.port)
    }
}

/// The member at the other end of `link`, as a client is to address it.
pub(crate) fn linked(link: &Link) -> Endpoint {
    let (host, port) = link.address.rsplit_once(':').expect("host:port");
    Endpoint::new(false, host, port.parse().expect("a port"))
}

impl Servers {
    pub(crate) async fn start(members: usize) -> Self {
        Self::start_with(members, |_, _| vec![], false).await
    }

    /// `extra`: more arguments, given the directory and the host of the cluster.
    pub(crate) async fn start_with(
        members: usize,
        extra: impl FnOnce(&TempDir, Ipv4Addr) -> Vec<String>,
        secure: bool,
    ) -> Self {
        let dir = tempfile::Builder::new().prefix("bw-etcd-").tempdir().unwrap();
        let host = address_of_ours();
        let extra = extra(&dir, host);
        let scheme = if secure { "https" } else { "http" };
        let peer = |index| format!("http://{host}:{}", FIRST_PEER_PORT + index);
        let count = u16::try_from(members).unwrap();
        let all: Vec<String> = (0..count).map(|index| format!("e{index}={}", peer(index))).collect();
        let members = (0..count).map(|index| {
            let port = FIRST_CLIENT_PORT + index;
            let client = format!("{scheme}://{host}:{port}");
            let name = format!("e{index}");
            let data = dir.path().join(&name).display().to_string();
            let pairs = [
                ("--name", name.as_str()),
                ("--data-dir", &data),
                ("--listen-client-urls", &client),
                ("--advertise-client-urls", &client),
                ("--listen-peer-urls", &peer(index)),
                ("--initial-advertise-peer-urls", &peer(index)),
                ("--initial-cluster", &all.join(",")),
                ("--initial-cluster-state", "new"),
                ("--heartbeat-interval", "50"),
                ("--election-timeout", "500"),
            ];
            let mut command: Vec<String> =
                pairs.iter().flat_map(|(flag, value)| [(*flag).to_owned(), (*value).to_owned()]).collect();
            command.extend(extra.clone());
            Member {
                command,
                log: dir.path().join(format!("{name}.log")),
                child: None,
                endpoint: Endpoint::new(secure, host.to_string(), port),
            }
        });
        let mut servers = Self { members: members.collect(), secure, dir };
        for member in &mut servers.members {
            member.start();
        }
        if !secure {
            servers.ready().await;
        }
        servers
    }

    pub(crate) fn endpoints(&self) -> Vec<Endpoint> {
        self.members.iter().map(|member| member.endpoint.clone()).collect()
    }

    /// A client of all members that asks `first` first.
    pub(crate) async fn client(&self, prefix: &str, first: usize) -> EtcdStore {
        let mut endpoints = self.endpoints();
        endpoints.rotate_left(first % self.members.len());
        EtcdStore::start(EtcdConfig::new(prefix, endpoints)).await.unwrap()
    }

    /// A client of one member.
    pub(crate) async fn client_of(&self, member: usize) -> EtcdStore {
        let mut config = EtcdConfig::new(PREFIX, vec![self.members[member].endpoint.clone()]);
        config.discover_members = false;
        EtcdStore::start(config).await.unwrap()
    }

    /// Waits until each member that runs answers linearizably.
    pub(crate) async fn ready(&self) {
        for (index, member) in self.members.iter().enumerate() {
            if member.child.is_none() {
                continue;
            }
            let client = self.client_of(index).await;
            until(&format!("member {index} is ready; see {}", member.log.display()), || async {
                client.snapshot(Deadline::after(Duration::from_secs(1))).await.ok()
            })
            .await;
        }
    }

    /// The member that leads etcd.
    pub(crate) async fn leader(&self) -> usize {
        until("etcd has a leader", || async {
            for (index, member) in self.members.iter().enumerate() {
                if member.child.is_none() {
                    continue;
                }
                let status = self.ask(index, "maintenance/status", json!({})).await;
                let (id, leader) = (&status["header"]["member_id"], &status["leader"]);
                if id.is_string() && id == leader {
                    return Some(index);
                }
            }
            None
        })
        .await
    }

    /// etcd's JSON interface, for what a client of ours never does; `null` if there is no answer.
    pub(crate) async fn ask(&self, member: usize, path: &str, body: Value) -> Value {
        assert!(!self.secure, "plain HTTP only");
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().timeout(Duration::from_secs(2)).build().unwrap();
        let url = format!("{}/v3/{path}", self.members[member].endpoint);
        match http.post(url).json(&body).send().await {
            Ok(answer) => answer.json().await.unwrap_or_default(),
            Err(_) => Value::Null,
        }
    }
}

impl Member {
    pub(crate) fn start(&mut self) {
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        // It must not outlive this process, however that ends.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "etcd"])
            .args(&self.command)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("setpriv and etcd are installed (scripts/prerequisites)");
        self.child = Some(child);
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
            kill_process(pid, signal).unwrap();
        }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for member in &mut self.members {
            member.kill();
        }
        if std::thread::panicking() {
            let kept = self.dir.path().with_extension("kept");
            let _ = fs::rename(self.dir.path(), kept);
        }
    }
}

/// An address in 127.0.0.0/8 that nobody else has.
fn address_of_ours() -> Ipv4Addr {
    let [a, b, c, _] = rand::random::<u32>().to_be_bytes();
    Ipv4Addr::new(127, a | 1, b, c.clamp(1, 254))
}
