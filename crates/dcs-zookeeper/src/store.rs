//! [`ZooKeeperStore`]: the trait's calls, handed to the modules that do them.

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
    commit::{self, cannot, commit},
    config::{Config, ConfigError},
    error::{unavailable, within},
    lease::{Ending, Lease},
    leases::Leases,
    plan,
    servers::{Servers, while_connected},
    tree::{self, Shape},
    watch::Watched,
};

/// How long the beginning of a watch may take.
const WATCH: Duration = Duration::from_secs(2);
const TRY_AGAIN: Duration = Duration::from_millis(50);

/// One client of a ZooKeeper ensemble: a session for reading and watching, and one per lease.
///
/// When it is dropped, sessions with leases are left to their timeout, so that the next agent of the member may take over.
#[derive(Debug)]
pub struct ZooKeeperStore {
    servers: Arc<Servers>,
    leases: Leases,
    shape: Arc<Shape>,
    remembered: Arc<Remembered>,
    watches: Mutex<JoinSet<()>>,
}

impl ZooKeeperStore {
    /// Connects when it is first used. Must be used on a tokio runtime. With `tls` it reads the certificates at once, and uses the default
    /// TLS provider of rustls that the process must have installed.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self {
            servers: Arc::new(Servers::new(config)?),
            leases: Leases::default(),
            shape: Arc::default(),
            remembered: Arc::default(),
            watches: Mutex::default(),
        })
    }

    async fn try_commit(
        &self,
        checks: &[Check],
        writes: &[Write],
        by: Deadline,
    ) -> Result<CommitOutcome, StoreError> {
        let session = match plan::lease_of(writes).map_err(|impossible| cannot(&impossible))? {
            None => Some(self.servers.plain(by).await?),
            Some(id) => match self.leases.get(id) {
                Some(lease) => within(by, lease.client(&self.servers)).await?,
                None => None,
            },
        };
        let (client, lease) = match session {
            Some(client) => (client, commit::Lease::Fine),
            None => (self.servers.plain(by).await?, commit::Lease::Gone),
        };
        let commit = commit(&client, &self.servers, checks, writes, lease);
        within(by, while_connected(&client, commit)).await
    }

    async fn begin_watch(&self, after: Revision) -> Result<Watch, StoreError> {
        let (shape, remembered) = (self.shape.clone(), self.remembered.clone());
        let mut source =
            Watched::begin(self.servers.clone(), shape, remembered, Deadline::after(WATCH)).await?;
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
}

#[async_trait]
impl Store for ZooKeeperStore {
    async fn snapshot(&self, by: Deadline) -> Result<Snapshot, StoreError> {
        let client = self.servers.plain(by).await?;
        let read = async { tree::read(&client, &self.servers, &self.shape).await.map_err(unavailable) };
        let snapshot = within(by, while_connected(&client, read)).await?;
        self.remembered.note(&snapshot);
        Ok(snapshot)
    }

    async fn commit(&self, checks: &[Check], writes: &[Write], by: Deadline) -> CommitOutcome {
        self.try_commit(checks, writes, by).await.unwrap_or_else(CommitOutcome::Unknown)
    }

    async fn grant_lease(&self, ttl: Duration, by: Deadline) -> Result<LeaseId, StoreError> {
        let ttl = ttl.max(self.capabilities().minimum_ttl);
        let lease = within(by, Lease::grant(&self.servers, ttl)).await?;
        Ok(self.leases.add(lease, &self.servers))
    }

    async fn keep_alive(&self, lease: LeaseId, holding: Option<&Key>, by: Deadline) -> Renewal {
        let Some(lease) = self.leases.get(lease) else { return Renewal::Gone };
        lease.keep_alive(&self.servers, holding, by).await
    }

    async fn revoke_lease(&self, lease: LeaseId, by: Deadline) -> Result<(), StoreError> {
        if let Some(lease) = self.leases.get(lease) {
            let ended = async {
                while lease.end(&self.servers, Ending::Now).await.is_err() {
                    tokio::time::sleep(TRY_AGAIN).await;
                }
                Ok::<_, StoreError>(())
            };
            within(by, ended).await?;
            self.leases.remove(lease.id);
            return Ok(());
        }
        let left = self.snapshot(by).await?.entries;
        match left.values().any(|entry| entry.lease == Some(lease)) {
            true => Err(StoreError::Protocol("the session of another client cannot be ended".to_owned())),
            false => Ok(()),
        }
    }

    async fn watch(&self, after: Revision) -> Result<Watch, StoreError> {
        within(Deadline::after(WATCH), self.begin_watch(after)).await
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            multi_key_transactions: true,
            minimum_ttl: 2 * self.servers.tick_time(),
            every_change: false,
            kind: "zookeeper",
        }
    }
}
