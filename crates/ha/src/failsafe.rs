//! The store is silent: who may go on, and how the leader proves that everybody else knows it lives.

use bellwether_types::{MemberName, cluster::Cluster};

use crate::{
    Action, Reason,
    action::DemoteMode,
    draft::Draft,
    fence, lease,
    memory::Attempt,
    view::{FailsafeAcceptance, LeaseView},
};

/// No usable view of the store. A leader goes on as long as its lease does; everybody else keeps still.
pub(crate) fn without_store(draft: &mut Draft) -> Reason {
    let view = draft.view;
    if view.settings.pause || !view.is_primary() {
        return Reason::StoreUnreachable;
    }
    if view.held().is_some() {
        keep_asking(draft);
        return if is_confirmed(draft) { Reason::ContinueByFailsafe } else { Reason::StoreUnreachable };
    }
    if draft.memory.bootstrapping.is_some() || view.job.is_some() || draft.memory.demoting.is_some() {
        return Reason::StoreUnreachable;
    }
    if view.store.unavailable_since.is_none() && view.store.cluster.is_none() {
        // A running primary was just adopted and the first read is still under way; its guardian knows the deadline.
        return Reason::StoreUnreachable;
    }
    fence::stop(draft, DemoteMode::Offline { stop_by: view.now }, Reason::LeaseRunningOut)
}

/// The last round was accepted by everybody and is recent enough to count.
fn is_confirmed(draft: &Draft) -> bool {
    let view = draft.view;
    view.failsafe.round.as_ref().is_some_and(|round| {
        !round.running
            && round.accepted.is_superset(&round.asked)
            && view.now.since(round.began_at) < view.settings.ttl
    })
}

/// As leader whose renewals get no answer: ask everybody, again and again.
pub(crate) fn keep_asking(draft: &mut Draft) {
    let view = draft.view;
    let LeaseView::Held { unavailable_since: Some(_), .. } = view.lease else { return };
    if !view.settings.failsafe_mode || view.settings.pause || !view.is_primary() {
        return;
    }
    if view.failsafe.round.as_ref().is_some_and(|round| round.running) {
        return;
    }
    let Some(map) = view.store.cluster.as_ref().and_then(|cluster| cluster.failsafe.as_ref()) else { return };
    let map = &map.value.0;
    if !map.contains_key(&view.me.name) {
        return;
    }
    let members =
        map.iter().filter(|(name, _)| !view.is_me(name)).map(|(n, url)| (n.clone(), url.clone())).collect();
    draft.every(
        lease::renewal_period(view.settings.ttl),
        Attempt::AskFailsafe,
        Action::AskFailsafe { members },
    );
}

/// A leader without a store told us a moment ago that it lives: nobody races.
pub(crate) fn living_leader<'v>(draft: &Draft<'v>) -> Option<&'v FailsafeAcceptance> {
    let view = draft.view;
    if !view.settings.failsafe_mode {
        return None;
    }
    view.failsafe
        .accepted
        .as_ref()
        .filter(|accepted| view.now < accepted.until && !view.is_me(&accepted.leader))
}

/// Whether a non-empty `/failsafe` lacks this member: such a one never becomes leader while the mode is on.
pub(crate) fn is_stranger(draft: &Draft, cluster: &Cluster, name: &MemberName) -> bool {
    draft.view.settings.failsafe_mode
        && cluster
            .failsafe
            .as_ref()
            .is_some_and(|map| !map.value.0.is_empty() && !map.value.0.contains_key(name))
}
