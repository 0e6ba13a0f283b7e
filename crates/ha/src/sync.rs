//! Synchronous replication: who counts, and how `/sync` and `synchronous_standby_names` change together.
//!
//! The seam for the modes `on` and `quorum`. What is here is the mode `off`: remove `/sync` first, then the names, so that a
//! promotion never trusts a list that commits no longer wait for.

use bellwether_types::{cluster::Cluster, settings::SyncMode};

use crate::{Action, Reason, View, draft::Draft, memory::Attempt};

/// One step of synchronous replication on the running primary.
pub fn process(view: &View, cluster: &Cluster, draft: &mut Draft) {
    if view.settings.sync_mode() != SyncMode::Off {
        return;
    }
    if let Some(sync) = cluster.sync.as_ref().filter(|sync| sync.value.is_active()) {
        draft.attempt(Attempt::WriteSync, Action::DeleteSync { expect: sync.revision });
        return;
    }
    let names = view.postgres.server.as_ref().map(|server| server.synchronous_standby_names.as_str());
    if names.is_some_and(|names| !names.is_empty()) {
        draft.attempt(Attempt::SyncNames, Action::SetSyncNames { names: String::new() });
    }
}

/// What must be in place before this member promotes itself. `Err`: not in this tick, and why.
pub fn prepare_promotion(view: &View, cluster: &Cluster, draft: &mut Draft) -> Result<(), Reason> {
    process(view, cluster, draft);
    Ok(())
}
