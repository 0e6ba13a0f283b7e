//! A real Consul server for a cluster whose store it is.

use std::{
    fs,
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    ports::Ports,
    wait::{PATIENCE, eventually},
};

/// A running server, which is its own agent. Dropping it kills it.
#[derive(Debug)]
pub struct Consul {
    child: Child,
    port: u16,
    address: String,
}

impl Consul {
    /// Starts it, with its files below `dir`, and waits until it leads.
    pub async fn start(ports: &mut Ports, dir: &Path) -> Self {
        let (http, serf, server) = (ports.take_one(), ports.take_one(), ports.take_one());
        let settings = json!({
            "server": true,
            "bootstrap_expect": 1,
            "data_dir": dir.join("consul"),
            "bind_addr": "127.0.0.1",
            "client_addr": "127.0.0.1",
            "node_name": "store",
            "ports": {
                "http": http, "dns": -1, "grpc": -1, "https": -1, "serf_lan": serf, "serf_wan": -1, "server": server,
            },
            "performance": {"raft_multiplier": 1},
            "enable_script_checks": false,
            "disable_update_check": true,
        });
        let file = dir.join("consul.json");
        fs::write(&file, settings.to_string()).expect("a configuration");
        let log = File::create(dir.join("consul.log")).expect("a log");
        let child = Command::new("setpriv")
            // It must not outlive this process, however that ends.
            .args(["--pdeathsig", "KILL", "consul", "agent", "-config-file"])
            .arg(file)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .expect("setpriv and consul are installed (scripts/prerequisites)");
        let consul = Self { child, port: http, address: format!("127.0.0.1:{http}") };
        eventually("Consul has a leader", PATIENCE, || async {
            match consul.ask("status/leader").await? {
                Value::String(leader) if !leader.is_empty() => Ok(()),
                other => Err(other.to_string()),
            }
        })
        .await;
        consul
    }

    pub(crate) fn child(&self) -> &Child {
        &self.child
    }

    /// Where it answers, on the loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What a member's configuration says instead of `raft`.
    pub fn section(&self) -> Value {
        json!({"host": self.address, "register_service": true, "service_check_interval": "1s"})
    }

    /// The members of the service `name` with a tag, whether their checks pass or not.
    pub async fn service(&self, name: &str, tag: &str) -> Result<Vec<String>, String> {
        self.members(&format!("health/service/{name}?tag={tag}")).await
    }

    /// Only those whose check passes: what a client would find.
    pub async fn healthy(&self, name: &str, tag: &str) -> Result<Vec<String>, String> {
        self.members(&format!("health/service/{name}?tag={tag}&passing")).await
    }

    async fn members(&self, path: &str) -> Result<Vec<String>, String> {
        let answer = self.ask(path).await?;
        let rows = answer.as_array().ok_or_else(|| answer.to_string())?;
        let id = |row: &Value| row.pointer("/Service/ID").and_then(Value::as_str).unwrap_or("?").to_owned();
        let mut ids: Vec<String> = rows.iter().map(id).collect();
        ids.sort();
        Ok(ids)
    }

    /// A key's row: its value in base64 and its session.
    pub async fn key(&self, key: &str) -> Value {
        self.ask(&format!("kv/{key}")).await.unwrap_or_default()[0].clone()
    }

    /// Ends the session that holds this key, as if it had not been renewed for its whole time.
    pub async fn end_session_of(&self, key: &str) {
        let row = self.key(key).await;
        let session = row["Session"].as_str().unwrap_or_else(|| panic!("nobody holds {key}: {row}"));
        let url = format!("http://{}/v1/session/destroy/{session}", self.address);
        let answer = client().expect("a client").put(url).send().await.expect("Consul answers");
        assert!(answer.status().is_success(), "{answer:?}");
    }

    async fn ask(&self, path: &str) -> Result<Value, String> {
        let client = client().map_err(|error| error.to_string())?;
        let url = format!("http://{}/v1/{path}", self.address);
        let answer = client.get(url).send().await.map_err(|error| error.to_string())?;
        answer.json().await.map_err(|error| error.to_string())
    }
}

fn client() -> Result<reqwest::Client, reqwest::Error> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build()
}

impl Drop for Consul {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
