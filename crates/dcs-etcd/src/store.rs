//! [`EtcdStore`]: the trait on top of the cluster.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bellwether_dcs::{
    Capabilities, Check, CommitOutcome, Deadline, Key, Renewal, Snapshot, Store, StoreError, Watch, Write,
};
use bellwether_types::{LeaseId, Revision};
use tonic::{Code, Status};

use crate::{
    cluster::{Cluster, Repeat, Unanswered},
    config::{Credentials, EtcdConfig},
    lease,
    proto::{LeaseGrantRequest, LeaseRevokeRequest},
    tls::{self, TlsError},
    transaction::{self, signed},
    watching,
};

/// The shortest lease that etcd grants with its default election timeout of one second.
const SHORTEST_TTL: Duration = Duration::from_secs(2);
/// How long a client that is being made waits to hear of all members, so that it has somewhere to turn from the start.
const FIRST_DISCOVERY: Duration = Duration::from_secs(1);
/// How long the first question may take, whose answer decides only whether the credentials are right.
const FIRST_QUESTION: Duration = Duration::from_secs(3);

/// Why the store cannot be used as configured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    #[error("no endpoint of etcd is given")]
    NoEndpoint,
    #[error("the TLS files for etcd cannot be used")]
    Tls(#[from] TlsError),
    #[error("etcd refuses the login: {0}")]
    Login(String),
}

/// A client of an etcd cluster. Clones share its connections.
#[derive(Clone, Debug)]
pub struct EtcdStore {
    cluster: Arc<Cluster>,
}

impl EtcdStore {
    /// Makes a client, and connects if that is possible: an etcd that does not answer is no error, one that refuses the
    /// credentials is.
    ///
    /// # Errors
    /// What a person has to correct before this could ever work.
    pub async fn start(config: EtcdConfig) -> Result<Self, StartError> {
        if config.endpoints.is_empty() && config.srv.is_none() {
            return Err(StartError::NoEndpoint);
        }
        if config.endpoints.iter().any(|endpoint| endpoint.tls) {
            let files = config.tls.clone();
            tokio::task::spawn_blocking(move || tls::client_config(&files))
                .await
                .expect("reading certificates does not panic")?;
        }
        let (has_login, discovers) = (config.credentials.is_some(), config.discover_members);
        let store = Self { cluster: Arc::new(Cluster::new(config)) };
        if discovers {
            store.cluster.discover_members(Deadline::after(FIRST_DISCOVERY)).await;
        }
        if has_login {
            match store.snapshot(Deadline::after(FIRST_QUESTION)).await {
                Err(StoreError::Unauthorized(why)) => return Err(StartError::Login(why)),
                Err(error) => tracing::warn!(%error, "etcd does not answer yet"),
                Ok(_) => {}
            }
        }
        Ok(store)
    }

    /// Uses these credentials from the next call on; leases and watches go on. Whether they are others than before. Nothing is
    /// asked of etcd: if it refuses them, calls fail as unauthorized until better ones come.
    pub async fn renew_login(&self, credentials: Option<Credentials>) -> bool {
        self.cluster.login().renew(credentials).await
    }
}

#[async_trait]
impl Store for EtcdStore {
    async fn snapshot(&self, by: Deadline) -> Result<Snapshot, StoreError> {
        let prefix = self.cluster.prefix();
        let answer = self.cluster.call(transaction::everything(prefix), Repeat::Always, by).await?;
        Ok(transaction::snapshot(prefix, answer))
    }

    async fn commit(&self, checks: &[Check], writes: &[Write], by: Deadline) -> CommitOutcome {
        let request = transaction::request(self.cluster.prefix(), checks, writes);
        match self.cluster.call(request, Repeat::IfNotDone, by).await {
            Ok(answer) => transaction::outcome(checks, answer),
            Err(Unanswered::Rejected(status)) if is_unknown_lease(&status) => {
                CommitOutcome::Refused { found: None }
            }
            Err(unanswered) => CommitOutcome::Unknown(unanswered.into()),
        }
    }

    async fn grant_lease(&self, ttl: Duration, by: Deadline) -> Result<LeaseId, StoreError> {
        let ttl = signed(ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0));
        // A lease that was granted without our hearing of it has no keys, and ends by itself.
        let answer = self.cluster.call(LeaseGrantRequest { ttl }, Repeat::Always, by).await?;
        match answer.error.as_str() {
            "" => Ok(LeaseId(answer.id.unsigned_abs())),
            error => Err(StoreError::Protocol(error.to_owned())),
        }
    }

    async fn keep_alive(&self, lease: LeaseId, holding: Option<&Key>, by: Deadline) -> Renewal {
        lease::keep_alive(&self.cluster, lease, holding, by).await
    }

    async fn revoke_lease(&self, lease: LeaseId, by: Deadline) -> Result<(), StoreError> {
        let request = LeaseRevokeRequest { id: signed(lease.0) };
        match self.cluster.call(request, Repeat::Always, by).await {
            Ok(_) => Ok(()),
            Err(Unanswered::Rejected(status)) if is_unknown_lease(&status) => Ok(()),
            Err(unanswered) => Err(unanswered.into()),
        }
    }

    async fn watch(&self, after: Revision) -> Result<Watch, StoreError> {
        Ok(watching::start(self.cluster.clone(), after))
    }

    fn set_pace(&self, pace: Duration) {
        self.cluster.pace().send_if_modified(|present| std::mem::replace(present, pace) != pace);
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            multi_key_transactions: true,
            every_change: true,
            minimum_ttl: SHORTEST_TTL,
            kind: "etcd3",
        }
    }
}

fn is_unknown_lease(status: &Status) -> bool {
    status.code() == Code::NotFound && status.message().contains("lease not found")
}
