//! Somebody else leads, or nobody: run as a standby of the right member.

use std::time::Duration;

use bellwether_types::{MemberName, Role, cluster::Cluster};

use crate::{
    Action, Reason,
    action::DemoteMode,
    draft::Draft,
    failsafe, fence,
    leading::announce,
    memory::{Attempt, Checkpoint, RewindState},
    rewind, sync,
    view::{Guardian, JobKind, LeaseView, Process, Upstream},
};

/// A standby that has not streamed for so long is compared with the leader again.
const DEAF_FOR: Duration = Duration::from_secs(5);
/// A rewind that failed is not tried again earlier for want of anything better: each try stops a server that can be read from.
const REWIND_AGAIN: Duration = Duration::from_secs(300);

/// Another member holds the lock.
pub(crate) fn follow(draft: &mut Draft, cluster: &Cluster, leader: &MemberName) -> Reason {
    let view = draft.view;
    let raced = std::mem::take(&mut draft.memory.racing);
    draft.memory.raced_with_request = None;
    if view.is_primary() {
        if view.settings.pause {
            return match view.lease {
                LeaseView::Rejected { .. } => Reason::PausedRenewalFailed,
                _ => Reason::PausedPrimaryWithoutLock,
            };
        }
        return fence::stop(
            draft,
            DemoteMode::ImmediateNoLock,
            Reason::LostLeaderLock { held_by: leader.clone() },
        );
    }
    fence::take_down(draft);
    note_leader(draft, cluster, leader);
    doubt_silence(draft);
    if !view.settings.pause
        && let Some(reason) = rewind::settle(draft, cluster)
    {
        return reason;
    }
    be_replica(draft);
    let upstream = choose(draft, cluster);
    if turn_to(draft, upstream.clone())
        && let Some(upstream) = upstream
    {
        return Reason::FollowingNewUpstream { upstream: upstream.member };
    }
    resume_replay(draft);
    if raced {
        return Reason::LostRace;
    }
    if view.is_standby_cluster() {
        return Reason::SecondaryOfStandbyLeader { me: view.me.name.clone(), leader: leader.clone() };
    }
    Reason::SecondaryFollowing { me: view.me.name.clone(), leader: leader.clone() }
}

/// Writes another upstream into the files if it differs from the one there. True if it does now.
pub(crate) fn turn_to(draft: &mut Draft, upstream: Option<Upstream>) -> bool {
    let view = draft.view;
    let changed = match &upstream {
        Some(upstream) => view.postgres.upstream.as_ref() != Some(upstream),
        None => view.postgres.upstream.is_some() && view.me.tags.nostream(),
    };
    let is_told = changed && draft.attempt(Attempt::Follow, Action::Follow { upstream });
    if is_told {
        distrust(draft);
    }
    is_told
}

/// Nobody holds the lock, and this member does not take it: it stays where it is, or with the cluster that its own one follows.
pub(crate) fn without_leader(draft: &mut Draft, cluster: &Cluster) {
    fence::take_down(draft);
    be_replica(draft);
    if draft.view.is_standby_cluster() && !draft.view.settings.pause {
        let upstream = choose(draft, cluster);
        turn_to(draft, upstream);
    }
}

fn be_replica(draft: &mut Draft) {
    if draft.view.server().is_none() || !matches!(draft.view.postgres.process, Process::Running { .. }) {
        return;
    }
    draft.memory.checkpoint_after_promote = Checkpoint::None;
    draft.memory.start_wanted = false;
    if draft.view.fencing.guardian == Guardian::Dead {
        // Whoever may be promoted next should not have to wait for it then.
        draft.attempt(Attempt::RespawnGuardian, Action::RespawnGuardian);
    }
    if !draft.view.settings.pause {
        sync::clear_on_replica(draft.view, draft);
    }
    draft.set_role(Role::Replica);
    announce(draft, Role::Replica);
}

/// A new leader, or a new timeline of the same one, may have parted from our history.
fn note_leader(draft: &mut Draft, cluster: &Cluster, leader: &MemberName) {
    let view = draft.view;
    let timeline = cluster.leader_member().and_then(|member| member.timeline);
    let mine = view.server().and_then(|server| server.timeline);
    let changed = match &draft.memory.followed {
        None => true,
        Some((name, _)) if name != leader => true,
        Some((_, known)) => timeline > *known && mine < timeline,
    };
    if changed {
        draft.memory.followed = Some((leader.clone(), timeline));
        distrust(draft);
    }
}

/// A standby that receives nothing may have replayed past the place where the leader's history parts from its own since the last
/// comparison: WAL beyond the recorded minimum counts only once it is replayed.
pub(crate) fn doubt_silence(draft: &mut Draft) {
    let view = draft.view;
    let Process::Running { since } = view.postgres.process else { return };
    let is_deaf = view.server().is_some_and(|server| server.in_recovery && !server.streaming);
    if !is_deaf || view.settings.pause || view.me.tags.nostream() || view.postgres.upstream.is_none() {
        return;
    }
    let asked_at = draft.memory.jobs.get(&JobKind::CheckDivergence).copied().unwrap_or_default();
    let last = since.max(asked_at);
    let failed_at = draft.memory.rewind_failed_at;
    let is_hopeless = failed_at.is_some_and(|at| view.now.since(at) < REWIND_AGAIN);
    if view.now.since(last) < DEAF_FOR {
        draft.wake_by(last + DEAF_FOR);
    } else if !is_hopeless && !matches!(draft.memory.rewind, RewindState::Check { .. }) {
        distrust(draft);
    }
}

/// Compare histories before trusting that this member's WAL is a part of the leader's.
pub(crate) fn distrust(draft: &mut Draft) {
    let view = draft.view;
    if view.may_repair_divergence() && draft.memory.rewind != RewindState::Need {
        draft.memory.rewind = RewindState::Check { since: view.now };
    }
}

/// The upstream of a standby: the member named by `replicatefrom`, else the leader, be it known from failsafe only; nobody for
/// `nostream`. In a standby cluster the leader, and everybody while there is none, follows the remote member.
pub(crate) fn choose(draft: &Draft, cluster: &Cluster) -> Option<Upstream> {
    let view = draft.view;
    if view.me.tags.nostream() {
        return None;
    }
    let has_no_leader = cluster.is_unlocked() && !view.settings.pause;
    if view.is_standby_cluster() && (view.held().is_some() || has_no_leader) {
        return view.remote();
    }
    let named = view.me.tags.replicatefrom().filter(|name| !view.is_me(name));
    let named = named.and_then(|name| cluster.member(&name)).and_then(|member| view.upstream_at(member));
    named.or_else(|| view.leader_upstream(cluster)).or_else(|| {
        let living = failsafe::living_leader(draft).filter(|_| cluster.is_unlocked())?;
        Some(Upstream {
            member: living.leader.clone(),
            conn_url: living.conn_url.clone(),
            slot: view.settings.use_slots.then(|| view.me.name.slot_name()),
            is_remote: false,
            archive: view.inherited_archive(),
        })
    })
}

/// PostgreSQL 14 and later pause replay instead of ending when a parameter of the primary outgrew ours.
pub(crate) fn resume_replay(draft: &mut Draft) {
    let view = draft.view;
    if view.postgres.server_version >= 140_000
        && !view.settings.pause
        && view.server().is_some_and(|server| server.replay_paused)
    {
        draft.every(view.settings.loop_wait, Attempt::ResumeReplay, Action::ResumeReplay);
    }
}
