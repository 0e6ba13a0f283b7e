//! A decision in the making: what the branches of one tick have decided so far.

use std::time::Duration;

use bellwether_types::{Role, Timestamp};

use crate::{
    Action, Decision, Memory, Reason, View,
    memory::Attempt,
    view::{JobKind, JobOutcome},
};

/// An action whose effect does not show although the store was read since may be repeated after this time.
const PACE: Duration = Duration::from_millis(100);
/// The same if nobody can tell whether it had an effect.
const BLIND_PACE: Duration = Duration::from_secs(1);

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
            actions: Vec::new(),
            notes: Vec::new(),
            wake_at: view.now + view.settings.loop_wait,
            wants_peers: false,
        }
    }

    pub fn now(&self) -> Timestamp {
        self.view.now
    }

    /// Adds an action at the end of the list.
    pub fn then(&mut self, action: Action) {
        debug_assert!(
            !is_job(&action) || matches!(action, Action::Demote { .. }) || !self.is_busy(),
            "two jobs at once: {action:?} during {:?}, {:?}",
            self.view.job,
            self.actions
        );
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
        self.view.job.is_some() || self.actions.iter().any(is_job)
    }

    /// Does `action`, which takes effect at once, unless it was tried a moment ago and may yet show. True if it was added.
    ///
    /// A view of the store that is older than the attempt proves nothing, so such an attempt is repeated only after a longer time.
    pub fn attempt(&mut self, what: Attempt, action: Action) -> bool {
        let view = self.view;
        if let Some(&tried_at) = self.memory.attempts.get(&what) {
            let pace = if view.store.confirmed_at > tried_at { PACE } else { BLIND_PACE };
            if view.now.since(tried_at) < pace {
                self.wake_by(tried_at + pace);
                return false;
            }
        }
        self.memory.attempts.insert(what, view.now);
        self.then(action);
        true
    }

    /// Like [`Draft::attempt`] with a period of the caller's choice, for what is repeated anyhow.
    pub fn every(&mut self, period: Duration, what: Attempt, action: Action) -> bool {
        let view = self.view;
        if let Some(&tried_at) = self.memory.attempts.get(&what)
            && view.now.since(tried_at) < period
        {
            self.wake_by(tried_at + period);
            return false;
        }
        self.memory.attempts.insert(what, view.now);
        self.then(action);
        true
    }

    /// When a job of this kind may be tried again after a failure; `None` if at once.
    pub fn backing_off(&mut self, kind: &JobKind) -> bool {
        let Some(last) = &self.view.last_job else { return false };
        if last.kind != *kind || !matches!(last.outcome, JobOutcome::Failed { .. }) {
            return false;
        }
        let again_at = last.ended_at + self.view.settings.loop_wait.max(BLIND_PACE);
        if self.view.now < again_at {
            self.wake_by(again_at);
            return true;
        }
        false
    }

    pub fn set_role(&mut self, role: Role) {
        if self.view.postgres.role != role {
            self.attempt(Attempt::SetRole, Action::SetRole { role });
        }
    }

    /// Peers are being asked: keep remembering since when.
    pub(crate) fn keep_asking_peers(&mut self) {
        self.wants_peers = true;
    }

    pub(crate) fn finish(mut self, deciding: Reason) -> Decision {
        if !self.wants_peers {
            self.memory.need_peers_since = None;
        }
        let mut reasons = Vec::with_capacity(1 + self.notes.len());
        reasons.push(deciding);
        reasons.append(&mut self.notes);
        Decision { actions: self.actions, reasons, memory: self.memory, wake_at: self.wake_at }
    }
}

/// Whether the executor runs this action as a job beside the loop.
pub(crate) fn is_job(action: &Action) -> bool {
    matches!(
        action,
        Action::Bootstrap
            | Action::PostBootstrap
            | Action::Clone { .. }
            | Action::Start { .. }
            | Action::Restart { .. }
            | Action::Promote { .. }
            | Action::Demote { .. }
            | Action::Stop { .. }
            | Action::CheckDivergence { .. }
            | Action::CrashRecovery
            | Action::Rewind { .. }
            | Action::Reinitialize { .. }
            | Action::Checkpoint
    )
}
