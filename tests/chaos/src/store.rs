//! The store's own leader: where it is, and how to move it. A lost host costs more when it takes the store's leader along.

use std::{process::Stdio, time::Duration};

use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    cluster::within,
    host::Host,
    laboratory::Laboratory,
    stack::{EMBEDDED_STORE, ETCD_CLIENTS, Stack},
};

/// For a leader to be known, and for it to move.
const MOVED_WITHIN: Duration = Duration::from_secs(20);

/// The host that leads the store.
pub async fn leader(laboratory: &Laboratory, stack: Stack) -> Result<String, String> {
    if stack.uses_etcd() { etcd_leader(laboratory).await } else { embedded_leader(laboratory).await }
}

/// Moves the leadership to this host, or away from it, and waits until it is so.
pub async fn place(laboratory: &Laboratory, stack: Stack, host: &Host, on_it: bool) -> Result<(), String> {
    within(MOVED_WITHIN, || async {
        let leads = leader(laboratory, stack).await?;
        if (leads == host.name) == on_it {
            return Ok(());
        }
        let elsewhere = laboratory.hosts.iter().find(|other| other.name != host.name);
        let to = if on_it { host } else { elsewhere.ok_or("there is no other host")? };
        if stack.uses_etcd() { move_etcd(laboratory, &leads, to).await } else { move_embedded(to).await }?;
        Err(format!("{leads} leads the store, not yet {}", to.name))
    })
    .await
}

async fn embedded_leader(laboratory: &Laboratory) -> Result<String, String> {
    let asked = laboratory.hosts.first().ok_or("no hosts")?;
    let said: Value = serde_json::from_str(&bellwether(asked, &["dcs", "members", "-f", "json"]).await?)
        .map_err(|error| error.to_string())?;
    let members = said["members"].as_array().cloned().unwrap_or_default();
    let leads = members.iter().find(|member| member["leader"] == true).ok_or("the store has no leader")?;
    let address = leads["addr"].as_str().unwrap_or_default().to_owned();
    let host = laboratory.hosts.iter().find(|host| address == format!("{}:{EMBEDDED_STORE}", host.address()));
    Ok(host.ok_or_else(|| format!("{address} is no host"))?.name.clone())
}

async fn move_embedded(to: &Host) -> Result<(), String> {
    let address = format!("{}:{EMBEDDED_STORE}", to.address());
    bellwether(to, &["dcs", "transfer", &address]).await.map(|_| ())
}

/// Runs the command line of the binary under test with a host's configuration.
async fn bellwether(host: &Host, arguments: &[&str]) -> Result<String, String> {
    let program = host.dir.with_file_name("bellwether");
    let mut command = Command::new(program);
    command.arg("-c").arg(host.dir.join("bellwether.yml")).args(arguments).stdin(Stdio::null());
    let output = command.output().await.map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

async fn etcd_leader(laboratory: &Laboratory) -> Result<String, String> {
    for host in &laboratory.hosts {
        let status = etcd(host, "maintenance/status", json!({})).await?;
        if status["leader"].is_string() && status["leader"] == status["header"]["member_id"] {
            return Ok(host.name.clone());
        }
    }
    Err("etcd has no leader".to_owned())
}

async fn move_etcd(laboratory: &Laboratory, leads: &str, to: &Host) -> Result<(), String> {
    let target = etcd(to, "maintenance/status", json!({})).await?["header"]["member_id"].clone();
    let leader = laboratory.host(leads);
    etcd(leader, "maintenance/transfer-leadership", json!({"targetID": target})).await.map(|_| ())
}

async fn etcd(host: &Host, path: &str, body: Value) -> Result<Value, String> {
    let api = bellwether_acceptance::rest::Api::at(&format!("{}:{ETCD_CLIENTS}", host.address()));
    let reply = api.try_post(&format!("/v3/{path}"), body).await?;
    serde_json::from_str(&reply.text).map_err(|error| format!("{}: {error}", reply.text))
}
