//! Long actions beside the loop: one at a time, each a sequence of steps in virtual time.
//!
//! Only a demotion may replace a running job; its escalation has a clock of its own. What can hurt checks its fence at the moment of
//! the effect, not when it was decided.

mod copy;
mod server;

use std::{collections::BTreeSet, time::Duration};

use bellwether_ha::{
    Action,
    action::{DemoteMode, Fence, StartRole, StopMode, TakenTimelines},
    view::{FinishedJob, Job, JobKind, JobOutcome, JobPhase, Upstream},
};
use bellwether_types::Role;

use crate::{
    event::{AgentEvent, HostId},
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
    BootstrapStandby { from: Upstream },
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
    Wipe,
    CopySlots { names: BTreeSet<String>, stop_limit: Duration },
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
            Action::WipeDataDirectory { .. } => (JobKind::Wipe, Plan::Wipe),
            Action::CopySlots { names, stop_limit } => {
                (JobKind::CopySlots, Plan::CopySlots { names, stop_limit })
            }
            Action::BootstrapStandby { from } => (JobKind::Bootstrap, Plan::BootstrapStandby { from }),
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
            Plan::Wipe => self.wipe(host, step),
            Plan::CopySlots { names, stop_limit } => self.copy_slots(host, step, &names, stop_limit, began),
            Plan::BootstrapStandby { from } => self.bootstrap_standby(host, step, &from),
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

    /// The job ended; the loop hears of it.
    pub(crate) fn finish_job(&mut self, host: HostId, outcome: JobOutcome) {
        let now = self.hosts[host].clock(self.now);
        let mind = &mut self.hosts[host].agent.mind;
        let Some(job) = mind.job.take() else { return };
        let kind = job.shown.kind;
        let line = format!("{kind:?} ended: {outcome:?}");
        mind.last_job = Some(FinishedJob { kind, ended_at: now, outcome });
        self.note(host, "job", &[2], || line);
        self.wake(host);
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

    pub(crate) fn set_role(&mut self, host: HostId, role: Role) {
        self.hosts[host].agent.mind.role = role;
    }
}
