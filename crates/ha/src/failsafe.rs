//! The store is silent: who may go on, and how the leader proves that everybody else knows it lives.

use bellwether_types::{MemberName, Role, cluster::Cluster};

use crate::{
    Action, Reason,
    action::{DemoteMode, StartRole},
    candidate,
    draft::Draft,
    fence, lease,
    memory::Attempt,
    slots,
    view::{AsOf, DataDirectory, FailsafeAcceptance, JobKind, LeaseView, Peers, Process},
};

/// No usable view of the store. A leader goes on as long as its lease does; everybody else keeps still.
pub(crate) fn without_store(draft: &mut Draft) -> Reason {
    let view = draft.view;
    if view.settings.pause || view.job.is_some() || draft.memory.bootstrapping.is_some() {
        return Reason::StoreUnreachable;
    }
    if view.postgres.process == Process::NotRunning {
        return start_orphan(draft);
    }
    if !view.is_primary() {
        keep_slots_moving(draft);
        return Reason::StoreUnreachable;
    }
    if view.held().is_some() {
        if !is_confirmed(draft) {
            return Reason::StoreUnreachable;
        }
        keep_slots_moving(draft);
        return Reason::ContinueByFailsafe;
    }
    if view.store.unavailable_since.is_none() && view.store.cluster.is_none() {
        // A running primary was just adopted and the first read is still under way; its guardian knows the deadline.
        return Reason::StoreUnreachable;
    }
    fence::stop(draft, DemoteMode::Offline { stop_by: view.now }, Reason::LeaseRunningOut)
}

/// Or WAL piles up.
fn keep_slots_moving(draft: &mut Draft) {
    let view = draft.view;
    if view.settings.failsafe_mode
        && let Some(cluster) = view.store.cluster.as_deref()
    {
        // Without the store nothing is copied, so no reason comes of it.
        let _ = slots::process(draft, cluster);
    }
}

/// A primary that was stopped because the store is silent runs on as a standby of nobody, for readers. Everything else that
/// is down waits for the store.
fn start_orphan(draft: &mut Draft) -> Reason {
    let view = draft.view;
    let is_wanted = draft.memory.start_wanted && view.held().is_none();
    if !is_wanted || view.postgres.data != DataDirectory::Present || draft.backing_off(&JobKind::Start) {
        return Reason::StoreUnreachable;
    }
    fence::take_down(draft);
    draft.set_role(Role::Replica);
    draft.memory.recovering = true;
    draft.memory.start_wanted = false;
    draft.then(Action::Start { role: StartRole::Standby { upstream: None } });
    Reason::StartingSecondary
}

/// The store works again: what was accepted or promised meanwhile is void at the leader.
pub(crate) fn upkeep(draft: &mut Draft) {
    let view = draft.view;
    let LeaseView::Held { unavailable_since: None, .. } = view.lease else { return };
    let is_idle = view.failsafe.round.as_ref().is_none_or(|round| !round.running);
    let has_something = view.failsafe.accepted.is_some() || view.failsafe.round.is_some();
    if view.held().is_some() && is_idle && has_something {
        draft.attempt(Attempt::ClearFailsafe, Action::ClearFailsafe);
    }
}

/// The last round was accepted by everybody and is recent enough to count.
fn is_confirmed(draft: &Draft) -> bool {
    let view = draft.view;
    view.failsafe.round.as_ref().is_some_and(|round| {
        !round.running
            && round.accepted.is_superset(&round.asked)
            && view.now.since(round.began_at) < round.good_for
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
    let period = lease::renewal_period(view.settings.ttl);
    let rely_on = view.settings.ttl;
    if draft.every(period, Attempt::AskFailsafe, Action::AskFailsafe { members, rely_on }) {
        draft.note(Reason::AskingFailsafe);
    }
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

/// Whether a non-empty `/failsafe` lacks this member. While the mode is on such a one becomes leader only if [`needs_nobody`] says so: the
/// leader that wrote the list asks those in it alone, and may go on with their consent.
pub(crate) fn is_stranger(draft: &Draft, cluster: &Cluster, name: &MemberName) -> bool {
    draft.view.settings.failsafe_mode
        && cluster
            .failsafe
            .as_ref()
            .is_some_and(|map| !map.value.0.is_empty() && !map.value.0.contains_key(name))
}

/// Nobody goes on by `/failsafe`: all that it names were asked after the lock was gone, and each runs as a standby, or runs nothing and holds no lock.
/// Whoever goes on without the store is in the list that it goes on by, and has been a primary since before its lock was gone; a server of its own
/// that is down comes up as a primary by that lock alone. Who does not answer, is being restarted, or tells what it knew before it was asked,
/// may be that one.
pub(crate) fn needs_nobody(cluster: &Cluster, peers: &Peers) -> bool {
    let leads_nobody = |name| {
        candidate::report(peers, name).is_some_and(|report| {
            let runs_as_standby = matches!(report.role, Role::Replica | Role::StandbyLeader)
                && report.position.is_some()
                && report.as_of == AsOf::Asked;
            !report.is_running_primary && (report.at_rest || runs_as_standby)
        })
    };
    cluster.failsafe.as_ref().is_none_or(|map| map.value.0.keys().all(leads_nobody))
}
