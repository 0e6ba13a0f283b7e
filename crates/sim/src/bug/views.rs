//! Views as a member with a bug sees them.

use std::{sync::Arc, time::Duration};

use bellwether_ha::{
    Action, Decision, View,
    action::DemoteMode,
    view::{DataDirectory, JobKind, JobPhase, Kept, LeaseView, PeerAnswer},
};
use bellwether_types::{Timestamp, settings::SyncMode};

pub(super) fn deaf(view: &View) -> View {
    let mut view = view.clone();
    if let LeaseView::Held { until, demote_at, unavailable_since, .. } = &mut view.lease {
        *until = Timestamp::MAX;
        *demote_at = Timestamp::MAX;
        *unavailable_since = None;
    }
    view.store.unavailable_since = None;
    view.store.confirmed_at = view.now;
    view
}

pub(super) fn blind(view: &View) -> View {
    let mut view = view.clone();
    if matches!(view.lease, LeaseView::Held { .. }) {
        return view;
    }
    if let Some(cluster) = &mut view.store.cluster {
        let cluster = Arc::make_mut(cluster);
        cluster.sync = None;
        cluster.status = None;
    }
    for answer in view.peers.answers.values_mut() {
        *answer = PeerAnswer::Unreachable { refused: false };
    }
    view
}

pub(super) fn withdrawn(view: &View) -> View {
    let mut view = view.clone();
    let is_old = |kept: &Kept| view.now.since(kept.made_at) > Duration::from_millis(150);
    if view.takeover.promise.as_ref().is_some_and(is_old) {
        view.takeover.promise = None;
        if let Some(hearing) = &mut view.takeover.hearing {
            hearing.heard_at = view.now;
        }
    }
    view
}

pub(super) fn easily_elected(view: &View) -> View {
    let mut view = view.clone();
    if view.takeover.promise.is_some()
        && let Some(sync) =
            view.store.cluster.as_mut().and_then(|cluster| Arc::make_mut(cluster).sync.as_mut())
    {
        sync.value.quorum = sync.value.quorum.saturating_sub(1);
    }
    view
}

pub(super) fn without_votes(view: &View) -> View {
    let mut view = view.clone();
    if view.settings.sync_mode() == SyncMode::On
        && !matches!(view.lease, LeaseView::Held { .. })
        && let Some(sync) =
            view.store.cluster.as_mut().and_then(|cluster| Arc::make_mut(cluster).sync.as_mut())
    {
        sync.value.quorum = 0;
    }
    view
}

/// `ANY 1` of the names of which two are asked for and one is enough by the configuration.
pub(super) fn lower_count(view: &View) -> Option<String> {
    let server = view.postgres.server.as_ref().filter(|server| !server.in_recovery)?;
    let names = server.synchronous_standby_names.strip_prefix("ANY ")?;
    let is_lower = view.settings.synchronous_node_count == 1 && matches!(view.lease, LeaseView::Held { .. });
    let (_, names) =
        names.split_once(' ').filter(|(count, _)| is_lower && (*count == "2" || names.contains(',')))?;
    Some(format!("ANY 1 {names}"))
}

pub(super) fn releases_early(view: &View, decision: &Decision) -> bool {
    let stopping = view.job.as_ref().is_some_and(|job| {
        job.kind == JobKind::Demote && !matches!(job.phase, JobPhase::ShutdownCheckpoint { .. })
    });
    let planned = view.memory.demoting.as_ref().is_some_and(|demoting| demoting.mode == DemoteMode::Graceful);
    let released = decision.actions.iter().any(|action| matches!(action, Action::ReleaseLease { .. }));
    stopping && planned && !released && matches!(view.lease, LeaseView::Held { .. })
}

/// `/sync` does not name this member, as far as it sees while it has no data.
pub(super) fn voteless(view: &View) -> View {
    let mut view = view.clone();
    if view.postgres.data != DataDirectory::Present
        && let Some(cluster) = &mut view.store.cluster
    {
        Arc::make_mut(cluster).sync = None;
    }
    view
}
