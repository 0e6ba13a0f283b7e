//! The right to be promoted, which is more than the lock.
//!
//! While a cluster follows another one, whoever wants the lock takes it: nobody writes, and `/sync` is not asked. The cluster becomes one
//! of its own again by a change of its configuration, and then the holder of that lock may be a member that never had what was acknowledged
//! before. So a lock that was not won by the rules for a promotion needs what the rules would have asked for, or goes to those who have it.

use bellwether_types::{TimelineId, cluster::Cluster};

use crate::{
    Reason, View,
    action::DemoteMode,
    compare, demote,
    draft::Draft,
    facts::Held,
    fence,
    race::{self, Unfit},
};

/// This member is the primary under this lock, or was elected to be it.
pub(crate) fn given(draft: &mut Draft, held: Held) {
    draft.memory.mandate = Some(held.term);
}

/// What keeps the holder of the lock from being promoted; `None`: it may be.
pub(crate) fn is_missing(draft: &mut Draft, cluster: &Cluster, held: Held) -> Option<Reason> {
    // The number of the next timeline comes with a lock that was won in an election.
    let is_elected = draft.memory.racing && draft.memory.claimed.is_some();
    if is_elected || draft.memory.mandate == Some(held.term) {
        given(draft, held);
        return None;
    }
    let fit =
        if follows_later_history(draft.view, cluster) { Ok(()) } else { race::would_win(draft, cluster) };
    match fit {
        Ok(()) => {
            given(draft, held);
            None
        }
        Err(Unfit::Waiting) => Some(Reason::PollingPeers),
        Err(Unfit::Because(why)) => {
            draft.note(why);
            Some(step_back(draft, cluster))
        }
    }
}

/// Its WAL goes on beyond every timeline that this cluster is known to have begun, so it is the other cluster's: what was acknowledged
/// here is a part of it, or was given up by whoever promoted the other one.
fn follows_later_history(view: &View, cluster: &Cluster) -> bool {
    let claimed = cluster.timeline_claim.as_ref().and_then(|claim| claim.value.as_ref());
    let claimed = claimed.map(|claim| claim.timeline);
    let own = cluster.timeline().max(claimed).unwrap_or(TimelineId(1)).max(TimelineId(1));
    view.server().and_then(|server| server.timeline) > Some(own) && compare::own_branch(view, cluster).is_ok()
}

fn step_back(draft: &mut Draft, cluster: &Cluster) -> Reason {
    let reason = Reason::LedWithoutElection { me: draft.view.me.name.clone() };
    if draft.view.may_write() {
        // An agent before this one may have told it to promote.
        return fence::stop(draft, DemoteMode::Immediate, reason);
    }
    // What it published as the last position counts no further than that.
    demote::release(draft, compare::given_up_at(draft.view, cluster));
    reason
}
