//! What a test waits for, in one line each: of the API, of SQL, of the log, and of the store.

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    binary,
    cluster::{Cluster, SCOPE, is_primary},
    node::Node,
    processes,
    run::to_the_end,
    servers::Servers,
    sql::Session,
    wait::{PATIENCE, eventually, until},
};

impl Node {
    /// Waits until the API answers a GET with this status.
    pub async fn answers(&self, path: &str, status: u16) {
        eventually(format!("{} answers {path} with {status}", self.name), PATIENCE, || async {
            let reply = self.api.get(path).await?;
            if reply.status == status { Ok(()) } else { Err(format!("{reply:?}")) }
        })
        .await;
    }

    /// Waits until this SQL condition is true. Each time it is asked in a session of its own: the server may be restarted meanwhile.
    pub async fn comes_to(&self, condition: &str) {
        eventually(format!("{}: {condition}", self.name), PATIENCE, || async {
            let session = Session::with(self).await.map_err(|error| error.to_string())?;
            match session.text(condition).await {
                Ok(Some(answer)) if answer == "true" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    /// Waits until a setting of PostgreSQL has this value.
    pub async fn sets(&self, setting: &str, value: &str) {
        self.comes_to(&format!("current_setting('{setting}') = '{value}'")).await;
    }

    /// Waits until the log has this text.
    pub async fn tells(&self, text: &str) {
        until(format!("{} logs `{text}`", self.name), PATIENCE, || self.log_text().contains(text)).await;
    }

    /// Waits until it says that it is a running primary.
    pub async fn leads(&self) {
        self.becomes("leads", is_primary).await;
    }

    /// Waits until its status document is as it should be.
    pub async fn becomes(&self, what: &str, good: impl Fn(&Value) -> bool) -> Value {
        eventually(format!("{} {what}", self.name), PATIENCE, || async {
            let status = self.api.status().await;
            if good(&status) { Ok(status) } else { Err(status) }
        })
        .await
    }

    /// Writes other tags into the configuration, and sends the agent SIGHUP.
    pub fn retag(&mut self, tags: Value) {
        self.document["tags"] = tags;
        self.rewrite(&self.document);
        let agent = self.agent_pid().expect("the agent runs");
        assert!(processes::send(agent, Signal::HUP), "it is there");
    }

    /// The document under a key of the cluster, as `bellwether dcs get` reads it from any store; `null` if there is none.
    fn read_stored(&self, key: &str) -> Value {
        let mut command = binary::bellwether(self.account);
        command.arg("-c").arg(self.configuration()).args(["dcs", "get", key]).current_dir(&self.dir);
        serde_json::from_str(to_the_end(command, PATIENCE).text.trim()).unwrap_or_default()
    }
}

impl Cluster {
    /// The document under a key of the cluster, once it is as it should be. It is `null` as long as there is none.
    pub async fn stored(&self, key: &str, what: &str, good: impl Fn(&Value) -> bool) -> Value {
        eventually(format!("{key}: {what}"), PATIENCE, || async {
            let document = match &self.servers {
                Servers::Etcd(etcd) => etcd.document(&format!("/service/{SCOPE}/{key}")).await,
                _ => self.nodes[0].read_stored(key),
            };
            if good(&document) { Ok(document) } else { Err(document) }
        })
        .await
    }

    /// Changes the dynamic configuration.
    pub async fn configure(&self, patch: Value) {
        let mut refused = String::new();
        for node in &self.nodes {
            // Not by one that is down or frozen now.
            if node.api.get("/liveness").await.is_ok() {
                let reply = node.api.patch("/config", patch.clone()).await;
                if reply.status == 200 {
                    return;
                }
                refused = format!("{reply:?}");
            }
        }
        panic!("nobody takes {patch}: {refused}");
    }
}
