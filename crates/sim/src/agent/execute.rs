//! Executes the actions of one decision in order, and stops at the first that does not succeed.

mod store;

use std::collections::VecDeque;

use bellwether_ha::{
    Action,
    action::{Answer as RequestAnswer, Exit, NextTimeline},
};
use bellwether_types::{
    Timestamp,
    cluster::{ConfigDocument, Initialize, TimelineClaim},
};

use crate::{
    event::{AgentEvent, HostId},
    schedule::{MILLIS, Nanos},
    store::{Condition, Key, Write},
    world::World,
};

/// The actions of a decision that are still to be done.
#[derive(Debug)]
pub struct Execution {
    actions: VecDeque<Action>,
    /// When the loop decides again if nothing happens.
    pub next_tick: Nanos,
    /// The action that is under way.
    waiting_for: u64,
    /// Whether its success is a reason to decide again.
    is_news: bool,
    /// Something was done that the next decision may hang on: it follows at once.
    pub again: bool,
}

impl Execution {
    pub fn new(actions: Vec<Action>, next_tick: Nanos) -> Self {
        Self { actions: actions.into(), next_tick, waiting_for: 0, is_news: false, again: false }
    }
}

/// After a failure the loop takes a breath, as the agent's does.
const BREATH: Nanos = 100 * MILLIS;

/// Milliseconds before each look at a checkpointer that was told to read the files.
const PAUSES: [u64; 5] = [2, 4, 8, 16, 32];

/// How an action goes on.
enum Step {
    /// It was so already, or it tells by itself when it has ended.
    Done,
    /// The next decision may differ.
    Changed,
    Failed,
    /// An event will tell.
    Waits,
}

impl World {
    pub(crate) fn execute_next(&mut self, host: HostId) {
        loop {
            let mind = &mut self.hosts[host].agent.mind;
            let Some(execution) = &mut mind.execution else { return };
            let Some(action) = execution.actions.pop_front() else { return self.end_execution(host) };
            // These are written beside the loop, and nothing waits for them.
            execution.is_news = !matches!(
                action,
                Action::PublishMember { .. }
                    | Action::WriteStatus { .. }
                    | Action::WriteHistory { .. }
                    | Action::WriteFailsafe { .. }
            );
            match self.execute(host, action) {
                Step::Done => {}
                Step::Changed => self.decide_again(host),
                Step::Failed => return self.give_up(host),
                Step::Waits => return,
            }
        }
    }

    fn decide_again(&mut self, host: HostId) {
        if let Some(execution) = &mut self.hosts[host].agent.mind.execution {
            execution.again = true;
        }
    }

    /// What comes after an action that failed rested on it.
    fn give_up(&mut self, host: HostId) {
        let now = self.now;
        if let Some(execution) = &mut self.hosts[host].agent.mind.execution {
            execution.again = false;
            execution.next_tick = execution.next_tick.min(now + BREATH);
        }
        self.end_execution(host);
    }

    pub(crate) fn action_done(&mut self, host: HostId, id: u64) {
        self.action_answered(host, id, true);
    }

    /// The action under way has ended.
    pub(crate) fn action_answered(&mut self, host: HostId, id: u64, succeeded: bool) {
        let mind = &mut self.hosts[host].agent.mind;
        if mind.execution.as_ref().is_none_or(|execution| execution.waiting_for != id) {
            return;
        }
        if !succeeded {
            return self.give_up(host);
        }
        if mind.execution.as_ref().is_some_and(|execution| execution.is_news) {
            self.decide_again(host);
        }
        self.execute_next(host);
    }

    fn wait_id(&mut self, host: HostId) -> u64 {
        let mind = &mut self.hosts[host].agent.mind;
        let id = mind.fresh_id();
        if let Some(execution) = &mut mind.execution {
            execution.waiting_for = id;
        }
        id
    }

    /// A local action that takes a moment and has had its effect already.
    fn takes(&mut self, host: HostId, delay: Nanos) -> Step {
        let id = self.wait_id(host);
        self.later(host, delay, AgentEvent::ActionDone { id });
        Step::Waits
    }

    fn execute(&mut self, host: HostId, action: Action) -> Step {
        match action {
            // --- the store ---
            Action::ClaimInitialize => {
                let Some(lease) = self.hosts[host].agent.mind.lease else { return Step::Failed };
                self.disturb_claim(host);
                let claim = match self.bug.forgets_bootstraps() {
                    false => Write::Claim(lease),
                    true => Write::Initialize(Initialize::InProgress),
                };
                self.compare_and_write(host, Key::Initialize, None, claim)
            }
            Action::WriteInitialize { expect } => {
                let data = &self.hosts[host].pg.data;
                let Some(mine) = data.system_id else { return Step::Failed };
                let founder = data.founding.clone().map_or(Write::Delete(Key::Founder), Write::Founder);
                let condition = expect.map_or(Condition::Absent, Condition::At);
                let identity = Write::Initialize(Initialize::Done(mine));
                self.commit(host, vec![(Key::Initialize, condition)], vec![identity, founder])
            }
            Action::RemoveInitialize { expect } => {
                let delete = Write::Delete(Key::Initialize);
                self.compare_and_write(host, Key::Initialize, Some(expect), delete)
            }
            Action::WriteConfig { expect } => {
                // Everything else is known from the scenario.
                let value = match self.scenario.settings.standby_cluster {
                    None => serde_json::json!({ "pause": false }),
                    Some(_) => {
                        serde_json::json!({ "pause": false, "standby_cluster": { "host": "elsewhere" } })
                    }
                };
                self.compare_and_write(host, Key::Config, expect, Write::Config(ConfigDocument::Valid(value)))
            }
            Action::AcquireLease { sync, timeline } => {
                self.take_lock(host, Condition::Absent, sync, timeline)
            }
            Action::RestoreKeys(keys) => self.restore_keys(host, *keys),
            Action::ResumeLease { revision } => {
                let sync =
                    self.hosts[host].agent.mind.cluster.as_ref().and_then(|cluster| cluster.sync_revision());
                self.take_lock(host, Condition::At(revision), sync, None)
            }
            Action::ReleaseLease { optime } => self.release_lock(host, optime),
            Action::PublishMember { member } => self.publish_member(host, &member),
            Action::WriteStatus { status } => self.write_as_leader(host, Vec::new(), Write::Status(status)),
            Action::WriteSync { expect, state } => {
                let condition = expect.map_or(Condition::Absent, Condition::At);
                self.write_as_leader(host, vec![(Key::Sync, condition)], Write::Sync(state))
            }
            Action::DeleteSync { expect } => {
                let check = (Key::Sync, Condition::At(expect));
                self.write_as_leader(host, vec![check], Write::Delete(Key::Sync))
            }
            Action::WriteFailover { expect, request } => {
                self.compare_and_write(host, Key::Failover, Some(expect), Write::Failover(request))
            }
            Action::TakeTimeline { next: NextTimeline { timeline, expect } } => {
                let expect = (Key::Timeline, expect.map_or(Condition::Absent, Condition::At));
                let claim = TimelineClaim { timeline, leader: self.names.of(host).clone() };
                self.write_as_leader(host, vec![expect], Write::Timeline(claim))
            }
            Action::WriteHistory { history } => {
                self.write_as_leader(host, Vec::new(), Write::History(history))
            }
            Action::WriteFailsafe { map } => self.write_as_leader(host, Vec::new(), Write::Failsafe(map)),

            Action::OpenEpoch { expect, takeover } => {
                let checks = vec![
                    (Key::Takeover, expect.map_or(Condition::Absent, Condition::At)),
                    (Key::Leader, Condition::At(takeover.leader_revision)),
                    (Key::Sync, Condition::At(takeover.sync_revision)),
                ];
                self.commit(host, checks, vec![Write::Takeover(takeover)])
            }
            Action::CloseEpoch { opened_at, takeover } => {
                self.compare_and_write(host, Key::Takeover, Some(opened_at), Write::Takeover(takeover))
            }
            Action::TakeOver(over) => self.take_over(host, *over),
            Action::DetachAndPromise { revision, epoch, leader } => {
                if self.hosts[host].promise.as_ref().is_some_and(|kept| kept.promise.revision == revision) {
                    return Step::Done;
                }
                let id = self.wait_id(host);
                self.detach(host, id, revision, epoch, leader);
                Step::Waits
            }
            Action::ForgetPromise { revision } => {
                let bound = &mut self.hosts[host].promise;
                if bound.as_ref().is_some_and(|kept| kept.promise.revision == revision) {
                    *bound = None;
                }
                self.takes(host, 2 * MILLIS)
            }
            attaching if self.is_forbidden(host, &attaching) => Step::Failed,

            // --- peers ---
            Action::PollPeers { members, timeout } => {
                self.poll_peers(host, &members, timeout);
                Step::Done
            }
            Action::AskFailsafe { members, rely_on } => {
                self.ask_failsafe(host, &members, rely_on);
                Step::Done
            }
            Action::ClearFailsafe => {
                self.hosts[host].acceptance = None;
                self.hosts[host].agent.mind.rounds.failsafe = None;
                Step::Changed
            }

            // --- fencing ---
            Action::ArmGuardian { until } => {
                if self.arm_guardian(host, until) {
                    self.takes(host, MILLIS / 2)
                } else {
                    Step::Failed
                }
            }
            Action::DisarmGuardian => {
                self.disarm_guardian(host);
                Step::Changed
            }
            Action::RespawnGuardian => {
                if self.hosts[host].troubles.no_guardian > 0 {
                    return Step::Failed;
                }
                self.hosts[host].guardian.alive = true;
                self.takes(host, 10 * MILLIS)
            }
            other => self.execute_local(host, other),
        }
    }

    /// PostgreSQL and people.
    fn execute_local(&mut self, host: HostId, action: Action) -> Step {
        match action {
            Action::Follow { upstream } => {
                self.pg_follow(host, upstream);
                self.takes(host, 5 * MILLIS)
            }
            Action::SetSyncNames { names } => {
                self.note(host, "sync", &[1], || format!("synchronous_standby_names = {names:?}"));
                self.pg_set_sync_names(host, &names);
                self.takes(host, 5 * MILLIS)
            }
            Action::ProbeCommit => {
                self.probe_commit(host);
                Step::Changed
            }
            Action::GenerateWal => {
                self.pg_generate_wal(host);
                self.takes(host, MILLIS)
            }
            Action::ProveNamesInForce => self.prove_names_in_force(host),
            Action::CreateSlots { names } => {
                self.create_slots(host, names);
                self.takes(host, 2 * MILLIS)
            }
            Action::DropSlots { slots } => {
                self.hosts[host].pg.data.slots.retain(|slot, _| !slots.contains_key(slot));
                self.takes(host, 2 * MILLIS)
            }
            Action::SetDataDirectoryAside { .. } => {
                if !self.hosts[host].pg.is_down() || self.hosts[host].pg.orphans.is_some() {
                    return Step::Failed;
                }
                self.note(host, "pg", &[10], || "data directory removed".to_owned());
                self.hosts[host].pg.data = crate::pg::Data::default();
                self.takes(host, 50 * MILLIS)
            }
            Action::FinishBootstrap => {
                self.hosts[host].failed_bootstraps = None;
                let data = &mut self.hosts[host].pg.data;
                (data.in_the_making, data.founding) = (false, None);
                self.takes(host, MILLIS)
            }
            Action::CancelJob { kind } => {
                self.cancel_job(host, &kind);
                Step::Changed
            }
            Action::SetRole { role } => {
                self.hosts[host].agent.mind.role = role;
                Step::Changed
            }
            Action::SetState { state } => {
                self.hosts[host].agent.mind.state = state;
                Step::Changed
            }
            Action::AdvanceSlots { to } => {
                self.advance_slots(host, to.into_iter());
                self.takes(host, MILLIS)
            }
            Action::CreateLogicalSlots { slots } => {
                self.create_logical(host, slots);
                Step::Changed
            }
            Action::AdvanceLogicalSlots { to } => {
                self.advance_slots(host, to.into_iter().map(|(name, advance)| (name, advance.to)));
                Step::Changed
            }
            Action::AskLeaderSlots { leader, names, states_of } => {
                self.ask_leader_slots(host, &leader, &names, &states_of);
                self.takes(host, 3 * MILLIS)
            }
            Action::ForceFeedback { on } => {
                self.hosts[host].pg.data.feedback = on;
                self.takes(host, 2 * MILLIS)
            }
            Action::ResumeReplay => {
                if let Some(server) = self.hosts[host].pg.server_mut() {
                    server.replay_paused = false;
                }
                self.takes(host, MILLIS)
            }
            Action::ActivateWatchdog => {
                if self.activate_watchdog(host) {
                    Step::Changed
                } else {
                    Step::Failed
                }
            }
            Action::DisableWatchdog => {
                self.hosts[host].watchdog_active = false;
                Step::Changed
            }
            Action::Reload | Action::RunCallback { .. } => Step::Done,
            Action::Answer { request, answer } => {
                self.note(host, "api", &[1], || format!("request {request}: {answer:?}"));
                if !matches!(answer, RequestAnswer::Refused { .. }) {
                    self.stats.requests_accepted += 1;
                }
                self.hosts[host].agent.mind.requests.retain(|pending| pending.id != request);
                Step::Done
            }
            Action::Exit { exit } => {
                self.agent_exits(host, &exit);
                Step::Waits
            }
            job => {
                if self.begin_job(host, job) {
                    Step::Done
                } else {
                    Step::Failed
                }
            }
        }
    }

    fn prove_names_in_force(&mut self, host: HostId) -> Step {
        let since = self.hosts[host].clock(self.now);
        let generation = self.hosts[host].pg.generation;
        self.signal_checkpointer(host);
        let id = self.wait_id(host);
        self.look_at_checkpointer(host, id, (generation, since), 0);
        Step::Waits
    }

    fn look_at_checkpointer(&mut self, host: HostId, id: u64, read: (u32, Timestamp), looks: usize) {
        let delay = PAUSES[looks] * MILLIS;
        self.later(host, delay, AgentEvent::CheckpointerSeen { id, read, looks });
    }

    /// It is idle, so it has read the files; or it is looked at again, as often as the agent does.
    pub(crate) fn checkpointer_seen(&mut self, host: HostId, id: u64, read: (u32, Timestamp), looks: usize) {
        if self.hosts[host].pg.generation == read.0 && self.is_checkpointer_idle(host) {
            self.hosts[host].agent.mind.checkpointer_read = Some(read);
        } else if looks + 1 < PAUSES.len() {
            return self.look_at_checkpointer(host, id, read, looks + 1);
        }
        self.action_done(host, id);
    }

    fn agent_exits(&mut self, host: HostId, exit: &Exit) {
        self.note(host, "agent", &[2], || format!("exits: {exit:?}"));
        self.check_exit(host, exit);
        if *exit == Exit::BootstrapFailed {
            self.note_failed_bootstrap(host);
        }
        // Its guardian has nothing left to guard when it exits in order.
        if !self.hosts[host].pg.is_primary() {
            self.disarm_guardian(host);
        }
        self.agent_dies(host);
        let delay = self.random.between(500, 3_000) * MILLIS;
        self.respawn_agent(host, delay);
    }
}
