//! A decision in the making: what the branches of one tick have decided so far.

use std::time::Duration;

use bellwether_types::{Role, Timestamp};

use crate::{
    Action, Decision, Memory, Reason, View,
    action::{CallbackEvent, StopMode},
    memory::Attempt,
    view::{JobKind, JobOutcome},
};

/// An action whose effect does not show although the store was read since may be repeated after this time.
const PACE: Duration = Duration::from_millis(100);
/// The same if nobody can tell whether it had an effect.
const BLIND_PACE: Duration = Duration::from_secs(1);
/// Never ask to be woken sooner than this: what takes effect at once wakes the loop by itself.
const SHORTEST_SLEEP: Duration = Duration::from_millis(5);

/// Collects the actions, remarks and new memory of one tick. Branches return the deciding [`Reason`].
#[derive(Debug)]
pub struct Draft<'v> {
    pub view: &'v View,
    pub memory: Memory,
    actions: Vec<Action>,
    notes: Vec<Reason>,
    wake_at: Timestamp,
    wants_peers: bool,
}

impl<'v> Draft<'v> {
    pub(crate) fn new(view: &'v View) -> Self {
        Self {
            view,
            memory: view.memory.clone(),
            actions: Vec::with_capacity(4),
            notes: Vec::new(),
            wake_at: view.now + view.settings.loop_wait,
            wants_peers: false,
        }
    }

    pub fn now(&self) -> Timestamp {
        self.view.now
    }

    /// Adds an action at the end of the list. A second job is a mistake of the caller, and left out.
    pub fn then(&mut self, action: Action) {
        if let Some(kind) = job_kind(&action) {
            if kind != JobKind::Demote && self.is_busy() {
                debug_assert!(false, "{action:?} beside {:?} or {:?}", self.view.job, self.actions);
                return;
            }
            self.memory.jobs.insert(kind, self.view.now);
        }
        self.actions.push(action);
    }

    /// Adds a remark besides the deciding reason.
    pub fn note(&mut self, reason: Reason) {
        self.notes.push(reason);
    }

    /// Decide again by then at the latest.
    pub fn wake_by(&mut self, at: Timestamp) {
        self.wake_at = self.wake_at.min(at);
    }

    pub fn wake_in(&mut self, delay: Duration) {
        self.wake_by(self.view.now + delay);
    }

    /// A long action runs, or was just decided on.
    pub fn is_busy(&self) -> bool {
        self.view.job.is_some() || self.actions.iter().any(|action| job_kind(action).is_some())
    }

    pub(crate) fn ends_process(&self) -> bool {
        self.actions.iter().any(|action| matches!(action, Action::Exit { .. }))
    }

    /// PostgreSQL is told to stop, or the process to end, in this very tick.
    pub(crate) fn ends_something(&self) -> bool {
        self.actions
            .iter()
            .any(|action| matches!(action, Action::Demote { .. } | Action::Stop { .. } | Action::Exit { .. }))
    }

    /// Does `action`, which takes effect at once, unless it was tried a moment ago and may yet show. True if it was added.
    ///
    /// A view of the store that is older than the attempt proves nothing, so such an attempt is repeated only after a longer
    /// time.
    pub fn attempt(&mut self, what: Attempt, action: Action) -> bool {
        let tried_at = self.memory.attempts.get(&what).copied().unwrap_or_default();
        let pace = if self.view.store.confirmed_at > tried_at { PACE } else { BLIND_PACE };
        self.every(pace, what, action)
    }

    /// Like [`Draft::attempt`] with a period of the caller's choice, for what is repeated anyhow.
    ///
    /// What is due within a fiftieth of its period is done now: otherwise things that were first done a few milliseconds apart would
    /// each wake the loop by itself for ever.
    pub fn every(&mut self, period: Duration, what: Attempt, action: Action) -> bool {
        if let Some(&tried_at) = self.memory.attempts.get(&what)
            && self.view.now.since(tried_at) + period / 50 < period
        {
            self.wake_by(tried_at + period);
            return false;
        }
        self.memory.attempts.insert(what, self.view.now);
        self.then(action);
        true
    }

    /// A job of this kind failed a short time ago: not again yet.
    pub fn backing_off(&mut self, kind: &JobKind) -> bool {
        let Some(last) = self.view.last_job.as_ref().filter(|last| last.kind == *kind) else { return false };
        let pause = match last.outcome {
            JobOutcome::Failed { .. } => self.view.settings.loop_wait.max(BLIND_PACE),
            _ => return false,
        };
        if self.view.now.since(last.ended_at) >= pause {
            return false;
        }
        self.wake_by(last.ended_at + pause);
        true
    }

    /// How the job of this kind ended that was last decided on; `None` if it has not ended, or never began.
    pub fn outcome(&self, kind: &JobKind) -> Option<&'v JobOutcome> {
        let view = self.view;
        let last = view.last_job.as_ref().filter(|last| last.kind == *kind)?;
        let decided_at = self.memory.jobs.get(kind)?;
        (last.ended_at >= *decided_at && view.job.is_none()).then_some(&last.outcome)
    }

    /// Stops the server for another reason than the loss of leadership, and tells the callbacks.
    pub(crate) fn stop_postgres(&mut self, mode: StopMode) {
        self.then(Action::Stop { mode });
        self.tell_stop();
    }

    /// A virtual address must not stay with a server that is being stopped.
    pub(crate) fn tell_stop(&mut self) {
        self.tell_stop_of(self.view.postgres.role);
    }

    /// The same in another role than the server has by now.
    pub(crate) fn tell_stop_of(&mut self, role: Role) {
        if self.memory.callback_fired && self.view.postgres.server.is_some() {
            self.then(Action::RunCallback { event: CallbackEvent::OnStop, role });
        }
    }

    pub fn set_role(&mut self, role: Role) {
        if self.view.postgres.role != role {
            self.attempt(Attempt::SetRole, Action::SetRole { role });
        }
    }

    /// Stops an errand of little weight that would keep more important things waiting. True if there was one.
    pub(crate) fn push_aside(&mut self, kinds: &[JobKind]) -> bool {
        let Some(kind) = self.view.job_kind().filter(|kind| kinds.contains(kind)) else { return false };
        self.attempt(Attempt::CancelJob, Action::CancelJob { kind: kind.clone() });
        true
    }

    /// Peers are being asked: keep remembering since when.
    pub(crate) fn keep_asking_peers(&mut self) {
        self.wants_peers = true;
    }

    pub(crate) fn finish(mut self, deciding: Reason) -> Decision {
        if !self.wants_peers {
            self.memory.need_peers_since = None;
            self.memory.old_positions_since = None;
        }
        let mut reasons = Vec::with_capacity(1 + self.notes.len());
        reasons.push(deciding);
        reasons.append(&mut self.notes);
        let wake_at = self.wake_at.max(self.view.now + SHORTEST_SLEEP);
        Decision { actions: self.actions, reasons, memory: self.memory, wake_at }
    }
}

/// The job that the executor starts for this action; `None` for actions that take effect at once.
pub(crate) fn job_kind(action: &Action) -> Option<JobKind> {
    Some(match action {
        Action::Bootstrap | Action::BootstrapStandby { .. } => JobKind::Bootstrap,
        Action::PostBootstrap => JobKind::PostBootstrap,
        Action::Clone { .. } => JobKind::Clone,
        Action::Start { .. } => JobKind::Start,
        Action::Restart { .. } => JobKind::Restart,
        Action::Promote { .. } => JobKind::Promote,
        Action::Demote { .. } => JobKind::Demote,
        Action::Stop { .. } => JobKind::Stop,
        Action::CheckDivergence { .. } => JobKind::CheckDivergence,
        Action::CrashRecovery => JobKind::CrashRecovery,
        Action::Rewind { .. } => JobKind::Rewind,
        Action::Reinitialize { .. } => JobKind::Reinitialize,
        Action::Checkpoint => JobKind::Checkpoint,
        Action::CopySlots { .. } => JobKind::CopySlots,
        Action::WipeDataDirectory { .. } => JobKind::Wipe,
        _ => return None,
    })
}
