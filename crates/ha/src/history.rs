//! `/history`: which timelines ended where, when, and who led next.

use bellwether_types::cluster::{Cluster, History, HistoryEntry};

use crate::{Action, draft::Draft, memory::Attempt};

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
    if local.switches.last().is_none_or(|newest| newest.timeline.0 + 1 != timeline.0) {
        return;
    }
    let old = known.unwrap_or_default();
    let mut entries: Vec<HistoryEntry> = Vec::with_capacity(local.switches.len());
    for switch in &local.switches {
        let known = old.iter().find(|entry| entry.timeline == switch.timeline && entry.end == switch.end);
        entries.push(HistoryEntry {
            timeline: switch.timeline,
            end: switch.end,
            reason: switch.reason.clone(),
            promoted_at: known.and_then(|known| known.promoted_at.clone()),
            new_leader: known.and_then(|known| known.new_leader.clone()),
        });
    }
    if let Some(newest) = entries.last_mut() {
        newest.promoted_at.get_or_insert_with(|| local.written_at.clone());
        newest.new_leader.get_or_insert_with(|| view.me.name.clone());
    }
    let keep = view.settings.max_timelines_history;
    if keep > 0 && entries.len() > keep {
        entries.drain(..entries.len() - keep);
    }
    draft.attempt(Attempt::WriteHistory, Action::WriteHistory { history: History(entries) });
}
