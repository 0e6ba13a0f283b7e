//! Who may take over, and who should.
//!
//! Safety is one sentence: those who promised, are on the candidate's timeline and have nothing beyond it, itself included, can elect. Everything
//! else here only chooses among those for whom it is true.

use std::{cmp::Ordering, time::Duration};

use bellwether_types::{
    MemberName, Revision, TimelineId, WalPosition,
    cluster::Cluster,
    takeover::{EpochState, Promise, Taken},
};

use super::{Case, suspicion};
use crate::{
    Action, Reason, View,
    action::TakeOver,
    compare,
    draft::Draft,
    failsafe,
    memory::{Attempt, Claimed},
    race, timelines,
    view::{Kept, PeerReport},
};

/// How long a better candidate is waited for.
const GRACE: Duration = Duration::from_millis(300);
/// How long those are waited for who do not hear the leader and have not promised yet: they may have more.
const ROLL_CALL: Duration = Duration::from_millis(100);
/// How soon promises are asked for again.
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// Somebody who may win.
struct Candidate<'p> {
    name: &'p MemberName,
    position: WalPosition,
    priority: i64,
}

/// As one who is bound: take over, or say why not yet.
pub(super) fn step(draft: &mut Draft, case: &Case, kept: &Kept) -> Result<Reason, Reason> {
    let view = draft.view;
    suspicion::ask_the_living(draft, case, ASK_AGAIN);
    race::may_try(draft, case.cluster)?;
    if !case.elects(&view.me.name) {
        return Err(Reason::NotSynchronous);
    }
    may_lead(view, case.cluster, kept)?;
    let me = Candidate {
        name: &view.me.name,
        position: kept.promise.position,
        priority: view.me.tags.failover_priority(),
    };
    let others: Vec<(&MemberName, &PeerReport, &Promise)> = promises(view, case, kept).collect();
    let behind = |candidate: &Candidate| {
        let behind = others.iter().filter(|(name, _, _)| *name != candidate.name);
        let behind = behind.filter(|(_, _, promise)| covers(candidate.position, promise.position)).count();
        // A candidate among the others has this member behind it, or not.
        let mine = candidate.name != me.name && covers(candidate.position, me.position);
        behind + usize::from(mine) + 1
    };
    if !case.is_enough(behind(&me)) {
        return Err(Reason::TakeoverTooFew { quorum: case.sync.quorum });
    }
    let waited = view.now.since(kept.made_at);
    let better = others.iter().find_map(|(name, report, promise)| {
        let position = promise.position;
        let other = Candidate { name, position, priority: report.failover_priority };
        let may_lead = !report.nofailover && !report.watchdog_failed;
        let may_lead = may_lead && !failsafe::is_stranger(draft, case.cluster, name);
        let could_win = may_lead && case.is_enough(behind(&other));
        (could_win && prefer(&other, &me) == Ordering::Less).then(|| (*name).clone())
    });
    if let Some(name) = better.filter(|_| waited < GRACE) {
        draft.wake_by(kept.made_at + GRACE);
        return Err(Reason::TakeoverLeftTo { name });
    }
    if waited < ROLL_CALL && others.len() < suspicion::reports(view, case).count() {
        draft.wake_by(kept.made_at + ROLL_CALL);
        return Err(Reason::TakeoverRollCall);
    }
    Ok(take_over(draft, case, kept, behind(&me)))
}

/// Everything in `theirs` is also in `mine`. Positions of different timelines are not compared.
fn covers(mine: WalPosition, theirs: WalPosition) -> bool {
    mine.timeline == theirs.timeline && theirs.lsn <= mine.lsn
}

/// `Less`: `a` should win. All candidates that could win are on one timeline.
fn prefer(a: &Candidate, b: &Candidate) -> Ordering {
    let order = b.position.lsn.cmp(&a.position.lsn);
    order.then(b.priority.cmp(&a.priority)).then(a.name.cmp(b.name))
}

/// The promises of others for this very epoch, as told after this member made its own.
fn promises<'v>(
    view: &'v View,
    case: &'v Case,
    kept: &'v Kept,
) -> impl Iterator<Item = (&'v MemberName, &'v PeerReport, &'v Promise)> {
    suspicion::reports(view, case).filter_map(|(name, report)| {
        let promise = report.takeover.promise.as_ref()?;
        (promise.revision == kept.promise.revision).then_some((name, report, promise))
    })
}

/// A member of the electorate that promised nothing and heard the leader since this member promised.
pub(super) fn veto(draft: &Draft, case: &Case, kept: &Kept) -> Option<MemberName> {
    let view = draft.view;
    if view.peers.polled_at.is_none_or(|at| at < kept.made_at) {
        return None;
    }
    let mut reports = suspicion::reports(view, case);
    let hears = reports.find(|(_, report)| {
        let has_promised =
            report.takeover.promise.as_ref().is_some_and(|promise| promise.revision == kept.promise.revision);
        !has_promised && suspicion::hears(view, case, report)
    });
    hears.map(|(name, _)| name.clone())
}

/// This member still has what it promised, on the latest timeline that anybody knows of.
fn may_lead(view: &View, cluster: &Cluster, kept: &Kept) -> Result<(), Reason> {
    let Some(server) = view.server().filter(|server| server.in_recovery) else {
        return Err(Reason::PostgresSilent);
    };
    if cluster.system_id().is_none() {
        return Err(Reason::NoInitializeKey);
    }
    let (optime, position) = (cluster.optime(), server.position);
    if optime - position > view.settings.maximum_lag_on_failover {
        return Err(Reason::LagTooHigh { optime, position });
    }
    let promised = kept.promise.position;
    let Some(mine) = server.timeline else { return Err(Reason::TimelineUnknown) };
    let latest = latest_timeline(cluster);
    if mine < latest {
        return Err(Reason::TimelineBehind { mine, cluster: latest });
    }
    if mine != promised.timeline || server.position < promised.lsn {
        // Received, and not replayed so far; or gone.
        return Err(Reason::TakeoverNotReplayed { timeline: promised.timeline });
    }
    compare::own_branch(view, cluster)
}

/// Of the leader, as far as the store tells: by what it took, by what it published, by what came before.
fn latest_timeline(cluster: &Cluster) -> TimelineId {
    let claimed = cluster.timeline_claim.as_ref().and_then(|claim| claim.value.as_ref());
    let claimed = claimed.map(|claim| claim.timeline);
    let published = cluster.leader_member().and_then(|member| member.timeline);
    let known = [claimed, published, cluster.timeline()];
    known.into_iter().flatten().max().unwrap_or(TimelineId(1))
}

fn take_over(draft: &mut Draft, case: &Case, kept: &Kept, promised: usize) -> Reason {
    let view = draft.view;
    let timeline = timelines::next(draft, case.cluster);
    let leader = case.leader.name.clone();
    let live = case.live_epoch().filter(|(_, revision)| *revision == kept.promise.revision);
    let (Some((epoch, opened_at)), Some(next)) = (live, timeline) else {
        return Reason::BoundByPromise { leader, epoch: kept.promise.epoch };
    };
    let mut takeover = epoch.clone();
    takeover.state = EpochState::Taken;
    takeover.taken = Some(Taken { by: view.me.name.clone(), from: leader.clone(), timeline: next.timeline });
    let decided = TakeOver {
        opened_at,
        // Never those of another view: the promises were made for these.
        leader: epoch.leader_revision,
        sync: epoch.sync_revision,
        takeover,
        timeline: next,
    };
    if draft.attempt(Attempt::AcquireLease, Action::TakeOver(Box::new(decided))) {
        draft.memory.racing = true;
        // Whatever becomes of it: this view is from before.
        draft.memory.given = Some((Revision(case.cluster.revision.0 + 1), view.now));
        draft.memory.claimed = Some(Claimed::unused(next));
        draft.memory.raced_with_request = None;
    }
    Reason::TakingOver { leader, promised }
}
