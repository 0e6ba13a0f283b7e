//! Three real etcd servers for a cluster whose store they are.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    ports::Ports,
    servers::signal_server,
    wait::{PATIENCE, eventually},
};

const MEMBERS: usize = 3;

/// Running servers. Dropping it kills them.
#[derive(Debug)]
pub struct Etcd {
    children: Vec<Child>,
    clients: Vec<u16>,
}

impl Etcd {
    /// Starts them, with their files below `dir`, and waits until they answer.
    pub async fn start(ports: &mut Ports, dir: &Path) -> Self {
        let clients: Vec<u16> = (0..MEMBERS).map(|_| ports.take_one()).collect();
        let peers: Vec<String> =
            (0..MEMBERS).map(|_| format!("http://127.0.0.1:{}", ports.take_one())).collect();
        let all: Vec<String> = peers.iter().enumerate().map(|(at, peer)| format!("e{at}={peer}")).collect();
        let mut etcd = Self { children: vec![], clients };
        for (at, peer) in peers.iter().enumerate() {
            let client = format!("http://127.0.0.1:{}", etcd.clients[at]);
            let name = format!("e{at}");
            let log = File::create(dir.join(format!("etcd-{name}.log"))).expect("a log");
            let child = Command::new("setpriv")
                // They must not outlive this process, however that ends.
                .args(["--pdeathsig", "KILL", "etcd", "--name", &name])
                .arg("--data-dir")
                .arg(dir.join(format!("etcd-{name}")))
                .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
                .args(["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer])
                .args(["--initial-cluster", &all.join(","), "--initial-cluster-state", "new"])
                .stdin(Stdio::null())
                .stdout(log.try_clone().expect("a file can be shared"))
                .stderr(log)
                .spawn()
                .expect("setpriv and etcd are installed (scripts/prerequisites)");
            etcd.children.push(child);
        }
        eventually("etcd answers", PATIENCE, || etcd.ask("kv/range", json!({"key": "AA=="}))).await;
        etcd
    }

    /// What a member's configuration says instead of `raft`.
    pub fn section(&self) -> Value {
        let hosts: Vec<String> = self.clients.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        json!({"hosts": hosts})
    }

    /// Everything that etcd holds, by key: the value and the lease, `0` for none.
    pub async fn keys(&self) -> Vec<(String, String, String)> {
        // From the first key to the last, in base64.
        let answer = self.ask("kv/range", json!({"key": "AA==", "range_end": "AA=="})).await;
        let answer = answer.expect("etcd answers");
        let text = |kv: &Value, field: &str| decode(kv[field].as_str().unwrap_or_default());
        let rows = answer["kvs"].as_array().cloned().unwrap_or_default();
        let lease = |kv: &Value| kv["lease"].as_str().unwrap_or("0").to_owned();
        rows.iter().map(|kv| (text(kv, "key"), text(kv, "value"), lease(kv))).collect()
    }

    /// What the key holds, `null` if there is none or if it is no JSON.
    pub async fn document(&self, key: &str) -> Value {
        let keys = self.keys().await;
        let found = keys.iter().find(|(found, ..)| found == key);
        found.and_then(|(_, value, _)| serde_json::from_str(value).ok()).unwrap_or_default()
    }

    /// Stops the servers in their tracks: nobody hears anything from them.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        for child in &self.children {
            signal_server(child, signal);
        }
    }

    /// For how many seconds the lease was granted that this key hangs on.
    pub async fn lease_time(&self, key: &str) -> Result<u64, String> {
        let keys = self.keys().await;
        let (.., lease) = keys.iter().find(|(found, ..)| found == key).ok_or_else(|| format!("no {key}"))?;
        let answer = self.ask("lease/timetolive", json!({"ID": lease})).await?;
        let granted = answer["grantedTTL"].as_str().and_then(|seconds| seconds.parse().ok());
        granted.ok_or_else(|| answer.to_string())
    }

    /// Ends the lease that this key hangs on, as if it had not been renewed for its whole time.
    pub async fn end_lease_of(&self, key: &str) {
        let keys = self.keys().await;
        let (.., lease) = keys.iter().find(|(found, ..)| found == key).unwrap_or_else(|| panic!("no {key}"));
        self.ask("lease/revoke", json!({"ID": lease})).await.expect("a lease can be ended");
    }

    async fn ask(&self, path: &str, body: Value) -> Result<Value, String> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().timeout(Duration::from_secs(2)).build();
        let client = client.map_err(|error| error.to_string())?;
        let url = format!("http://127.0.0.1:{}/v3/{path}", self.clients[0]);
        let answer = client.post(url).json(&body).send().await.map_err(|error| error.to_string())?;
        let document: Value = answer.json().await.map_err(|error| error.to_string())?;
        if document["header"].is_object() { Ok(document) } else { Err(document.to_string()) }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Base64 to text.
fn decode(encoded: &str) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for digit in encoded.bytes().filter_map(|byte| ALPHABET.iter().position(|&letter| letter == byte)) {
        bits = bits << 6 | u32::try_from(digit).expect("below 64");
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).expect("eight bits"));
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
