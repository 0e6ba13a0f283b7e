//! Work on logical slots beside the loop: it may take long, and nothing that the lease depends on waits for it.
//!
//! One piece of work and one question at a time; what is asked for meanwhile is asked for again by a later decision.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::Arc,
    time::Duration,
};

use bellwether_ha::{
    action::LogicalAdvance,
    view::{LeaderSlot, LeaderSlots},
};
use bellwether_postgres::{
    replication::Target,
    settings::PgSettings,
    slots::{self, RemoteSlot},
};
use bellwether_types::{MemberName, Timestamp, slots::LogicalSlot};
use tokio::{sync::mpsc, task::JoinHandle};
use tracing::{debug, info, warn};

use crate::{clock, event::Event, work};

/// How long the primary may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// The primary's slots, with the state files that came along.
#[derive(Debug)]
pub(crate) struct LeaderAnswer {
    pub(crate) facts: LeaderSlots,
    pub(crate) states: BTreeMap<String, Vec<u8>>,
}

/// Starts the work, and ends it when it is dropped.
#[derive(Debug)]
pub(crate) struct SlotKeeper {
    events: mpsc::Sender<Event>,
    work: Option<JoinHandle<()>>,
    question: Option<JoinHandle<()>>,
}

impl Drop for SlotKeeper {
    fn drop(&mut self) {
        self.leave_off();
        if let Some(question) = self.question.take() {
            question.abort();
        }
    }
}

impl SlotKeeper {
    pub(crate) fn new(events: mpsc::Sender<Event>) -> Self {
        Self { events, work: None, question: None }
    }

    /// A promotion begins: what the consumers confirmed to the former leader is no measure any more.
    pub(crate) fn leave_off(&mut self) {
        if let Some(work) = self.work.take() {
            work.abort();
        }
    }

    /// `false`: the work before goes on.
    pub(crate) fn create(
        &mut self,
        settings: Arc<PgSettings>,
        server_version: u32,
        wanted: BTreeMap<String, LogicalSlot>,
    ) -> bool {
        self.begin(async move {
            for (name, slot) in wanted {
                match slots::create_logical(&settings, &name, &slot, server_version).await {
                    Ok(()) => info!("Created logical replication slot '{name}'"),
                    Err(error) => warn!(
                        error = work::chain(&error),
                        "Failed to create logical replication slot '{name}' plugin='{}'", slot.plugin
                    ),
                }
            }
            BTreeSet::new()
        })
    }

    /// `false`: the work before goes on.
    pub(crate) fn advance(
        &mut self,
        settings: Arc<PgSettings>,
        to: BTreeMap<String, LogicalAdvance>,
    ) -> bool {
        self.begin(async move {
            let mut unusable = BTreeSet::new();
            for (name, LogicalAdvance { database, to }) in to {
                match slots::advance_logical(&settings, &database, &name, to).await {
                    Ok(()) => debug!(slot = name, lsn = %to, "advanced"),
                    Err(error) => {
                        warn!(
                            error = work::chain(&error),
                            "Failed to advance logical replication slot '{name}'"
                        );
                        if error.is_final() {
                            unusable.insert(name);
                        }
                    }
                }
            }
            unusable
        })
    }

    fn begin(&mut self, work: impl Future<Output = BTreeSet<String>> + Send + 'static) -> bool {
        if self.work.as_ref().is_some_and(|work| !work.is_finished()) {
            return false;
        }
        let events = self.events.clone();
        self.work = Some(tokio::spawn(async move {
            let unusable = work.await;
            let _ = events.send(Event::SlotsMoved { unusable }).await;
        }));
        true
    }

    /// Asks the primary; the answer is an event. No answer is none.
    pub(crate) fn ask(
        &mut self,
        leader: MemberName,
        target: Target,
        database: String,
        names: BTreeSet<String>,
        states_of: BTreeSet<String>,
    ) {
        if self.question.as_ref().is_some_and(|question| !question.is_finished()) {
            return;
        }
        let events = self.events.clone();
        self.question = Some(tokio::spawn(async move {
            let asked_at = clock::now();
            let asking = slots::ask_primary(&target, &database, &names, &states_of);
            match tokio::time::timeout(ANSWER_LIMIT, asking).await {
                Ok(Ok(found)) => {
                    let answer = understood(asked_at, leader, found);
                    let _ = events.send(Event::LeaderSlots(answer)).await;
                }
                Ok(Err(error)) => {
                    warn!(error = work::chain(&error), "Failed to ask the primary about replication slots")
                }
                Err(_) => warn!("the primary did not answer about replication slots"),
            }
        }));
    }
}

fn understood(asked_at: Timestamp, leader: MemberName, found: Vec<RemoteSlot>) -> LeaderAnswer {
    let (mut slots, mut states) = (BTreeMap::new(), BTreeMap::new());
    for slot in found {
        let fact = LeaderSlot {
            database: slot.database,
            plugin: slot.plugin,
            catalog_xmin: slot.catalog_xmin,
            failover: slot.failover,
            has_state: slot.state.is_some(),
        };
        slots.insert(slot.name.clone(), fact);
        if let Some(state) = slot.state {
            states.insert(slot.name, state);
        }
    }
    LeaderAnswer { facts: LeaderSlots { asked_at, leader, slots }, states }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn work_that_hangs_holds_nobody_up_and_is_not_begun_twice() {
        let (events, mut heard) = mpsc::channel(4);
        let mut keeper = SlotKeeper::new(events);
        let (end, hanging) = oneshot::channel::<()>();
        let unusable = BTreeSet::from(["feed".to_owned()]);
        let told = unusable.clone();
        assert!(keeper.begin(async move {
            let _ = hanging.await;
            told
        }));
        tokio::task::yield_now().await;
        assert!(!keeper.begin(async { BTreeSet::new() }), "what was begun goes on");
        assert!(heard.try_recv().is_err());
        end.send(()).expect("it still hangs");
        assert!(
            matches!(heard.recv().await, Some(Event::SlotsMoved { unusable: found }) if found == unusable)
        );
        while !keeper.begin(async { BTreeSet::new() }) {
            tokio::task::yield_now().await;
        }
    }
}
