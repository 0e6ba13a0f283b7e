//! `/history`: which timelines ended where, when, and who led next.

use bellwether_types::{
    Lsn, TimelineId,
    cluster::{Cluster, History, HistoryEntry},
};

use crate::{
    Action, Reason, compare,
    draft::Draft,
    memory::Attempt,
    rewind,
    view::{Divergence, LocalHistory, Upstream},
};

/// A comparison with the other cluster tells for so long which past this member shares.
const COMPARED_FOR: std::time::Duration = std::time::Duration::from_secs(60);

/// The reason that `/history` gives for a number that the present timeline did not come by.
const SKIPPED: &str = "not part of the history";

/// On the running primary: adds the timelines that ended on this member.
pub(crate) fn process(draft: &mut Draft, cluster: &Cluster) {
    let view = draft.view;
    let known = cluster.history.as_ref().map(|key| key.value.0.as_slice());
    let Some(timeline) = view.server().and_then(|server| server.timeline) else { return };
    if timeline.0 <= 1 {
        if known.is_some_and(|known| !known.is_empty()) {
            draft.attempt(Attempt::WriteHistory, Action::WriteHistory { history: History::default() });
        }
        return;
    }
    let last = known.and_then(<[HistoryEntry]>::last);
    if last.is_some_and(|last| {
        last.timeline.0 + 1 == timeline.0 && last.promoted_at.is_some() && last.new_leader.is_some()
    }) {
        return;
    }
    let Some(local) = &view.postgres.local_history else { return };
    // The file of an older timeline: the new one has not been read yet.
    if local.timeline != timeline || local.switches.is_empty() {
        return;
    }
    let mut entries = finished(local, known.unwrap_or_default());
    for entry in entries.iter_mut().rev().take_while(|entry| entry.timeline >= last_switch(local)) {
        entry.promoted_at.get_or_insert_with(|| local.written_at.clone());
        entry.new_leader.get_or_insert_with(|| view.me.name.clone());
    }
    let keep = view.settings.max_timelines_history;
    if keep > 0 && entries.len() > keep {
        entries.drain(..entries.len() - keep);
    }
    draft.attempt(Attempt::WriteHistory, Action::WriteHistory { history: History(entries) });
}

/// On the leader of a standby cluster: if what it has is proven to be a part of the other cluster's history, and `/history` tells of
/// another past, that one was given up by whoever made this cluster follow. Nobody could lead by it once the cluster is promoted, so what
/// is true takes its place, and what `/sync` promised of that past is forgotten with it.
pub(crate) fn adopt(draft: &mut Draft, remote: &Upstream) {
    let view = draft.view;
    let Some(cluster) = view.store.usable(view.now, view.patience()) else { return };
    let Some(timeline) = view.server().and_then(|server| server.timeline) else { return };
    if remote.conn_url.is_empty() || compare::own_branch(view, cluster).is_ok() {
        return;
    }
    let shares_past = |found: &&Divergence| {
        found.leader == remote.member
            && found.local_timeline == timeline
            && view.now.since(found.checked_at) < COMPARED_FOR
            && rewind::verdict(found) == Some(false)
    };
    if view.postgres.divergence.as_ref().filter(shares_past).is_none() {
        rewind::check(draft, remote.clone());
        return;
    }
    let known = cluster.history.as_ref().map_or(&[][..], |key| key.value.0.as_slice());
    let entries = match &view.postgres.local_history {
        _ if timeline.0 <= 1 => Vec::new(),
        Some(local) if local.timeline == timeline => finished(local, known),
        _ => return,
    };
    if let Some(expect) = cluster.active_sync().and_then(|_| cluster.sync_revision()) {
        draft.attempt(Attempt::WriteSync, Action::DeleteSync { expect });
    }
    draft.attempt(Attempt::WriteHistory, Action::WriteHistory { history: History(entries) });
    draft.note(Reason::ForgettingOtherPast);
}

fn last_switch(local: &LocalHistory) -> TimelineId {
    local.switches.last().map_or(TimelineId(0), |switch| switch.timeline)
}

/// Every timeline before the present one. What is known of it already is kept.
fn finished(local: &LocalHistory, known: &[HistoryEntry]) -> Vec<HistoryEntry> {
    let entry = |timeline: TimelineId, end: Lsn, reason: &str| {
        let known = known.iter().find(|entry| entry.timeline == timeline && entry.end == end);
        HistoryEntry {
            timeline,
            end,
            reason: reason.to_owned(),
            promoted_at: known.and_then(|known| known.promoted_at.clone()),
            new_leader: known.and_then(|known| known.new_leader.clone()),
        }
    };
    let mut entries = Vec::with_capacity(local.switches.len());
    let nexts = local.switches.iter().skip(1).map(|switch| switch.timeline).chain([local.timeline]);
    for (switch, next) in local.switches.iter().zip(nexts) {
        entries.push(entry(switch.timeline, switch.end, &switch.reason));
        // Numbers that somebody else had taken. The present timeline is by definition the one after the last entry; and nothing of a
        // skipped one is part of it, so it ended before anything that a member may have of it.
        for skipped in switch.timeline.0 + 1..next.0 {
            entries.push(entry(TimelineId(skipped), Lsn::ZERO, SKIPPED));
        }
    }
    entries
}
