//! Switchover and failover at an operator's request: what the leader does with it, and what everybody else does once the
//! leader has stepped down.

use std::time::Duration;

use bellwether_types::{
    Lsn, MemberName,
    cluster::{Cluster, FailoverRequest, Schedule},
    settings::SyncMode,
};

use crate::{
    Action, Reason, View,
    action::DemoteMode,
    candidate::{self, Lag},
    compare,
    draft::Draft,
    failsafe, fence,
    memory::{Attempt, Checkpoint},
    schedule::{self, Due},
    view::Peers,
};

/// So long the requested candidate goes first although this member seems to be a little ahead of it.
const GRACE: Duration = Duration::from_secs(2);

/// The word for a request in Patroni's messages.
pub(crate) fn word(request: &FailoverRequest) -> &'static str {
    if request.leader.is_some() { "switchover" } else { "manual failover" }
}

/// At the leader, each tick: step down if that is asked for and somebody can take over; else say why not and clear the request.
pub(crate) fn at_leader(draft: &mut Draft, cluster: &Cluster) -> Option<Reason> {
    let view = draft.view;
    let (request, _) = cluster.failover_request()?;
    let me = &view.me.name;
    if view.settings.pause && !view.is_primary() {
        return None;
    }
    let action = word(request).to_owned();
    match &request.scheduled_at {
        Some(_) if view.settings.pause => return None,
        Some(Schedule::At { text, time }) => match schedule::due(draft, &action, *time, text) {
            Due::Waiting => return None,
            Due::Stale => return clear(draft, cluster),
            Due::Now => {}
        },
        Some(Schedule::Unparsable { text }) => {
            draft.note(Reason::StaleScheduled { action, at: text.clone() });
            return clear(draft, cluster);
        }
        None => {}
    }
    if let Some(named) = request.leader.as_ref().filter(|leader| *leader != me) {
        draft.note(Reason::RequestLeaderMismatch { action, named: named.clone(), actual: me.clone() });
        return clear(draft, cluster);
    }
    if request.candidate.as_ref() == Some(me) {
        draft.note(Reason::RequestAlreadyLeader { action });
        return clear(draft, cluster);
    }
    if view.settings.pause && request.candidate.is_none() {
        draft.note(Reason::RequestNeedsCandidate { action });
        return clear(draft, cluster);
    }
    step_down(draft, cluster, request)
}

fn step_down(draft: &mut Draft, cluster: &Cluster, request: &FailoverRequest) -> Option<Reason> {
    let action = word(request).to_owned();
    let is_planned = request.leader.is_some();
    if is_planned && matches!(draft.memory.checkpoint_after_promote, Checkpoint::Wanted | Checkpoint::Running)
    {
        // Promoted a moment ago: the others are still finding their way to the new timeline.
        draft.note(Reason::CheckpointBeforeStepDown { action });
        return None;
    }
    match is_failover_possible(draft, cluster) {
        None => Some(Reason::PollingPeers),
        Some(true) => {
            let reason =
                if request.leader.is_some() { Reason::SwitchoverDemoting } else { Reason::FailoverDemoting };
            Some(fence::stop(draft, DemoteMode::Graceful, reason))
        }
        Some(false) => {
            draft.note(Reason::RequestNoHealthyMembers { action });
            clear(draft, cluster)
        }
    }
}

/// Whether anybody could take over from this leader; `None` while the members are being asked.
pub(crate) fn is_failover_possible(draft: &mut Draft, cluster: &Cluster) -> Option<bool> {
    let view = draft.view;
    let request = cluster.failover_request().map(|(request, _)| request);
    let action = request.map_or("failover", word).to_owned();
    let candidates = candidate::successors(view, cluster);
    if candidates.is_empty() {
        match request.and_then(|request| request.candidate.clone()) {
            Some(candidate) if cluster.active_sync().is_some() => {
                draft.note(Reason::RequestNotInSync { action, candidate });
            }
            _ => draft.note(Reason::RequestNoCandidates { action }),
        }
        return Some(false);
    }
    let peers = candidate::fresh_answers(draft, &candidates)?;
    let mut fit = 0_u32;
    let is_planned = request.is_some_and(|request| request.leader.is_some());
    for name in candidates.keys() {
        let fit_now = candidate::fit_to_lead(view, cluster, name, peers, Lag::Tolerable);
        match fit_now.and_then(|()| if is_planned { on_our_timeline(view, name, peers) } else { Ok(()) }) {
            Ok(()) => fit += 1,
            Err(why) => draft.note(why),
        }
    }
    let named = request.is_some_and(|request| request.candidate.is_some());
    let sync = cluster.active_sync().filter(|_| view.settings.sync_mode() != SyncMode::Off && !named);
    let quorum = sync.filter(|sync| compare::asks_for_votes(view, sync));
    // Somebody must win with enough votes, or this member would end in recovery among members that may not lead.
    Some(fit > 0 && quorum.is_none_or(|sync| fit > sync.quorum))
}

/// A planned switchover hands over to somebody who receives what this primary writes, and that is on its timeline.
fn on_our_timeline(view: &View, name: &MemberName, peers: &Peers) -> Result<(), Reason> {
    let mine = view.server().filter(|server| !server.in_recovery).and_then(|server| server.timeline);
    let theirs = candidate::report(peers, name).and_then(|report| report.timeline);
    match (mine, theirs) {
        (Some(cluster), Some(theirs)) if theirs < cluster => {
            Err(Reason::MemberTimelineBehind { name: name.clone(), theirs, cluster })
        }
        _ => Ok(()),
    }
}

/// Clears the request that was decided on, and no later one.
pub(crate) fn clear(draft: &mut Draft, cluster: &Cluster) -> Option<Reason> {
    let (_, expect) = cluster.failover_request()?;
    draft.attempt(Attempt::WriteFailover, Action::WriteFailover { expect, request: None });
    draft.note(Reason::CleaningFailoverKey);
    None
}

/// The winner of the race clears the request it raced with. In pause the request says who may promote, so it stays until then.
pub(crate) fn clear_after_winning(draft: &mut Draft, cluster: &Cluster) {
    let view = draft.view;
    let Some(raced_with) = draft.memory.raced_with_request else { return };
    let Some((request, revision)) =
        cluster.failover_request().filter(|(_, revision)| *revision == raced_with)
    else {
        draft.memory.raced_with_request = None;
        return;
    };
    let for_me = request.candidate.as_ref() == Some(&view.me.name);
    let request = if view.settings.pause && for_me && !view.is_primary() && !view.is_standby_cluster() {
        if request.leader.is_none() {
            return;
        }
        Some(FailoverRequest { candidate: request.candidate.clone(), ..FailoverRequest::default() })
    } else {
        None
    };
    draft.attempt(Attempt::WriteFailover, Action::WriteFailover { expect: revision, request });
    draft.note(Reason::CleaningFailoverKeyAfterLock);
}

/// The request that a race must honour: a scheduled one whose time has not come is none.
pub(crate) fn due_request<'c>(view: &View, cluster: &'c Cluster) -> Option<&'c FailoverRequest> {
    let (request, _) = cluster.failover_request()?;
    match &request.scheduled_at {
        None => Some(request),
        Some(Schedule::At { time, .. }) if !view.settings.pause && view.wall.millis_until(*time) <= 0 => {
            Some(request)
        }
        Some(_) => None,
    }
}

/// What a request means for this member's part in the race. Everybody waits for the candidate of a switchover, and
/// who stepped down for the others, for one `ttl`. If nobody has taken the lock by then, perhaps for want of votes, all compare.
pub(crate) enum Part {
    /// Take the lock.
    Mine,
    /// Not for this member.
    NotMine(Reason),
    /// Compare with everybody but the one who stepped down.
    Compare,
}

/// Decides the race that a request brought about, on the members' fresh answers.
pub(crate) fn at_race(
    draft: &mut Draft,
    cluster: &Cluster,
    request: &FailoverRequest,
    peers: &Peers,
) -> Part {
    let view = draft.view;
    let me = &view.me.name;
    let unlocked_since = draft.memory.unlocked_since.unwrap_or(view.now);
    let is_patient = view.now.since(unlocked_since) < view.settings.ttl;
    if let Some(candidate) = &request.candidate {
        if candidate == me {
            return mine(view, cluster, request);
        }
        if view.settings.pause {
            return Part::NotMine(Reason::LeavingItToCandidate { candidate: candidate.clone() });
        }
        if view.settings.sync_mode() == SyncMode::On
            && cluster.active_sync().is_some_and(|sync| !sync.includes(me))
        {
            return Part::NotMine(Reason::NotSynchronous);
        }
        let waits_for_it = is_patient || request.leader.is_none();
        if waits_for_it && is_candidate_fit(draft, cluster, request, candidate, peers) {
            return Part::NotMine(Reason::LeavingItToCandidate { candidate: candidate.clone() });
        }
    } else if view.settings.pause {
        return Part::NotMine(Reason::Paused);
    }
    if is_patient && request.leader.as_ref() == Some(me) {
        let anybody = FailoverRequest { candidate: None, ..request.clone() };
        let others = candidate::successors_for(view, cluster, Some(&anybody));
        let can_lead = others
            .keys()
            .filter(|name| request.candidate.as_ref() != Some(*name))
            .filter(|name| !failsafe::is_stranger(draft, cluster, name))
            .any(|name| candidate::fit_to_lead(view, cluster, name, peers, Lag::Tolerable).is_ok());
        return if can_lead { Part::NotMine(Reason::SteppedDown) } else { mine(view, cluster, request) };
    }
    Part::Compare
}

/// A failover accepts loss; a switchover was asked for while all was well, and must not bring back what was given up since.
fn mine(view: &View, cluster: &Cluster, request: &FailoverRequest) -> Part {
    let fitness = if request.leader.is_some() { compare::own_branch(view, cluster) } else { Ok(()) };
    fitness.map_or_else(Part::NotMine, |()| Part::Mine)
}

/// Will the candidate take the lock? Whoever leaves it to one that will not waits for ever.
///
/// The operator named it, so lag is no matter, except that a switchover (unlike a failover) never accepts the loss of what a quorum
/// may have acknowledged: its candidate must be synchronous and, in quorum mode, not behind this member.
fn is_candidate_fit(
    draft: &mut Draft,
    cluster: &Cluster,
    request: &FailoverRequest,
    candidate: &MemberName,
    peers: &Peers,
) -> bool {
    let view = draft.view;
    let is_on = view.settings.sync_mode() != SyncMode::Off;
    let sync = cluster.active_sync().filter(|_| is_on && request.leader.is_some());
    if sync.is_some_and(|sync| !sync.includes(candidate)) || failsafe::is_stranger(draft, cluster, candidate)
    {
        draft.note(Reason::MemberNotPromotable { name: candidate.clone() });
        return false;
    }
    let mine = view.server().map_or(Lsn::ZERO, |server| server.position);
    let by_votes = sync.is_some_and(|sync| compare::asks_for_votes(view, sync));
    let unlocked_since = draft.memory.unlocked_since.unwrap_or(view.now);
    let needed = match by_votes {
        false => Lsn::ZERO,
        // Its answer may be older than the last record; what the leader handed over is enough for a moment.
        true if view.now.since(unlocked_since) < GRACE => mine.min(cluster.optime()),
        true => mine,
    };
    match candidate::fit_to_lead(view, cluster, candidate, peers, Lag::AtLeast(needed)) {
        Ok(()) => true,
        Err(why) => {
            draft.note(why);
            false
        }
    }
}
