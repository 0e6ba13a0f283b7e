//! Synchronous replication: who counts, and how `/sync` and `synchronous_standby_names` change together.
//!
//! `/sync` says whom a promotion must consult, `synchronous_standby_names` whom commits wait for. They live in two systems and change
//! one after the other, and the agent may die between any two steps. What must hold at every instant, and why each step is
//! safe, is in [`overlap`]: nobody writes `/sync` or the names past it, except towards "nobody but this leader".
//!
//! * [`names`] reads and writes the text of `synchronous_standby_names`; `eligible` says which replicas may count.
//! * [`ready`] proves that a text is in force and that standbys have caught up with it.
//! * `on`, `quorum` (with its [`resolver`]), `strict` and `off` are the modes; `promotion` is what comes before the first commit.
//!
//! Each tick takes at most one step whose effect must be seen before the next: a compare-and-set of `/sync` on the revision in
//! the view, or a change of the names. Nothing is remembered as "the rest of a procedure"; a lost compare-and-set or a crash
//! leaves a state from which the next tick goes on.
//!
//! A write of `/sync` whose outcome is unknown may land later, as long as the revision is the one that it was tried on. Until
//! then the names must fit it too ([`crate::memory::PendingSync`]). A process that has just begun to lead cannot know what was
//! tried before it, so it moves the revision on before it changes the names for the first time.

mod eligible;
pub mod names;
mod off;
mod on;
pub mod overlap;
mod promotion;
mod quorum;
pub mod ready;
pub mod resolver;
mod scene;
mod strict;
#[cfg(test)]
mod tests;

use bellwether_types::{cluster::Cluster, settings::SyncMode};

use crate::{
    Reason, View,
    draft::Draft,
    memory::{PendingSync, SyncMemory},
};
pub(crate) use eligible::position as acknowledged;
#[cfg(test)]
pub(crate) use eligible::replicas;
use scene::Scene;

/// One step of synchronous replication on the running primary that holds the lock.
pub fn process(view: &View, cluster: &Cluster, draft: &mut Draft) {
    let (Some(server), Some(held)) = (view.server(), view.held()) else { return };
    if cluster.leader_name() != Some(&view.me.name) {
        // The view is older than the lock, and `/sync` in it may be too.
        return;
    }
    if draft.memory.sync.term != Some(held.term) {
        // Whoever wrote before may have a write under way that we know nothing of.
        let pending = Some(PendingSync { on: cluster.sync_revision(), states: Vec::new(), others: true });
        draft.memory.sync = SyncMemory { term: Some(held.term), pending, ..draft.memory.sync.of_server() };
    }
    if draft.memory.sync.pending.as_ref().is_some_and(|pending| pending.on != cluster.sync_revision()) {
        draft.memory.sync.pending = None;
    }
    let mode = view.settings.sync_mode();
    if mode == SyncMode::Off {
        off::step(cluster, server, draft);
        return;
    }
    draft.memory.sync.released = false;
    if !ready::take_in(draft, server) {
        return;
    }
    let scene = Scene::new(view, cluster, server);
    match mode {
        SyncMode::On => on::step(draft, &scene),
        _ => quorum::step(draft, &scene),
    }
}

/// What must be in place before this member promotes itself. `Err`: not in this tick, and why.
pub fn prepare_promotion(view: &View, cluster: &Cluster, draft: &mut Draft) -> Result<(), Reason> {
    let Some(server) = view.server() else { return Err(Reason::PostgresSilent) };
    promotion::prepare(view, cluster, server, draft)
}

/// On a running standby: no names of an earlier leadership may be left, or it would wait for them if it started as primary after
/// a crash. [`prepare_promotion`] sets the right ones when the time comes.
pub fn clear_on_replica(view: &View, draft: &mut Draft) {
    let Some(server) = view.server().filter(|server| server.in_recovery) else { return };
    if view.settings.sync_mode() == SyncMode::Off || server.synchronous_standby_names.is_empty() {
        return;
    }
    scene::assign(draft, String::new());
}
