//! Actions on the store: each one conditional transaction, tried once. What no decision waits for is written beside the loop.

use std::time::Duration;

use bellwether_dcs::{Check, CommitOutcome, Deadline, Key, Write, codec, codec::keys, ops, ops::Seen};
use bellwether_ha::{
    View,
    action::{LostKeys, MemberUpdate, NextTimeline, TakeOver},
};
use bellwether_types::{
    Lsn, Revision, Timestamp,
    cluster::{FailoverRequest, FailsafeMap, History, Status, SyncState, TimelineClaim},
    takeover::Takeover,
};
use tracing::{info, warn};

use super::{Effect, MemberWrite};
use crate::{
    agent::Agent,
    clock,
    lease::{Acquired, Also, Over, Released, Wanted},
    publications::Publication,
};

/// A member key whose positions alone changed is written at most once per `loop_wait`.
const POSITION_FIELDS: [&str; 3] = ["xlog_location", "receive_lsn", "replay_lsn"];

impl Agent {
    /// Writes to the store get one attempt within a share of the lease, never the whole retry budget.
    fn write_budget(&self) -> Deadline {
        Deadline::after(self.write_limit())
    }

    fn write_limit(&self) -> Duration {
        self.effective.settings.retry_timeout.min(self.effective.settings.ttl / 5)
    }

    /// Writes beside the loop what only the holder of the lock may write.
    fn publish_as_leader(&self, key: &str, value: String) -> Effect {
        self.publisher.put(Publication {
            key: Key::from(key),
            checks: self.as_leader().to_vec(),
            write: Write::put(key, value),
            within: self.write_limit(),
        });
        Effect::Nothing
    }

    /// Applied: read what is there now, so that the next decision rests on it.
    async fn conclude(&self, what: &'static str, outcome: CommitOutcome) -> Effect {
        match outcome {
            CommitOutcome::Applied(_) => {
                let _ = self.mirror.refresh(self.write_budget()).await;
                Effect::Changed
            }
            CommitOutcome::Refused { .. } => {
                info!(what, "the store refused a write: somebody else was faster");
                let _ = self.mirror.refresh(self.write_budget()).await;
                Effect::Failed
            }
            CommitOutcome::Unknown(error) => {
                warn!(what, %error, "a write to the store has an unknown outcome");
                Effect::Failed
            }
        }
    }

    /// Only the holder of the lock writes these; the check is part of the transaction.
    fn as_leader(&self) -> [bellwether_dcs::Check; 1] {
        [ops::leader_is(&self.config.name)]
    }

    pub(super) async fn claim_initialize(&mut self) -> Effect {
        let Some(lease) = self.lease.state().lease else { return Effect::Failed };
        let outcome = ops::claim_initialize(&*self.store, lease, self.write_budget()).await;
        self.conclude("claim initialize", outcome).await
    }

    pub(super) async fn write_initialize(&mut self, expect: Option<Revision>) -> Effect {
        let Some(system_id) = self.local.system_id else { return Effect::Failed };
        let snapshot = self.mirror.state().snapshot;
        let seen = Seen::expecting(expect, &snapshot, keys::INITIALIZE);
        let founding = self.mark.founding();
        let by = self.write_budget();
        let outcome = ops::write_initialize(&*self.store, system_id, founding, seen, &[], by).await;
        self.conclude("write initialize", outcome).await
    }

    pub(super) async fn remove_initialize(&mut self, expect: Revision) -> Effect {
        info!("removing initialize key after failed attempt to bootstrap the cluster");
        let outcome = ops::abandon_initialize(&*self.store, expect, self.write_budget()).await;
        self.conclude("remove initialize", outcome).await
    }

    pub(super) async fn write_config(&mut self, expect: Option<Revision>) -> Effect {
        let snapshot = self.mirror.state().snapshot;
        let seen = Seen::expecting(expect, &snapshot, keys::CONFIG);
        let outcome = ops::write_config(&*self.store, self.document(), seen, &[], self.write_budget()).await;
        self.conclude("write config", outcome).await
    }

    pub(super) async fn acquire_lease(&mut self, wanted: Wanted) -> Effect {
        let timeline = wanted.timeline.map(|next| next.timeline.0);
        match self.lease.acquire(wanted).await {
            Acquired::Yes { term } => {
                info!(term = term.0, timeline, "acquired the leader lock");
                self.clock.acquired(clock::now());
                let _ = self.mirror.refresh(self.write_budget()).await;
                Effect::Changed
            }
            Acquired::No => {
                info!(
                    "Could not take out TTL lock: somebody else was faster, or what the race rested on has changed"
                );
                let _ = self.mirror.refresh(self.write_budget()).await;
                Effect::Failed
            }
            Acquired::Unknown(error) => {
                warn!(%error, "taking the leader lock: outcome unknown");
                let _ = self.mirror.refresh(self.write_budget()).await;
                Effect::Failed
            }
        }
    }

    /// The store was wiped: all that it should hold, together with the lock.
    pub(super) async fn restore_keys(&mut self, lost: LostKeys) -> Effect {
        let Some(system_id) = self.local.system_id else { return Effect::Failed };
        let mut also = Also::default();
        also.checks.push(match lost.initialize {
            None => Check::absent(keys::INITIALIZE),
            Some(claim) => Check::at(keys::INITIALIZE, claim),
        });
        also.writes.push(Write::put(keys::INITIALIZE, codec::encode_initialize(Some(system_id))));
        let config = lost.config.then(|| codec::encode_config(self.document()));
        let sync = lost.sync.as_ref().map(|sync| codec::encode_sync(sync, None));
        // Without a lock of its own revision: `sync` is checked with the lock already.
        also.writes.extend(sync.map(|sync| Write::put(keys::SYNC, sync)));
        let others = [
            (keys::CONFIG, config),
            (keys::STATUS, lost.status.as_ref().map(|status| codec::encode_status(status, None))),
            (keys::HISTORY, lost.history.as_ref().map(codec::encode_history)),
            (keys::FAILSAFE, lost.failsafe.as_ref().map(codec::encode_failsafe)),
            (keys::TAKEOVER, lost.takeover.as_ref().map(codec::encode_takeover)),
            (keys::TIMELINE, lost.claimed.as_ref().map(codec::encode_timeline_claim)),
        ];
        for (key, value) in others {
            let Some(value) = value else { continue };
            also.checks.push(Check::absent(key));
            also.writes.push(Write::put(key, value));
        }
        let keys: Vec<&str> = also.writes.iter().map(|write| write.key().as_str()).collect();
        info!(?keys, "the store has lost the keys of this cluster: writing them anew with the leader lock");
        let (sync, timeline) = (lost.sync_revision, lost.timeline);
        self.acquire_lease(Wanted { sync, timeline, also, ..Wanted::default() }).await
    }

    pub(super) async fn open_epoch(&mut self, expect: Option<Revision>, takeover: &Takeover) -> Effect {
        self.clock.suspected(clock::now());
        let outcome = ops::open_takeover(&*self.store, takeover, expect, self.write_budget()).await;
        self.conclude("open an epoch of take-over", outcome).await
    }

    pub(super) async fn close_epoch(&mut self, opened_at: Revision, takeover: &Takeover) -> Effect {
        let outcome = ops::close_takeover(&*self.store, takeover, opened_at, self.write_budget()).await;
        self.conclude("close an epoch of take-over", outcome).await
    }

    /// The lock of a leader that can acknowledge nothing any more.
    pub(super) async fn take_over(&mut self, decided: TakeOver) -> Effect {
        let Some(sync) = self.stored(&Key::from(keys::SYNC)) else { return Effect::Failed };
        let TakeOver { opened_at, takeover, leader, sync: revision, timeline } = decided;
        let over = Some(Over { opened_at, takeover, sync });
        let (present, sync, timeline) = (Some(leader), Some(revision), Some(timeline));
        self.acquire_lease(Wanted { present, sync, timeline, over, ..Wanted::default() }).await
    }

    /// A promotion waits for this.
    pub(super) async fn take_timeline(&mut self, next: NextTimeline) -> Effect {
        let claim = TimelineClaim { timeline: next.timeline, leader: self.config.name.clone() };
        let outcome =
            ops::take_timeline(&*self.store, &claim, next.expect, &self.as_leader(), self.write_budget())
                .await;
        self.conclude("take the number of a timeline", outcome).await
    }

    pub(super) async fn resume_lease(&mut self, revision: Revision) -> Effect {
        let sync = self.mirror.state().cluster.and_then(|cluster| cluster.sync_revision());
        self.acquire_lease(Wanted { present: Some(revision), sync, ..Wanted::default() }).await
    }

    pub(super) async fn release_lease(&mut self, optime: Option<Lsn>) -> Effect {
        let previous = self.stored(&Key::from(keys::STATUS));
        let status = optime.map(|optime| codec::encode_optime(optime, previous.as_deref()).into_bytes());
        let released = self.lease.release(status).await;
        match &released {
            // When a whole cluster is stopped, the store goes with it.
            Released::Unknown(error) if self.stopping => {
                info!(%error, "the leader lock could not be released; it expires by itself");
            }
            Released::Unknown(error) => {
                warn!(%error, "releasing the leader lock: outcome unknown; it expires by itself at the latest");
            }
            Released::Yes | Released::No => {}
        }
        let released = matches!(released, Released::Yes);
        info!(released, optime = optime.map(|lsn| lsn.to_string()), "Leader key released");
        let _ = self.mirror.refresh(self.write_budget()).await;
        Effect::Changed
    }

    pub(super) fn publish_member(&mut self, update: &MemberUpdate, view: &View) -> Effect {
        let Some(lease) = self.lease.state().lease else { return Effect::Nothing };
        let document = self.member_document(update);
        let key = keys::member(&self.config.name);
        let snapshot = self.mirror.state().snapshot;
        let stored = snapshot.entries.get(&key);
        let text = document.encode(stored.map(|entry| entry.value.as_slice()));
        let now = clock::now();

        if self.publisher.take_refusal(&key) {
            self.member_write.at = Timestamp::ZERO;
        }
        self.member_write.seen |=
            stored.is_some_and(|entry| entry.value == self.member_write.text.as_bytes());
        if stored.is_none() && self.member_write.seen {
            // Whoever asks who is there shall find us at once, the leader of a store that was wiped above all.
            self.member_write = MemberWrite::default();
        }
        let written = &self.member_write;
        let on_lease = stored.is_some_and(|entry| entry.lease == Some(lease));
        if on_lease && !codec::differs(stored.map(|entry| entry.value.as_slice()), &text) {
            return Effect::Nothing;
        }
        // Our own last write may not have come back through the watch yet.
        let same_lease = written.lease == Some(lease);
        let age = now.since(written.at);
        if same_lease && written.text == text && age < view.settings.loop_wait {
            return Effect::Nothing;
        }
        if on_lease && same_lease && age < view.settings.loop_wait && same_but_positions(&written.text, &text)
        {
            return Effect::Nothing;
        }
        self.member_write = MemberWrite { text: text.clone(), lease: Some(lease), at: now, seen: false };
        let write = Write::put_leased(key.clone(), text, lease);
        self.publisher.put(Publication { key, checks: Vec::new(), write, within: self.write_limit() });
        Effect::Nothing
    }

    pub(super) fn write_status(&mut self, status: &Status) -> Effect {
        let previous = self.stored(&Key::from(keys::STATUS));
        self.publish_as_leader(keys::STATUS, codec::encode_status(status, previous.as_deref()))
    }

    pub(super) fn write_history(&mut self, history: &History) -> Effect {
        self.publish_as_leader(keys::HISTORY, codec::encode_history(history))
    }

    pub(super) fn write_failsafe(&mut self, map: &FailsafeMap) -> Effect {
        self.publish_as_leader(keys::FAILSAFE, codec::encode_failsafe(map))
    }

    pub(super) async fn write_sync(&mut self, expect: Option<Revision>, state: &SyncState) -> Effect {
        let snapshot = self.mirror.state().snapshot;
        let seen = Seen::expecting(expect, &snapshot, keys::SYNC);
        let outcome =
            ops::write_sync(&*self.store, state, seen, &self.as_leader(), self.write_budget()).await;
        if matches!(outcome, CommitOutcome::Applied(_)) {
            info!(leader = ?state.leader, quorum = state.quorum, voters = ?state.voters, "wrote /sync");
        }
        self.conclude("write sync", outcome).await
    }

    pub(super) async fn delete_sync(&mut self, expect: Revision) -> Effect {
        let outcome = ops::delete_sync(&*self.store, expect, &self.as_leader(), self.write_budget()).await;
        self.conclude("delete sync", outcome).await
    }

    pub(super) async fn write_failover(
        &mut self,
        expect: Revision,
        request: Option<FailoverRequest>,
    ) -> Effect {
        let snapshot = self.mirror.state().snapshot;
        let seen = Seen::expecting(Some(expect), &snapshot, keys::FAILOVER);
        let by = self.write_budget();
        let outcome = match request {
            Some(request) => ops::write_failover(&*self.store, &request, seen, by).await,
            None => ops::clear_failover(&*self.store, seen, &[], by).await,
        };
        self.conclude("write failover", outcome).await
    }
}

/// Whether two member documents differ in nothing but WAL positions, which change with every write of a client.
fn same_but_positions(a: &str, b: &str) -> bool {
    let strip = |text: &str| {
        let mut value: serde_json::Value = serde_json::from_str(text).ok()?;
        if let Some(fields) = value.as_object_mut() {
            for field in POSITION_FIELDS {
                fields.remove(field);
            }
        }
        Some(value)
    };
    match (strip(a), strip(b)) {
        (Some(a), Some(b)) => codec::same(&a, &b),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moving_positions_alone_are_no_news() {
        let before = r#"{"state":"running","xlog_location":1,"replay_lsn":1}"#;
        assert!(same_but_positions(before, r#"{"state":"running","xlog_location":9,"replay_lsn":9}"#));
        assert!(!same_but_positions(before, r#"{"state":"stopped","xlog_location":9}"#));
    }
}
