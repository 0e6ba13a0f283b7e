//! Which number the next timeline gets.
//!
//! PostgreSQL counts on from the history files on its own disk. Two members that were promoted without knowing of each other would
//! so begin two timelines of one number, which pg_rewind cannot tell apart. Therefore the winner of a race takes a number in the store
//! in the transaction that gives it the lock, and the holder of a lock takes another one before it promotes again: nobody after it gets the same one, however early it dies. A promotion then names
//! the numbers that are taken, and the executor makes PostgreSQL count on from there.
//!
//! Members of Patroni take no number; from them we know `/history`, member keys and what they answer.

use bellwether_types::{
    MemberName, TimelineId,
    cluster::{Cluster, TimelineClaim},
};

use crate::{
    Action, Reason, View,
    action::{NextTimeline, TakenTimelines},
    draft::Draft,
    memory::{Attempt, Claimed},
    view::{JobKind, PeerAnswer, Process},
};

/// Further ahead there is no timeline of this cluster: each one taken costs a file, and a number that somebody wrote by mistake must
/// not cost millions.
const FAR: u32 = 1_000;

/// The number to take together with the lock; `None` for a primary, which goes on with its own timeline.
pub(crate) fn next(draft: &mut Draft, cluster: &Cluster) -> Option<NextTimeline> {
    let view = draft.view;
    let mine = local(view)?;
    let expect = cluster.timeline_claim.as_ref().map(|claim| claim.revision);
    // Taken for a promotion that never began, and by nobody since: a member that fails again and again uses up one number.
    let unused = draft.memory.claimed.filter(|claimed| !claimed.used).map(|claimed| claimed.timeline);
    let unused = unused.filter(|unused| claim_of(cluster, &view.me.name) == Some(*unused));
    let highest = highest_taken(draft, cluster, mine, unused);
    let timeline = unused.filter(|unused| *unused > highest).unwrap_or(TimelineId(highest.0 + 1));
    Some(NextTimeline { timeline, expect })
}

/// Whether this member has a number for the promotion at hand; otherwise it takes one.
///
/// The lock may be older than this agent, or have been given without a number to a primary. And a server that was told to promote and
/// has ended may have begun its timeline: the next promotion needs another one, although the lock is the same.
pub(crate) fn has_number(draft: &mut Draft, cluster: &Cluster) -> bool {
    let is_good = |claimed: Claimed| !claimed.used || is_told_already(draft);
    if draft.memory.claimed.is_some_and(is_good) {
        return true;
    }
    let claiming = draft.memory.claiming;
    if let Some(timeline) = claiming.filter(|_| claim_of(cluster, &draft.view.me.name) == claiming) {
        draft.memory.claiming = None;
        draft.memory.claimed = Some(Claimed { timeline, used: false });
        return true;
    }
    draft.memory.claimed = None;
    let Some(next) = next(draft, cluster) else { return true };
    if draft.attempt(Attempt::TakeTimeline, Action::TakeTimeline { next }) {
        draft.memory.claiming = Some(next.timeline);
    }
    false
}

/// The server that runs is the one that was told to promote.
fn is_told_already(draft: &Draft) -> bool {
    match (&draft.view.postgres.process, draft.memory.jobs.get(&JobKind::Promote)) {
        (Process::Running { since }, Some(told_at)) => told_at >= since,
        _ => false,
    }
}

/// What a promotion must not call its timeline; `None` if PostgreSQL finds a free number by itself.
pub(crate) fn taken(draft: &mut Draft, cluster: &Cluster) -> Option<TakenTimelines> {
    let view = draft.view;
    let mine = local(view)?;
    let ours = draft.memory.claimed.map(|claimed| claimed.timeline);
    let before_ours = ours.map_or(TimelineId(0), |ours| TimelineId(ours.0.saturating_sub(1)));
    let through = highest_taken(draft, cluster, mine, ours).max(before_ours);
    (through > mine).then_some(TakenTimelines { after: mine, through })
}

/// PostgreSQL is about to be told.
pub(crate) fn promotion_may_begin(draft: &mut Draft) {
    if let Some(claimed) = &mut draft.memory.claimed {
        claimed.used = true;
    }
}

/// It turned out that it was not.
pub(crate) fn promotion_did_not_begin(draft: &mut Draft) {
    if let Some(claimed) = &mut draft.memory.claimed {
        claimed.used = false;
    }
}

/// The timeline of a standby; one that cannot be told is at least 1.
fn local(view: &View) -> Option<TimelineId> {
    let server = view.server().filter(|server| server.in_recovery)?;
    Some(server.timeline.unwrap_or(TimelineId(1)))
}

/// The number that stands in the store, if `name` has taken it.
fn claim_of(cluster: &Cluster, name: &MemberName) -> Option<TimelineId> {
    claim(cluster).filter(|claim| claim.leader == *name).map(|claim| claim.timeline)
}

fn claim(cluster: &Cluster) -> Option<&TimelineClaim> {
    cluster.timeline_claim.as_ref()?.value.as_ref()
}

/// The latest timeline that somebody has begun, or may have, as far as is known here. `ours`: what this member has taken for itself.
fn highest_taken(
    draft: &mut Draft,
    cluster: &Cluster,
    mine: TimelineId,
    ours: Option<TimelineId>,
) -> TimelineId {
    let view = draft.view;
    let last = draft.memory.last_healthy.clone();
    let stored = [Some(cluster), last.as_deref()].into_iter().flatten().flat_map(|cluster| {
        let claimed = claim(cluster)
            .filter(|claim| claim.leader != view.me.name || Some(claim.timeline) != ours)
            .map(|claim| claim.timeline);
        let published = cluster.members.values().filter_map(|member| member.timeline);
        published.chain(claimed).chain(cluster.timeline())
    });
    let told = view.peers.answers.values().filter_map(|answer| match answer {
        PeerAnswer::Answered(report) => report.timeline,
        PeerAnswer::Unreachable { .. } => None,
    });
    let mut highest = mine;
    for timeline in stored.chain(told) {
        if timeline.0 > mine.0.saturating_add(FAR) {
            draft.note(Reason::TimelineNotBelieved { timeline, mine });
        } else {
            highest = highest.max(timeline);
        }
    }
    highest
}
