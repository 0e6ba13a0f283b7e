//! Long actions beside the loop: one at a time, each a sequence of steps in virtual time.
//!
//! Only a demotion may replace a running job; its escalation has a clock of its own. What can hurt checks its fence at the moment of
//! the effect, not when it was decided.

use std::time::Duration;

use bellwether_ha::{
    Action,
    action::{DemoteMode, Fence, StartRole, StopMode, TakenTimelines},
    view::{ControlState, Divergence, Job, JobKind, JobOutcome, JobPhase, Upstream},
};
use bellwether_types::{PostgresState, Role};

use crate::{
    event::{AgentEvent, HostId},
    pg::{Files, Run},
    schedule::{MILLIS, Nanos, SECONDS},
    world::World,
};

#[derive(Debug)]
pub struct RunningJob {
    pub id: u64,
    pub shown: Job,
    plan: Plan,
    step: u32,
    began: Nanos,
}

/// What the job does. The steps are numbers that each plan counts for itself.
#[derive(Clone, Debug)]
enum Plan {
    Bootstrap,
    PostBootstrap,
    Clone { from: Option<Upstream> },
    Reinitialize { from: Upstream },
    Start { role: StartRole },
    Restart { stop_limit: Duration, fence: Option<Fence> },
    Promote { fence: Fence, taken: Option<TakenTimelines> },
    Demote { mode: DemoteMode, stop_limit: Option<Duration> },
    Stop { mode: StopMode },
    CheckDivergence { leader: Upstream },
    CrashRecovery,
    Rewind { source: Upstream },
    Checkpoint,
}

/// How often a job looks whether what it waits for has come.
const LOOK_AGAIN: Nanos = 10 * MILLIS;
/// An unreachable host takes so long to be noticed.
const CONNECT_TIMEOUT: Nanos = 2 * SECONDS;
/// A server that did not answer by then is left to start by itself (`pg_ctl_timeout`).
const START_TIMEOUT: Nanos = 60 * SECONDS;

/// What a step asks for.
enum Next {
    /// Go on with this step after a while.
    At(u32, Nanos),
    Succeeded,
    Failed(&'static str),
    SourceUnreachable(&'static str),
}

impl World {
    /// False: a job runs already.
    pub(crate) fn begin_job(&mut self, host: HostId, action: Action) -> bool {
        let (kind, plan) = match action {
            Action::Bootstrap => (JobKind::Bootstrap, Plan::Bootstrap),
            Action::PostBootstrap => (JobKind::PostBootstrap, Plan::PostBootstrap),
            Action::Clone { from } => (JobKind::Clone, Plan::Clone { from }),
            Action::Reinitialize { from, .. } => (JobKind::Reinitialize, Plan::Reinitialize { from }),
            Action::Start { role } => (JobKind::Start, Plan::Start { role }),
            Action::Restart { stop_limit, fence, .. } => {
                (JobKind::Restart, Plan::Restart { stop_limit, fence })
            }
            Action::Promote { fence, taken } => (JobKind::Promote, Plan::Promote { fence, taken }),
            Action::Demote { mode, stop_limit } => (JobKind::Demote, Plan::Demote { mode, stop_limit }),
            Action::Stop { mode } => (JobKind::Stop, Plan::Stop { mode }),
            Action::CheckDivergence { leader } => {
                (JobKind::CheckDivergence, Plan::CheckDivergence { leader })
            }
            Action::CrashRecovery => (JobKind::CrashRecovery, Plan::CrashRecovery),
            Action::Rewind { source } => (JobKind::Rewind, Plan::Rewind { source }),
            Action::Checkpoint => (JobKind::Checkpoint, Plan::Checkpoint),
            other => unreachable!("{other:?} is no job"),
        };
        if self.hosts[host].agent.mind.job.is_some() {
            if kind != JobKind::Demote {
                return false;
            }
            self.finish_job(host, JobOutcome::Cancelled);
        }
        self.check_job(host, &kind);
        self.check_standby(host, &kind);
        if kind == JobKind::Bootstrap {
            self.disturb_bootstrap(host);
        }
        let since = self.hosts[host].clock(self.now);
        let phase = if kind == JobKind::Promote { JobPhase::PrePromote } else { JobPhase::Working };
        let began = self.now;
        let line = format!("{plan:?} begins");
        let mind = &mut self.hosts[host].agent.mind;
        let id = mind.fresh_id();
        mind.job = Some(RunningJob { id, shown: Job { kind, since, phase }, plan, step: 0, began });
        self.note(host, "job", &[1], || line);
        self.job_goes_on(host, id);
        true
    }

    pub(crate) fn cancel_job(&mut self, host: HostId, kind: &JobKind) {
        let matches = self.hosts[host].agent.mind.job.as_ref().is_some_and(|job| {
            job.shown.kind == *kind && (*kind != JobKind::Promote || job.shown.phase == JobPhase::PrePromote)
        });
        if matches {
            self.finish_job(host, JobOutcome::Cancelled);
        }
    }

    pub(crate) fn job_goes_on(&mut self, host: HostId, id: u64) {
        if id == 0 {
            return self.swept(host);
        }
        let Some(job) = self.hosts[host].agent.mind.job.as_ref().filter(|job| job.id == id) else { return };
        let (step, plan, began) = (job.step, job.plan.clone(), job.began);
        let next = match plan {
            Plan::Bootstrap => self.bootstrap(host, step),
            Plan::PostBootstrap if step == 0 => Next::At(1, 80 * MILLIS),
            Plan::PostBootstrap => match self.hosts[host].pg.is_primary() {
                true => {
                    self.hosts[host].pg.data.has_roles = true;
                    Next::Succeeded
                }
                false => Next::Failed("the server is gone"),
            },
            Plan::Clone { from } => self.clone_from(host, step, from.as_ref()),
            Plan::Reinitialize { from } => self.reinitialize(host, step, &from),
            Plan::Start { role } => self.start(host, step, &role, began),
            Plan::Restart { stop_limit, fence } => {
                self.restart(host, step, stop_limit, fence.as_ref(), began)
            }
            Plan::Promote { fence, taken } => self.promote(host, step, &fence, taken),
            Plan::Demote { mode, stop_limit } => self.demote(host, step, (mode, stop_limit), began),
            Plan::Stop { mode } => self.stop(host, step, mode, began),
            Plan::CheckDivergence { leader } => self.check_divergence(host, step, &leader),
            Plan::CrashRecovery => self.crash_recovery(host, step),
            Plan::Rewind { source } => self.rewind(host, step, &source),
            Plan::Checkpoint => self.checkpoint_job(host, step),
        };
        match next {
            Next::At(step, delay) => {
                if let Some(job) = self.hosts[host].agent.mind.job.as_mut().filter(|job| job.id == id) {
                    job.step = step;
                    self.later(host, delay, AgentEvent::Job { id });
                }
            }
            Next::Succeeded => self.finish_job(host, JobOutcome::Succeeded),
            Next::Failed(why) => {
                self.finish_job(host, JobOutcome::Failed { why: why.to_owned(), source_unreachable: false });
            }
            Next::SourceUnreachable(why) => {
                self.finish_job(host, JobOutcome::Failed { why: why.to_owned(), source_unreachable: true });
            }
        }
    }

    /// The shutdown checkpoint is on disk: a job that waits for the stop says so.
    pub(crate) fn agent_hears_of_checkpoint(&mut self, host: HostId) {
        let control = &self.hosts[host].pg.data.control;
        let phase = JobPhase::ShutdownCheckpoint {
            checkpoint: control.checkpoint,
            end: control.shutdown_end.unwrap_or(control.checkpoint),
        };
        let agent = &mut self.hosts[host].agent;
        let Some(job) = agent.mind.job.as_mut() else { return };
        if agent.alive && matches!(job.shown.kind, JobKind::Demote | JobKind::Stop) {
            job.shown.phase = phase;
            self.wake(host);
        }
    }

    fn bootstrap(&mut self, host: HostId, step: u32) -> Next {
        match step {
            0 => Next::At(1, self.random.between(300, 1_500) * MILLIS),
            1 => {
                self.pg_initdb(host);
                match self.pg_start(host, false) {
                    Ok(()) => Next::At(2, LOOK_AGAIN),
                    Err(why) => Next::Failed(why),
                }
            }
            _ => match &self.hosts[host].pg.run {
                Run::Up(_) => Next::Succeeded,
                Run::Starting { .. } => Next::At(2, LOOK_AGAIN),
                Run::Down => Next::Failed("the server did not start"),
            },
        }
    }

    fn can_copy_from(&self, host: HostId, source: HostId) -> bool {
        source != host
            && self.is_way_open(host, source)
            && self.is_way_open(source, host)
            && self.is_consistent_clone_source(source)
    }

    fn unreachable(&self, step: u32) -> Next {
        match step {
            0 => Next::At(1, CONNECT_TIMEOUT),
            _ => Next::SourceUnreachable("nobody is there"),
        }
    }

    fn clone_from(&mut self, host: HostId, step: u32, from: Option<&Upstream>) -> Next {
        let Some(from) = from else { return Next::Failed("no method without a source") };
        let Some(source) = self.names.source(from) else { return self.unreachable(step) };
        let reachable = self.can_copy_from(host, source);
        let pg = &mut self.hosts[host].pg;
        match step {
            _ if !pg.is_down() => Next::Failed("the server runs"),
            0 if !reachable => Next::At(2, CONNECT_TIMEOUT),
            0 => {
                pg.data = crate::pg::Data { files: Files::Partial, ..crate::pg::Data::default() };
                Next::At(1, self.random.between(300, 5_000) * MILLIS)
            }
            1 if reachable => {
                self.pg_cloned(host, source);
                self.stats.clones += 1;
                Next::Succeeded
            }
            _ => Next::SourceUnreachable("could not connect to the source"),
        }
    }

    fn reinitialize(&mut self, host: HostId, step: u32, from: &Upstream) -> Next {
        let down = self.hosts[host].pg.is_down();
        match step {
            0 => {
                self.pg_stop(host, false);
                Next::At(1, LOOK_AGAIN)
            }
            1 if !down => Next::At(1, LOOK_AGAIN),
            1 => {
                self.hosts[host].pg.orphans = None;
                self.clone_step(host, 0, from)
            }
            step => self.clone_step(host, step - 10, from),
        }
    }

    /// The steps of a clone, counted from ten.
    fn clone_step(&mut self, host: HostId, step: u32, from: &Upstream) -> Next {
        match self.clone_from(host, step, Some(from)) {
            Next::At(step, delay) => Next::At(step + 10, delay),
            other => other,
        }
    }

    fn fence_holds(&self, host: HostId, fence: &Fence) -> bool {
        let now = self.hosts[host].clock(self.now);
        let guardian = &self.hosts[host].guardian;
        let guarded = !self.scenario.guardian
            || !self.bug.arms_guardian()
            || (guardian.alive && guardian.deadline.is_some_and(|until| now < until));
        guarded && self.hosts[host].agent.mind.is_fence_whole(fence, now)
    }

    fn start(&mut self, host: HostId, step: u32, role: &StartRole, began: Nanos) -> Next {
        if step == 0 {
            let standby = match role {
                StartRole::Primary { fence } if !self.fence_holds(host, fence) => {
                    return Next::Failed("the right to lead has ended");
                }
                StartRole::Primary { .. } => false,
                StartRole::Standby { upstream } | StartRole::StandbyLeader { upstream } => {
                    self.hosts[host].pg.data.upstream = upstream.clone();
                    true
                }
            };
            self.check_start(host);
            if let Err(why) = self.pg_start(host, standby) {
                return Next::Failed(why);
            }
            let mind = &mut self.hosts[host].agent.mind;
            mind.state = PostgresState::Starting;
            mind.role = match role {
                StartRole::Primary { .. } => Role::Primary,
                StartRole::Standby { .. } => Role::Replica,
                StartRole::StandbyLeader { .. } => Role::StandbyLeader,
            };
            self.wake(host);
        }
        self.started_yet(host, 1, began)
    }

    fn started_yet(&mut self, host: HostId, step: u32, began: Nanos) -> Next {
        match &self.hosts[host].pg.run {
            Run::Up(_) => Next::Succeeded,
            Run::Starting { .. } if self.now < began + START_TIMEOUT => Next::At(step, LOOK_AGAIN),
            Run::Starting { .. } => Next::Succeeded,
            Run::Down => {
                self.hosts[host].agent.mind.state = PostgresState::StartFailed;
                Next::Failed("the server exited")
            }
        }
    }

    fn restart(
        &mut self,
        host: HostId,
        step: u32,
        stop_limit: Duration,
        fence: Option<&Fence>,
        began: Nanos,
    ) -> Next {
        let stops_for = self.now - began;
        match step {
            0 => {
                self.hosts[host].agent.mind.state = PostgresState::Restarting;
                self.pg_stop(host, true);
                Next::At(1, LOOK_AGAIN)
            }
            1 if !self.hosts[host].pg.is_down() => {
                let limit = u64::try_from(stop_limit.as_nanos()).expect("no such long limits");
                if self.bug.limits_stops() && stops_for > 2 * limit {
                    self.pg_kill(host);
                } else if self.bug.limits_stops() && stops_for > limit {
                    self.pg_stop(host, false);
                }
                self.check_stop_of_restart(host, stops_for, limit);
                Next::At(1, LOOK_AGAIN)
            }
            1 if fence.is_some_and(|fence| !self.fence_holds(host, fence)) => {
                Next::Failed("the right to lead has ended")
            }
            1 => {
                let standby = self.hosts[host].pg.data.standby_signal;
                match self.pg_start(host, standby) {
                    Ok(()) => Next::At(2, LOOK_AGAIN),
                    Err(why) => Next::Failed(why),
                }
            }
            _ => self.started_yet(host, 2, began),
        }
    }

    fn promote(&mut self, host: HostId, step: u32, fence: &Fence, taken: Option<TakenTimelines>) -> Next {
        match step {
            0 => Next::At(1, MILLIS),
            1 => {
                if !self.fence_holds(host, fence) {
                    return Next::Failed("the right to lead has ended");
                }
                let skip = taken.map(|taken| taken.through).filter(|_| self.bug.skips_taken_timelines());
                if !self.pg_promote(host, skip) {
                    return Next::Failed("the server cannot be promoted");
                }
                let mind = &mut self.hosts[host].agent.mind;
                mind.role = Role::Promoted;
                if let Some(job) = &mut mind.job {
                    job.shown.phase = JobPhase::Working;
                }
                Next::At(2, LOOK_AGAIN)
            }
            _ => match self.hosts[host].pg.server() {
                None => Next::Failed("the server is gone"),
                Some(server) if server.in_recovery => Next::At(2, LOOK_AGAIN),
                Some(_) => {
                    self.set_role(host, Role::Primary);
                    Next::Succeeded
                }
            },
        }
    }

    fn demote(
        &mut self,
        host: HostId,
        step: u32,
        (mode, stop_limit): (DemoteMode, Option<Duration>),
        began: Nanos,
    ) -> Next {
        if self.hosts[host].pg.is_down() {
            // Backends without a postmaster can still report a commit.
            self.hosts[host].pg.orphans = None;
            let mind = &mut self.hosts[host].agent.mind;
            mind.role = Role::Demoted;
            mind.state = PostgresState::Stopped;
            return Next::Succeeded;
        }
        let elapsed = self.now - began;
        match (step, mode) {
            (0, mode) => {
                self.hosts[host].agent.mind.state = PostgresState::Stopping;
                if self.bug.loosens_names_first() {
                    self.pg_set_sync_names(host, "");
                    return Next::At(1, 30 * MILLIS);
                }
                self.begin_stop(host, mode);
                Next::At(2, LOOK_AGAIN)
            }
            (1, mode) => {
                self.begin_stop(host, mode);
                Next::At(2, LOOK_AGAIN)
            }
            (_, DemoteMode::Graceful | DemoteMode::DemoteCluster) => {
                let limit =
                    stop_limit.map_or(Nanos::MAX, |limit| u64::try_from(limit.as_nanos()).expect("short"));
                if elapsed > limit.saturating_mul(2) {
                    self.pg_kill(host);
                } else if elapsed > limit {
                    self.pg_stop(host, false);
                }
                Next::At(2, LOOK_AGAIN)
            }
            (step, DemoteMode::Offline { stop_by }) => {
                let kill_at = self.hosts[host].virtual_time(stop_by);
                if self.now + LOOK_AGAIN >= kill_at && elapsed > 100 * MILLIS {
                    self.pg_kill(host);
                } else if step == 2 && elapsed > SECONDS / 2 {
                    self.pg_stop(host, false);
                    return Next::At(3, LOOK_AGAIN);
                }
                Next::At(step, LOOK_AGAIN)
            }
            (step, DemoteMode::Immediate | DemoteMode::ImmediateNoLock) => {
                if elapsed > SECONDS {
                    self.pg_kill(host);
                }
                Next::At(step, LOOK_AGAIN)
            }
        }
    }

    fn begin_stop(&mut self, host: HostId, mode: DemoteMode) {
        let fast = !matches!(mode, DemoteMode::Immediate | DemoteMode::ImmediateNoLock);
        self.pg_stop(host, fast);
    }

    fn stop(&mut self, host: HostId, step: u32, mode: StopMode, began: Nanos) -> Next {
        if self.hosts[host].pg.is_down() {
            self.hosts[host].pg.orphans = None;
            self.hosts[host].agent.mind.state = PostgresState::Stopped;
            return Next::Succeeded;
        }
        if step == 0 {
            self.hosts[host].agent.mind.state = PostgresState::Stopping;
            self.pg_stop(host, mode == StopMode::Fast);
        }
        if self.now > began + 30 * SECONDS {
            self.pg_kill(host);
        }
        Next::At(1, LOOK_AGAIN)
    }

    fn check_divergence(&mut self, host: HostId, step: u32, leader: &Upstream) -> Next {
        let Some(source) = self.names.source(leader) else { return self.unreachable(step) };
        let reachable = self.can_copy_from(host, source);
        match step {
            0 if !reachable => Next::At(2, CONNECT_TIMEOUT),
            0 => Next::At(1, self.random.between(2, 30) * MILLIS),
            1 if reachable => match self.divergence(host, source) {
                Some(found) => {
                    self.hosts[host].agent.mind.divergence = Some(found);
                    Next::Succeeded
                }
                None => Next::Failed("the local position is not known yet"),
            },
            _ => Next::SourceUnreachable("could not connect to the leader"),
        }
    }

    /// The evidence, collected as section 2.19.4 of the semantics tells.
    fn divergence(&self, host: HostId, source: HostId) -> Option<Divergence> {
        let (mine, theirs) = (&self.hosts[host].pg, &self.hosts[source].pg);
        let control = &mine.data.control;
        let lsn = |at| self.wal.lsn(at);
        let (local_timeline, local_lsn) = match (mine.server(), control.state) {
            (Some(_), _) => (self.wal.timeline(mine.data.flushed), lsn(mine.data.flushed)),
            (None, ControlState::ShutDownInRecovery | ControlState::InArchiveRecovery) => {
                match control.minimum_recovery {
                    Some(at) => (self.wal.timeline(at), lsn(at)),
                    None => (control.timeline, control.checkpoint),
                }
            }
            (None, ControlState::ShutDown) => (control.timeline, control.checkpoint),
            _ => return None,
        };
        Some(Divergence {
            checked_at: self.hosts[host].clock(self.now),
            leader: self.names.of(source).clone(),
            leader_is_primary: theirs.is_primary(),
            leader_timeline: self.wal.timeline(theirs.data.flushed),
            leader_history: self.wal.history(theirs.data.flushed).to_vec(),
            local_timeline,
            local_history: self.wal.history(mine.data.flushed).to_vec(),
            local_lsn,
            local_was_primary: mine.server().is_none() && control.state == ControlState::ShutDown,
            shutdown_checkpoint_end: control.shutdown_end,
        })
    }

    fn crash_recovery(&mut self, host: HostId, step: u32) -> Next {
        let pg = &self.hosts[host].pg;
        if !pg.is_down() || pg.orphans.is_some() || pg.data.files != Files::Present || pg.data.torn {
            return Next::Failed("single-user mode did not start");
        }
        if step == 0 {
            return Next::At(1, self.random.between(100, 3_000) * MILLIS);
        }
        self.pg_crash_recovered(host);
        Next::Succeeded
    }

    fn rewind(&mut self, host: HostId, step: u32, source: &Upstream) -> Next {
        let Some(source) = self.names.source(source) else { return self.unreachable(step) };
        let reachable = self.can_copy_from(host, source) && self.hosts[source].pg.is_primary();
        let pg = &mut self.hosts[host].pg;
        match step {
            0 => {
                self.pg_stop(host, true);
                Next::At(1, LOOK_AGAIN)
            }
            1 if !pg.is_down() => Next::At(1, LOOK_AGAIN),
            1 if !reachable => Next::At(3, CONNECT_TIMEOUT),
            1 if pg.data.files != Files::Present => Next::Failed("no data directory"),
            1 => {
                pg.data.torn = true;
                pg.data.control.state = ControlState::InArchiveRecovery;
                Next::At(2, self.random.between(200, 4_000) * MILLIS)
            }
            2 if reachable => {
                let (mine, theirs) = (self.hosts[host].pg.data.flushed, self.hosts[source].pg.data.flushed);
                if self.wal.common(mine, theirs).is_none() {
                    return Next::Failed("source and target cluster are from different systems");
                }
                self.pg_rewound(host, source);
                Next::Succeeded
            }
            _ => Next::SourceUnreachable("could not connect to the source"),
        }
    }

    fn checkpoint_job(&mut self, host: HostId, step: u32) -> Next {
        let pg = &self.hosts[host].pg;
        if step == 0 {
            return if self.pg_checkpoint(host) {
                Next::At(1, LOOK_AGAIN * 3)
            } else {
                Next::Failed("no server")
            };
        }
        match pg.server() {
            Some(server) if self.wal.timeline(server.inserted) == pg.data.control.timeline => Next::Succeeded,
            Some(server) if server.stop.is_none() => Next::At(1, LOOK_AGAIN * 3),
            _ => Next::Failed("the server is gone"),
        }
    }
}
