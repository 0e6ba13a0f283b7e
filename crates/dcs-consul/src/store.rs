//! [`ConsulStore`]: the trait's calls, handed to the modules that do them.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bellwether_dcs::{
    Capabilities, Check, CommitOutcome, Deadline, Key, Renewal, Snapshot, Store, StoreError, Watch,
    WatchEvent, Write,
    polling::{QUEUE, Remembered, Source, follow},
};
use bellwether_types::{LeaseId, Revision};
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    commit::commit,
    config::{Config, ConfigError},
    http::Agent,
    lease::Leases,
    read,
    watch::Blocking,
};

/// One client of a Consul agent. Sessions are left to their ttl when it is dropped.
#[derive(Debug)]
pub struct ConsulStore {
    agent: Agent,
    leases: Leases,
    remembered: Arc<Remembered>,
    watches: Mutex<JoinSet<()>>,
}

impl ConsulStore {
    /// Reads the certificates; connects when it is first used.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        if !config.checks.is_empty() {
            tracing::warn!(
                checks = ?config.checks,
                "consul.checks: the lease ends when a check fails, so it does not fence a primary"
            );
        }
        Ok(Self {
            agent: Agent::new(config)?,
            leases: Leases::default(),
            remembered: Arc::default(),
            watches: Mutex::default(),
        })
    }
}

#[async_trait]
impl Store for ConsulStore {
    async fn snapshot(&self, by: Deadline) -> Result<Snapshot, StoreError> {
        let snapshot = read::read(&self.agent, by).await?.snapshot;
        self.remembered.note(&snapshot);
        Ok(snapshot)
    }

    async fn commit(&self, checks: &[Check], writes: &[Write], by: Deadline) -> CommitOutcome {
        let sessions = self.leases.names();
        commit(&self.agent, &sessions, checks, writes, by).await.unwrap_or_else(CommitOutcome::Unknown)
    }

    async fn grant_lease(&self, ttl: Duration, by: Deadline) -> Result<LeaseId, StoreError> {
        self.leases.grant(&self.agent, ttl, by).await
    }

    async fn keep_alive(&self, lease: LeaseId, holding: Option<&Key>, by: Deadline) -> Renewal {
        self.leases.keep_alive(&self.agent, lease, holding, by).await
    }

    async fn revoke_lease(&self, lease: LeaseId, by: Deadline) -> Result<(), StoreError> {
        self.leases.revoke(&self.agent, lease, by).await
    }

    async fn watch(&self, after: Revision) -> Result<Watch, StoreError> {
        let mut source = Blocking::new(self.agent.clone());
        let present = source.read().await?;
        let known = if present.revision == after { Some(present) } else { self.remembered.at(after) };
        let (sender, events) = mpsc::channel(QUEUE);
        match known {
            Some(known) => {
                let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
                while watches.try_join_next().is_some() {}
                watches.spawn(follow(source, known, sender));
            }
            // What was deleted since then is not known.
            None => drop(sender.try_send(WatchEvent::Lost)),
        }
        Ok(Watch { events })
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            multi_key_transactions: true,
            minimum_ttl: 2 * self.agent.config().session_ttl_min,
            every_change: false,
            kind: "consul",
        }
    }
}
