//! The loop: observe, decide, act. Nothing clever between the three.
//!
//! One task owns everything here. It waits for something to happen, looks at the whole situation, asks
//! [`bellwether_ha::decide`], does what was decided, and looks again while that changed anything. Slow things (queries, stores,
//! peers, programs) are tasks of their own that send events.

use std::{sync::Arc, time::Duration};

use bellwether_api_client::ApiClient;
use bellwether_config::{Config, Dynamic, Effective, Floors};
use bellwether_dcs::{Store, alarm::Alarm, mirror::Mirror};
use bellwether_ha::{
    Memory, Reason, View,
    action::{Action, Exit},
    view::{Peers, Request},
};
use bellwether_postgres::{callbacks::CallbackRunner, server::Server, settings::PgSettings};
use bellwether_types::{Failure, Timestamp, status::NodeStatus, topology::Topology};
use serde_json::Value;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

use crate::{
    budget::FailoverClock,
    citus::CitusPart,
    clock,
    cycle::Cycle,
    event::Event,
    execute::{Effect, Errands, MemberWrite},
    failed_bootstraps::FailedBootstraps,
    failsafe::FailsafeBook,
    fencing::Fencing,
    health::HealthKeeper,
    hearing::Ear,
    interrupted::Mark,
    job::Jobs,
    journal::Journal,
    kept_configuration::KeptConfiguration,
    lease::LeaseHandle,
    local::Local,
    look::Looks,
    measures::Measures,
    monitor::MonitorHandle,
    news::News,
    peers::PollQueue,
    promise::PromiseBook,
    publications::Publisher,
    reloads::{ReloadSource, Reloads},
    requests::Requests,
    service_manager::ServiceManager,
    slot_keeper::SlotKeeper,
    story,
};

/// Decisions in a row without a pause; more would be a loop that makes no progress.
const MAX_ROUNDS: usize = 25;
/// The pause after that.
const BREATH: Duration = Duration::from_millis(100);
/// How long an agent that ends waits for its last publications.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long it waits for the watchdog device to be disarmed: it would reset the machine later.
const LAST_WORD: Duration = Duration::from_secs(5);
/// How often a server is looked at that is about to change its role or to come up.
const IMPATIENT: Duration = Duration::from_millis(15);

/// How soon an answer of the server is looked for that has not come within a tick.
const LATE: Duration = Duration::from_millis(500);

/// One member's agent. Made by [`crate::start`], consumed by [`Agent::run`].
#[derive(Debug)]
pub struct Agent {
    pub(crate) config: Arc<Config>,
    pub(crate) reload: ReloadSource,
    pub(crate) reloads: Reloads,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) mirror: Mirror,
    pub(crate) lease: LeaseHandle,
    pub(crate) ttl: watch::Sender<Duration>,
    pub(crate) fencing: Fencing,
    pub(crate) server: Server,
    pub(crate) monitor: MonitorHandle,
    pub(crate) callbacks: CallbackRunner,
    pub(crate) service_manager: ServiceManager,
    pub(crate) slots: SlotKeeper,
    pub(crate) health: HealthKeeper,
    pub(crate) measures: Measures,
    /// Among members that all run Bellwether.
    pub(crate) floors: Floors,
    pub(crate) floors_in_force: Floors,
    pub(crate) dynamic: Dynamic,
    pub(crate) effective: Effective,
    pub(crate) settings: Arc<PgSettings>,
    pub(crate) citus: CitusPart,
    pub(crate) local: Local,
    pub(crate) mark: Mark,
    pub(crate) failed_bootstraps: FailedBootstraps,
    pub(crate) earlier_guardians_gone: bool,
    /// The tasks that this agent cannot do without.
    pub(crate) services: JoinSet<&'static str>,
    pub(crate) jobs: Jobs,
    pub(crate) client: ApiClient,
    pub(crate) peers: Peers,
    pub(crate) polls: PollQueue,
    pub(crate) errands: Errands,
    pub(crate) failsafe: FailsafeBook,
    pub(crate) ear: Ear,
    pub(crate) promise: PromiseBook,
    pub(crate) failsafe_round: Option<bellwether_ha::view::FailsafeRound>,
    /// Until when the last round may be relied on that every member accepted.
    pub(crate) failsafe_confirmed_until: Option<Timestamp>,
    pub(crate) requests: Requests,
    pub(crate) memory: Memory,
    pub(crate) journal: Journal,
    pub(crate) clock: FailoverClock,
    pub(crate) publisher: Publisher,
    pub(crate) member_write: MemberWrite,
    pub(crate) applied_config: Option<bellwether_types::Revision>,
    pub(crate) kept_config: KeptConfiguration,
    pub(crate) store_silent_since: Option<Timestamp>,
    pub(crate) last_reason: Option<Reason>,
    /// The last decision said what the one before had said, and did nothing.
    pub(crate) routine: bool,
    pub(crate) cycle: Cycle,
    pub(crate) stopping: bool,
    pub(crate) wake_at: Timestamp,
    pub(crate) events_in: mpsc::Sender<Event>,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) looks: Looks,
    pub(crate) status: watch::Sender<Arc<NodeStatus>>,
    pub(crate) topology: watch::Sender<Arc<Topology>>,
    pub(crate) children: CancellationToken,
}

/// Why an agent ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentEnd {
    /// A decision ended it.
    Decided(Exit),
    /// A task that it cannot do without has ended. PostgreSQL is left to its guardian and to the next agent.
    ServiceEnded,
}

impl AgentEnd {
    /// The code under which the book explains it; `None` for an orderly end.
    pub fn failure(&self) -> Option<Failure> {
        match self {
            Self::Decided(Exit::Stopped) => None,
            Self::Decided(Exit::BootstrapFailed) => Some(Failure::BootstrapFailed),
            Self::Decided(Exit::ForeignSystemId { .. }) => Some(Failure::ForeignSystemId),
            Self::Decided(Exit::ReplicaWithoutCluster) => Some(Failure::ReplicaWithoutCluster),
            Self::ServiceEnded => Some(Failure::ServiceEnded),
        }
    }
}

impl Agent {
    /// Runs until told to stop or until a decision ends the process. `stop` asks for an orderly end.
    pub async fn run(mut self, stop: CancellationToken) -> AgentEnd {
        let mut news = News::of(&self.lease, &self.mirror);
        let mut device_news = self.fencing.watchdog.news();
        let mut alarm = Alarm::new();
        self.prepare_guardian().await;
        info!(member = %self.config.name, cluster = %self.config.scope, "agent is running");
        self.service_manager.ready();
        loop {
            if let Some(exit) = self.decide_until_quiet().await {
                self.publisher.settle(FAREWELL).await;
                self.children.cancel();
                self.dismiss_guardian().await;
                self.fencing.watchdog.settle(LAST_WORD).await;
                return AgentEnd::Decided(exit);
            }
            let now = clock::now();
            self.service_manager.alive(now);
            let wake_at = self.wake_at.min(self.service_manager.wake_at());
            tokio::select! {
                biased;
                () = stop.cancelled(), if !self.stopping => {
                    info!("told to stop");
                    self.service_manager.stopping();
                    self.stopping = true;
                }
                Some(event) = self.events.recv() => self.hear(event).await,
                Some(ended) = self.services.join_next() => {
                    let service = ended.unwrap_or("a service that panicked");
                    error!(service, "a task that the agent cannot do without has ended: the agent ends and must be started anew");
                    return AgentEnd::ServiceEnded;
                }
                () = news.arrives(self.routine) => {}
                () = device_news.arrives() => {}
                () = alarm.at(wake_at) => self.measures.woke_late(clock::now().since(wake_at.max(now))),
            }
            while let Ok(event) = self.events.try_recv() {
                self.hear(event).await;
            }
        }
    }

    /// A guardian takes a tenth of a second to start: that time is not on the path of a failover if it is ready before.
    async fn prepare_guardian(&self) {
        self.respawn_guardian().await;
    }

    pub(crate) async fn respawn_guardian(&self) -> bool {
        let fencing = self.fencing.clone();
        tokio::task::spawn_blocking(move || fencing.respawn()).await.unwrap_or(false)
    }

    /// An agent that ends in order leaves no guardian behind, unless PostgreSQL still runs and may have to be stopped.
    async fn dismiss_guardian(&self) {
        if self.local.postmaster.is_none() || self.effective.settings.pause {
            let fencing = self.fencing.clone();
            let _ = tokio::task::spawn_blocking(move || fencing.dismiss()).await;
        }
    }

    async fn decide_until_quiet(&mut self) -> Option<Exit> {
        for _ in 0..MAX_ROUNDS {
            match self.tick().await {
                Tick::Quiet => return None,
                Tick::Again => {}
                Tick::Exit(exit) => return Some(exit),
            }
            while let Ok(event) = self.events.try_recv() {
                self.hear(event).await;
            }
        }
        debug!("decisions keep changing things; taking a breath");
        self.wake_at = self.wake_at.min(clock::now() + BREATH);
        None
    }

    /// Observe, decide, act: once.
    async fn tick(&mut self) -> Tick {
        self.take_dynamic_configuration().await;
        self.observe().await;
        self.keep_dynamic_configuration();
        self.note_store_silence();
        let view = self.view();
        self.errands = Errands::default();
        let decision = bellwether_ha::decide(&view);
        self.lease.beat(clock::now());
        self.tell_decision(&view, &decision.reasons, &decision.actions);
        let alarms = std::mem::take(&mut self.memory.gray.alarms);
        self.memory = decision.memory;
        self.tell_alarms(&alarms);
        self.wake_at = decision.wake_at.min(self.impatience(&view)).min(self.cycle.due_at(&view));

        let mut again = false;
        let mut end = None;
        for action in decision.actions {
            if let Action::Exit { exit } = action {
                if exit == Exit::BootstrapFailed {
                    self.failed_bootstraps.add(self.local.state);
                }
                end = Some(exit);
                break;
            }
            match self.execute(action, &view).await {
                Effect::Changed => again = true,
                Effect::Nothing => {}
                Effect::Failed => {
                    // The rest rested on this one. What failed is tried again, but not at once.
                    again = false;
                    self.wake_at = self.wake_at.min(clock::now() + BREATH);
                    break;
                }
            }
        }
        self.publish(&view);
        self.cycle.tell_slow(&view, clock::now());
        self.pace_the_store(!again);
        match end {
            Some(exit) => Tick::Exit(exit),
            None if again => Tick::Again,
            None => Tick::Quiet,
        }
    }

    fn note_store_silence(&mut self) {
        match self.mirror.state().error {
            Some(_) => drop(self.store_silent_since.get_or_insert_with(clock::now)),
            None => self.store_silent_since = None,
        }
    }

    /// When to look again at a server that is in the middle of something.
    fn impatience(&self, view: &View) -> Timestamp {
        use bellwether_ha::view::Process;
        let changing = self.local.role == bellwether_types::Role::Promoted
            || matches!(view.postgres.process, Process::Starting { .. });
        if changing {
            view.now + IMPATIENT
        } else if self.monitor.is_waiting() {
            view.now + LATE
        } else {
            Timestamp::MAX
        }
    }

    /// Logs and journals a decision that differs from the one before, or that does something worth telling.
    fn tell_decision(&mut self, view: &View, reasons: &[Reason], actions: &[Action]) {
        let Some(reason) = reasons.first() else { return };
        let news = self.cycle.tell(view, reasons);
        let deeds: Vec<&Action> = actions.iter().filter(|action| is_deed(action)).collect();
        if news || !deeds.is_empty() {
            self.journal.record("decision", story::decision(view, reasons, &deeds));
        }
        self.routine = !news && deeds.is_empty();
        self.last_reason = Some(reason.clone());
    }

    pub(crate) fn next_requests(&self) -> Vec<Request> {
        self.requests.pending()
    }

    /// The raw value of a key in the last snapshot, so that unknown fields survive a rewrite.
    pub(crate) fn stored(&self, key: &bellwether_dcs::Key) -> Option<Vec<u8>> {
        self.mirror.state().snapshot.entries.get(key).map(|entry| entry.value.clone())
    }

    /// The dynamic configuration as it is in force.
    pub(crate) fn document(&self) -> &Value {
        &self.dynamic.document
    }
}

enum Tick {
    /// Nothing was changed that the next decision could depend on at once.
    Quiet,
    Again,
    Exit(Exit),
}

/// Actions that go into the journal even if the reason is the same: not the routine of every tick.
fn is_deed(action: &Action) -> bool {
    !matches!(
        action,
        Action::PublishMember { .. }
            | Action::WriteStatus { .. }
            | Action::WriteFailsafe { .. }
            | Action::AdvanceSlots { .. }
            | Action::AdvanceLogicalSlots { .. }
            | Action::AskLeaderSlots { .. }
            | Action::ArmGuardian { .. }
            | Action::ActivateWatchdog
            | Action::GenerateWal
            | Action::ProbeCommit
            | Action::ProveNamesInForce
            | Action::SetState { .. }
    )
}
