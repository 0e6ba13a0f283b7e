//! Asking the other members, and what their answers are worth: who could lead in this member's place.

use std::{collections::BTreeMap, time::Duration};

use bellwether_types::{
    Lsn, MemberName,
    cluster::{Cluster, FailoverRequest},
    settings::SyncMode,
};

use crate::{
    Action, Reason, View,
    draft::Draft,
    view::{AsOf, PeerAnswer, PeerReport, Peers},
};

/// How long a member may take to answer: short where the cluster is meant to react quickly.
pub(crate) fn timeout(view: &View) -> Duration {
    answer_limit(view.settings.ttl)
}

pub(crate) fn answer_limit(ttl: Duration) -> Duration {
    (ttl / 10).clamp(Duration::from_millis(300), Duration::from_secs(2))
}

/// What these members said when they were asked *for the decision at hand*; `None` after asking them.
pub(crate) fn fresh_answers<'v>(
    draft: &mut Draft<'v>,
    members: &BTreeMap<MemberName, String>,
) -> Option<&'v Peers> {
    let view = draft.view;
    if members.is_empty() {
        return Some(&view.peers);
    }
    let patience = patience(view);
    if let Some(since) = draft.memory.need_peers_since {
        let answered = view.peers.polled_at.is_some_and(|polled_at| polled_at >= since)
            && members.keys().all(|name| view.peers.answers.contains_key(name));
        if answered {
            return Some(&view.peers);
        }
        if view.now.since(since) < patience {
            draft.keep_asking_peers();
            draft.wake_by(since + patience);
            return None;
        }
    }
    ask(draft, members);
    None
}

fn patience(view: &View) -> Duration {
    timeout(view) + timeout(view)
}

fn ask(draft: &mut Draft, members: &BTreeMap<MemberName, String>) {
    let view = draft.view;
    draft.memory.need_peers_since = Some(view.now);
    draft.keep_asking_peers();
    draft.wake_in(patience(view));
    draft.then(Action::PollPeers { members: members.clone(), timeout: timeout(view) });
}

/// Some of `names` told where they were before they were asked, which is no word on where they are: asks everybody again, for as long
/// as one answer may take. True if the answers are to be waited for.
pub(crate) fn asks_again(
    draft: &mut Draft,
    everybody: &BTreeMap<MemberName, String>,
    names: &[&MemberName],
) -> bool {
    let view = draft.view;
    let is_old = |name: &&MemberName| {
        report(&view.peers, name)
            .is_some_and(|report| report.position.is_some() && matches!(report.as_of, AsOf::Earlier { .. }))
    };
    if !names.iter().any(is_old) {
        return false;
    }
    let since = *draft.memory.old_positions_since.get_or_insert(view.now);
    if view.now.since(since) >= timeout(view) {
        return false;
    }
    ask(draft, everybody);
    true
}

/// What one member answered, if it did.
pub(crate) fn report<'p>(peers: &'p Peers, name: &MemberName) -> Option<&'p PeerReport> {
    match peers.answers.get(name)? {
        PeerAnswer::Answered(report) => Some(report),
        PeerAnswer::Unreachable { .. } => None,
    }
}

/// How much WAL a successor must have.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lag {
    /// No more than `maximum_lag_on_failover` behind the last published position.
    Tolerable,
    /// Everything up to here.
    AtLeast(Lsn),
}

/// Whom this leader could hand over to, and where to ask them: the requested candidate, or everybody who may lead.
pub(crate) fn successors(view: &View, cluster: &Cluster) -> BTreeMap<MemberName, String> {
    let request = cluster.failover_request().map(|(request, _)| request);
    // A request whose time has not come names nobody yet.
    let request = request.filter(|_| crate::switchover::due_request(view, cluster).is_some());
    successors_for(view, cluster, request)
}

/// The same for a given request.
pub(crate) fn successors_for(
    view: &View,
    cluster: &Cluster,
    request: Option<&FailoverRequest>,
) -> BTreeMap<MemberName, String> {
    let wanted = request.and_then(|request| request.candidate.as_ref());
    // A failover to a named member may go to an asynchronous one: the operator accepts the loss.
    let any_member = request.is_some_and(|request| request.leader.is_none() && request.candidate.is_some());
    let sync = cluster.active_sync().filter(|_| !any_member && view.settings.sync_mode() != SyncMode::Off);
    cluster
        .members
        .values()
        .filter(|member| !view.is_me(&member.name) && !member.tags.nofailover())
        .filter(|member| wanted.is_none_or(|wanted| *wanted == member.name))
        .filter(|member| sync.is_none_or(|sync| sync.has_voter(&member.name)))
        .filter_map(|member| Some((member.name.clone(), member.api_url.clone()?)))
        .collect()
}

/// Whether `name` could lead now, by its own words.
pub(crate) fn fit_to_lead(
    view: &View,
    cluster: &Cluster,
    name: &MemberName,
    peers: &Peers,
    lag: Lag,
) -> Result<(), Reason> {
    let name = name.clone();
    let Some(report) = report(peers, &name) else {
        return Err(Reason::MemberUnreachable { name });
    };
    let Some(position) = report.position else {
        return Err(Reason::MemberUnreachable { name });
    };
    if report.nofailover {
        return Err(Reason::MemberNotPromotable { name });
    }
    if report.watchdog_failed {
        return Err(Reason::MemberNoWatchdog { name });
    }
    let has_enough = match lag {
        Lag::AtLeast(needed) => position >= needed,
        Lag::Tolerable => cluster.optime() - position <= view.settings.maximum_lag_on_failover,
    };
    if !has_enough {
        return Err(Reason::MemberLagging { name });
    }
    if view.settings.check_timeline
        && let Some(timeline) = cluster.timeline()
    {
        match report.timeline {
            Some(theirs) if theirs >= timeline => {}
            Some(theirs) => return Err(Reason::MemberTimelineBehind { name, theirs, cluster: timeline }),
            None => return Err(Reason::MemberUnreachable { name }),
        }
    }
    Ok(())
}
