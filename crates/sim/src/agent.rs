//! The model agent: observe, decide, act, as the real one does (`architecture.md` section 1), with the same names for the same things.
//!
//! It has the loop ([`World::tick`]), the executor ([`execute`]), one job at a time beside the loop ([`job`]), the lease keeper
//! ([`lease`]), and conversations with other agents ([`peers`]). What it knows is what it was told, however old that is.

pub mod execute;
pub mod job;
pub mod lease;
pub mod observe;
pub mod peers;
pub mod takeover;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bellwether_ha::{
    Action, Memory, Reason, View,
    action::Fence,
    view::{Divergence, FinishedJob, LeaderSlots, LeaseView, Request},
};
use bellwether_types::{PostgresState, Role, Timestamp, cluster::Cluster, settings::Settings};

use crate::{
    event::{AgentEvent, Event, HostId},
    pg::slots::SlotState,
    probe::Tried,
    schedule::{MICROS, MILLIS, Nanos, SECONDS},
    store::Operation,
    world::World,
};
use execute::Execution;
use job::RunningJob;
use lease::{Pending, Purpose};
use peers::Rounds;

#[derive(Debug)]
pub struct Agent {
    pub alive: bool,
    /// SIGSTOP.
    pub frozen: bool,
    /// Grows with every process, so that what was meant for a former one is dropped.
    pub incarnation: u32,
    /// Everything below is lost with the process.
    pub mind: Mind,
}

/// What one process knows.
#[derive(Debug)]
pub struct Mind {
    pub settings: Settings,
    pub cluster: Option<Arc<Cluster>>,
    pub confirmed_at: Timestamp,
    pub unavailable_since: Option<Timestamp>,
    pub lease: Option<bellwether_types::LeaseId>,
    pub lease_view: LeaseView,
    pub pending: Vec<Pending>,
    pub next_id: u64,
    pub memory: Memory,
    pub role: Role,
    pub state: PostgresState,
    pub divergence: Option<Divergence>,
    /// The postmaster whose checkpointer acts by the files as they were then.
    pub checkpointer_read: Option<(u32, Timestamp)>,
    pub last_server: Option<bellwether_ha::view::Server>,
    pub job: Option<RunningJob>,
    pub last_job: Option<FinishedJob>,
    pub execution: Option<Execution>,
    pub rounds: Rounds,
    /// The commit that was tried last, and how long it took.
    pub tried: Option<Tried>,
    pub leader_slots: Option<LeaderSlots>,
    /// The state files that came with it.
    pub slot_states: BTreeMap<String, SlotState>,
    pub probe_took: Option<Duration>,
    pub requests: Vec<Request>,
    pub stopping: bool,
    /// Its last decision says that an operator must have it copied anew.
    pub asks_for_copy: bool,
    /// The postmaster exited and its children have not been swept away yet.
    pub sweeping: bool,
    tick_sequence: u32,
    tick_at: Nanos,
    wake_wanted: bool,
    last_decided_at: Nanos,
    started: bool,
}

impl Agent {
    pub fn new(settings: Settings) -> Self {
        Self { alive: false, frozen: false, incarnation: 0, mind: Mind::new(settings) }
    }
}

impl Mind {
    fn new(settings: Settings) -> Self {
        Self {
            settings,
            cluster: None,
            confirmed_at: Timestamp::ZERO,
            unavailable_since: None,
            lease: None,
            lease_view: LeaseView::NotHeld,
            pending: Vec::new(),
            next_id: 0,
            memory: Memory::default(),
            role: Role::Replica,
            state: PostgresState::Stopped,
            divergence: None,
            checkpointer_read: None,
            last_server: None,
            job: None,
            last_job: None,
            execution: None,
            rounds: Rounds::default(),
            tried: None,
            leader_slots: None,
            slot_states: BTreeMap::new(),
            probe_took: None,
            requests: Vec::new(),
            stopping: false,
            asks_for_copy: false,
            sweeping: false,
            tick_sequence: 0,
            tick_at: Nanos::MAX,
            wake_wanted: false,
            last_decided_at: 0,
            started: false,
        }
    }

    pub(crate) fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Does `fence` still hold at `now`?
    pub(crate) fn is_fence_whole(&self, fence: &Fence, now: Timestamp) -> bool {
        match self.lease_view {
            LeaseView::Held { term, until, .. } => term == fence.term && now < until,
            _ => false,
        }
    }
}

impl World {
    /// The agent's process begins: it asks the store before it decides anything.
    pub(crate) fn agent_starts(&mut self, host: HostId) {
        if self.hosts[host].agent.alive {
            return;
        }
        let settings = self.scenario.settings.clone();
        let agent = &mut self.hosts[host].agent;
        agent.alive = true;
        agent.frozen = false;
        agent.incarnation += 1;
        agent.mind = Mind::new(settings);
        if self.bug.forgets_promises() {
            self.hosts[host].promise = None;
        }
        if self.has_guardian(host) && self.hosts[host].troubles.no_guardian == 0 {
            self.hosts[host].guardian.alive = true;
        }
        self.adopt_postgres(host);
        self.note(host, "agent", &[1], || "starts".to_owned());
        let jitter = self.random.between(MICROS, 200 * MILLIS);
        self.later(host, jitter, AgentEvent::KeepAlive);
        self.voters_changed();
        self.ask_store(host, Operation::Snapshot, Purpose::FirstRead);
    }

    /// What runs already, or what the directory says.
    fn adopt_postgres(&mut self, host: HostId) {
        let pg = &self.hosts[host].pg;
        let role = match pg.server() {
            Some(server) if !server.in_recovery => Role::Primary,
            Some(_) => Role::Replica,
            None if pg.data.files != crate::pg::Files::Present => Role::Uninitialized,
            None if pg.data.standby_signal => Role::Replica,
            None => Role::Demoted,
        };
        let state = if pg.is_down() { PostgresState::Stopped } else { PostgresState::Running };
        let mind = &mut self.hosts[host].agent.mind;
        (mind.role, mind.state) = (role, state);
    }

    /// The agent's process ends, whatever it was doing. PostgreSQL and the guardian live on.
    pub(crate) fn agent_dies(&mut self, host: HostId) {
        let agent = &mut self.hosts[host].agent;
        agent.alive = false;
        agent.frozen = false;
        agent.incarnation += 1;
        agent.mind = Mind::new(self.scenario.settings.clone());
        self.voters_changed();
    }

    pub(crate) fn respawn_agent(&mut self, host: HostId, delay: Nanos) {
        let boot = self.hosts[host].boot;
        self.schedule.push(self.now + delay, Event::AgentStarts { host, boot });
    }

    pub(crate) fn later(&mut self, host: HostId, delay: Nanos, what: AgentEvent) {
        let agent = self.hosts[host].agent.incarnation;
        self.schedule.push(self.now + delay, Event::Agent { host, agent, what });
    }

    /// Something on the host itself happened that a living agent sees.
    pub(crate) fn tell_agent(&mut self, host: HostId, delay: Nanos, what: AgentEvent) {
        if self.hosts[host].agent.alive {
            self.later(host, delay, what);
        }
    }

    pub(crate) fn on_agent(&mut self, host: HostId, what: AgentEvent) {
        match what {
            AgentEvent::Tick { sequence } => {
                if self.hosts[host].agent.mind.tick_sequence == sequence {
                    self.tick(host);
                }
            }
            AgentEvent::KeepAlive => self.keep_alive(host),
            AgentEvent::Answered { id, answer } => self.store_answered(host, id, answer),
            AgentEvent::TimedOut { id } => self.store_timed_out(host, id),
            AgentEvent::Watched { cluster } => self.learn(host, &cluster, None),
            AgentEvent::PeerAnswered { from, round, body } => self.peer_answered(host, from, round, body),
            AgentEvent::PeersTimedOut { round, failsafe } => self.peers_timed_out(host, round, failsafe),
            AgentEvent::ActionDone { id } => self.action_done(host, id),
            AgentEvent::CheckpointerSeen { id, read, looks } => {
                self.checkpointer_seen(host, id, read, looks);
            }
            AgentEvent::Detached { id, making, tries } => self.detached(host, id, making, tries),
            AgentEvent::Promised { id, kept } => self.promised(host, id, *kept),
            AgentEvent::Job { id } => self.job_goes_on(host, id),
            AgentEvent::PostmasterExited => self.postmaster_exited(host),
            AgentEvent::GuardianDied => self.wake(host),
        }
    }

    /// The loop runs as soon as it can.
    pub(crate) fn wake(&mut self, host: HostId) {
        let mind = &mut self.hosts[host].agent.mind;
        if !mind.started {
            return;
        }
        if mind.execution.is_some() {
            mind.wake_wanted = true;
            return;
        }
        self.plan_tick(host, self.now + 100 * MICROS);
    }

    fn plan_tick(&mut self, host: HostId, at: Nanos) {
        let now = self.now;
        let mind = &mut self.hosts[host].agent.mind;
        if mind.tick_at <= at && mind.tick_at >= now {
            return;
        }
        mind.tick_at = at;
        mind.tick_sequence += 1;
        let sequence = mind.tick_sequence;
        let late = self.lateness(|jitter| jitter.wake_up);
        self.later(host, at - now + late, AgentEvent::Tick { sequence });
    }

    /// The first view of the store is there: from now on the loop decides.
    pub(crate) fn begin_loop(&mut self, host: HostId) {
        self.hosts[host].agent.mind.started = true;
        self.wake(host);
    }

    /// One turn of the loop.
    fn tick(&mut self, host: HostId) {
        let view = self.observe(host);
        let decision = self.decide_for(host, &view);
        self.stats.decisions += 1;
        self.coverage.count(&decision);
        self.check_calm(host, &decision);
        self.trace.mix(&[self.now, 0xDE, host as u64, decision.actions.len() as u64]);
        self.trace.mix_text(decision.reasons[0].code());
        if self.trace.is_on() {
            self.trace_decision(host, &view, &decision);
        }
        let wake_at = self.hosts[host].virtual_time(decision.wake_at);
        let (now, loop_wait) = (self.now, self.scenario.loop_wait);
        let mind = &mut self.hosts[host].agent.mind;
        mind.asks_for_copy = decision
            .reasons
            .iter()
            .any(|reason| matches!(reason, Reason::DivergedBeyondRewind | Reason::DivergedWithoutRemedy));
        mind.memory = decision.memory;
        mind.last_decided_at = now;
        mind.tick_at = Nanos::MAX;
        mind.tick_sequence += 1;
        // A decision that asks to be repeated at once would stop the clock.
        let next = wake_at.clamp(now + MILLIS, now + loop_wait);
        mind.execution = Some(Execution::new(decision.actions, next));
        self.execute_next(host);
    }

    /// All actions were done, or one did not succeed: sleep until the next turn.
    pub(crate) fn end_execution(&mut self, host: HostId) {
        let mind = &mut self.hosts[host].agent.mind;
        let Some(execution) = mind.execution.take() else { return };
        let next = execution.next_tick;
        if std::mem::take(&mut mind.wake_wanted) || execution.again {
            self.wake(host);
        } else {
            self.plan_tick(host, next.max(self.now + 100 * MICROS));
        }
    }

    fn trace_decision(&mut self, host: HostId, view: &View, decision: &bellwether_ha::Decision) {
        let boring = |action: &&Action| {
            !matches!(
                action,
                Action::PublishMember { .. } | Action::WriteStatus { .. } | Action::PollPeers { .. }
            )
        };
        let actions: Vec<String> = decision.actions.iter().filter(boring).map(|a| format!("{a:?}")).collect();
        let codes: Vec<&str> = decision.reasons.iter().map(|reason| reason.code()).collect();
        let line = format!(
            "decides {} [{}] role {} {:?} lease {:?} leader {:?}",
            codes.join(","),
            actions.join("; "),
            view.postgres.role,
            view.postgres.process,
            view.lease,
            view.store.cluster.as_ref().and_then(|cluster| cluster.leader_name()),
        );
        let now = self.now;
        let key = format!("{} {}", codes.join(","), actions.join(";"));
        let said = self.said.entry(host).or_default();
        if *said != key {
            *said = key;
            let who = self.names.of(host).to_string();
            self.trace.line(now, &who, || line);
        }
    }

    fn postmaster_exited(&mut self, host: HostId) {
        let orphans = self.hosts[host].pg.orphans.is_some();
        if orphans {
            // Children that outlived the postmaster are killed before anybody is told that it is gone.
            self.hosts[host].agent.mind.sweeping = true;
            let id = 0;
            let delay = self.random.between(5, 50) * MILLIS;
            self.later(host, delay, AgentEvent::Job { id });
        }
        self.wake(host);
    }

    /// The sweep after an unexpected exit.
    pub(crate) fn swept(&mut self, host: HostId) {
        self.hosts[host].agent.mind.sweeping = false;
        self.hosts[host].pg.orphans = None;
        self.wake(host);
    }

    /// Is the loop alive? The keeper does not renew for one that hangs.
    pub(crate) fn is_loop_stuck(&self, host: HostId) -> bool {
        let mind = &self.hosts[host].agent.mind;
        mind.started && self.now.saturating_sub(mind.last_decided_at) > self.scenario.ttl.max(2 * SECONDS)
    }
}

/// Members' addresses, as actions carry them.
pub type Members = BTreeMap<bellwether_types::MemberName, String>;
