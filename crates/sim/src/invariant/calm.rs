//! Where nothing is broken nobody is replaced, and nobody steps down: see [`crate::calm`].

use bellwether_ha::{Action, Decision, Reason};

use crate::{event::HostId, names::letter, world::World};

impl World {
    /// `host` has decided.
    pub(crate) fn check_calm(&mut self, host: HostId, decision: &Decision) {
        if self.scenario.jitter.is_none() || !self.checks.founded {
            return;
        }
        self.stats.suspicions +=
            decision.reasons.iter().filter(|reason| matches!(reason, Reason::OpeningEpoch { .. })).count()
                as u64;
        let change = decision.actions.iter().find(|action| {
            matches!(
                action,
                Action::Demote { .. }
                    | Action::Promote { .. }
                    | Action::TakeOver(_)
                    | Action::AcquireLease { .. }
                    | Action::ReleaseLease { .. }
            )
        });
        if let Some(action) = change {
            let codes: Vec<_> = decision.reasons.iter().map(|reason| reason.code()).collect();
            let text =
                format!("{} in a calm cluster: {action:?} because of {}", letter(host), codes.join(", "));
            self.violated("calm", text);
        }
    }
}
