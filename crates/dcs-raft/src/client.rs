//! [`RaftClient`]: the store without a vote, for the command line and for members that do not take part.

use std::{io, sync::Arc, time::Duration};

use async_trait::async_trait;
use bellwether_dcs::{
    Capabilities, Check, CommitOutcome, Deadline, Key, Renewal, Snapshot, Store, StoreError, Watch, Write,
};
use bellwether_types::{LeaseId, Revision};
use tokio::{runtime::Handle, time::sleep};

use crate::{
    clock::is_over,
    command::{CheckRecord, Outcome, WriteRecord},
    config::{Secret, TlsFiles, exposure, parse_address},
    membership::MembershipError,
    net::{
        Net,
        credentials::{Credentials, CredentialsError},
        message::{Answer, Ask},
    },
    node::Node,
    offline::{self, Backup, OfflineError},
    router::{Router, Unanswered},
    runtime::{OwnRuntime, elsewhere},
    serve::TRANSACTION_LIMIT,
    status::StoreStatus,
    store::{CAPABILITIES, StartError},
    watching::Watcher,
};

const WATCH_LIMIT: Duration = Duration::from_millis(900);
const WATCH_PAUSE: Duration = Duration::from_millis(50);

/// How to reach a store without being part of it.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    pub cluster: String,
    /// Any of the store's nodes; the client finds the leader.
    pub addresses: Vec<String>,
    pub password: Option<Secret>,
    pub tls: Option<TlsFiles>,
    /// Allow neither password nor TLS beyond loopback.
    pub insecure: bool,
}

/// A client without a vote. Its methods can be called from any runtime.
#[derive(Debug)]
pub struct RaftClient {
    cluster: String,
    router: Arc<Router>,
    asker: Asker,
    _runtime: OwnRuntime,
}

impl RaftClient {
    /// Makes a client; connects only when it is used.
    pub async fn new(config: ClientConfig) -> Result<Self, StartError> {
        let mut problems = Vec::new();
        if config.addresses.is_empty() {
            problems.push("no address of a store is given".to_owned());
        }
        for address in &config.addresses {
            problems.extend(parse_address(address).err().map(|problem| format!("an address {problem}")));
        }
        let addresses = config.addresses.iter().map(|address| ("address", address.as_str())).collect();
        problems.extend(exposure(config.password.as_ref(), config.tls.as_ref(), config.insecure, addresses));
        if !problems.is_empty() {
            return Err(crate::config::ConfigError { problems }.into());
        }
        let runtime = OwnRuntime::new("bw-store-client").map_err(StartError::Runtime)?;
        let settings = config.clone();
        let credentials = runtime
            .handle()
            .spawn_blocking(move || {
                Credentials::new(&settings.cluster, settings.password.as_ref(), settings.tls.as_ref())
            })
            .await
            .map_err(|error| StartError::Runtime(io::Error::other(error)))??;
        let net = Net::new(config.cluster.clone(), credentials, None, None);
        let router = Arc::new(Router::new(net, config.addresses));
        let asker = Asker::new(runtime.handle(), None, Some(router.clone()));
        Ok(Self { cluster: config.cluster, router, asker, _runtime: runtime })
    }

    /// The store as the node at `address` sees it, or as the first that answers.
    pub async fn status(&self, address: Option<&str>, by: Deadline) -> Result<StoreStatus, StoreError> {
        let router = self.router.clone();
        let address = address.map(str::to_owned);
        let ask = async move {
            match address {
                Some(address) => router.exactly(&address, &Ask::Status, by).await,
                None => router.ask(None, Ask::Status, by).await,
            }
        };
        match elsewhere(self.asker.handle(), ask).await {
            Some(Ok(Answer::Status(status))) => Ok(*status),
            Some(Ok(other)) => Err(odd(&other)),
            Some(Err(unanswered)) => Err(unanswered.into()),
            None => Err(StoreError::Stopped),
        }
    }

    /// See [`crate::RaftStore::renew_certificates`].
    pub async fn renew_certificates(&self, files: TlsFiles) -> Result<(), CredentialsError> {
        let net = self.router.net().clone();
        let renewal = move || net.renew_certificates(&files, None);
        let handle = self.asker.handle();
        handle
            .spawn_blocking(renewal)
            .await
            .expect("the runtime lives as long as we do, and reading does not panic")
    }

    /// See [`crate::RaftStore::add_member`].
    pub async fn add_member(&self, addr: &str, by: Deadline) -> Result<(), MembershipError> {
        self.asker.add_member(addr, by).await
    }

    /// See [`crate::RaftStore::remove_member`].
    pub async fn remove_member(&self, who: &str, by: Deadline) -> Result<(), MembershipError> {
        self.asker.remove_member(who, by).await
    }

    /// See [`crate::RaftStore::transfer_leadership`].
    pub async fn transfer_leadership(&self, to: Option<&str>, by: Deadline) -> Result<(), MembershipError> {
        self.asker.transfer_leadership(to, by).await
    }

    /// See [`crate::RaftStore::snapshot_to`].
    pub async fn snapshot_to(&self, file: &std::path::Path, by: Deadline) -> Result<Backup, OfflineError> {
        let snapshot = self.snapshot(by).await.map_err(OfflineError::Store)?;
        offline::write_backup(file, &self.cluster, &snapshot).await
    }
}

#[async_trait]
impl Store for RaftClient {
    async fn snapshot(&self, by: Deadline) -> Result<Snapshot, StoreError> {
        match self.asker.ask(Ask::Read, by).await {
            Ok(Answer::Read { revision, keys }) => Ok(Snapshot {
                revision: Revision(revision),
                entries: keys.iter().map(|(key, stored)| (Key::new(key.clone()), stored.into())).collect(),
            }),
            Ok(other) => Err(odd(&other)),
            Err(unanswered) => Err(unanswered.into()),
        }
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
        self.asker.handle().spawn(watch_there(self.router.clone(), watcher));
        Ok(watch)
    }

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }
}

/// Asks again and again for changes: each answer is a change or the confirmed absence of one.
async fn watch_there(router: Arc<Router>, mut watcher: Watcher) {
    loop {
        let by = Deadline::after(WATCH_LIMIT);
        let asked = router.ask(None, Ask::Watch { after: watcher.told }, by);
        let answer = tokio::select! {
            () = watcher.reader_gone() => return,
            answer = asked => answer,
        };
        let told = match answer {
            Ok(Answer::Changes { changes, revision }) => {
                let told = watcher.tell(changes).await;
                watcher.told = watcher.told.max(revision);
                match told {
                    Ok(()) => watcher.tell_alive().await,
                    over => over,
                }
            }
            Ok(Answer::Lost) => Err(watcher.lose().await),
            Ok(_) | Err(_) => {
                sleep(WATCH_PAUSE).await;
                Ok(())
            }
        };
        if told.is_err() {
            return;
        }
    }
}

fn odd(answer: &Answer) -> StoreError {
    StoreError::Protocol(format!("an answer to another question: {answer:?}"))
}

/// What [`RaftClient`] and [`crate::RaftStore`] ask the leader in the same way.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    handle: Handle,
    local: Option<Arc<Node>>,
    router: Option<Arc<Router>>,
}

impl Asker {
    pub(crate) fn new(handle: Handle, local: Option<Arc<Node>>, router: Option<Arc<Router>>) -> Self {
        Self { handle, local, router }
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    async fn ask(&self, ask: Ask, by: Deadline) -> Result<Answer, Unanswered> {
        let (local, router) = (self.local.clone(), self.router.clone());
        let asking = async move {
            match (&local, &router) {
                (Some(node), _) => node.router.ask(Some(node), ask, by).await,
                (None, Some(router)) => router.ask(None, ask, by).await,
                (None, None) => Err(Unanswered::WithoutEffect(StoreError::Stopped)),
            }
        };
        if is_over(by) {
            return Err(Unanswered::WithoutEffect(StoreError::TimedOut));
        }
        elsewhere(&self.handle, asking).await.unwrap_or(Err(Unanswered::Unknown(StoreError::Stopped)))
    }

    pub(crate) async fn commit(&self, checks: &[Check], writes: &[Write], by: Deadline) -> CommitOutcome {
        let size: usize = writes.iter().map(size_of_write).sum();
        if size > TRANSACTION_LIMIT {
            return CommitOutcome::Unknown(StoreError::Protocol(format!(
                "a transaction of {size} bytes is too big for the store (at most {TRANSACTION_LIMIT})"
            )));
        }
        let ask = Ask::Commit {
            checks: checks.iter().map(CheckRecord::from).collect(),
            writes: writes.iter().map(WriteRecord::from).collect(),
        };
        match self.ask(ask, by).await {
            Ok(Answer::Outcome(Outcome::Applied { revision })) => CommitOutcome::Applied(Revision(revision)),
            Ok(Answer::Outcome(Outcome::Refused { found })) => {
                CommitOutcome::Refused { found: found.map(Revision) }
            }
            Ok(other) => CommitOutcome::Unknown(odd(&other)),
            Err(unanswered) => CommitOutcome::Unknown(unanswered.into()),
        }
    }

    pub(crate) async fn grant_lease(&self, ttl: Duration, by: Deadline) -> Result<LeaseId, StoreError> {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        match self.ask(Ask::Grant { ttl_ms }, by).await {
            Ok(Answer::Outcome(Outcome::Granted { lease })) => Ok(LeaseId(lease)),
            Ok(other) => Err(odd(&other)),
            Err(unanswered) => Err(unanswered.into()),
        }
    }

    pub(crate) async fn keep_alive(&self, lease: LeaseId, holding: Option<&Key>, by: Deadline) -> Renewal {
        let ask = Ask::KeepAlive { lease: lease.0, holding: holding.map(|key| key.0.clone()) };
        match self.ask(ask, by).await {
            Ok(Answer::Renewed { ttl_ms }) => Renewal::Valid { guaranteed: Duration::from_millis(ttl_ms) },
            Ok(Answer::Gone) => Renewal::Gone,
            Ok(Answer::NotHolding) => Renewal::NotHolding,
            Ok(other) => Renewal::Unavailable(odd(&other)),
            Err(unanswered) => Renewal::Unavailable(unanswered.into()),
        }
    }

    pub(crate) async fn revoke_lease(&self, lease: LeaseId, by: Deadline) -> Result<(), StoreError> {
        match self.ask(Ask::Revoke { lease: lease.0 }, by).await {
            Ok(Answer::Outcome(Outcome::Gone)) => Ok(()),
            Ok(other) => Err(odd(&other)),
            Err(unanswered) => Err(unanswered.into()),
        }
    }

    pub(crate) async fn add_member(&self, addr: &str, by: Deadline) -> Result<(), MembershipError> {
        self.change(Ask::AddMember { addr: addr.to_owned() }, by).await
    }

    pub(crate) async fn remove_member(&self, who: &str, by: Deadline) -> Result<(), MembershipError> {
        self.change(Ask::RemoveMember { who: who.to_owned() }, by).await
    }

    pub(crate) async fn transfer_leadership(
        &self,
        to: Option<&str>,
        by: Deadline,
    ) -> Result<(), MembershipError> {
        self.change(Ask::TransferLeadership { to: to.map(str::to_owned) }, by).await
    }

    async fn change(&self, ask: Ask, by: Deadline) -> Result<(), MembershipError> {
        match self.ask(ask, by).await {
            Ok(Answer::Done) => Ok(()),
            Ok(Answer::Refused(why)) => Err(MembershipError::Refused(why)),
            Ok(other) => Err(MembershipError::Unknown(odd(&other))),
            Err(Unanswered::WithoutEffect(error)) => Err(MembershipError::Unavailable(error)),
            Err(Unanswered::Unknown(error)) => Err(MembershipError::Unknown(error)),
        }
    }
}

fn size_of_write(write: &Write) -> usize {
    match write {
        Write::Put { key, value, .. } => key.0.len() + value.len(),
        Write::Delete { key } => key.0.len(),
    }
}
