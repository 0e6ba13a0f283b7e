//! The cluster as its REST API shows it, which both stacks do alike.

use std::{future::Future, time::Duration};

use bellwether_acceptance::rest::Api;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{host::Host, laboratory::Laboratory, stack::REST};

const LOOK_EACH: Duration = Duration::from_millis(50);
/// For an agent to take a request.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

/// What is expected of a healthy cluster.
#[derive(Clone, Debug)]
pub struct Cluster {
    apis: Vec<(String, Api)>,
    /// Whether every standby must be one that commits may wait for.
    pub synchronous: bool,
}

impl Cluster {
    pub fn of(laboratory: &Laboratory, synchronous: bool) -> Self {
        let api = |host: &Host| (host.name.clone(), Api::at(&format!("{}:{REST}", host.address())));
        Self { apis: laboratory.hosts.iter().map(api).collect(), synchronous }
    }

    /// The host that answers as the primary.
    pub async fn primary(&self) -> Result<String, String> {
        let mut primaries = Vec::new();
        for (name, api) in &self.apis {
            if api.get("/primary").await.is_ok_and(|reply| reply.status == 200) {
                primaries.push(name.clone());
            }
        }
        match primaries.as_slice() {
            [one] => Ok(one.clone()),
            others => Err(format!("primaries: {others:?}")),
        }
    }

    /// Who leads, if the cluster is whole: every host has a member that streams on one timeline, without lag.
    /// All of them say so: who was cut off a moment ago may show how it was before.
    pub async fn whole(&self) -> Result<String, String> {
        let mut leader = None;
        for (name, api) in &self.apis {
            let picture = match api.get("/cluster").await? {
                reply if reply.status == 200 => reply.json(),
                reply => return Err(format!("{name} answers {}", reply.status)),
            };
            let leads = self.whole_in(&picture).map_err(|missing| format!("{name} shows {missing}"))?;
            if let Some(other) = leader.replace(leads.clone()).filter(|other| *other != leads) {
                return Err(format!("{name} shows {leads} as the leader, and another one {other}"));
            }
        }
        leader.ok_or_else(|| "there are no hosts".to_owned())
    }

    fn whole_in(&self, picture: &Value) -> Result<String, String> {
        let members = picture["members"].as_array().cloned().unwrap_or_default();
        if members.len() != self.apis.len() {
            return Err(format!("{} members: {picture}", members.len()));
        }
        let leader = members.iter().find(|member| member["role"] == "leader").ok_or("no leader")?;
        let is_good = |member: &Value| match member["role"].as_str() {
            Some("leader") => member["state"] == "running",
            Some("replica") => !self.synchronous && streams_with(leader, member),
            Some("quorum_standby" | "sync_standby") => streams_with(leader, member),
            _ => false,
        };
        match members.iter().find(|member| !is_good(member)) {
            Some(member) => Err(member.to_string()),
            None => Ok(leader["name"].as_str().unwrap_or_default().to_owned()),
        }
    }

    /// Waits until it is whole.
    pub async fn whole_within(&self, limit: Duration) -> Result<String, String> {
        within(limit, || self.whole())
            .await
            .map_err(|missing| format!("the cluster is not whole within {} s: {missing}", limit.as_secs()))
    }

    /// Asks for a planned switchover.
    pub async fn switch_over(&self, leader: &str, candidate: &str) -> Result<(), String> {
        let (_, api) = self.apis.iter().find(|(name, _)| name == leader).ok_or("no such host")?;
        let body = json!({"leader": leader, "candidate": candidate});
        // An agent that has just been killed, or whose disk was full, comes back within a moment.
        let reply = within(ANSWERS_WITHIN, || api.wait_for_post("/switchover", body.clone())).await?;
        match reply.status {
            200 => Ok(()),
            status => Err(format!("switchover: {status} {}", reply.text)),
        }
    }
}

fn streams_with(leader: &Value, member: &Value) -> bool {
    member["state"] == "streaming" && member["timeline"] == leader["timeline"] && member["lag"] == 0
}

/// Looks until `look` gives a value; the last obstacle if it has not within `limit`.
pub async fn within<T, F>(limit: Duration, mut look: impl FnMut() -> F) -> Result<T, String>
where
    F: Future<Output = Result<T, String>>,
{
    let by = Instant::now() + limit;
    loop {
        match look().await {
            Ok(value) => return Ok(value),
            Err(obstacle) if Instant::now() >= by => return Err(obstacle),
            Err(_) => sleep(LOOK_EACH).await,
        }
    }
}
