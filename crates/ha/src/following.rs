//! Somebody else leads, or nobody: run as a standby of the right member.

use bellwether_types::{MemberName, Role, cluster::Cluster};

use crate::{
    Action, Reason,
    action::DemoteMode,
    draft::Draft,
    fence,
    leading::announce,
    memory::{Attempt, RewindState},
    rewind,
    view::{Process, Upstream},
};

/// Another member holds the lock.
pub(crate) fn follow(draft: &mut Draft, cluster: &Cluster, leader: &MemberName) -> Reason {
    let view = draft.view;
    if view.is_primary() {
        if view.settings.pause {
            return Reason::PausedPrimaryWithoutLock;
        }
        return fence::stop(
            draft,
            DemoteMode::ImmediateNoLock,
            Reason::LostLeaderLock { held_by: leader.clone() },
        );
    }
    fence::take_down(draft);
    note_leader(draft, cluster, leader);
    if let Some(reason) = rewind::settle(draft, cluster) {
        return reason;
    }
    be_replica(draft);
    let upstream = choose(draft, cluster);
    if let Some(upstream) = &upstream
        && view.postgres.upstream.as_ref() != Some(upstream)
        && draft.attempt(Attempt::Follow, Action::Follow { upstream: Some(upstream.clone()) })
    {
        return Reason::FollowingNewUpstream { upstream: upstream.member.clone() };
    }
    if upstream.is_none() && view.postgres.upstream.is_some() && view.me.tags.nostream() {
        draft.attempt(Attempt::Follow, Action::Follow { upstream: None });
    }
    resume_replay(draft);
    Reason::SecondaryFollowing { me: view.me.name.clone(), leader: leader.clone() }
}

/// Nobody holds the lock, and this member does not take it: it stays where it is.
pub(crate) fn without_leader(draft: &mut Draft, _cluster: &Cluster) {
    fence::take_down(draft);
    be_replica(draft);
}

fn be_replica(draft: &mut Draft) {
    if matches!(draft.view.postgres.process, Process::Running { .. }) && draft.view.server().is_some() {
        draft.set_role(Role::Replica);
        announce(draft, Role::Replica);
    }
}

/// A new leader, or a new timeline of the same one, may have parted from our history.
fn note_leader(draft: &mut Draft, cluster: &Cluster, leader: &MemberName) {
    let view = draft.view;
    let timeline = cluster.leader_member().and_then(|member| member.timeline);
    let mine = view.server().and_then(|server| server.timeline);
    let changed = match &draft.memory.followed {
        None => true,
        Some((name, _)) if name != leader => true,
        Some((_, known)) => timeline.is_some() && timeline > *known && mine < timeline,
    };
    if !changed {
        return;
    }
    draft.memory.followed = Some((leader.clone(), timeline));
    if view.may_repair_divergence() && !matches!(draft.memory.rewind, RewindState::Need) {
        draft.memory.rewind = RewindState::Check { since: view.now };
    }
}

/// The upstream of a standby: the member named by `replicatefrom`, else the leader; nobody for `nostream`.
pub(crate) fn choose(draft: &Draft, cluster: &Cluster) -> Option<Upstream> {
    let view = draft.view;
    if view.me.tags.nostream() {
        return None;
    }
    let named = view.me.tags.replicatefrom().filter(|name| !view.is_me(name));
    let named = named.and_then(|name| cluster.member(&name)).and_then(|member| view.upstream_at(member));
    named.or_else(|| view.leader_upstream(cluster))
}

/// PostgreSQL 14 and later pause replay instead of ending when a parameter of the primary outgrew ours.
fn resume_replay(draft: &mut Draft) {
    let view = draft.view;
    if view.postgres.server_version >= 140_000
        && !view.settings.pause
        && view.server().is_some_and(|server| server.replay_paused)
    {
        draft.attempt(Attempt::ResumeReplay, Action::ResumeReplay);
    }
}
