//! What must be in place before this member becomes primary: commits must wait for the right standbys from the first one on.

use std::collections::BTreeSet;

use bellwether_types::{
    cluster::{Cluster, SyncState},
    settings::SyncMode,
};

use super::{
    names::{self, Method, SyncNames},
    off, ready, scene,
};
use crate::{Action, Reason, View, demote, draft::Draft, memory::Attempt, view::Server};

/// How soon the checkpointer's proof is looked at again.
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_millis(20);

/// One step; `Ok` when all are taken.
pub(super) fn prepare(
    view: &View,
    cluster: &Cluster,
    server: &Server,
    draft: &mut Draft,
) -> Result<(), Reason> {
    // Whatever was proven in an earlier leadership counts no more; that a text was asked for still does.
    draft.memory.sync = draft.memory.sync.of_server();
    let text = match view.settings.sync_mode() {
        SyncMode::Off => {
            return if off::step(cluster, server, draft) { Ok(()) } else { Err(Reason::PreparingSync) };
        }
        // A list of quorum mode stays in force until the new primary has replaced it: its voters do not each have everything.
        SyncMode::On if cluster.active_sync().is_none_or(|sync| sync.quorum == 0) => {
            let state = alone_or_strict(view, cluster);
            if cluster.active_sync() != Some(&state) {
                // Without the change in the store no promotion: others would go on trusting the old list.
                let expect = cluster.sync_revision();
                draft.attempt(Attempt::WriteSync, Action::WriteSync { expect, state });
                return Err(Reason::PreparingSync);
            }
            let voters = scene::electorate(view, cluster, &state).voters;
            text(view, &SyncNames::all(voters))
        }
        SyncMode::On | SyncMode::Quorum => text(view, &old_electorate(view, cluster)),
    };
    let asked_at = draft.memory.attempts.get(&Attempt::SyncNames).copied().unwrap_or_default();
    let is_settled = match &draft.memory.sync.asked_names {
        None => true,
        Some(asked) => *asked == text && server.answered_at > asked_at,
    };
    if server.synchronous_standby_names == text && is_settled {
        draft.memory.sync.asked_names = None;
        ready::follow_definition(&mut draft.memory.sync, server);
        return if text.is_empty() { Ok(()) } else { in_force(draft, text) };
    }
    ready::follow_definition(&mut draft.memory.sync, server);
    scene::assign(draft, text);
    Err(Reason::PreparingSync)
}

/// The first commit must wait already. A checkpointer that does not get to reading the names must not keep the others from leading.
fn in_force(draft: &mut Draft, names: String) -> Result<(), Reason> {
    if ready::are_in_force(draft) {
        return Ok(());
    }
    let patience = draft.view.settings.loop_wait;
    if draft.memory.sync.unproven_since.is_some_and(|since| draft.now().since(since) >= patience) {
        draft.memory.sync.unproven_since = None;
        demote::release(draft, None);
        return Err(Reason::SyncNamesStuck);
    }
    draft.wake_in(LOOK_AGAIN);
    Err(Reason::SyncNamesNotInForce { names })
}

/// Mode `on`: nobody else may lead until standbys have confirmed the new primary's commits. In strict mode commits wait meanwhile
/// for those who may have the last ones.
fn alone_or_strict(view: &View, cluster: &Cluster) -> SyncState {
    let me = &view.me.name;
    let mut state = SyncState { leader: Some(me.clone()), ..SyncState::default() };
    if view.settings.synchronous_mode_strict
        && let Some(sync) = cluster.active_sync()
    {
        state.voters.clone_from(&sync.voters);
        state.voters.extend(sync.leader.clone());
        state.voters.retain(|name| !name.same_standby(me));
    }
    state
}

/// Mode `quorum`: `/sync` stays as it is, and new commits wait for as many of the old electorate as it takes to meet whoever could
/// be elected by it.
fn old_electorate(view: &View, cluster: &Cluster) -> SyncNames {
    let Some(sync) = cluster.active_sync() else { return SyncNames::any(0, BTreeSet::new()) };
    let electorate = scene::electorate(view, cluster, sync);
    let mut names = electorate.voters;
    names.insert(electorate.leader);
    let mut count = names.len().saturating_sub(electorate.quorum + 1);
    if !names.remove(view.me.name.as_str()) {
        count += 1;
    }
    let least = usize::try_from(view.settings.min_sync()).unwrap_or(usize::MAX);
    SyncNames::any(count.max(least), names)
}

fn text(view: &View, wanted: &SyncNames) -> String {
    let version = view.postgres.server_version;
    let text = wanted.to_text(version);
    if text.is_empty() && view.settings.synchronous_mode_strict {
        let method = if view.settings.sync_mode() == SyncMode::Quorum { Method::Any } else { Method::First };
        return names::placeholder(method, version);
    }
    text
}
