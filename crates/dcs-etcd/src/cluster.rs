//! Asking the cluster: one endpoint after the other, within the caller's deadline, and never twice for what must happen once.

use std::{sync::Arc, time::Duration};

use bellwether_dcs::{Deadline, StoreError, mirror, store};
use bellwether_types::Timestamp;
use futures::future::BoxFuture;
use rand::RngExt as _;
use tokio::{
    sync::{Mutex, watch},
    time::timeout,
};
use tonic::{Code, Status, Streaming, metadata::AsciiMetadataValue};

use crate::{
    auth::Login,
    config::EtcdConfig,
    connection::Connection,
    discovery,
    endpoints::{Endpoints, Slot},
    failure::{Failure, Rejection, is_wrong_password, rejection, rejection_error},
    guard::Guard,
    proto::{Answer as _, MemberListRequest, Rpc, StatusRequest, WatchRequest, WatchResponse},
    transaction::Sighting,
};

/// One endpoint gets no less than this, however many others are waiting.
const LEAST_SHARE: Duration = Duration::from_millis(50);
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_millis(400);
/// How often the cluster is asked for its members, and DNS for its records while nothing answers.
const DISCOVER_EVERY: Duration = Duration::from_secs(300);
const RESOLVE_EVERY: Duration = Duration::from_secs(5);
const DISCOVERY_BUDGET: Duration = Duration::from_secs(2);

/// Whether a request may be repeated when nobody knows what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It changes nothing, or the same thing again: reads, renewals.
    Always,
    /// Only if it was certainly not carried out.
    IfNotDone,
}

/// Why there is no answer that could be used.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// etcd said no, and nothing was done. Asking again would not help.
    Rejected(Status),
    /// Nobody could be asked or nobody answered. A request that may not be repeated may have been carried out.
    Failed(StoreError),
}

impl From<Unanswered> for StoreError {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Rejected(status) => rejection_error(&status),
            Unanswered::Failed(error) => error,
        }
    }
}

/// A client of the etcd cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    config: EtcdConfig,
    endpoints: Endpoints,
    login: Login,
    guard: Guard,
    discovery: Mutex<Discovered>,
    /// What the last linearizable read of a renewal saw: a watch need not ask for that itself.
    sighted: watch::Sender<Option<Arc<Sighting>>>,
    pace: watch::Sender<Duration>,
}

/// When discovery last began; zero for never.
#[derive(Debug, Default)]
struct Discovered {
    members_at: Timestamp,
    records_at: Timestamp,
}

impl Cluster {
    pub(crate) fn new(config: EtcdConfig) -> Self {
        let endpoints = Endpoints::default();
        endpoints.write(&config.endpoints);
        let login = Login::new(config.credentials.clone());
        Self {
            config,
            endpoints,
            login,
            guard: Guard::default(),
            discovery: Mutex::default(),
            sighted: watch::Sender::default(),
            pace: watch::Sender::new(mirror::PACE),
        }
    }

    pub(crate) fn login(&self) -> &Login {
        &self.login
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.config.prefix
    }

    /// How far apart the proofs of life of a watch may be.
    pub(crate) fn pace(&self) -> &watch::Sender<Duration> {
        &self.pace
    }

    pub(crate) fn sighted(&self) -> &watch::Sender<Option<Arc<Sighting>>> {
        &self.sighted
    }

    /// Asks until there is an answer that counts, or the time is up.
    pub(crate) async fn call<R: Rpc>(
        self: &Arc<Self>,
        request: R,
        repeat: Repeat,
        by: Deadline,
    ) -> Result<R::Answer, Unanswered> {
        let mut last = StoreError::TimedOut;
        let mut pause = FIRST_PAUSE;
        loop {
            let slots = self.slots(by).await;
            for (at, slot) in slots.iter().enumerate() {
                if by.remaining().is_zero() {
                    return Err(Unanswered::Failed(last));
                }
                let share = share_of(by, slots.len() - at);
                match self.ask_with_login(slot, &request, repeat, share, by).await {
                    Ok(answer) => {
                        self.discover_members_if_due();
                        return Ok(answer);
                    }
                    Err(Failure::Unknown(error)) if repeat == Repeat::IfNotDone => {
                        return Err(Unanswered::Failed(error));
                    }
                    Err(Failure::Untrusted(why)) if repeat == Repeat::IfNotDone => {
                        return Err(Unanswered::Failed(StoreError::Protocol(why)));
                    }
                    Err(Failure::Rejected(status)) if is_final(&status) => {
                        return Err(Unanswered::Rejected(status));
                    }
                    Err(failure) => {
                        tracing::debug!(endpoint = %slot.endpoint, ?failure, request = R::PATH, "etcd gave no answer");
                        last = failure.into();
                    }
                }
            }
            // All have failed. The budget is there to be used, but not in a frenzy.
            if by.remaining() <= pause {
                return Err(Unanswered::Failed(last));
            }
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            self.resolve_if_due(by).await;
        }
    }

    /// Opens a watch on the best endpoint; an error counts against that endpoint.
    pub(crate) async fn watch(
        &self,
        request: WatchRequest,
        by: Deadline,
    ) -> Result<(Arc<Slot>, Streaming<WatchResponse>), Failure> {
        let slots = self.slots(by).await;
        let none = || Failure::NotSent(StoreError::Unreachable("no endpoint is known".to_owned()));
        let slot = slots.first().cloned().ok_or_else(none)?;
        let opened = timeout(by.remaining(), async {
            let (connection, token) = self.connect(&slot).await?;
            let stream = connection.watch(request, token.as_ref()).await;
            match stream.map_err(Failure::from_status) {
                Err(Failure::Rejected(status)) => {
                    self.forget_token(&status, token.as_ref()).await;
                    Err(Failure::Rejected(status))
                }
                other => other,
            }
        });
        let stream = opened.await.unwrap_or(Err(Failure::NotSent(StoreError::TimedOut)));
        match stream {
            Ok(stream) => Ok((slot, stream)),
            Err(failure) => {
                self.endpoints.failed(&slot);
                Err(failure)
            }
        }
    }

    /// A watch has found out that an endpoint is no good.
    pub(crate) fn distrust(&self, slot: &Slot) {
        self.endpoints.failed(slot);
    }

    /// A token that is refused is renewed, and the request repeated, once.
    async fn ask_with_login<R: Rpc>(
        &self,
        slot: &Arc<Slot>,
        request: &R,
        repeat: Repeat,
        share: Duration,
        by: Deadline,
    ) -> Result<R::Answer, Failure> {
        match self.ask(slot, request, repeat, share, by).await {
            Err(Failure::Rejected(status)) if rejection(&status) == Rejection::LogIn => {
                self.ask(slot, request, repeat, share, by).await
            }
            other => other,
        }
    }

    async fn ask<R: Rpc>(
        &self,
        slot: &Arc<Slot>,
        request: &R,
        repeat: Repeat,
        share: Duration,
        by: Deadline,
    ) -> Result<R::Answer, Failure> {
        let began = store::now();
        let connected = timeout(share, self.connect(slot)).await;
        let (connection, token) = match connected.unwrap_or(Err(Failure::NotSent(StoreError::TimedOut))) {
            Ok(connected) => connected,
            Err(failure) => {
                self.endpoints.failed(slot);
                return Err(failure);
            }
        };
        // What is sent once is waited for as long as there is time: nobody else may be asked anyway.
        let patience = match repeat {
            Repeat::Always => share.saturating_sub(store::now() - began),
            Repeat::IfNotDone => by.remaining(),
        };
        if patience.is_zero() {
            return Err(Failure::NotSent(StoreError::TimedOut));
        }
        let answered = timeout(patience, request.clone().ask(&connection, token.as_ref())).await;
        let result = match answered {
            Ok(Ok(answer)) => match self.guard.admit(answer.header()) {
                Ok(()) => Ok(answer),
                Err(why) => Err(Failure::Untrusted(why)),
            },
            Ok(Err(status)) => Err(Failure::from_status(status)),
            Err(_) => Err(Failure::Unknown(StoreError::TimedOut)),
        };
        match &result {
            Ok(_) => self.endpoints.answered(slot),
            Err(Failure::Rejected(status)) => {
                self.forget_token(status, token.as_ref()).await;
                if status.code() == Code::Unavailable {
                    self.endpoints.failed(slot);
                }
            }
            Err(_) => self.endpoints.failed(slot),
        }
        result
    }

    /// A connection that was proven to lead to a healthy member of our cluster, and the token to use on it.
    async fn connect(&self, slot: &Slot) -> Result<(Connection, Option<AsciiMetadataValue>), Failure> {
        let mut shared = slot.connection.lock().await;
        let connection = match &*shared {
            Some(connection) if !connection.is_closed() => connection.clone(),
            _ => {
                let connection = self.open(slot).await.map_err(unsent)?;
                *shared = Some(connection.clone());
                connection
            }
        };
        drop(shared);
        let token =
            self.login.token(&connection).await.map_err(|status| match Failure::from_status(status) {
                Failure::Rejected(status) => Failure::Rejected(status),
                failure => unsent(failure),
            })?;
        Ok((connection, token))
    }

    async fn open(&self, slot: &Slot) -> Result<Connection, Failure> {
        let endpoint = &slot.endpoint;
        let unreachable =
            |error: std::io::Error| Failure::NotSent(StoreError::Unreachable(format!("{endpoint}: {error}")));
        let connection = Connection::open(endpoint, &self.config.tls).await.map_err(unreachable)?;
        let status = StatusRequest {}.ask(&connection, None).await.map_err(Failure::from_status)?;
        self.guard.admit(status.header()).map_err(Failure::Untrusted)?;
        if status.is_learner {
            return Err(Failure::Untrusted(format!("{endpoint} is a learner")));
        }
        if status.leader == 0 {
            return Err(Failure::NotSent(StoreError::NoQuorum(format!("{endpoint} knows no leader"))));
        }
        tracing::debug!(%endpoint, "connected to etcd");
        Ok(connection)
    }

    async fn forget_token(&self, status: &Status, token: Option<&AsciiMetadataValue>) {
        if rejection(status) == Rejection::LogIn {
            self.login.refused(token).await;
        }
    }

    /// The endpoints in the order to ask them; DNS is asked if none is known.
    async fn slots(&self, by: Deadline) -> Vec<Arc<Slot>> {
        let slots = self.endpoints.in_order();
        if !slots.is_empty() {
            return slots;
        }
        self.resolve_if_due(by).await;
        self.endpoints.in_order()
    }

    /// Looks the SRV records up again.
    async fn resolve_if_due(&self, by: Deadline) {
        let Some(srv) = &self.config.srv else { return };
        let mut discovered = self.discovery.lock().await;
        if discovered.records_at > Timestamp::default()
            && store::now().since(discovered.records_at) < RESOLVE_EVERY
        {
            return;
        }
        discovered.records_at = store::now();
        let found = timeout(by.remaining().min(DISCOVERY_BUDGET), discovery::look_up(srv)).await;
        match found.unwrap_or_else(|_| Err("the name server did not answer".to_owned())) {
            Ok(endpoints) => self.endpoints.write(&endpoints),
            Err(error) => tracing::warn!(error, "no endpoints of etcd from DNS"),
        }
    }

    /// Asks the cluster for its members, and uses those that fit. If it does not answer, the next call asks again.
    pub(crate) async fn discover_members(self: &Arc<Self>, by: Deadline) {
        self.discovery.lock().await.members_at = store::now();
        match self.call(MemberListRequest {}, Repeat::Always, by).await {
            Ok(answer) => self.endpoints.advertise(&discovery::advertised(&answer.members)),
            Err(error) => {
                tracing::debug!(?error, "etcd did not tell its members");
                self.discovery.lock().await.members_at = Timestamp::default();
            }
        }
    }

    /// The same now and then, beside the caller's way.
    fn discover_members_if_due(self: &Arc<Self>) {
        if !self.config.discover_members {
            return;
        }
        let Ok(mut discovered) = self.discovery.try_lock() else { return };
        let now = store::now();
        if discovered.members_at > Timestamp::default() && now.since(discovered.members_at) < DISCOVER_EVERY {
            return;
        }
        // One at a time.
        discovered.members_at = now;
        drop(discovered);
        let cluster = self.clone();
        // Boxed: it makes a call, which may end here again.
        let asking: BoxFuture<'static, ()> =
            Box::pin(async move { cluster.discover_members(Deadline::after(DISCOVERY_BUDGET)).await });
        tokio::spawn(asking);
    }
}

fn share_of(by: Deadline, waiting: usize) -> Duration {
    let waiting = u32::try_from(waiting).unwrap_or(u32::MAX).max(1);
    (by.remaining() / waiting).max(LEAST_SHARE.min(by.remaining()))
}

fn is_final(status: &Status) -> bool {
    rejection(status) == Rejection::Final || is_wrong_password(status)
}

/// Before the request itself goes out nothing can have been done.
fn unsent(failure: Failure) -> Failure {
    Failure::NotSent(failure.into())
}

fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.5..1.0))
}
