//! Whose turn it is to be restarted for copies of logical slots.
//!
//! A permanent slot that is added is missing on all standbys at once. Each restart takes one of them away from those who read there and from
//! those who wait for its acknowledgement, so one goes after the other, in the order of their names. Nobody hands the turn on: who comes
//! later waits longer, and anew once it sees somebody restart. A courtesy, not a guarantee.

use std::time::Duration;

use bellwether_types::{
    PostgresState,
    cluster::{Cluster, Member},
};

use super::topology;
use crate::draft::Draft;

/// For each that comes before: long enough to be released from the duty as synchronous standby, to begin, and to be seen to.
const LOOPS: u32 = 4;

/// Whether this member may be restarted now. Call it as long as that is wanted.
pub(super) fn has_come(draft: &mut Draft, cluster: &Cluster) -> bool {
    let view = draft.view;
    let others = || cluster.members.values().filter(|member| waits_too(draft, cluster, member));
    let is_away = others().any(|member| {
        matches!(
            member.state,
            Some(PostgresState::Restarting | PostgresState::Stopping | PostgresState::Starting)
        )
    });
    let before = others().filter(|member| member.name < view.me.name).count();
    let copies = &mut draft.memory.slot_copies;
    let wanted_since = *copies.wanted_since.get_or_insert(view.now);
    // Who does not come up must not keep all others waiting.
    let is_patient = view.now.since(wanted_since) < view.settings.primary_start_timeout;
    if is_away && is_patient {
        copies.all_up_since = None;
        draft.wake_in(view.settings.loop_wait);
        return false;
    }
    let all_up_since = *copies.all_up_since.get_or_insert(view.now);
    let turns = u32::try_from(before).unwrap_or(u32::MAX);
    let mine =
        all_up_since + turns.saturating_mul(LOOPS) * view.settings.loop_wait.max(Duration::from_secs(1));
    draft.wake_by(mine);
    view.now >= mine
}

/// Another standby that gets the same copies.
fn waits_too(draft: &Draft, cluster: &Cluster, member: &Member) -> bool {
    !draft.view.is_me(&member.name)
        && cluster.leader_name() != Some(&member.name)
        && topology::has_logical_slots(draft.view, cluster, &member.name, &member.tags)
}
