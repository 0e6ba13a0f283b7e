//! Executes the actions of one decision in order, and stops at the first that does not succeed.

use std::collections::VecDeque;

use bellwether_ha::{
    Action,
    action::{Answer as RequestAnswer, Exit, MemberUpdate, NextTimeline},
    view::{JobOutcome, LeaseView},
};
use bellwether_types::{
    Lsn, ReplicationState, Revision, Role, Timestamp,
    cluster::{ConfigDocument, Initialize, Member, PeerProtocol, Status, TimelineClaim},
};

use crate::{
    agent::lease::Purpose,
    event::{AgentEvent, HostId},
    pg::Files,
    schedule::{MILLIS, Nanos},
    store::{Condition, Key, Operation, Write},
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
}

impl Execution {
    pub fn new(actions: Vec<Action>, next_tick: Nanos) -> Self {
        Self { actions: actions.into(), next_tick, waiting_for: 0 }
    }
}

/// How an action goes on.
enum Step {
    Done,
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
            match self.execute(host, action) {
                Step::Done => {}
                Step::Failed => return self.end_execution(host),
                Step::Waits => return,
            }
        }
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
        if succeeded { self.execute_next(host) } else { self.end_execution(host) }
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

    fn commit(&mut self, host: HostId, checks: Vec<(Key, Condition)>, writes: Vec<Write>) -> Step {
        let id = self.wait_id(host);
        self.ask_store(host, Operation::Commit { checks, writes }, Purpose::Action { id });
        Step::Waits
    }

    fn compare_and_write(&mut self, host: HostId, key: Key, expect: Option<Revision>, write: Write) -> Step {
        let condition = expect.map_or(Condition::Absent, Condition::At);
        self.commit(host, vec![(key, condition)], vec![write])
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
                // In these worlds only the pause changes; everything else is known from the scenario.
                let value = serde_json::json!({ "pause": false });
                self.compare_and_write(host, Key::Config, expect, Write::Config(ConfigDocument::Valid(value)))
            }
            Action::AcquireLease { sync, timeline } => {
                self.take_lock(host, Condition::Absent, sync, timeline)
            }
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

            Action::OpenEpoch { .. }
            | Action::CloseEpoch { .. }
            | Action::TakeOver(_)
            | Action::DetachAndPromise { .. }
            | Action::ForgetPromise { .. } => Step::Failed,

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
                Step::Done
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
                Step::Done
            }
            Action::RespawnGuardian => {
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
            Action::GenerateWal => {
                self.pg_generate_wal(host);
                self.takes(host, MILLIS)
            }
            Action::ProveNamesInForce => self.prove_names_in_force(host),
            Action::CreateSlots { names } => {
                self.hosts[host].pg.data.slots.extend(names);
                self.takes(host, 2 * MILLIS)
            }
            Action::DropSlots { slots } => {
                self.hosts[host].pg.data.slots.retain(|slot| !slots.contains_key(slot));
                self.takes(host, 2 * MILLIS)
            }
            Action::WipeDataDirectory { .. } | Action::SetDataDirectoryAside => {
                if !self.hosts[host].pg.is_down() || self.hosts[host].pg.orphans.is_some() {
                    return Step::Failed;
                }
                self.note(host, "pg", &[10], || "data directory removed".to_owned());
                self.hosts[host].pg.data = crate::pg::Data::default();
                self.takes(host, 50 * MILLIS)
            }
            Action::FinishBootstrap => {
                let data = &mut self.hosts[host].pg.data;
                (data.in_the_making, data.founding) = (false, None);
                self.takes(host, MILLIS)
            }
            Action::CancelJob { kind } => {
                self.cancel_job(host, &kind);
                Step::Done
            }
            Action::SetRole { role } => {
                self.hosts[host].agent.mind.role = role;
                Step::Done
            }
            Action::SetState { state } => {
                self.hosts[host].agent.mind.state = state;
                Step::Done
            }
            Action::AdvanceSlots { .. }
            | Action::CreateLogicalSlots { .. }
            | Action::AdvanceLogicalSlots { .. }
            | Action::AskLeaderSlots { .. }
            | Action::ForceFeedback { .. }
            | Action::Reload
            | Action::ResumeReplay
            | Action::ActivateWatchdog
            | Action::DisableWatchdog
            | Action::RunCallback { .. } => Step::Done,
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
        let delay = self.random.between(2, 40) * MILLIS;
        self.later(host, delay, AgentEvent::CheckpointerSeen { id, since, generation });
        Step::Waits
    }

    pub(crate) fn checkpointer_seen(&mut self, host: HostId, since: Timestamp, generation: u32) {
        if self.hosts[host].pg.generation == generation && self.is_checkpointer_idle(host) {
            self.hosts[host].agent.mind.checkpointer_read = Some((generation, since));
        }
    }

    fn agent_exits(&mut self, host: HostId, exit: &Exit) {
        self.note(host, "agent", &[2], || format!("exits: {exit:?}"));
        self.check_exit(host, exit);
        // Its guardian has nothing left to guard when it exits in order.
        if !self.hosts[host].pg.is_primary() {
            self.disarm_guardian(host);
        }
        self.agent_dies(host);
        let delay = self.random.between(500, 3_000) * MILLIS;
        self.respawn_agent(host, delay);
    }

    fn take_lock(
        &mut self,
        host: HostId,
        leader: Condition,
        sync: Option<Revision>,
        timeline: Option<NextTimeline>,
    ) -> Step {
        let Some(lease) = self.hosts[host].agent.mind.lease else { return Step::Failed };
        let id = self.wait_id(host);
        let sync = match self.bug.checks_sync_revision() {
            true => sync,
            false => self.store.cluster().sync_revision(),
        };
        let sync = sync.map_or(Condition::Absent, Condition::At);
        let mut checks = vec![(Key::Leader, leader), (Key::Sync, sync)];
        let leader = self.names.of(host).clone();
        let mut writes = vec![Write::Leader(leader.clone(), lease)];
        if let Some(NextTimeline { timeline, expect }) = timeline {
            checks.push((Key::Timeline, expect.map_or(Condition::Absent, Condition::At)));
            writes.push(Write::Timeline(TimelineClaim { timeline, leader }));
        }
        self.ask_store(host, Operation::Commit { checks, writes }, Purpose::Taken { id });
        Step::Waits
    }

    fn release_lock(&mut self, host: HostId, optime: Option<Lsn>) -> Step {
        let mind = &mut self.hosts[host].agent.mind;
        // From here on nobody on this host may believe in the lease, whatever the store answers.
        mind.lease_view = LeaseView::NotHeld;
        let Some(lease) = mind.lease else { return Step::Failed };
        let mut writes = Vec::new();
        if let Some(optime) = optime {
            let known = mind.cluster.as_ref().and_then(|cluster| cluster.status.clone());
            let known = known.map(|keyed| keyed.value).unwrap_or_default();
            writes.push(Write::Status(Status { optime, ..known }));
        }
        writes.push(Write::Delete(Key::Leader));
        self.note(host, "lease", &[3], || format!("gives the leader lock up, final position {optime:?}"));
        self.commit(host, vec![(Key::Leader, Condition::HeldBy(lease))], writes)
    }

    /// Keys that only the lock's owner writes, and only while it owns it.
    fn write_as_leader(&mut self, host: HostId, mut checks: Vec<(Key, Condition)>, write: Write) -> Step {
        let Some(lease) = self.hosts[host].agent.mind.lease else { return Step::Failed };
        checks.push((Key::Leader, Condition::HeldBy(lease)));
        self.commit(host, checks, vec![write])
    }

    fn publish_member(&mut self, host: HostId, update: &MemberUpdate) -> Step {
        let member = self.member_value(host, update);
        let mind = &self.hosts[host].agent.mind;
        let known = mind.cluster.as_ref().and_then(|cluster| cluster.member(&member.name));
        if known.is_some_and(|known| Member { revision: member.revision, ..known.clone() } == member) {
            return Step::Done;
        }
        // Without a lease there is nothing to hang the key on; it is written later.
        let Some(lease) = mind.lease else { return Step::Done };
        self.commit(host, Vec::new(), vec![Write::Member(Box::new(member), lease)])
    }

    fn member_value(&self, host: HostId, update: &MemberUpdate) -> Member {
        let pg = &self.hosts[host].pg;
        let mind = &self.hosts[host].agent.mind;
        let mut member = Member::unknown(self.names.of(host).clone());
        member.conn_url = Some(self.names.conn_url(host));
        member.api_url = Some(self.names.api_url(host));
        member.state = Some(mind.state);
        member.role = Some(mind.role);
        member.version = Some("4.1.4".to_owned());
        member.bellwether = Some(PeerProtocol { version: "0.1.0".to_owned(), level: 1 });
        member.pause = update.pause;
        member.checkpoint_after_promote = update.checkpoint_pending.then_some(false);
        if update.release_sync {
            member.tags.0.insert("nosync".to_owned(), true.into());
            member.tags.0.insert("sync_priority".to_owned(), 0.into());
        }
        if let Some(server) = pg.server()
            && pg.data.files == Files::Present
            && !self.is_silent(host)
        {
            member.timeline = Some(self.wal.timeline(pg.data.flushed));
            member.xlog_location = Some(self.wal.lsn(pg.data.flushed));
            if server.in_recovery && server.receiver.is_some() {
                member.replication_state = Some(ReplicationState::Streaming);
            }
        }
        member
    }

    /// The job ended; the loop hears of it.
    pub(crate) fn finish_job(&mut self, host: HostId, outcome: JobOutcome) {
        let now = self.hosts[host].clock(self.now);
        let mind = &mut self.hosts[host].agent.mind;
        let Some(job) = mind.job.take() else { return };
        let kind = job.shown.kind;
        let line = format!("{kind:?} ended: {outcome:?}");
        mind.last_job = Some(bellwether_ha::view::FinishedJob { kind, ended_at: now, outcome });
        self.note(host, "job", &[2], || line);
        self.wake(host);
    }

    pub(crate) fn set_role(&mut self, host: HostId, role: Role) {
        self.hosts[host].agent.mind.role = role;
    }
}
