//! Opening and closing an attempt.

use std::time::Duration;

use bellwether_types::{
    Revision,
    cluster::Cluster,
    takeover::{EpochState, Takeover},
};

use super::{Case, suspicion};
use crate::{Action, Reason, draft::Draft, failsafe, memory::Attempt, race, switchover};

/// How soon the electorate is asked again before an epoch is opened.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// An attempt that led to nothing is not repeated in a hurry: it detaches voters.
pub(super) fn notice_end(draft: &mut Draft, case: &Case) {
    let Some(keyed) = &case.cluster.takeover else { return };
    let is_closed = keyed.value.as_ref().is_some_and(|takeover| {
        takeover.state == EpochState::Closed && takeover.leader_revision == case.leader.revision
    });
    if is_closed && draft.memory.takeover.closed.is_none_or(|(revision, _)| revision != keyed.revision) {
        draft.memory.takeover.closed = Some((keyed.revision, draft.now()));
    }
}

/// The leader is gone, as far as this member can tell: if enough others think so, begin.
pub(super) fn open(draft: &mut Draft, case: &Case) -> Option<Reason> {
    let view = draft.view;
    if let Some((_, at)) = draft.memory.takeover.closed
        && view.now.since(at) < view.settings.ttl
    {
        draft.wake_by(at + view.settings.ttl);
        draft.note(Reason::TakeoverFailedShortlyAgo);
        return None;
    }
    if switchover::due_request(view, case.cluster).is_some() {
        draft.note(Reason::TakeoverLeavesRequest);
        return None;
    }
    if let Err(why) = race::may_try(draft, case.cluster) {
        draft.note(why);
        return None;
    }
    suspicion::ask_the_living(draft, case, ASK_AGAIN);
    let shared = if suspicion::is_late_enough(draft, case) {
        suspicion::is_shared(draft, case)
    } else {
        Err(Reason::SuspectingLeader { leader: case.leader.name.clone() })
    };
    if let Err(why) = shared {
        draft.note(why);
        return None;
    }
    let previous = case.cluster.takeover.as_ref();
    let known = previous.and_then(|keyed| keyed.value.as_ref());
    let takeover = Takeover {
        epoch: known.map_or(0, |known| known.epoch) + 1,
        state: EpochState::Open,
        opened_by: view.me.name.clone(),
        leader: case.leader.name.clone(),
        leader_revision: case.leader.revision,
        sync_revision: case.sync_revision,
        taken: known.and_then(|known| known.taken.clone()),
    };
    let epoch = takeover.epoch;
    let expect = previous.map(|keyed| keyed.revision);
    draft.attempt(Attempt::OpenEpoch, Action::OpenEpoch { expect, takeover });
    Some(Reason::OpeningEpoch { leader: case.leader.name.clone(), epoch })
}

/// Frees everybody who promised, if nobody has taken over.
pub(super) fn close(draft: &mut Draft, cluster: &Cluster, opened_at: Revision, why: String) -> Reason {
    let takeover = cluster.takeover.as_ref().and_then(|keyed| keyed.value.clone());
    let Some(mut takeover) = takeover else { return Reason::ClosingEpoch { epoch: 0, why } };
    takeover.state = EpochState::Closed;
    let epoch = takeover.epoch;
    draft.attempt(Attempt::CloseEpoch, Action::CloseEpoch { opened_at, takeover });
    Reason::ClosingEpoch { epoch, why }
}

/// A leader that lost the store said a moment ago that it lives, and this member agreed to let it go on.
pub(super) fn is_leader_accepted(draft: &mut Draft) -> Option<Reason> {
    let accepted = failsafe::living_leader(draft)?;
    draft.wake_by(accepted.until);
    Some(Reason::LeaderAliveByFailsafe { name: accepted.leader.clone() })
}
