//! The leader race: the lock is free. May this member take it?
//!
//! All members get here at about the same moment; "healthiest" means "not worse than anyone I can see", and the store's
//! create-if-absent breaks ties.

use std::{collections::BTreeMap, time::Duration};

use bellwether_types::{
    MemberName, Role,
    cluster::{Cluster, Initialize, Leader, SyncState},
    settings::SyncMode,
};

use crate::{
    Action, Reason, View,
    action::DemoteMode,
    candidate,
    compare::{self, Rivals},
    demote,
    draft::Draft,
    failsafe, fence, following, gray, leading,
    memory::{Attempt, Claimed},
    switchover::{self, Part},
    takeover, timelines,
    view::{JobKind, LeaseView, Peers, Process, Watchdog},
    wiped::{self, Doubt},
};

/// How soon a member that was not fit looks again, at the latest.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Why this member does not try.
pub(crate) enum Unfit {
    /// Not now; the reason says why.
    Because(Reason),
    /// Peers were asked; the next tick knows more.
    Waiting,
}

impl From<Doubt> for Unfit {
    fn from(doubt: Doubt) -> Self {
        match doubt {
            Doubt::Waiting => Self::Waiting,
            Doubt::Open(why) | Doubt::Against(why) => Self::Because(why),
        }
    }
}

impl From<Reason> for Unfit {
    fn from(reason: Reason) -> Self {
        Self::Because(reason)
    }
}

/// The cluster has no leader and PostgreSQL runs here.
pub(crate) fn race(draft: &mut Draft, cluster: &Cluster) -> Reason {
    let view = draft.view;
    // Nobody is there to compare histories with; do not let a dead connection hold up the race.
    draft.push_aside(&[JobKind::CheckDivergence]);
    if !draft.memory.callback_fired && view.postgres.role == Role::Replica {
        // Scripts hear of what was started, and then of what becomes of it.
        leading::announce(draft, Role::Replica);
    }
    let was = wiped::as_it_was(draft, cluster);
    let judged = was.as_ref().unwrap_or(cluster);
    if let Some(reason) = back_off(draft, judged) {
        return reason;
    }
    match is_healthiest(draft, judged) {
        Ok(()) => acquire(draft, judged, cluster),
        Err(Unfit::Waiting) => Reason::PollingPeers,
        Err(Unfit::Because(why)) => {
            draft.wake_in(LOOK_AGAIN);
            draft.note(why);
            give_way(draft, cluster, view.me.tags.nofailover())
        }
    }
}

/// Somebody else shall lead: a primary stops, a standby stays where it is.
fn give_way(draft: &mut Draft, cluster: &Cluster, nofailover: bool) -> Reason {
    let view = draft.view;
    if view.settings.pause {
        if view.is_primary() {
            return match view.lease {
                LeaseView::Rejected { .. } => Reason::PausedRenewalFailed,
                _ => Reason::PausedPrimaryWithoutLock,
            };
        }
        following::without_leader(draft, cluster);
        return Reason::NothingToFollow { me: view.me.name.clone() };
    }
    if view.is_primary() {
        let reason = if nofailover { Reason::NotAllowedDemoting } else { Reason::NotHealthiestDemoting };
        return fence::stop(draft, DemoteMode::ImmediateNoLock, reason);
    }
    following::without_leader(draft, cluster);
    if nofailover || switchover::due_request(view, cluster).is_some() {
        following::distrust(draft);
    }
    if nofailover { Reason::NotAllowedToPromote } else { Reason::NotHealthiest }
}

/// `judged`: the cluster as it was before the store lost its keys; otherwise the same as `cluster`.
fn acquire(draft: &mut Draft, judged: &Cluster, cluster: &Cluster) -> Reason {
    let is_restored = wiped::is_wiped(cluster) && judged.system_id().is_some();
    if is_restored {
        let timeline = wiped::next_timeline(draft, judged, cluster);
        if wiped::take(draft, judged, cluster, timeline) {
            draft.memory.raced_with_request = cluster.failover_request().map(|(_, revision)| revision);
        }
        return Reason::RestoringKeys;
    }
    // Nobody is promoted in a standby cluster before an operator makes it a cluster of its own.
    let is_standby = draft.view.is_standby_cluster();
    let timeline = if is_standby { None } else { timelines::next(draft, cluster) };
    let action = Action::AcquireLease { sync: cluster.sync_revision(), timeline };
    if draft.attempt(Attempt::AcquireLease, action) {
        draft.memory.racing = true;
        draft.memory.claimed = timeline.map(Claimed::unused);
        draft.memory.raced_with_request = cluster.failover_request().map(|(_, revision)| revision);
    }
    Reason::AcquiringLock
}

/// `leader` bears our name, but this process was never given the lock: a former process of ours was.
pub(crate) fn resume(draft: &mut Draft, leader: &Leader) -> Reason {
    let view = draft.view;
    if let LeaseView::Rejected { at, .. } = view.lease
        && view.store.confirmed_at <= at
    {
        // What we see is older than the refusal.
        return if view.is_primary() {
            Reason::PausedRenewalFailed
        } else {
            Reason::NotPromotingWithoutRenewal
        };
    }
    if draft.memory.released_at.is_some() {
        // Given up a moment ago, and the store has not told us yet.
        return Reason::ReleasedShortlyAgo;
    }
    draft.attempt(Attempt::ResumeLease, Action::ResumeLease { revision: leader.revision });
    Reason::ResumingLock
}

/// `primary_race_backoff`: give a slow old primary time to end before it is raced.
fn back_off(draft: &mut Draft, cluster: &Cluster) -> Option<Reason> {
    let view = draft.view;
    let settings = &view.settings;
    let position = view.server()?.position;
    let is_requested =
        switchover::due_request(view, cluster).is_some_and(|request| request.candidate.is_some());
    let previous = draft.memory.previous_position;
    if view.now.since(draft.memory.position_seen_at) >= settings.loop_wait || previous.is_none() {
        draft.memory.previous_position = Some(position);
        draft.memory.position_seen_at = view.now;
    }
    if settings.primary_race_backoff.is_zero() || settings.pause || view.is_standby_cluster() || is_requested
    {
        return None;
    }
    let previous = previous?;
    let since = *draft.memory.race_backoff_since.get_or_insert(view.now);
    let waited = view.now.since(since);
    let left = settings.primary_race_backoff.saturating_sub(waited);
    let is_moving = view.server().is_some_and(|server| server.streaming) && position > previous;
    if waited >= settings.loop_wait && (left.is_zero() || !is_moving) {
        return None;
    }
    draft.wake_by(since + settings.loop_wait.max(Duration::from_millis(1)));
    draft.wake_in(LOOK_AGAIN);
    Some(Reason::RaceBackoff { me: view.me.name.clone(), seconds: left.as_secs() })
}

fn is_healthiest(draft: &mut Draft, cluster: &Cluster) -> Result<(), Unfit> {
    let view = draft.view;
    is_able(draft)?;
    if let Some(until) = gray::stands_back_until(draft, cluster) {
        draft.wake_by(until);
        return Err(Reason::StandingBack.into());
    }
    let request = switchover::due_request(view, cluster);
    let is_stranger = failsafe::is_stranger(draft, cluster, &view.me.name);
    if is_stranger && (view.settings.pause || view.is_primary()) {
        return Err(Reason::NotInFailsafe.into());
    }
    if view.settings.pause {
        return in_pause(draft, cluster);
    }
    if view.is_primary() {
        return may_keep_leading(draft, cluster);
    }
    if cluster.system_id().is_none() && !view.is_standby_cluster() {
        // The store was wiped: a stale copy must not become the truth. The leader of a standby cluster does not become that.
        return Err(Reason::NoInitializeKey.into());
    }
    let is_restored = view.store.cluster.as_deref().is_some_and(|cluster| wiped::applies(view, cluster));
    if is_restored && !wiped::is_named(view, cluster) {
        wiped::everybody_agrees(draft, cluster)?;
    }
    let sync = cluster.active_sync().filter(|_| view.settings.sync_mode() != SyncMode::Off);
    let is_listed = sync.is_none_or(|sync| sync.includes(&view.me.name));
    // A failover to a named member accepts the loss; everything else is between synchronous members.
    let must_be_listed = match request {
        Some(request) => request.leader.is_some(),
        None => view.settings.sync_mode() == SyncMode::On,
    };
    if must_be_listed && !is_listed {
        return Err(Reason::NotSynchronous.into());
    }
    let everybody = pool(draft, cluster);
    let Some(peers) = candidate::fresh_answers(draft, &everybody) else { return Err(Unfit::Waiting) };
    if is_stranger && !failsafe::needs_nobody(cluster, peers) {
        return Err(Reason::NotInFailsafe.into());
    }
    let is_named = request
        .is_some_and(|request| request.leader.is_none() && request.candidate.as_ref() == Some(&view.me.name));
    if sync.is_none() && !is_named {
        former_leader_is_known(draft, peers)?;
    }
    let mut rivals = restrict(&everybody, sync);
    let Some(request) = request else {
        return is_best(draft, cluster, &everybody, &Rivals { names: &rivals, peers, ignore_lag: false });
    };
    let part = switchover::at_race(draft, cluster, request, peers);
    if matches!(part, Part::Mine) && view.settings.check_timeline && request.leader.is_some() {
        // Nobody waits for a candidate that is behind, so it does not go ahead either. Who asks for a failover accepts the loss, and may
        // have nobody else left.
        compare::own_timeline(view, cluster)?;
    }
    match part {
        // A switchover's leader may have died before it had handed everything over: in quorum mode that its candidate has every
        // acknowledged commit is shown by votes alone. A failover accepts the loss.
        Part::Mine
            if request.leader.is_some() && sync.is_some_and(|sync| compare::asks_for_votes(view, sync)) =>
        {
            is_best(draft, cluster, &everybody, &Rivals { names: &rivals, peers, ignore_lag: true })
        }
        Part::Mine => Ok(veto(&everybody, peers)?),
        Part::NotMine(why) => Err(why.into()),
        Part::Compare => {
            // Who stepped down is no rival. But with synchronous replication it never blocks, and its vote may be needed.
            rivals.retain(|name| sync.is_some() || request.leader.as_ref() != Some(*name));
            // Whoever asked did so while somebody had everything. If that one is gone, nothing shows without voters that no more is lost than is allowed.
            let ignore_lag = sync.is_some();
            is_best(draft, cluster, &everybody, &Rivals { names: &rivals, peers, ignore_lag })
        }
    }
}

/// Whether a member that holds a lock which was not won in an election would win one.
pub(crate) fn would_win(draft: &mut Draft, cluster: &Cluster) -> Result<(), Unfit> {
    let view = draft.view;
    compare::own_branch(view, cluster)?;
    if view.settings.check_timeline {
        compare::own_timeline(view, cluster)?;
    }
    let sync = cluster.active_sync().filter(|_| view.settings.sync_mode() != SyncMode::Off);
    let Some(sync) = sync else { return Ok(()) };
    if view.settings.sync_mode() == SyncMode::On && !sync.includes(&view.me.name) {
        return Err(Reason::NotSynchronous.into());
    }
    let everybody = pool(draft, cluster);
    let Some(peers) = candidate::fresh_answers(draft, &everybody) else { return Err(Unfit::Waiting) };
    let names = restrict(&everybody, Some(sync));
    is_best(draft, cluster, &everybody, &Rivals { names: &names, peers, ignore_lag: true })
}

/// Compares positions, on present ones if they can be had.
fn is_best(
    draft: &mut Draft,
    cluster: &Cluster,
    everybody: &BTreeMap<MemberName, String>,
    rivals: &Rivals,
) -> Result<(), Unfit> {
    if candidate::asks_again(draft, everybody, rivals.names) {
        return Err(Unfit::Waiting);
    }
    Ok(compare::healthiest(draft, cluster, rivals)?)
}

/// In pause only the requested candidate takes the lock, or a primary that runs anyhow.
fn in_pause(draft: &mut Draft, cluster: &Cluster) -> Result<(), Unfit> {
    let view = draft.view;
    if view.is_primary() {
        takeover::not_replaced(view, cluster)?;
    }
    let request = switchover::due_request(view, cluster);
    let is_candidate = request.is_some_and(|request| request.candidate.as_ref() == Some(&view.me.name));
    if is_candidate && !view.me.tags.nofailover() {
        let everybody = pool(draft, cluster);
        let Some(peers) = candidate::fresh_answers(draft, &everybody) else { return Err(Unfit::Waiting) };
        return if view.is_primary() { Ok(()) } else { Ok(veto(&everybody, peers)?) };
    }
    if !view.is_primary() {
        return Err(Reason::Paused.into());
    }
    if let Some(candidate) = request.and_then(|request| request.candidate.as_ref())
        && cluster.member(candidate).is_some()
    {
        return Err(Reason::LeavingItToCandidate { candidate: candidate.clone() }.into());
    }
    match (&cluster.initialize, view.postgres.system_id) {
        (None, _) => Ok(()),
        (Some(key), Some(mine)) if key.value == Initialize::Done(mine) => Ok(()),
        _ => Err(Reason::SystemIdMismatchReleased.into()),
    }
}

/// For a running primary without the lock it is enough that nobody was promoted meanwhile.
fn may_keep_leading(draft: &mut Draft, cluster: &Cluster) -> Result<(), Unfit> {
    compare::own_timeline(draft.view, cluster)?;
    takeover::not_replaced(draft.view, cluster)?;
    let everybody = pool(draft, cluster);
    let Some(peers) = candidate::fresh_answers(draft, &everybody) else { return Err(Unfit::Waiting) };
    Ok(veto(&everybody, peers)?)
}

/// Any reachable member that runs as primary has a veto, whatever its lag.
fn veto(pool: &BTreeMap<MemberName, String>, peers: &Peers) -> Result<(), Reason> {
    let primary = pool
        .keys()
        .find(|name| candidate::report(peers, name).is_some_and(|report| report.is_running_primary));
    match primary {
        Some(name) => Err(Reason::PrimaryAlive { name: name.clone() }),
        None => Ok(()),
    }
}

/// A leader that has not seen the end of a pause runs without guardian and goes on without its lock: the end of its lease proves
/// nothing. With synchronous replication it can acknowledge nothing without those who elect the next one.
fn former_leader_is_known(draft: &Draft, peers: &Peers) -> Result<(), Reason> {
    let last = draft.memory.last_healthy.as_deref();
    let former = last.and_then(Cluster::leader_member).filter(|former| former.pause);
    // A standby leader writes nothing, paused or not.
    let former = former.filter(|former| former.role != Some(Role::StandbyLeader));
    match former {
        Some(former)
            if !draft.view.is_me(&former.name) && candidate::report(peers, &former.name).is_none() =>
        {
            Err(Reason::FormerLeaderMayBePaused { name: former.name.clone() })
        }
        _ => Ok(()),
    }
}

/// What needs no answer from anybody else, where a leader may still live that nobody can see.
pub(crate) fn may_try(draft: &mut Draft, cluster: &Cluster) -> Result<(), Reason> {
    is_able(draft)?;
    if failsafe::is_stranger(draft, cluster, &draft.view.me.name) {
        return Err(Reason::NotInFailsafe);
    }
    Ok(())
}

/// Nothing of its own keeps this member from leading.
fn is_able(draft: &mut Draft) -> Result<(), Reason> {
    let view = draft.view;
    if let Some(at) = draft.memory.pre_promote_failed_at
        && view.now.since(at) < view.settings.ttl
    {
        draft.wake_by(at + view.settings.ttl);
        return Err(Reason::PrePromoteBackoff);
    }
    if let Some(at) = draft.memory.released_at {
        draft.wake_by(at + demote::HOLD_OFF);
        return Err(Reason::ReleasedShortlyAgo);
    }
    if let Some(leader) = failsafe::living_leader(draft) {
        draft.wake_by(leader.until);
        return Err(Reason::LeaderAliveByFailsafe { name: leader.leader.clone() });
    }
    if !matches!(view.postgres.process, Process::Running { .. }) {
        return Err(Reason::PostgresStarting);
    }
    if view.me.tags.nofailover() && !view.is_primary() {
        return Err(Reason::NotAllowedToPromote);
    }
    if !view.settings.pause && matches!(view.fencing.watchdog, Watchdog::Required { usable: false, .. }) {
        return Err(Reason::WatchdogNotUsable);
    }
    if view.server().is_none() {
        return Err(Reason::PostgresSilent);
    }
    Ok(())
}

/// Whom to ask: everybody known now, in the last view with a leader, or to failsafe. The old primary's member key vanishes
/// together with its lock, so the present members are not enough.
pub(crate) fn pool(draft: &Draft, cluster: &Cluster) -> BTreeMap<MemberName, String> {
    let view: &View = draft.view;
    let mut pool = BTreeMap::new();
    let last = draft.memory.last_healthy.as_deref();
    for member in last.into_iter().flat_map(|last| last.members.values()) {
        pool.extend(member.api_url.clone().map(|url| (member.name.clone(), url)));
    }
    if let Some(map) = &cluster.failsafe {
        pool.extend(map.value.0.iter().map(|(name, url)| (name.clone(), url.clone())));
    }
    for member in cluster.members.values() {
        pool.extend(member.api_url.clone().map(|url| (member.name.clone(), url)));
    }
    pool.remove(&view.me.name);
    pool
}

/// Those whose positions count: with active synchronous replication the voters and the leader that wrote `/sync`.
fn restrict<'p>(
    everybody: &'p BTreeMap<MemberName, String>,
    sync: Option<&SyncState>,
) -> Vec<&'p MemberName> {
    everybody.keys().filter(|name| sync.is_none_or(|sync| sync.includes(name))).collect()
}
