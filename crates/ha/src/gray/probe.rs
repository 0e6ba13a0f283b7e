//! When a commit is tried on the primary.
//!
//! Only when others commit, too, or wait for it: an idle cluster writes no WAL of its own because of this, so no segment is archived
//! and no checkpoint made for nothing. One at a time, at most one per `loop_wait`.

use bellwether_types::Lsn;

use crate::{Action, draft::Draft, memory::Attempt, view::health::ProbeStage};

/// Less WAL than this is the server's own housekeeping (checkpoints, snapshots), or what the last try wrote itself.
const SOMETHING: u64 = 8 * 1024;

pub(super) fn try_commit(draft: &mut Draft) {
    let view = draft.view;
    if !view.settings.commit_probe || view.held().is_none() || !view.is_primary() || draft.is_busy() {
        return;
    }
    let Some(server) = view.server() else { return };
    let is_under_way = view
        .health
        .probe
        .as_ref()
        .is_some_and(|probe| matches!(probe.stage, ProbeStage::Connecting | ProbeStage::Committing));
    if is_under_way {
        draft.wake_in(super::signs::slow(view) / 2);
        return;
    }
    let waiting = view.health.activity.as_ref().map_or(0, |seen| seen.flushing + seen.waiting_for_standbys);
    let tried_at = *draft.memory.gray.tried_at.get_or_insert(server.position);
    let written = server.position - tried_at.min(server.position);
    if waiting == 0 && written < SOMETHING {
        return;
    }
    let period = view.settings.loop_wait.max(super::signs::PROBE_PERIOD);
    if draft.every(period, Attempt::ProbeCommit, Action::ProbeCommit) {
        draft.memory.gray.tried_at = Some(server.position.max(Lsn(1)));
    }
}
