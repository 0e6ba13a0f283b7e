//! [`RaftStore`]: a member's node and its client in one.

use std::{io, sync::Arc, time::Duration};

use async_trait::async_trait;
use bellwether_dcs::{
    Capabilities, Check, CommitOutcome, Deadline, Key, Renewal, Snapshot, Store, StoreError, Watch, Write,
};
use bellwether_types::{Failure, LeaseId, Revision};
use tokio::runtime::Handle;

use crate::{
    client::Asker,
    config::{Config, ConfigError, TlsFiles},
    membership::MembershipError,
    net::{credentials::CredentialsError, message::Answer},
    node::{Node, Running},
    offline::{self, Backup, OfflineError},
    runtime::{OwnRuntime, elsewhere},
    serve::SHORTEST_TTL,
    status::{MemberInfo, StoreStatus},
    storage::StorageError,
    watching::{Watcher, watch_here},
};

/// How long a shutdown may take to hand the leadership over and to close the files.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(3);

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the store's credentials cannot be used")]
    Credentials(#[from] CredentialsError),
    #[error("the store's data cannot be used")]
    Storage(#[from] StorageError),
    #[error("the store cannot listen on {address}; is another process there?")]
    Bind {
        address: String,
        #[source]
        cause: io::Error,
    },
    #[error("could not start the threads of the store")]
    Runtime(#[source] io::Error),
    #[error("the consensus core did not start: {0}")]
    Raft(String),
}

impl StartError {
    /// The code under which the book explains it.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Config(_) => Failure::StoreSettings,
            Self::Credentials(_) => Failure::StoreCredentials,
            Self::Storage(error) => error.failure(),
            Self::Bind { .. } => Failure::StoreCannotListen,
            Self::Runtime(_) | Self::Raft(_) => Failure::StoreNotStarted,
        }
    }
}

/// A running node of the embedded store. Its methods can be called from any runtime; the node has its own.
///
/// Dropping it ends the node without a goodbye, as a crash would; [`RaftStore::shutdown`] hands the leadership over.
#[derive(Debug)]
pub struct RaftStore {
    node: Arc<Node>,
    asker: Asker,
    running: Option<Running>,
    runtime: OwnRuntime,
}

impl RaftStore {
    /// Opens the directory, listens, and takes part in the store from now on. Does not wait for the other nodes: until
    /// there is a quorum, calls end with [`StoreError::NoQuorum`].
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let runtime = OwnRuntime::new("bw-store").map_err(StartError::Runtime)?;
        let handle = runtime.handle();
        let running = elsewhere(&handle, Running::start(config))
            .await
            .unwrap_or_else(|| Err(StartError::Raft("the start was interrupted".to_owned())))?;
        let node = running.node.clone();
        let asker = Asker::new(handle, Some(node.clone()), None);
        Ok(Self { node, asker, running: Some(running), runtime })
    }

    /// Leaves in order: hands the leadership over if it is here, stops, closes the files.
    pub async fn shutdown(mut self) {
        let Some(running) = self.running.take() else { return };
        let handle = self.runtime.handle();
        let Self { node, asker, running: _, runtime } = self;
        drop((node, asker));
        let _ = elsewhere(&handle, running.stop(Deadline::after(SHUTDOWN_LIMIT))).await;
        drop(runtime);
    }

    /// The store as this node sees it now. Cheap; not linearizable.
    pub fn status(&self) -> StoreStatus {
        self.node.status()
    }

    /// The members as this node knows them.
    pub fn members(&self) -> Vec<MemberInfo> {
        self.node.status().members
    }

    /// Makes the node that waits at `addr` (empty, of the same cluster) a member with a vote.
    pub async fn add_member(&self, addr: &str, by: Deadline) -> Result<(), MembershipError> {
        self.asker.add_member(addr, by).await
    }

    /// Takes a member's vote away, named by address or by id in hexadecimal. It may be dead.
    pub async fn remove_member(&self, who: &str, by: Deadline) -> Result<(), MembershipError> {
        self.asker.remove_member(who, by).await
    }

    /// Moves the store's leadership to a member, or to the healthiest other one.
    pub async fn transfer_leadership(&self, to: Option<&str>, by: Deadline) -> Result<(), MembershipError> {
        self.asker.transfer_leadership(to, by).await
    }

    /// Writes a backup of all keys that hang on no lease to a new file.
    pub async fn snapshot_to(&self, file: &std::path::Path, by: Deadline) -> Result<Backup, OfflineError> {
        let snapshot = self.snapshot(by).await.map_err(OfflineError::Store)?;
        offline::write_backup(file, &self.node.config.cluster, &snapshot).await
    }

    /// Takes other certificates (or the same files with new content) into use for connections to come; standing ones go on.
    /// They must be such that the other nodes accept this node with them, as far as this node can tell; after an error the
    /// present ones stay in force.
    pub async fn renew_certificates(&self, files: TlsFiles) -> Result<(), CredentialsError> {
        let node = self.node.clone();
        let renewal = move || node.net.renew_certificates(&files, Some(&node.config.self_addr));
        self.handle()
            .spawn_blocking(renewal)
            .await
            .expect("the runtime lives as long as we do, and reading does not panic")
    }

    /// Ends when the node stops by itself (its disk failed, for example), with the reason. A node that stopped does
    /// not come back without a restart.
    pub async fn stopped(&self) -> String {
        let node = self.node.clone();
        elsewhere(self.asker.handle(), async move { node.stopped().await })
            .await
            .unwrap_or_else(|| "the store's runtime ended".to_owned())
    }

    /// Cuts this node off from the others, or back on: a drill of a network failure.
    #[doc(hidden)]
    pub fn set_isolated(&self, isolated: bool) {
        self.node.net.set_isolated(isolated);
    }

    fn handle(&self) -> &Handle {
        self.asker.handle()
    }
}

#[async_trait]
impl Store for RaftStore {
    async fn snapshot(&self, by: Deadline) -> Result<Snapshot, StoreError> {
        let node = self.node.clone();
        let read = async move {
            match node.read_here(by).await {
                Ok(()) => Ok(node.machine.read(|state| state.snapshot())),
                Err(Answer::Unavailable(why) | Answer::Unknown(why)) => Err(StoreError::NoQuorum(why)),
                Err(_) => Err(StoreError::NoQuorum("nobody leads the store".to_owned())),
            }
        };
        elsewhere(self.handle(), read).await.unwrap_or(Err(StoreError::Stopped))
    }

    async fn commit(&self, checks: &[Check], writes: &[Write], by: Deadline) -> CommitOutcome {
        self.asker.commit(checks, writes, by).await
    }

    async fn grant_lease(&self, ttl: Duration, by: Deadline) -> Result<LeaseId, StoreError> {
        self.asker.grant_lease(ttl, by).await
    }

    async fn keep_alive(&self, lease: LeaseId, holding: Option<&Key>, by: Deadline) -> Renewal {
        self.asker.keep_alive(lease, holding, by).await
    }

    async fn revoke_lease(&self, lease: LeaseId, by: Deadline) -> Result<(), StoreError> {
        self.asker.revoke_lease(lease, by).await
    }

    async fn watch(&self, after: Revision) -> Result<Watch, StoreError> {
        let (watcher, watch) = Watcher::new(after);
        self.handle().spawn(watch_here(self.node.clone(), watcher));
        Ok(watch)
    }

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    async fn member_leads(&self, leads: bool) {
        self.node.member_leads.send_if_modified(|known| std::mem::replace(known, leads) != leads);
    }
}

pub(crate) const CAPABILITIES: Capabilities = Capabilities {
    multi_key_transactions: true,
    minimum_ttl: SHORTEST_TTL,
    every_change: true,
    kind: "raft",
};
