//! What this member leaves in the store for others to read: the end of its journal, for the day when nobody can ask it, and,
//! while it leads, the feature level of the cluster.
//!
//! Nobody's decision rests on either, so both are written beside the loop, some seconds after the change that they tell of: a
//! failover never waits for them, and an attempt that fails is made again later.

use std::{sync::Arc, time::Duration};

use bellwether_dcs::{
    Check, CommitOutcome, Deadline, Snapshot, Store, Write, codec, codec::keys, mirror::Mirror, ops,
};
use bellwether_types::{MemberName, Revision, cluster::Cluster, status::NodeStatus};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{clock, journal::Journal, level, role_changes};

/// From a change until it is written: the failover that made it is over by then.
const SETTLE: Duration = Duration::from_secs(3);
/// Between two attempts to write.
const GAP: Duration = Duration::from_secs(10);
const WRITE_LIMIT: Duration = Duration::from_secs(2);
/// All journals in the store together.
const ALL_JOURNALS: usize = 16 * 1024;
/// Journals that are kept of members that are gone: that of the leader that died last is among them.
const DEPARTED: usize = 2;
/// A cluster that is just coming up must not share the room out too generously.
const FEWEST_MEMBERS: usize = 3;
/// The text around the records of a journal.
const FRAME: usize = 32;

/// The task that writes.
#[derive(Debug)]
pub(crate) struct Notes {
    me: MemberName,
    store: Arc<dyn Store>,
    mirror: Mirror,
    changes: watch::Receiver<Vec<Value>>,
    status: watch::Receiver<Arc<NodeStatus>>,
    /// My journal in the store when it had all records of now, and how many members shared the room.
    complete_at: Option<(Revision, usize)>,
}

impl Notes {
    pub(crate) fn new(
        me: &MemberName,
        store: Arc<dyn Store>,
        mirror: Mirror,
        journal: &Journal,
        status: watch::Receiver<Arc<NodeStatus>>,
    ) -> Self {
        Self { me: me.clone(), store, mirror, changes: journal.role_changes(), status, complete_at: None }
    }

    /// Runs until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        // The agent keeps both senders for as long as it runs.
        while stop.run_until_cancelled(self.something_new()).await.is_some() {
            if stop.run_until_cancelled(tokio::time::sleep(SETTLE)).await.is_none() {
                return;
            }
            let writing = self.bring_up_to_date();
            match stop.run_until_cancelled(writing).await {
                Some(Wrote::Nothing) => {}
                Some(Wrote::Tried) => {
                    let _ = stop.run_until_cancelled(tokio::time::sleep(GAP)).await;
                }
                None => return,
            }
        }
    }

    /// Waits until there is something to write. A status that was published anew is the occasion to look, and mostly nothing more: an idle
    /// member must not be woken for it once again.
    async fn something_new(&mut self) {
        loop {
            let Self { changes, status, .. } = self;
            tokio::select! {
                Ok(()) = changes.changed() => self.complete_at = None,
                Ok(()) = status.changed() => {}
                else => std::future::pending().await,
            }
            if !self.writes().is_empty() {
                return;
            }
        }
    }

    /// What differs from what the store holds, each with the checks that it is written under and what it is.
    fn writes(&mut self) -> Vec<Note> {
        self.status.mark_unchanged();
        let state = self.mirror.state();
        let (Some(cluster), None) = (&state.cluster, &state.error) else { return Vec::new() };
        let mut notes = Vec::new();
        let leads = self.status.borrow().holds_lease_at(clock::now());
        if leads && let Some(write) = level_to_write(&self.me, cluster, &state.snapshot) {
            let checks = vec![ops::leader_is(&self.me)];
            notes.push(Note { checks, writes: vec![write], what: "feature level" });
        }
        let stored = state.snapshot.entries.get(&keys::journal(&self.me));
        let stored_at = stored.map(|entry| (entry.modified, cluster.members.len()));
        if self.complete_at.is_none() || self.complete_at != stored_at {
            let records = self.changes.borrow_and_update().clone();
            let writes = journal_to_write(&self.me, &records, cluster, &state.snapshot);
            if writes.is_empty() {
                self.complete_at = stored_at;
            } else {
                notes.push(Note { checks: Vec::new(), writes, what: "end of the journal" });
            }
        }
        notes
    }

    /// Compares with what the store holds, and writes what differs.
    async fn bring_up_to_date(&mut self) -> Wrote {
        let notes = self.writes();
        let wrote = if notes.is_empty() { Wrote::Nothing } else { Wrote::Tried };
        for Note { checks, writes, what } in notes {
            self.commit(&checks, &writes, what).await;
        }
        wrote
    }

    async fn commit(&self, checks: &[Check], writes: &[Write], what: &str) {
        match self.store.commit(checks, writes, Deadline::after(WRITE_LIMIT)).await {
            CommitOutcome::Applied(_) => debug!(what, "noted in the store"),
            outcome => debug!(what, ?outcome, "not noted in the store; the next attempt comes by itself"),
        }
    }
}

/// One transaction.
#[derive(Debug)]
struct Note {
    checks: Vec<Check>,
    writes: Vec<Write>,
    what: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrote {
    Nothing,
    Tried,
}

fn level_to_write(me: &MemberName, cluster: &Cluster, snapshot: &Snapshot) -> Option<Write> {
    let level = level::lowest(cluster)?;
    let is_known = codec::feature_level(snapshot) == Some(level);
    (!is_known).then(|| Write::put(keys::FEATURE_LEVEL, codec::encode_feature_level(level, me)))
}

/// The new end of my journal, and the removal of journals of members that are gone for long. Empty if there is nothing new.
fn journal_to_write(
    me: &MemberName,
    records: &[Value],
    cluster: &Cluster,
    snapshot: &Snapshot,
) -> Vec<Write> {
    let room = ALL_JOURNALS / (cluster.members.len().max(FEWEST_MEMBERS) + DEPARTED);
    let text = codec::encode_journal(role_changes::newest_within(records, room - FRAME));
    let key = keys::journal(me);
    let present = snapshot.entries.get(&key).map(|entry| entry.value.as_slice());
    if records.is_empty() || present == Some(text.as_bytes()) {
        return Vec::new();
    }
    let mut departed: Vec<_> = snapshot
        .entries
        .iter()
        .filter_map(|(key, entry)| Some((keys::journal_of(key)?, key, entry.modified)))
        .filter(|(name, _, _)| name != me && !cluster.members.contains_key(name))
        .collect();
    departed.sort_by_key(|(_, _, modified)| std::cmp::Reverse(*modified));
    let forgotten = departed.into_iter().skip(DEPARTED).map(|(_, key, _)| Write::delete(key.clone()));
    std::iter::once(Write::put(key.clone(), text)).chain(forgotten).collect()
}

#[cfg(test)]
mod tests {
    use bellwether_dcs::{MemoryStore, codec::decode};
    use bellwether_types::{cluster::Member, settings::Settings};
    use futures::FutureExt as _;
    use serde_json::json;

    use super::*;
    use crate::{handle::tests::config, publish::first_status};

    fn name(text: &str) -> MemberName {
        MemberName::new(text).unwrap()
    }

    fn by() -> Deadline {
        Deadline::after(Duration::from_secs(5))
    }

    fn records(count: usize) -> Vec<Value> {
        (0..count).map(|number| json!({"kind": "start", "number": number, "text": "x".repeat(300)})).collect()
    }

    fn cluster(names: &[&str]) -> Cluster {
        let members = names.iter().map(|text| (name(text), Member::unknown(name(text)))).collect();
        Cluster { members, ..Cluster::default() }
    }

    #[tokio::test]
    async fn all_journals_together_stay_within_their_room() {
        let store = MemoryStore::new();
        let names: Vec<String> = (0..12).map(|number| format!("member-{number}")).collect();
        for alive in 1..=names.len() {
            // One after the other joins, and only the last four are alive.
            let living: Vec<&str> = names[..alive].iter().rev().take(4).map(String::as_str).collect();
            for me in &living {
                let snapshot = store.snapshot(by()).await.unwrap();
                let writes = journal_to_write(&name(me), &records(40), &cluster(&living), &snapshot);
                let _ = store.commit(&[], &writes, by()).await;
            }
            let snapshot = store.snapshot(by()).await.unwrap();
            let sizes = snapshot.entries.iter().filter(|(key, _)| keys::journal_of(key).is_some());
            let total: usize = sizes.map(|(_, entry)| entry.value.len()).sum();
            assert!(total <= ALL_JOURNALS, "{total} bytes with {alive} members");
            let mine = &snapshot.entries[&keys::journal(&name(living[0]))];
            let told = codec::decode_journal(&mine.value).unwrap();
            assert_eq!(told.last().unwrap()["number"], 39, "the newest is there");
            assert!(told.len() >= 5, "{} records", told.len());
        }
        let snapshot = store.snapshot(by()).await.unwrap();
        let left = snapshot.entries.keys().filter(|key| keys::journal_of(key).is_some()).count();
        assert_eq!(left, 4 + DEPARTED);
    }

    #[tokio::test]
    async fn nothing_new_is_not_written() {
        let store = MemoryStore::new();
        let (me, living) = (name("a"), cluster(&["a"]));
        let before = store.snapshot(by()).await.unwrap();
        assert_eq!(journal_to_write(&me, &[], &living, &before), []);
        let writes = journal_to_write(&me, &records(1), &living, &before);
        assert_eq!(writes.len(), 1);
        let _ = store.commit(&[], &writes, by()).await;
        let after = store.snapshot(by()).await.unwrap();
        assert_eq!(journal_to_write(&me, &records(1), &living, &after), []);

        let level = level_to_write(&me, &living, &after).expect("nobody has written it yet");
        let _ = store.commit(&[], &[level], by()).await;
        let after = store.snapshot(by()).await.unwrap();
        assert_eq!(level_to_write(&me, &living, &after), None);
        assert_eq!(codec::feature_level(&after), Some(0), "the member tells no level");
        assert!(decode(&after).members.is_empty());
    }

    #[tokio::test]
    async fn a_status_alone_wakes_nobody() {
        let store = MemoryStore::new();
        let mirror = Mirror::new(Arc::new(store.clone()), Duration::from_secs(60));
        let (journal, changes) = watch::channel(records(1));
        let dir = tempfile::tempdir().unwrap();
        let first = first_status(&config(dir.path()), &Settings::default());
        let (statuses, status) = watch::channel(Arc::new(first));
        let me = name("a");
        let mut notes = Notes {
            me: me.clone(),
            store: Arc::new(store.clone()),
            mirror: mirror.clone(),
            changes,
            status,
            complete_at: None,
        };
        let publish = || statuses.send_modify(|_| {});
        mirror.refresh(by()).await.unwrap();
        publish();
        assert!(notes.something_new().now_or_never().is_some(), "the first record is to be written");
        assert_eq!(notes.bring_up_to_date().await, Wrote::Tried);
        mirror.refresh(by()).await.unwrap();
        for _ in 0..3 {
            publish();
            assert!(notes.something_new().now_or_never().is_none(), "all is written");
        }
        journal.send_replace(records(2));
        assert!(notes.something_new().now_or_never().is_some(), "a new record");
        assert_eq!(notes.bring_up_to_date().await, Wrote::Tried);
        // Somebody else has removed it.
        let _ = store.commit(&[], &[Write::delete(keys::journal(&me))], by()).await;
        mirror.refresh(by()).await.unwrap();
        publish();
        assert!(notes.something_new().now_or_never().is_some(), "it is not there any more");
    }
}
