//! Making this member's data directory anew because an operator wants it.

use bellwether_types::cluster::Cluster;

use crate::{
    Action, Reason,
    action::{Answer, CopyBy},
    bootstrap,
    draft::Draft,
    memory::{Attempt, RewindState},
    requests::reply,
    restart::{ERRANDS, busy_with},
    takeover,
    view::Upstream,
};

/// A request of the API. `force` replaces whatever runs: it must win over automatic recovery.
pub(crate) fn requested(draft: &mut Draft, id: u64, force: bool, from_leader: bool) -> Option<Reason> {
    let from = match source(draft, from_leader) {
        Ok(from) => from,
        Err(why) => {
            reply(draft, id, Answer::Refused { why: why.clone() });
            draft.note(Reason::ReinitializeRefused { why });
            return None;
        }
    };
    if draft.push_aside(&ERRANDS) {
        return Some(Reason::InProgress { action: "reinitialize".to_owned() });
    }
    if let Some(running) = busy_with(draft) {
        if let Some(kind) = draft.view.job_kind().filter(|_| force) {
            draft.attempt(Attempt::CancelJob, Action::CancelJob { kind: kind.clone() });
            return Some(Reason::InProgress { action: "reinitialize".to_owned() });
        }
        reply(draft, id, Answer::Refused { why: format!("{running} already in progress") });
        draft.note(Reason::RequestBusy { action: "reinitialize".to_owned(), running });
        return None;
    }
    let name = from.member.clone();
    draft.memory.rewind = RewindState::Initial;
    draft.memory.crashed_as_primary_at = None;
    draft.memory.start_wanted = true;
    draft.memory.recovering = false;
    reply(draft, id, Answer::Started);
    let by = if from_leader { CopyBy::Basebackup } else { CopyBy::Methods };
    draft.then(Action::Reinitialize { from, by });
    draft.tell_stop();
    Some(Reason::ReinitializeStarted { from: name })
}

fn source(draft: &Draft, from_leader: bool) -> Result<Upstream, String> {
    let view = draft.view;
    if let Some(leader) = takeover::forbids_copies(view) {
        return Err(format!(
            "this member has promised not to receive anything from {leader} while a take-over is under way"
        ));
    }
    let cluster = view.store.usable(view.now, view.patience());
    if cluster.is_some_and(Cluster::is_unlocked)
        && let Some(remote) = view.remote().filter(|remote| !remote.conn_url.is_empty())
    {
        // The whole standby cluster may be of no use: the other one has what its members need.
        return Ok(remote);
    }
    let Some((cluster, leader)) = cluster.and_then(|cluster| Some((cluster, cluster.leader_name()?))) else {
        return Err("Cluster has no leader, can not reinitialize".to_owned());
    };
    if view.is_me(leader) || view.lease.is_held_at(view.now) {
        return Err("I am the leader, can not reinitialize".to_owned());
    }
    let member = if from_leader { cluster.leader_member() } else { bootstrap::clone_source(draft, cluster) };
    member
        .and_then(|member| view.upstream_at(member))
        .ok_or_else(|| format!("leader {leader} has not published where it listens, can not reinitialize"))
}
