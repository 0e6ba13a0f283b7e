//! Mode off: remove `/sync` first, then the names, so that a promotion never trusts a list that commits no longer wait for.

use bellwether_types::cluster::Cluster;

use super::scene;
use crate::{Action, Reason, draft::Draft, memory::Attempt, view::Server};

/// One step. `true`: everything is in place.
pub(super) fn step(cluster: &Cluster, server: &Server, draft: &mut Draft) -> bool {
    if let Some(sync) = cluster.sync.as_ref().filter(|sync| sync.value.is_active()) {
        if draft.attempt(Attempt::WriteSync, Action::DeleteSync { expect: sync.revision }) {
            draft.note(Reason::SyncDisabled);
        }
        draft.memory.sync.released = false;
        return false;
    }
    if draft.memory.sync.released || server.synchronous_standby_names.is_empty() {
        draft.memory.sync.released = true;
        return true;
    }
    let asked_at = draft.memory.attempts.get(&Attempt::SyncNames).copied().unwrap_or_default();
    if draft.memory.sync.asked_names.as_deref() == Some("") && server.answered_at > asked_at {
        // It was given back, and what is shown is what the user wants, even if it looks like ours.
        draft.memory.sync.released = true;
        return true;
    }
    // Whose the text is cannot be told by the names in it: who was a voter may have left for good, and commits would wait for it for ever. Nor
    // need it be: where it is the user's, it stands in the files once ours is taken back.
    scene::assign(draft, String::new());
    false
}
