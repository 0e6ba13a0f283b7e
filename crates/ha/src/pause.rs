//! The pause: an operator has taken over. Nothing is started, stopped, promoted or removed by itself.
//!
//! What each branch does differently in pause stands in that branch; here is only what happens on the way in and out.

use crate::{
    Action,
    draft::Draft,
    fence,
    memory::{Attempt, RewindState},
    view::Guardian,
};

/// Takes the fences down when the pause is seen first, and distrusts old conclusions when it has ended.
pub(crate) fn notice(draft: &mut Draft) {
    let view = draft.view;
    if view.settings.pause {
        draft.memory.was_paused = true;
        // A lease that lapses in pause must not kill the server that an operator is working on.
        if matches!(view.fencing.guardian, Guardian::Armed { .. }) {
            draft.attempt(Attempt::DisarmGuardian, Action::DisarmGuardian);
        }
        if fence::is_watchdog_active(view.fencing.watchdog) {
            draft.attempt(Attempt::Watchdog, Action::DisableWatchdog);
        }
        return;
    }
    if draft.memory.was_paused {
        draft.memory.was_paused = false;
        draft.memory.followed = None;
        if draft.memory.rewind != RewindState::Need {
            draft.memory.rewind = RewindState::Initial;
        }
    }
}
