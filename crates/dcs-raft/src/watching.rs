//! Watches on the state of the local node.
//!
//! Changes are told as soon as they are applied here: they are committed, so they are true wherever this node stands.
//! That nothing else happened is told only after the store leader confirmed it; a watch on a node that is cut off
//! therefore falls silent instead of pretending.

use std::{sync::Arc, time::Duration};

use bellwether_dcs::{Deadline, Key, Watch, WatchEvent};
use bellwether_types::{Revision, Timestamp};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use crate::{
    clock::{budget, is_over},
    net::message::{Answer, Ask},
    node::Node,
    router::Unanswered,
    state::{Change, Past},
};

/// Events a watcher may be behind.
const QUEUE: usize = 256;
/// A watch without changes is confirmed so often; it must tell that it is alive each second.
const CONFIRM_EVERY: Duration = Duration::from_millis(600);
const CONFIRM_LIMIT: Duration = Duration::from_millis(350);

/// The sending half of a watch.
pub(crate) struct Watcher {
    events: mpsc::Sender<WatchEvent>,
    /// Everything up to this revision was told.
    pub(crate) told: u64,
}

/// The watch is over: its reader went away or has been told so.
pub(crate) struct Over;

impl Watcher {
    pub(crate) fn new(after: Revision) -> (Self, Watch) {
        let (events, receiver) = mpsc::channel(QUEUE);
        (Self { events, told: after.0 }, Watch { events: receiver })
    }

    pub(crate) async fn tell(&mut self, changes: Vec<Change>) -> Result<(), Over> {
        for change in changes {
            self.told = change.revision;
            let event = WatchEvent::Changed {
                revision: Revision(change.revision),
                changes: change
                    .keys
                    .iter()
                    .map(|(key, stored)| (Key::new(key.clone()), stored.as_ref().map(Into::into)))
                    .collect(),
            };
            self.send(event).await?;
        }
        Ok(())
    }

    pub(crate) async fn tell_alive(&mut self) -> Result<(), Over> {
        self.send(WatchEvent::Alive { revision: Revision(self.told), since: Timestamp::ZERO }).await
    }

    /// Ends the watch, as soon as the reader makes room to hear it.
    pub(crate) async fn lose(&mut self) -> Over {
        let _ = self.events.send(WatchEvent::Lost).await;
        Over
    }

    pub(crate) async fn reader_gone(&self) {
        self.events.closed().await;
    }

    async fn send(&mut self, event: WatchEvent) -> Result<(), Over> {
        match self.events.try_send(event) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Over),
            Err(mpsc::error::TrySendError::Full(_)) => Err(self.lose().await),
        }
    }
}

/// Tells a watcher what the local node applies, until the reader goes or cannot follow.
pub(crate) async fn watch_here(node: Arc<Node>, mut watcher: Watcher) {
    let mut progress = node.machine.progress();
    let mut confirm_at = Instant::now();
    loop {
        progress.borrow_and_update();
        if tell_past(&node, &mut watcher).await.is_err() {
            return;
        }
        tokio::select! {
            () = watcher.reader_gone() => return,
            changed = progress.changed() => if changed.is_err() { return },
            () = sleep_until(confirm_at) => {
                confirm_at = Instant::now() + CONFIRM_EVERY;
                let confirmed = node.read_here(Deadline::after(CONFIRM_LIMIT)).await.is_ok();
                if !confirmed {
                    continue;
                }
                if node.machine.read(|state| state.revision()) < watcher.told {
                    // It comes from another store, or from the future.
                    let Over = watcher.lose().await;
                    return;
                }
                if tell_past(&node, &mut watcher).await.is_err() || watcher.tell_alive().await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn tell_past(node: &Node, watcher: &mut Watcher) -> Result<(), Over> {
    let told = watcher.told;
    let (past, revision) = node.machine.read(|state| (state.past(told), state.revision()));
    match past {
        Past::Known(changes) => watcher.tell(changes).await,
        // Perhaps the watcher comes from a node that was ahead, and this one will reach its revision.
        Past::Forgotten if told > revision => Ok(()),
        Past::Forgotten => Err(watcher.lose().await),
    }
}

impl Node {
    /// Makes a read of the local state linearizable: everything committed before this call is applied here on return.
    pub(crate) async fn read_here(&self, by: Deadline) -> Result<(), Answer> {
        let mut last = Answer::Unavailable("nobody leads the store".to_owned());
        while !is_over(by) {
            let next = match self.confirm(by).await {
                Ok(_) => return Ok(()),
                Err(Answer::NotLeader { leader: Some(leader) }) => {
                    match self.router.once(Some(self), &leader, &Ask::ReadIndex, by).await {
                        Ok(Answer::ReadIndex { next }) => Some(next),
                        Ok(other) => {
                            last = other;
                            None
                        }
                        Err(Unanswered::WithoutEffect(error) | Unanswered::Unknown(error)) => {
                            last = Answer::Unavailable(error.to_string());
                            None
                        }
                    }
                }
                Err(answer) => {
                    last = answer;
                    None
                }
            };
            match next {
                Some(next) if self.wait_applied(next, by).await => return Ok(()),
                Some(_) => return Err(Answer::Unavailable("this node is behind".to_owned())),
                None => self.leader_changes(budget(by).min(Duration::from_millis(20))).await,
            }
        }
        Err(last)
    }
}
