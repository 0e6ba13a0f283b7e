//! Whether the time of something scheduled has come.

use std::time::Duration;

use bellwether_types::WallTime;

use crate::{Reason, draft::Draft};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Waiting,
    Now,
    /// Too late: dropped, never executed late.
    Stale,
}

/// Places `at` relative to now, and asks to be woken in time.
pub(crate) fn due(draft: &mut Draft, action: &str, at: WallTime, text: &str) -> Due {
    let left = draft.view.wall.millis_until(at);
    let loop_wait = draft.view.settings.loop_wait;
    let stale_after =
        i64::try_from(loop_wait.as_millis() * 3 / 2 / 1000 * 1000).unwrap_or(i64::MAX).max(1000);
    if left > 0 {
        draft.wake_in(Duration::from_millis(left.unsigned_abs()));
        draft.note(Reason::AwaitingScheduled {
            action: action.to_owned(),
            at: text.to_owned(),
            seconds: left / 1000,
        });
        return Due::Waiting;
    }
    if left < -stale_after {
        draft.note(Reason::StaleScheduled { action: action.to_owned(), at: text.to_owned() });
        return Due::Stale;
    }
    draft.note(Reason::ScheduledNow { action: action.to_owned(), at: text.to_owned() });
    Due::Now
}
