//! Watches that survive the loss of a member, and that prove their life.
//!
//! Changes come as etcd sends them. That nothing *else* happened is not for the member at the other end of the stream to say:
//! it may be cut off, and old members announce progress ahead of the changes before it. So twice a second, or as seldom as
//! [`bellwether_dcs::Store::set_pace`] allows while all is well, the keys are read linearizably, names and revisions only, from
//! whichever member answers; what the renewal of a lease has read serves as well. If they are what the told changes amount to, then
//! nothing was missed up to there; if they are not, the stream is behind, and is opened anew elsewhere if it stays so.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bellwether_dcs::{Deadline, Entry, Key, StoreError, Watch, WatchEvent, alarm::Alarm, store};
use bellwether_types::{Revision, Timestamp};
use futures::future::BoxFuture;
use tokio::{sync::mpsc, time::sleep};
use tonic::{Code, Status, Streaming};

use crate::{
    cluster::{Cluster, Repeat, Unanswered},
    endpoints::Slot,
    failure::Failure,
    proto::{Event, EventKind, RangeRequest, RangeResponse, WatchCreateRequest, WatchRequest, WatchResponse},
    transaction::{Sighting, end_of, entry, everything, revision, short_key, signed},
};

/// Events a reader may be behind.
const QUEUE: usize = 256;
/// A read that proved nothing is followed by another one after so long, whatever the pace.
const CONFIRM_AGAIN: Duration = Duration::from_millis(500);
const CONFIRM_LIMIT: Duration = Duration::from_millis(900);
const OPEN_LIMIT: Duration = Duration::from_secs(1);
/// A stream that has not told for so long what a read already showed is given up.
const BEHIND_LIMIT: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(50);
/// A reader who expects no proof for longer than this is told when there has been no stream for so long; any other one notices by himself.
const CUT_OFF_LIMIT: Duration = Duration::from_secs(2);

/// Starts a watch of everything after a revision.
pub(crate) fn start(cluster: Arc<Cluster>, after: Revision) -> Watch {
    let (events, receiver) = mpsc::channel(QUEUE);
    let watcher = Watcher {
        cluster,
        etcd: None,
        events,
        told: signed(after.0),
        keys: BTreeMap::new(),
        behind_since: None,
        cut_off_since: None,
        asked_at: Timestamp::ZERO,
        proved_at: Timestamp::ZERO,
    };
    tokio::spawn(watcher.run());
    Watch { events: receiver }
}

/// Why the watch, or one of its streams, is over.
enum End {
    /// The reader is gone or has been told that the watch is lost.
    Over,
    /// Changes are missing: tell the reader so.
    Lost(&'static str),
    /// The stream ended, but nothing is missing yet.
    Reopen,
}

struct Watcher {
    cluster: Arc<Cluster>,
    /// The id of the etcd cluster that the revisions are of.
    etcd: Option<u64>,
    events: mpsc::Sender<WatchEvent>,
    /// Everything up to this revision was told.
    told: i64,
    /// The keys at that revision, with the revisions of their last changes.
    keys: BTreeMap<Vec<u8>, i64>,
    behind_since: Option<Timestamp>,
    cut_off_since: Option<Timestamp>,
    /// When the keys were last read for a proof, and since when the last one is known that worked.
    asked_at: Timestamp,
    proved_at: Timestamp,
}

/// A read that is under way, and what had been told when it began.
struct Confirmation {
    told: i64,
    since: Timestamp,
    answer: BoxFuture<'static, Result<RangeResponse, Unanswered>>,
}

impl Watcher {
    async fn run(mut self) {
        let end = loop {
            match self.begin().await {
                Err(End::Reopen) => {}
                Err(end) => break end,
                Ok(()) => match self.stream_on().await {
                    End::Reopen => {}
                    end => break end,
                },
            }
            let since = *self.cut_off_since.get_or_insert_with(store::now);
            if store::now().since(since) > CUT_OFF_LIMIT && *self.cluster.pace().borrow() > CUT_OFF_LIMIT {
                break End::Lost("etcd does not answer");
            }
            tokio::select! {
                () = self.events.closed() => return,
                () = sleep(PAUSE) => {}
            }
        };
        if let End::Lost(why) = end {
            tracing::debug!(why, "a watch of etcd is lost");
            // Heard as soon as the reader makes room for it.
            let _ = self.events.send(WatchEvent::Lost).await;
        }
    }

    /// Reads which keys there were when the story begins; later the told changes are kept up with. Before a stream is opened
    /// anew the read finds a member that answers, and renews the login, which a stream can do neither of.
    async fn begin(&mut self) -> Result<(), End> {
        let begun = self.etcd.is_some();
        let past = RangeRequest { revision: self.told, ..everything(self.cluster.prefix()) };
        let now = RangeRequest { range_end: Vec::new(), ..everything(self.cluster.prefix()) };
        let question = RangeRequest { keys_only: true, ..if begun { now } else { past } };
        let read = self.cluster.call(question, Repeat::Always, Deadline::after(CONFIRM_LIMIT));
        match read.await {
            Ok(_) if begun => Ok(()),
            Ok(answer) => {
                self.etcd = Some(cluster_of(&answer));
                // At revision zero there was nothing, but etcd takes it for "now".
                if self.told > 0 {
                    self.keys = listed(answer);
                }
                Ok(())
            }
            // Compacted away, or not reached yet: what a set back store does to an old revision.
            Err(Unanswered::Rejected(status)) if status.code() == Code::OutOfRange => {
                Err(End::Lost("its first revision is not to be had"))
            }
            Err(Unanswered::Rejected(status)) => {
                tracing::debug!(%status, "a watch of etcd cannot begin");
                Err(End::Reopen)
            }
            Err(Unanswered::Failed(_)) => Err(End::Reopen),
        }
    }

    async fn stream_on(&mut self) -> End {
        let prefix = self.cluster.prefix();
        let create = WatchCreateRequest {
            key: prefix.as_bytes().to_vec(),
            range_end: end_of(prefix),
            start_revision: self.told + 1,
        };
        let request = WatchRequest { create: Some(create) };
        match self.cluster.watch(request, Deadline::after(OPEN_LIMIT)).await {
            Ok((slot, stream)) => {
                self.behind_since = None;
                self.proved_at = Timestamp::ZERO;
                self.follow(&slot, stream).await
            }
            Err(failure) => {
                let error = StoreError::from(failure);
                tracing::debug!(%error, "a watch of etcd was not opened");
                End::Reopen
            }
        }
    }

    /// Tells what the stream brings, until something is wrong.
    async fn follow(&mut self, slot: &Slot, mut stream: Streaming<WatchResponse>) -> End {
        let (mut pace, mut sighted) = (self.cluster.pace().subscribe(), self.cluster.sighted().subscribe());
        let mut confirming: Option<Confirmation> = None;
        let mut alarm = Alarm::new();
        loop {
            let due = (self.proved_at + *pace.borrow_and_update()).max(self.asked_at + CONFIRM_AGAIN);
            let result = tokio::select! {
                () = self.events.closed() => return End::Over,
                message = stream.message() => self.take_in(slot, message),
                () = alarm.at(due), if confirming.is_none() => {
                    confirming = Some(self.confirm());
                    continue;
                }
                answer = answer_of(&mut confirming), if confirming.is_some() => {
                    let told = confirming.take().map_or(0, |confirmation| confirmation.told);
                    // No answer, no proof of life. The reader notices the silence.
                    let Ok(sighting) = answer else { continue };
                    self.compare(slot, told, &sighting)
                }
                Ok(()) = sighted.changed() => {
                    let sighting = sighted.borrow_and_update().clone();
                    // It was not asked for with this stream in mind, which may have told more since.
                    let sighting = sighting.filter(|sighting| sighting.revision >= self.told);
                    sighting.map_or(Ok(()), |sighting| self.compare(slot, self.told, &sighting))
                }
                _ = pace.changed() => continue,
            };
            if let Err(end) = result {
                return end;
            }
        }
    }

    fn take_in(&mut self, slot: &Slot, message: Result<Option<WatchResponse>, Status>) -> Result<(), End> {
        let answer = match message {
            Ok(Some(answer)) => answer,
            Ok(None) => return Err(End::Reopen),
            Err(status) => {
                let failure = Failure::from_status(status);
                tracing::debug!(endpoint = %slot.endpoint, ?failure, "a watch of etcd was cut off");
                self.cluster.distrust(slot);
                return Err(End::Reopen);
            }
        };
        if answer.compact_revision > 0 {
            return Err(End::Lost("changes were compacted away"));
        }
        if answer.header.is_some_and(|header| Some(header.cluster_id) != self.etcd) {
            return Err(End::Lost("another etcd cluster answers"));
        }
        if answer.canceled {
            tracing::debug!(endpoint = %slot.endpoint, reason = answer.cancel_reason, "etcd ended a watch");
            self.cluster.distrust(slot);
            return Err(End::Reopen);
        }
        self.tell(answer.events)
    }

    /// Tells changes by revision, as one transaction made them.
    fn tell(&mut self, events: Vec<Event>) -> Result<(), End> {
        let mut by_revision: BTreeMap<i64, Vec<(Key, Option<Entry>)>> = BTreeMap::new();
        for Event { kind, kv } in events {
            let Some(kv) = kv.filter(|kv| kv.mod_revision > self.told) else { continue };
            let changes = by_revision.entry(kv.mod_revision).or_default();
            let deleted = kind == i32::from(EventKind::Delete);
            if deleted {
                self.keys.remove(&kv.key);
            } else {
                self.keys.insert(kv.key.clone(), kv.mod_revision);
            }
            if let Some(key) = short_key(self.cluster.prefix(), &kv.key) {
                changes.push((key, (!deleted).then(|| entry(kv))));
            }
        }
        for (number, changes) in by_revision {
            self.told = number;
            if !changes.is_empty() {
                self.send(WatchEvent::Changed { revision: revision(number), changes })?;
            }
        }
        Ok(())
    }

    fn confirm(&mut self) -> Confirmation {
        let cluster = self.cluster.clone();
        let since = store::now();
        self.asked_at = since;
        let answer = Box::pin(async move {
            let now = RangeRequest { keys_only: true, ..everything(cluster.prefix()) };
            cluster.call(now, Repeat::Always, Deadline::after(CONFIRM_LIMIT)).await
        });
        Confirmation { told: self.told, since, answer }
    }

    /// Whether what was told is all that there is to tell.
    fn compare(&mut self, slot: &Slot, told_before: i64, sighting: &Sighting) -> Result<(), End> {
        if Some(sighting.etcd) != self.etcd {
            return Err(End::Lost("another etcd cluster answers"));
        }
        let seen = sighting.revision;
        if seen < told_before {
            return Err(End::Lost("etcd was set back"));
        }
        // Changes come in order: whoever heard of a later one has heard of all before it.
        if self.told > seen || sighting.keys == self.keys {
            (self.behind_since, self.cut_off_since) = (None, None);
            self.proved_at = self.proved_at.max(sighting.since);
            let revision = revision(seen.max(self.told));
            return self.send(WatchEvent::Alive { revision, since: sighting.since });
        }
        // Read again soon, whatever the pace.
        self.proved_at = Timestamp::ZERO;
        let since = *self.behind_since.get_or_insert_with(store::now);
        if store::now().since(since) < BEHIND_LIMIT {
            return Ok(());
        }
        tracing::debug!(endpoint = %slot.endpoint, "a watch of etcd fell behind and is opened anew");
        self.cluster.distrust(slot);
        Err(End::Reopen)
    }

    fn send(&self, event: WatchEvent) -> Result<(), End> {
        self.events.try_send(event).map_err(|error| match error {
            mpsc::error::TrySendError::Closed(_) => End::Over,
            mpsc::error::TrySendError::Full(_) => End::Lost("its reader is too slow"),
        })
    }
}

async fn answer_of(confirming: &mut Option<Confirmation>) -> Result<Sighting, Unanswered> {
    match confirming {
        Some(confirmation) => {
            (&mut confirmation.answer).await.map(|answer| Sighting::of(answer, confirmation.since))
        }
        None => std::future::pending().await,
    }
}

fn cluster_of(answer: &RangeResponse) -> u64 {
    answer.header.unwrap_or_default().cluster_id
}

fn listed(answer: RangeResponse) -> BTreeMap<Vec<u8>, i64> {
    answer.kvs.into_iter().map(|kv| (kv.key, kv.mod_revision)).collect()
}
