//! The store is silent: who may go on, and how the leader proves that everybody else knows it lives.

use std::collections::BTreeMap;

use bellwether_types::{
    MemberName, Revision, Role,
    cluster::{Cluster, FailsafeMap},
};

use crate::{
    Action, Reason,
    action::{DemoteMode, StartRole},
    candidate,
    draft::Draft,
    fence, lease,
    memory::Attempt,
    slots, switchover,
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
    let Some(members) = whom_to_ask(draft) else { return };
    let period = lease::renewal_period(view.settings.ttl);
    let rely_on = view.settings.ttl;
    if draft.every(period, Attempt::AskFailsafe, Action::AskFailsafe { members, rely_on }) {
        draft.note(Reason::AskingFailsafe);
    }
}

/// Everybody else who may be named in `/failsafe`: in the one that was seen, or in one that was written since. `None` if this member may not be named.
fn whom_to_ask(draft: &Draft) -> Option<BTreeMap<MemberName, String>> {
    let view = draft.view;
    let cluster = view.store.cluster.as_ref()?;
    let mut names = cluster.failsafe.as_ref()?.value.0.clone();
    names.remove(&view.me.name)?;
    if let Some(written) = &draft.memory.failsafe_written {
        if written.barred_nobody {
            return None;
        }
        names.extend(written.names.clone());
    }
    names.remove(&view.me.name);
    Some(names)
}

/// Keeps `/failsafe` current, and empties it once the mode is off: it bars whoever it does not name until a leader says otherwise.
pub(crate) fn keep_map(draft: &mut Draft, cluster: &Cluster) {
    let view = draft.view;
    if !matches!(view.lease, LeaseView::Held { unavailable_since: None, .. }) {
        // From now on it is asked by what was written before; nobody must be named, or barred no longer, after the question.
        return;
    }
    let mut wanted = BTreeMap::new();
    if view.settings.failsafe_mode {
        let others = cluster.members.values().filter(|member| !view.is_me(&member.name));
        wanted = others.filter_map(|member| Some((member.name.clone(), member.api_url.clone()?))).collect();
        wanted.insert(view.me.name.clone(), view.me.api_url.clone());
    }
    let (known, revision) = match &cluster.failsafe {
        Some(keyed) => (&keyed.value.0, keyed.revision),
        None => (&BTreeMap::new(), Revision::default()),
    };
    let is_seen = draft.memory.failsafe_written.as_ref().is_none_or(|written| written.after < revision);
    if is_seen && *known == wanted {
        draft.memory.failsafe_written = None;
        return;
    }
    let map = FailsafeMap(wanted.clone());
    if draft.attempt(Attempt::WriteFailsafe, Action::WriteFailsafe { map }) {
        let written = draft.memory.failsafe_written.get_or_insert_default();
        written.after = revision;
        written.barred_nobody |= wanted.is_empty();
        written.names.extend(wanted);
    }
}

/// A leader without a store told us a moment ago that it lives: nobody races, even if the mode was switched off since.
pub(crate) fn living_leader<'v>(draft: &Draft<'v>) -> Option<&'v FailsafeAcceptance> {
    let view = draft.view;
    view.failsafe
        .accepted
        .as_ref()
        .filter(|accepted| view.now < accepted.until && !view.is_me(&accepted.leader))
}

/// Whether a non-empty `/failsafe` lacks this member. Such a one becomes leader only if [`needs_nobody`] says so: the leader that wrote the list
/// asks those in it alone, and may go on with their consent. So it does if the mode is switched off meanwhile, because it does not hear of that
/// without the store: the list counts until a leader has emptied it ([`keep_map`]).
///
/// With the mode off there are two exceptions. A Patroni that led leaves the list where it is for ever. And an operator who names a member
/// answers for it that nobody goes on: those whom the list names may be gone for good.
pub(crate) fn is_stranger(draft: &Draft, cluster: &Cluster, name: &MemberName) -> bool {
    let view = draft.view;
    let names = cluster.failsafe.as_ref().map(|map| &map.value.0);
    if names.is_none_or(|names| names.is_empty() || names.contains_key(name)) {
        return false;
    }
    let was_left = || {
        let last = draft.memory.last_healthy.as_deref().and_then(Cluster::leader_member);
        last.is_some_and(|leader| leader.bellwether.is_none())
    };
    let is_named = || {
        let request = switchover::due_request(view, cluster).filter(|request| request.leader.is_none());
        request.is_some_and(|request| request.candidate.as_ref() == Some(name))
    };
    view.settings.failsafe_mode || !(was_left() || is_named())
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
