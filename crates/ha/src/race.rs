//! The leader race: the lock is free. May this member take it?
//!
//! All members get here at about the same moment; "healthiest" means "not worse than anyone I can see", and the store's
//! create-if-absent breaks ties.

use std::collections::BTreeMap;

use bellwether_types::{
    MemberName, TimelineId,
    cluster::{Cluster, Leader, SyncState},
    settings::SyncMode,
};

use crate::{
    Action, Reason, View,
    action::DemoteMode,
    candidate,
    draft::Draft,
    failsafe, fence, following,
    memory::Attempt,
    view::{LeaseView, PeerReport, Peers, Process, Watchdog},
};

/// Why this member does not try, or that it must wait for answers.
enum Unfit {
    /// Not now; the reason says why.
    Because(Reason),
    /// Peers were asked; the next tick knows more.
    Waiting,
}

/// The cluster has no leader and PostgreSQL runs here.
pub(crate) fn race(draft: &mut Draft, cluster: &Cluster) -> Reason {
    let view = draft.view;
    match is_healthiest(draft, cluster) {
        Ok(()) => acquire(draft, cluster),
        Err(Unfit::Waiting) => Reason::PollingPeers,
        Err(Unfit::Because(why)) => {
            let nofailover = view.me.tags.nofailover();
            if view.is_primary() && !view.settings.pause {
                draft.note(why);
                let reason =
                    if nofailover { Reason::NotAllowedDemoting } else { Reason::NotHealthiestDemoting };
                return fence::stop(draft, DemoteMode::ImmediateNoLock, reason);
            }
            following::without_leader(draft, cluster);
            draft.note(why);
            if nofailover { Reason::NotAllowedToPromote } else { Reason::NotHealthiest }
        }
    }
}

fn acquire(draft: &mut Draft, cluster: &Cluster) -> Reason {
    draft.attempt(Attempt::AcquireLease, Action::AcquireLease { sync: cluster.sync_revision() });
    Reason::AcquiringLock
}

/// `leader` bears our name, but this process was never given the lock: a former process of ours was.
pub(crate) fn resume(draft: &mut Draft, leader: &Leader) -> Reason {
    let view = draft.view;
    if let LeaseView::Rejected { at } = view.lease
        && view.store.confirmed_at <= at
    {
        // What we see is older than the refusal.
        return Reason::NotPromotingWithoutRenewal;
    }
    draft.attempt(Attempt::ResumeLease, Action::ResumeLease { revision: leader.revision });
    Reason::ResumingLock
}

fn is_healthiest(draft: &mut Draft, cluster: &Cluster) -> Result<(), Unfit> {
    let view = draft.view;
    may_try(draft, cluster).map_err(Unfit::Because)?;
    if view.is_primary() {
        return may_keep_leading(draft, cluster);
    }
    let sync = cluster.active_sync().filter(|_| view.settings.sync_mode() != SyncMode::Off);
    if let Some(sync) = sync
        && view.settings.sync_mode() == SyncMode::On
        && !sync.includes(&view.me.name)
    {
        return Err(Unfit::Because(Reason::NotSynchronous));
    }
    let pool = pool(draft, cluster, sync);
    let Some(peers) = candidate::fresh_answers(draft, &pool) else { return Err(Unfit::Waiting) };
    compare(draft, cluster, &pool, peers).map_err(Unfit::Because)
}

/// For a running primary without the lock it is enough that nobody was promoted meanwhile.
fn may_keep_leading(draft: &mut Draft, cluster: &Cluster) -> Result<(), Unfit> {
    check_own_timeline(draft.view, cluster).map_err(Unfit::Because)?;
    let pool = pool(draft, cluster, None);
    let Some(peers) = candidate::fresh_answers(draft, &pool) else { return Err(Unfit::Waiting) };
    let other = pool
        .keys()
        .find(|name| candidate::report(peers, name).is_some_and(|report| report.is_running_primary));
    match other {
        Some(name) => Err(Unfit::Because(Reason::PrimaryAlive { name: name.clone() })),
        None => Ok(()),
    }
}

/// What needs no answer from anybody else.
fn may_try(draft: &mut Draft, cluster: &Cluster) -> Result<(), Reason> {
    let view = draft.view;
    if let Some(at) = draft.memory.pre_promote_failed_at
        && view.now.since(at) < view.settings.ttl
    {
        draft.wake_by(at + view.settings.ttl);
        return Err(Reason::PrePromoteBackoff);
    }
    if let Some(at) = draft.memory.released_at
        && view.now.since(at) < crate::demote::HOLD_OFF
    {
        draft.wake_by(at + crate::demote::HOLD_OFF);
        return Err(Reason::ReleasedShortlyAgo);
    }
    if let Some(leader) = failsafe::living_leader(draft) {
        draft.wake_by(leader.until);
        return Err(Reason::LeaderAliveByFailsafe { name: leader.leader.clone() });
    }
    if !matches!(view.postgres.process, Process::Running { .. }) {
        return Err(Reason::PostgresStarting);
    }
    if view.me.tags.nofailover() {
        return Err(Reason::NotAllowedToPromote);
    }
    if failsafe::is_stranger(draft, cluster, &view.me.name) {
        return Err(Reason::NotInFailsafe);
    }
    if matches!(view.fencing.watchdog, Watchdog::Required { usable: false, .. }) {
        return Err(Reason::WatchdogNotUsable);
    }
    if view.server().is_none() {
        return Err(Reason::PostgresSilent);
    }
    Ok(())
}

/// A primary that comes back from a long freeze must not discard a promotion that happened meanwhile.
fn check_own_timeline(view: &View, cluster: &Cluster) -> Result<(), Reason> {
    let Some(timeline) = cluster.timeline() else { return Ok(()) };
    match view.server().and_then(|server| server.timeline) {
        Some(mine) if mine >= timeline => Ok(()),
        Some(mine) => Err(Reason::TimelineBehind { mine, cluster: timeline }),
        None => Err(Reason::TimelineUnknown),
    }
}

/// Whom to ask: everybody known now, in the last view with a leader, or to failsafe. The old primary's member key vanishes
/// together with its lock, so the present members are not enough.
fn pool(draft: &Draft, cluster: &Cluster, sync: Option<&SyncState>) -> BTreeMap<MemberName, String> {
    let view = draft.view;
    let mut pool = BTreeMap::new();
    let last = draft.memory.last_healthy.as_deref();
    for member in last.into_iter().flat_map(|last| last.members.values()) {
        pool.extend(member.api_url.clone().map(|url| (member.name.clone(), url)));
    }
    if view.settings.failsafe_mode
        && let Some(map) = &cluster.failsafe
    {
        pool.extend(map.value.0.iter().map(|(name, url)| (name.clone(), url.clone())));
    }
    for member in cluster.members.values() {
        pool.extend(member.api_url.clone().map(|url| (member.name.clone(), url)));
    }
    pool.remove(&view.me.name);
    if let Some(sync) = sync {
        pool.retain(|name, _| sync.includes(name));
    }
    pool
}

/// Compares this member with everybody who answered.
fn compare(
    draft: &mut Draft,
    cluster: &Cluster,
    pool: &BTreeMap<MemberName, String>,
    peers: &Peers,
) -> Result<(), Reason> {
    let view = draft.view;
    let Some(server) = view.server() else { return Err(Reason::PostgresSilent) };
    let position = server.position;
    let sync = cluster.active_sync().filter(|_| view.settings.sync_mode() != SyncMode::Off);
    let quorum = sync.filter(|_| view.settings.sync_mode() == SyncMode::Quorum);
    if cluster.optime() - position > view.settings.maximum_lag_on_failover {
        return Err(Reason::LagTooHigh { optime: cluster.optime(), position });
    }
    if view.settings.check_timeline {
        check_timeline_of(server.timeline, cluster)?;
    }
    let last = draft.memory.last_healthy.clone();
    let former = match sync {
        Some(sync) => sync.leader.as_ref(),
        None => last.as_deref().and_then(Cluster::leader_name),
    };
    let mine = view.me.tags.failover_priority();
    let mut votes: i64 = if quorum.is_some_and(|sync| !sync.includes(&view.me.name)) { -1 } else { 0 };
    let mut somebody_ahead = false;
    for name in pool.keys() {
        let Some(report) = candidate::report(peers, name) else { continue };
        if report.is_running_primary {
            return Err(Reason::PrimaryAlive { name: name.clone() });
        }
        let PeerReport { nofailover, watchdog_failed, failover_priority: theirs, .. } = *report;
        if nofailover || watchdog_failed {
            continue;
        }
        let Some(theirs_at) = report.position else { continue };
        let is_former = former.is_some_and(|former| former.same_standby(name));
        if theirs_at > position {
            if sync.is_none() || !is_former {
                return Err(Reason::PeerAhead { name: name.clone() });
            }
            somebody_ahead = true;
            draft.note(Reason::FormerLeaderAhead);
            continue;
        }
        if theirs_at.0 == 0 {
            continue;
        }
        let is_voter = quorum.is_some_and(|sync| sync.includes(name));
        if theirs_at == position && theirs > mine && (quorum.is_none() || is_voter) {
            if !is_former {
                return Err(Reason::PeerPriority { name: name.clone(), theirs, mine });
            }
            draft.note(Reason::FormerLeaderPriority { name: name.clone(), theirs, mine });
        }
        if is_voter {
            votes += 1;
            draft.note(Reason::QuorumVote { name: name.clone() });
        }
    }
    let Some(sync) = quorum else { return Ok(()) };
    if votes >= i64::from(sync.quorum) || (!somebody_ahead && sync.is_leader(&view.me.name)) {
        return Ok(());
    }
    Err(Reason::QuorumUnreachable { quorum: sync.quorum })
}

fn check_timeline_of(mine: Option<TimelineId>, cluster: &Cluster) -> Result<(), Reason> {
    let Some(mine) = mine else { return Err(Reason::TimelineUnknown) };
    match cluster.timeline() {
        Some(timeline) if mine < timeline => Err(Reason::TimelineBehind { mine, cluster: timeline }),
        _ => Ok(()),
    }
}
