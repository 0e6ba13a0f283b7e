//! Comparing this member with its rivals in the race, on their own fresh words.

use bellwether_types::{
    Lsn, MemberName, TimelineId,
    cluster::{Cluster, SyncState},
    settings::SyncMode,
};

use crate::{
    Reason, View, candidate,
    draft::Draft,
    failsafe,
    view::{AsOf, PeerReport, Peers},
};

/// Whom to compare with.
pub(crate) struct Rivals<'r> {
    pub(crate) names: &'r [&'r MemberName],
    pub(crate) peers: &'r Peers,
    /// Something else shows what this member has: an operator who accepts what it lacks, or `/sync`.
    pub(crate) ignore_lag: bool,
}

/// Whether nobody among the rivals is better. Who does not answer blocks nobody; in quorum mode votes must come together.
pub(crate) fn healthiest(draft: &mut Draft, cluster: &Cluster, rivals: &Rivals) -> Result<(), Reason> {
    let view = draft.view;
    let Some(server) = view.server() else { return Err(Reason::PostgresSilent) };
    let position = server.position;
    let sync = cluster.active_sync().filter(|_| view.settings.sync_mode() != SyncMode::Off);
    let quorum = sync.filter(|sync| asks_for_votes(view, sync));
    let optime = cluster.optime();
    if !rivals.ignore_lag && optime - position > view.settings.maximum_lag_on_failover {
        return Err(Reason::LagTooHigh { optime, position });
    }
    if view.settings.check_timeline {
        own_timeline(view, cluster)?;
    }
    own_branch(view, cluster)?;
    let last = draft.memory.last_healthy.clone();
    let former = match sync {
        Some(sync) => sync.leader.as_ref(),
        None => last.as_deref().and_then(Cluster::leader_name),
    };
    let mine = view.me.tags.failover_priority();
    let mut votes: i64 = if quorum.is_some_and(|sync| !sync.includes(&view.me.name)) { -1 } else { 0 };
    for &name in rivals.names {
        let Some(report) = candidate::report(rivals.peers, name) else {
            draft.note(Reason::MemberUnreachable { name: name.clone() });
            continue;
        };
        if report.is_running_primary {
            return Err(Reason::PrimaryAlive { name: name.clone() });
        }
        let is_former = former.is_some_and(|former| former.same_standby(name));
        let PeerReport { failover_priority: theirs, .. } = *report;
        // Who may not lead does not block either, but in quorum mode its answer is evidence of what was committed.
        let may_lead = may_lead(draft, cluster, name, report);
        let Some(theirs_at) = counting(cluster, report) else { continue };
        if theirs_at > position {
            if sync.is_some() && is_former {
                draft.note(Reason::FormerLeaderAhead);
            } else if may_lead {
                return Err(Reason::PeerAhead { name: name.clone() });
            }
            continue;
        }
        // It may have more: as if it had not answered. (That it is ahead would be true all the same.)
        match report.as_of {
            AsOf::Earlier { ago } => {
                draft.note(Reason::MemberPositionOld { name: name.clone(), ago_ms: ago.as_millis() });
                continue;
            }
            AsOf::AtLeast => {
                draft.note(Reason::MemberReplaysOwnWal { name: name.clone() });
                continue;
            }
            AsOf::Asked | AsOf::Unsaid => {}
        }
        if theirs_at.0 == 0 {
            continue;
        }
        let is_voter = quorum.is_some_and(|sync| sync.includes(name));
        if may_lead && theirs_at == position && theirs > mine && (quorum.is_none() || is_voter) {
            if !is_former {
                return Err(Reason::PeerPriority { name: name.clone(), theirs, mine });
            }
            draft.note(Reason::FormerLeaderPriority { name: name.clone(), theirs, mine });
        }
        // Positions of different timelines cannot be compared: who has followed a later promotion may have what we lack.
        let is_later = report.timeline.is_some_and(|theirs| Some(theirs) > server.timeline);
        if is_voter && !is_later {
            votes += 1;
            draft.note(Reason::QuorumVote { name: name.clone() });
        }
    }
    quorum.map_or(Ok(()), |sync| has_quorum(sync, votes))
}

/// Whether a rival could take the lock itself. One that could not must not keep everybody else from it.
fn may_lead(draft: &mut Draft, cluster: &Cluster, name: &MemberName, report: &PeerReport) -> bool {
    if report.nofailover || report.watchdog_failed {
        return false;
    }
    if failsafe::is_stranger(draft, cluster, name) {
        draft.note(Reason::MemberNotPromotable { name: name.clone() });
        return false;
    }
    if draft.view.settings.check_timeline
        && let (Some(theirs), Some(timeline)) = (report.timeline, cluster.timeline())
        && theirs < timeline
    {
        // What it has beyond the others was given up by the promotion that began the newer timeline.
        draft.note(Reason::MemberTimelineBehind { name: name.clone(), theirs, cluster: timeline });
        return false;
    }
    if let (Some(theirs), Some(timeline)) = (report.timeline, cluster.timeline())
        && end_of(cluster, theirs).is_some_and(|end| report.position > Some(end))
    {
        // The same without that setting, where `/history` tells: see `own_branch`.
        draft.note(Reason::MemberTimelineBehind { name: name.clone(), theirs, cluster: timeline });
        return false;
    }
    true
}

/// Up to where a rival's WAL counts. What lies beyond the end of its timeline was given up by the promotion that ended it, so it is
/// evidence of nothing: whoever has all before it has all that the rival knows to be committed.
fn counting(cluster: &Cluster, report: &PeerReport) -> Option<Lsn> {
    let position = report.position?;
    let end = report.timeline.and_then(|timeline| end_of(cluster, timeline));
    Some(end.map_or(position, |end| position.min(end)))
}

/// Where a timeline ended, by `/history`.
fn end_of(cluster: &Cluster, timeline: TimelineId) -> Option<Lsn> {
    let mut entries = cluster.history.iter().flat_map(|keyed| &keyed.value.0);
    entries.find(|entry| entry.timeline == timeline).map(|entry| entry.end)
}

/// Whether a promotion by this `/sync` needs votes: also after a change of the mode, until the list that a quorum was promised to is
/// replaced.
pub(crate) fn asks_for_votes(view: &View, sync: &SyncState) -> bool {
    view.settings.sync_mode() == SyncMode::Quorum || sync.quorum > 0
}

/// The leader that wrote `/sync` needs its votes too: somebody may have been promoted by the same list since, and what was acknowledged
/// then is known only to those who would vote.
fn has_quorum(sync: &SyncState, votes: i64) -> Result<(), Reason> {
    if votes >= i64::from(sync.quorum) {
        return Ok(());
    }
    Err(Reason::QuorumUnreachable { quorum: sync.quorum })
}

/// Nothing but `/history` tells that this member's timeline ended before its WAL does: what lies
/// beyond was given up when somebody else was promoted, and must not come back by a promotion of ours.
pub(crate) fn own_branch(view: &View, cluster: &Cluster) -> Result<(), Reason> {
    let (Some(server), Some(timeline)) = (view.server(), cluster.timeline()) else { return Ok(()) };
    let Some(mine) = server.timeline else { return Ok(()) };
    match end_of(cluster, mine) {
        Some(end) if server.position > end => Err(Reason::TimelineBehind { mine, cluster: timeline }),
        // The same number, another past: ours was given up as a whole.
        _ if mine <= timeline && !shares_past(view, cluster) => {
            Err(Reason::TimelineBehind { mine, cluster: timeline })
        }
        _ => Ok(()),
    }
}

/// Where this member's own WAL stops to count, if a promotion gave up what it has beyond that.
pub(crate) fn given_up_at(view: &View, cluster: &Cluster) -> Option<Lsn> {
    let server = view.server()?;
    end_of(cluster, server.timeline?).filter(|end| server.position > *end)
}

/// No timeline that both this member and `/history` know ended at different places.
fn shares_past(view: &View, cluster: &Cluster) -> bool {
    let mine = view.postgres.local_history.iter().flat_map(|history| &history.switches);
    let known = cluster.history.iter().flat_map(|keyed| &keyed.value.0);
    known
        .into_iter()
        .all(|entry| mine.clone().all(|switch| switch.timeline != entry.timeline || switch.end == entry.end))
}

/// A member that comes back from a long freeze must not discard a promotion that happened meanwhile.
pub(crate) fn own_timeline(view: &View, cluster: &Cluster) -> Result<(), Reason> {
    let Some(timeline) = cluster.timeline() else { return Ok(()) };
    match view.server().and_then(|server| server.timeline) {
        Some(mine) if mine >= timeline => Ok(()),
        Some(mine) => Err(Reason::TimelineBehind { mine, cluster: timeline }),
        None => Err(Reason::TimelineUnknown),
    }
}
