//! What the rest of the process may ask of a running agent. Cheap to clone; outlives nothing.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bellwether_api_client::ApiClient;
use bellwether_config::patch;
use bellwether_dcs::{CommitOutcome, Deadline, Store, codec::keys, mirror::Mirror, ops, ops::Seen};
use bellwether_ha::{
    action::Answer,
    lease::failsafe_promise,
    view::{PeerAnswer, RequestKind, RestartConditions},
};
use bellwether_types::{
    MemberName, PostgresState, Role, Timestamp,
    citus::CitusEvent,
    cluster::{Cluster, ConfigDocument, FailoverRequest},
    failsafe::{FailsafeAnswer, FailsafeRequest},
    status::{NodeStatus, WalStatus},
    topology::Topology,
};
use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    citus::CitusPart,
    clock,
    event::Event,
    failsafe::FailsafeBook,
    journal::Journal,
    look::Looks,
    peers::{self, Told},
    promise::PromiseBook,
};

/// How long a caller waits at most until its change is seen here.
const SHOWN_WITHIN: Duration = Duration::from_secs(1);
/// How long one write that an operator asked for may take.
const WRITE_BUDGET: Duration = Duration::from_secs(3);
const POLL_LIMIT: Duration = Duration::from_secs(2);

/// The end of a change of leader that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SwitchoverEnd {
    Done { new_leader: MemberName },
    Scheduled,
    NoGoodCandidates,
    NotWritten,
    Failed,
    Unknown { after_secs: u64 },
}

/// The end of a change of the dynamic configuration.
#[derive(Clone, Debug, PartialEq)]
pub enum ConfigEnd {
    Stored(Value),
    LostRace,
    NoConfig,
    Unavailable { why: String },
}

/// The end of the removal of a scheduled switchover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeletedSwitchover {
    Deleted,
    NotScheduled,
    LostRace,
    Unavailable { why: String },
}

#[derive(Clone, Debug)]
pub struct AgentHandle {
    me: MemberName,
    store: Arc<dyn Store>,
    mirror: Mirror,
    client: ApiClient,
    journal: Journal,
    failsafe: FailsafeBook,
    promise: PromiseBook,
    status: watch::Receiver<Arc<NodeStatus>>,
    topology: watch::Receiver<Arc<Topology>>,
    looks: Looks,
    events: mpsc::Sender<Event>,
    citus: CitusPart,
}

impl AgentHandle {
    #[expect(clippy::too_many_arguments, reason = "made once, by `start`")]
    pub(crate) fn new(
        me: MemberName,
        store: Arc<dyn Store>,
        mirror: Mirror,
        client: ApiClient,
        journal: Journal,
        failsafe: FailsafeBook,
        promise: PromiseBook,
        status: watch::Receiver<Arc<NodeStatus>>,
        topology: watch::Receiver<Arc<Topology>>,
        looks: Looks,
        events: mpsc::Sender<Event>,
        citus: CitusPart,
    ) -> Self {
        Self { me, store, mirror, client, journal, failsafe, promise, status, topology, looks, events, citus }
    }

    /// The last published status; never waits.
    pub fn status(&self) -> Arc<NodeStatus> {
        self.status.borrow().clone()
    }

    /// The status with what PostgreSQL was asked at `since` or later, if it answers within some tens of milliseconds; else the last one.
    pub async fn status_since(&self, since: Timestamp) -> Arc<NodeStatus> {
        let asked_at = |status: &NodeStatus| status.server.as_ref().map(|server| server.asked_at);
        self.looks.since(since, self.status.clone(), asked_at).await
    }

    /// Every status that is published from now on.
    pub fn watch_status(&self) -> watch::Receiver<Arc<NodeStatus>> {
        self.status.clone()
    }

    pub fn topology(&self) -> watch::Receiver<Arc<Topology>> {
        self.topology.clone()
    }

    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Asks for a reload of the configuration and does not wait for it.
    pub async fn reload(&self) {
        let _ = self.events.send(Event::Reload).await;
    }

    /// Restarts PostgreSQL and waits for the outcome.
    pub async fn restart(&self, conditions: RestartConditions, timeout: Option<Duration>) -> Answer {
        self.ask(RequestKind::Restart { conditions, timeout }).await
    }

    /// Remembers to restart PostgreSQL at `at`; `text` is the time as it was given. Replaces an earlier schedule.
    pub async fn schedule_restart(
        &self,
        at: bellwether_types::WallTime,
        text: String,
        conditions: RestartConditions,
        timeout: Option<Duration>,
    ) -> Answer {
        self.ask(RequestKind::ScheduleRestart { at, text, conditions, timeout }).await
    }

    /// Drops the scheduled restart. False: there was none.
    pub async fn cancel_scheduled_restart(&self) -> bool {
        matches!(self.ask(RequestKind::CancelScheduledRestart).await, Answer::Done | Answer::Started)
    }

    /// Begins to rebuild this member.
    pub async fn reinitialize(&self, force: bool, from_leader: bool) -> Answer {
        self.ask(RequestKind::Reinitialize { force, from_leader }).await
    }

    async fn ask(&self, kind: RequestKind) -> Answer {
        let (reply, answered) = oneshot::channel();
        let stopped = || Answer::Failed { why: "the agent is stopping".into() };
        if self.events.send(Event::Request { kind, reply }).await.is_err() {
            return stopped();
        }
        answered.await.unwrap_or_else(|_| stopped())
    }

    /// A leader without a store asks us not to race. The promise is durable when this returns.
    pub async fn failsafe(&self, request: FailsafeRequest) -> FailsafeAnswer {
        let status = self.status();
        if !status.settings.failsafe_mode {
            return FailsafeAnswer::Off;
        }
        let is_primary = status.state == PostgresState::Running && status.role == Role::Primary;
        // Who was given the lock and is not primary yet must not promise its former holder to leave it alone.
        let has_the_lock = status.lease_until.is_some_and(|until| clock::now() < until);
        if (is_primary || has_the_lock) && request.name != self.me {
            return FailsafeAnswer::RunningAsLeader;
        }
        let (book, takeover) = (self.failsafe.clone(), self.promise.clone());
        let promised = failsafe_promise(status.settings.ttl, request.rely_on());
        let accept = move || book.accept_unless_promised(&request, promised, &takeover);
        let kept = tokio::task::spawn_blocking(accept).await;
        let _ = self.events.try_send(Event::Nudge);
        match kept {
            Ok(Ok(true)) => FailsafeAnswer::Accepted { lsn: own_position(&status), promised },
            Ok(Ok(false)) => FailsafeAnswer::PromisedOtherwise,
            failed => {
                tracing::error!(?failed, "a failsafe promise could not be written: refused");
                FailsafeAnswer::Off
            }
        }
    }

    /// The leader of another group of the Citus cluster tells what happens to its primary.
    pub async fn citus(&self, event: CitusEvent) {
        self.citus.hear(event).await;
    }

    /// Writes the request, and unless it is scheduled waits until somebody else leads.
    pub async fn switchover(&self, request: FailoverRequest) -> SwitchoverEnd {
        let by = || Deadline::after(WRITE_BUDGET);
        let Ok(cluster) = self.mirror.refresh(by()).await else { return SwitchoverEnd::NotWritten };
        let scheduled = request.scheduled_at.is_some();
        if !scheduled && request.candidate.is_some() && request.candidate.as_ref() == cluster.leader_name() {
            // It leads already, and would say so and do nothing.
            return SwitchoverEnd::Failed;
        }
        if !scheduled && !self.has_good_candidate(&cluster, &request).await {
            return SwitchoverEnd::NoGoodCandidates;
        }
        match ops::write_failover(&*self.store, &request, Seen::Any, by()).await {
            CommitOutcome::Applied(_) if scheduled => {
                self.until_shown().await;
                SwitchoverEnd::Scheduled
            }
            CommitOutcome::Applied(_) => {
                self.wait_for_new_leader(cluster.leader_name().cloned(), request.candidate).await
            }
            _ => SwitchoverEnd::NotWritten,
        }
    }

    async fn has_good_candidate(&self, cluster: &Cluster, request: &FailoverRequest) -> bool {
        let leader = cluster.leader_name();
        let wanted = |name: &MemberName| request.candidate.as_ref().is_none_or(|candidate| candidate == name);
        let candidates: BTreeMap<MemberName, String> = cluster
            .members
            .values()
            .filter(|member| Some(&member.name) != leader && wanted(&member.name))
            .filter_map(|member| Some((member.name.clone(), member.api_url.clone()?)))
            .collect();
        let answers = peers::poll(&self.client, candidates, POLL_LIMIT, Told::Quietly).await;
        answers.values().any(|answer| {
            matches!(answer, PeerAnswer::Answered(report) if !report.nofailover && !report.watchdog_failed)
        })
    }

    async fn wait_for_new_leader(
        &self,
        old: Option<MemberName>,
        candidate: Option<MemberName>,
    ) -> SwitchoverEnd {
        let patience = 2 * self.status().settings.loop_wait.max(Duration::from_secs(10));
        let mut changes = self.mirror.subscribe();
        let written =
            self.mirror.refresh(Deadline::after(WRITE_BUDGET)).await.ok().map(|cluster| cluster.revision);
        let waiting = async {
            loop {
                let state = self.mirror.state();
                if let Some(cluster) =
                    state.cluster.as_deref().filter(|cluster| Some(cluster.revision) >= written)
                {
                    let pending = cluster.failover_request().is_some();
                    // Another than the candidate counts once the request is dealt with.
                    let counts = |leader: &MemberName| {
                        !pending || candidate.as_ref().is_none_or(|candidate| candidate == leader)
                    };
                    match cluster.leader_name() {
                        Some(leader) if Some(leader) != old.as_ref() && counts(leader) => {
                            return SwitchoverEnd::Done { new_leader: leader.clone() };
                        }
                        Some(leader) if Some(leader) == old.as_ref() && !pending => {
                            return SwitchoverEnd::Failed;
                        }
                        _ => {}
                    }
                }
                if changes.changed().await.is_err() {
                    return SwitchoverEnd::Failed;
                }
            }
        };
        let unknown = SwitchoverEnd::Unknown { after_secs: patience.as_secs() };
        tokio::time::timeout(patience, waiting).await.unwrap_or(unknown)
    }

    pub async fn delete_switchover(&self) -> DeletedSwitchover {
        let by = Deadline::after(WRITE_BUDGET);
        let cluster = match self.mirror.refresh(by).await {
            Ok(cluster) => cluster,
            Err(error) => return DeletedSwitchover::Unavailable { why: error.to_string() },
        };
        let scheduled = cluster.failover_request().filter(|(request, _)| request.scheduled_at.is_some());
        let Some((_, revision)) = scheduled else { return DeletedSwitchover::NotScheduled };
        let seen = Seen::At { revision, raw: &[] };
        match ops::clear_failover(&*self.store, seen, &[], Deadline::after(WRITE_BUDGET)).await {
            CommitOutcome::Applied(_) => {
                self.until_shown().await;
                DeletedSwitchover::Deleted
            }
            CommitOutcome::Refused { .. } => DeletedSwitchover::LostRace,
            CommitOutcome::Unknown(error) => DeletedSwitchover::Unavailable { why: error.to_string() },
        }
    }

    /// Merges into `/config` by compare-and-set; there must be one.
    pub async fn patch_config(&self, change: Map<String, Value>) -> ConfigEnd {
        let cluster = match self.mirror.refresh(Deadline::after(WRITE_BUDGET)).await {
            Ok(cluster) => cluster,
            Err(error) => return ConfigEnd::Unavailable { why: error.to_string() },
        };
        let Some(config) = &cluster.config else { return ConfigEnd::NoConfig };
        let ConfigDocument::Valid(present) = &config.value else { return ConfigEnd::NoConfig };
        let mut document = present.clone();
        if !patch(&mut document, &Value::Object(change)) {
            return ConfigEnd::Stored(document);
        }
        let seen = Seen::At { revision: config.revision, raw: &[] };
        self.store_config(document, seen).await
    }

    /// Replaces `/config`, whatever it was.
    pub async fn put_config(&self, document: Map<String, Value>) -> ConfigEnd {
        self.store_config(Value::Object(document), Seen::Any).await
    }

    async fn store_config(&self, document: Value, seen: Seen<'_>) -> ConfigEnd {
        match ops::write_config(&*self.store, &document, seen, &[], Deadline::after(WRITE_BUDGET)).await {
            CommitOutcome::Applied(_) => {
                self.until_shown().await;
                ConfigEnd::Stored(document)
            }
            CommitOutcome::Refused { .. } => ConfigEnd::LostRace,
            CommitOutcome::Unknown(error) => {
                ConfigEnd::Unavailable { why: format!("writing `{}`: {error}", keys::CONFIG) }
            }
        }
    }

    /// Who has changed the store through this member finds it changed here, too: waits until the published status has caught up,
    /// but not for long.
    async fn until_shown(&self) {
        let Ok(cluster) = self.mirror.refresh(Deadline::after(WRITE_BUDGET)).await else { return };
        let mut status = self.status.clone();
        let is_shown = |status: &Arc<NodeStatus>| {
            status.store.as_ref().is_some_and(|shown| shown.revision >= cluster.revision)
        };
        let _ = tokio::time::timeout(SHOWN_WITHIN, status.wait_for(is_shown)).await;
    }

    /// The clock of the published status.
    pub fn now(&self) -> bellwether_types::Timestamp {
        clock::now()
    }
}

fn own_position(status: &NodeStatus) -> Option<bellwether_types::Lsn> {
    status.server.as_ref().map(|server| match &server.wal {
        WalStatus::Primary { location } => *location,
        WalStatus::Standby { received, replayed, .. } => (*received).max(*replayed),
    })
}

#[cfg(test)]
pub(crate) mod tests;
