//! Mode off: remove `/sync` first, then the names, so that a promotion never trusts a list that commits no longer wait for.

use bellwether_types::{PLACEHOLDER, cluster::Cluster};

use super::{
    names::{self, Method, SyncNames},
    scene,
};
use crate::{Action, Reason, View, draft::Draft, memory::Attempt, view::Server};

/// One step. `true`: everything is in place.
pub(super) fn step(view: &View, cluster: &Cluster, server: &Server, draft: &mut Draft) -> bool {
    if let Some(sync) = cluster.sync.as_ref().filter(|sync| sync.value.is_active()) {
        if draft.attempt(Attempt::WriteSync, Action::DeleteSync { expect: sync.revision }) {
            draft.note(Reason::SyncDisabled);
        }
        draft.memory.sync.released = false;
        return false;
    }
    let shown = &server.synchronous_standby_names;
    if draft.memory.sync.released || !is_ours(view, cluster, draft, shown) {
        draft.memory.sync.released = true;
        return true;
    }
    let asked_at = draft.memory.attempts.get(&Attempt::SyncNames).copied().unwrap_or_default();
    if draft.memory.sync.asked_names.as_deref() == Some("") && server.answered_at > asked_at {
        // It was given back, and what is shown is what the user wants, even if it looks like ours.
        draft.memory.sync.released = true;
        return true;
    }
    scene::assign(draft, String::new());
    false
}

/// Whether this text was written by this agent or, as far as one can tell, by its predecessor, and is not the user's own.
fn is_ours(view: &View, cluster: &Cluster, draft: &Draft, shown: &str) -> bool {
    if shown.is_empty() {
        return false;
    }
    if draft.memory.sync.names_seen.as_deref() == Some(shown) {
        return true;
    }
    let version = view.postgres.server_version;
    if [Method::Any, Method::First].iter().any(|&method| names::placeholder(method, version) == shown) {
        return true;
    }
    let parsed = SyncNames::parse(shown);
    let is_member = |name: &String| cluster.members.keys().any(|member| member.as_str() == name);
    !parsed.names.contains(PLACEHOLDER)
        && parsed.names.iter().all(is_member)
        && parsed.to_text(version) == shown
}
