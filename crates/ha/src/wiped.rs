//! A store that has lost the keys of a running cluster: `remove`, a lost volume, an empty store in its place.
//!
//! Without `initialize` a standby takes no lock (rule A11): what it has may be old, and nothing in the store would tell. Two may write the
//! keys anew, all of them in the transaction that gives them the lock:
//!
//! * **who led last**, as it knows itself, once *every* member that it knew has told that nobody led since. As long as the last
//!   confirmation of its lock is good, it goes on as the primary meanwhile: nobody else can have been given the lock before that, and nobody is
//!   in a store that knows of no cluster;
//! * **whom an operator names** by a failover: people know whether a member that does not answer is gone for good.

use std::{collections::BTreeMap, time::Duration};

use bellwether_types::{
    MemberName, Role, SystemId, TimelineId, Timestamp,
    cluster::{Cluster, Initialize, Keyed},
    takeover::EpochState,
};

use crate::{
    Action, Reason, View,
    action::{DemoteMode, LostKeys, NextTimeline},
    candidate,
    draft::Draft,
    fence,
    memory::{Attempt, Claimed},
    race, switchover, timelines,
    view::{JobKind, LeaseView, PeerReport, Peers},
};

/// Who did not answer is asked again after so long.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// What keeps a member from writing the keys anew.
pub(crate) enum Doubt {
    /// The others were asked.
    Waiting,
    /// Somebody has not told yet what must be known.
    Open(Reason),
    /// Somebody else may have led since.
    Against(Reason),
}

/// The store knows of no cluster, or of one that is in the making.
pub(crate) fn is_wiped(cluster: &Cluster) -> bool {
    let initialize = cluster.initialize.as_ref().map(|key| &key.value);
    cluster.leader.is_none() && matches!(initialize, None | Some(Initialize::InProgress))
}

/// Keeps whom to ask if the store forgets them. Not all keys need to go at the same instant.
pub(crate) fn remember(draft: &mut Draft) {
    let view = draft.view;
    let Some(cluster) = view.store.cluster.as_deref() else { return };
    if is_wiped(cluster) {
        return;
    }
    let (now, ttl) = (view.now, view.settings.ttl);
    let seen = &mut draft.memory.lately_seen;
    for member in cluster.members.values().filter(|member| !view.is_me(&member.name)) {
        seen.insert(member.name.clone(), (member.api_url.clone().unwrap_or_default(), now));
    }
    seen.retain(|_, (_, at)| now.since(*at) <= ttl);
}

/// The cluster as this member knew it, if it may write the keys anew: the present content of the store, and in the place of what is missing
/// what it held when it was last seen whole.
pub(crate) fn as_it_was(draft: &Draft, cluster: &Cluster) -> Option<Cluster> {
    let view = draft.view;
    if !applies(view, cluster) {
        return None;
    }
    let mine = view.postgres.system_id?;
    let last = last_view(draft, mine);
    if !led_last(view, last) && !is_named(view, cluster) {
        return None;
    }
    let initialize = Some(Keyed { value: Initialize::Done(mine), revision: cluster.revision });
    let was = Cluster { initialize, initialize_lease: None, ..cluster.clone() };
    let Some(last) = last else { return Some(was) };
    Some(Cluster {
        config: was.config.or_else(|| last.config.clone()),
        sync: was.sync.or_else(|| last.sync.clone()),
        status: was.status.or_else(|| last.status.clone()),
        history: was.history.or_else(|| last.history.clone()),
        failsafe: was.failsafe.or_else(|| last.failsafe.clone()),
        timeline_claim: was.timeline_claim.or_else(|| last.timeline_claim.clone()),
        takeover: was.takeover.or_else(|| last.takeover.clone()),
        ..was
    })
}

/// A cluster that follows another one has its identity from there: any member may take the lock and write it.
pub(crate) fn applies(view: &View, cluster: &Cluster) -> bool {
    is_wiped(cluster) && !view.is_standby_cluster()
}

/// The store as it was last seen with a leader, if it was this cluster's.
fn last_view<'d>(draft: &'d Draft, mine: SystemId) -> Option<&'d Cluster> {
    draft.memory.last_healthy.as_deref().filter(|last| last.system_id() == Some(mine))
}

fn led_last(view: &View, last: Option<&Cluster>) -> bool {
    last.and_then(Cluster::leader_name).is_some_and(|leader| view.is_me(leader))
}

/// An operator has named this very member, and accepts what is lost by it.
pub(crate) fn is_named(view: &View, cluster: &Cluster) -> bool {
    switchover::due_request(view, cluster)
        .is_some_and(|request| request.leader.is_none() && request.candidate.as_ref() == Some(&view.me.name))
}

/// Until when the last confirmation of our lock is good, whatever was refused since.
fn good_until(view: &View) -> Option<Timestamp> {
    let until = match view.lease {
        LeaseView::Held { demote_at, .. } => demote_at,
        LeaseView::Rejected { good_until, .. } => good_until,
        LeaseView::NotHeld => return None,
    };
    (view.now < until).then_some(until)
}

/// A primary whose renewal was refused by a store that has lost everything may go on until then, to write the keys anew.
pub(crate) fn may_go_on(draft: &Draft) -> Option<Timestamp> {
    let view = draft.view;
    let cluster = view.store.usable(view.now, view.patience())?;
    let is_undisturbed = matches!(view.job_kind(), None | Some(JobKind::Checkpoint))
        && view.server().is_some()
        && !view.stopping;
    let until = good_until(view).filter(|_| is_undisturbed && view.is_primary())?;
    let last = last_view(draft, view.postgres.system_id?);
    (applies(view, cluster) && led_last(view, last)).then_some(until)
}

/// The primary whose keys are gone: it goes on while it asks, and writes them anew if nobody is against it.
pub(crate) fn keep_leading(draft: &mut Draft, cluster: &Cluster) -> Option<Reason> {
    let view = draft.view;
    // In pause it goes on anyhow, and takes the lock like any primary without one.
    if view.settings.pause {
        return None;
    }
    may_go_on(draft)?;
    let was = as_it_was(draft, cluster)?;
    Some(match everybody_agrees(draft, &was) {
        Ok(()) => {
            take(draft, &was, cluster, None);
            Reason::RestoringKeys
        }
        Err(Doubt::Waiting) => Reason::StoreWiped,
        Err(Doubt::Open(why)) => {
            draft.note(why);
            draft.wake_in(ASK_AGAIN);
            Reason::StoreWiped
        }
        Err(Doubt::Against(why)) => {
            draft.note(why);
            fence::stop(draft, DemoteMode::ImmediateNoLock, Reason::StoreWipedDemoting)
        }
    })
}

/// The lock, and with it all that the store should hold and does not.
pub(crate) fn take(
    draft: &mut Draft,
    was: &Cluster,
    cluster: &Cluster,
    timeline: Option<NextTimeline>,
) -> bool {
    let claimed = was.timeline_claim.as_ref().and_then(|claim| claim.value.clone());
    let keys = LostKeys {
        initialize: cluster.initialize.as_ref().map(|key| key.revision),
        config: cluster.config.is_none(),
        sync_revision: cluster.sync_revision(),
        sync: missing(cluster.sync.as_ref(), was.sync.as_ref()),
        status: missing(cluster.status.as_ref(), was.status.as_ref()),
        history: missing(cluster.history.as_ref(), was.history.as_ref()),
        failsafe: missing(cluster.failsafe.as_ref(), was.failsafe.as_ref()),
        takeover: missing(cluster.takeover.as_ref(), was.takeover.as_ref()).flatten().map(|mut takeover| {
            // Its revision is another one now, so nothing can rest on it.
            if takeover.is_open() {
                takeover.state = EpochState::Closed;
            }
            takeover
        }),
        claimed: claimed.filter(|_| timeline.is_none() && cluster.timeline_claim.is_none()),
        timeline,
    };
    let takes = draft.attempt(Attempt::AcquireLease, Action::RestoreKeys(Box::new(keys)));
    if takes {
        draft.memory.racing = true;
        draft.memory.claimed = timeline.map(Claimed::unused);
    }
    takes
}

fn missing<T: Clone>(now: Option<&Keyed<T>>, was: Option<&Keyed<T>>) -> Option<T> {
    was.filter(|_| now.is_none()).map(|keyed| keyed.value.clone())
}

/// Whether nobody can have led since this member did: every member that it knew says so for itself.
pub(crate) fn everybody_agrees(draft: &mut Draft, was: &Cluster) -> Result<(), Doubt> {
    let view = draft.view;
    let mine = view.postgres.system_id.ok_or(Doubt::Open(Reason::SystemIdInvalid))?;
    let timeline = view.server().and_then(|server| server.timeline);
    let timeline = timeline.ok_or(Doubt::Open(Reason::TimelineUnknown))?;
    let known = everybody(draft, was);
    let reachable: BTreeMap<MemberName, String> = known
        .iter()
        .filter(|(_, url)| !url.is_empty())
        .map(|(name, url)| (name.clone(), url.clone()))
        .collect();
    let peers = candidate::fresh_answers(draft, &reachable).ok_or(Doubt::Waiting)?;
    let mut open = None;
    for name in known.keys() {
        match agrees(name, peers, mine, timeline) {
            Ok(()) => {}
            Err(Doubt::Open(why)) => {
                open.get_or_insert(why);
            }
            Err(against) => return Err(against),
        }
    }
    open.map_or(Ok(()), |why| Err(Doubt::Open(why)))
}

fn agrees(name: &MemberName, peers: &Peers, mine: SystemId, timeline: TimelineId) -> Result<(), Doubt> {
    let unknown = |why: &str| Doubt::Open(Reason::KeysWaitFor { name: name.clone(), why: why.to_owned() });
    let against =
        |why: &str| Doubt::Against(Reason::KeysRefusedBy { name: name.clone(), why: why.to_owned() });
    let Some(report) = candidate::report(peers, name) else { return Err(unknown("does not answer")) };
    if report.is_running_primary {
        return Err(Doubt::Against(Reason::PrimaryAlive { name: name.clone() }));
    }
    if report.holds_lock {
        return Err(against("was given the leader lock"));
    }
    if report.takeover.promise.is_some() {
        return Err(unknown("is bound by a promise to somebody who wants to take over"));
    }
    match report.system_id {
        Some(theirs) if theirs != mine => return Err(against("has the data of another cluster")),
        None if has_no_data(report) => return Ok(()),
        None => return Err(unknown("does not tell its system identifier")),
        Some(_) => {}
    }
    match report.timeline {
        Some(theirs) if theirs > timeline => Err(against("is on a later timeline")),
        Some(_) => Ok(()),
        None => Err(unknown("does not tell its timeline")),
    }
}

fn has_no_data(report: &PeerReport) -> bool {
    report.role == Role::Uninitialized && report.position.is_none()
}

/// Every other member that was there lately, or is there now, and where to ask it; empty if that is not known.
fn everybody(draft: &Draft, was: &Cluster) -> BTreeMap<MemberName, String> {
    let view = draft.view;
    let lately = draft.memory.lately_seen.iter().map(|(name, (url, _))| (name.clone(), url.clone()));
    let mut known: BTreeMap<MemberName, String> = lately.collect();
    known.extend(race::pool(draft, was));
    known.remove(&view.me.name);
    known
}

/// Somebody's PostgreSQL runs here, though the store knows of no cluster: it has lost the keys of one, and no second one is founded
/// under its name.
pub(crate) fn has_members_with_data<'c>(view: &View, cluster: &'c Cluster) -> Option<&'c MemberName> {
    let mut others = cluster.members.values().filter(|member| !view.is_me(&member.name));
    let has_data = |role| matches!(role, Some(Role::Primary | Role::Replica));
    others.find(|member| member.is_running() && has_data(member.role)).map(|member| &member.name)
}

/// The number to take with the lock.
pub(crate) fn next_timeline(draft: &mut Draft, was: &Cluster, cluster: &Cluster) -> Option<NextTimeline> {
    let next = timelines::next(draft, was)?;
    Some(NextTimeline { expect: cluster.timeline_claim.as_ref().map(|claim| claim.revision), ..next })
}
