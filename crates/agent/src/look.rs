//! Looks at PostgreSQL that somebody outside the loop waits for: a member in a race wants to know where we are now, not where we were
//! at our last tick.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bellwether_types::Timestamp;
use tokio::sync::{mpsc, watch};

use crate::{clock, event::Event};

/// How long a caller waits. A PostgreSQL that hangs must not keep the answer, which has to be out within 100 ms.
const PATIENCE: Duration = Duration::from_millis(75);
/// No more looks than one in this time, however many ask: each is a query and a decision.
const SPACING: Duration = Duration::from_millis(5);

/// Asks the loop to look. Callers that come before it has begun share one look.
#[derive(Clone, Debug)]
pub(crate) struct Looks {
    wanted: Arc<AtomicBool>,
    events: mpsc::Sender<Event>,
}

impl Looks {
    pub(crate) fn new(events: mpsc::Sender<Event>) -> Self {
        Self { wanted: Arc::default(), events }
    }

    /// The loop has heard of the wish and is about to look.
    pub(crate) fn taken(&self) {
        self.wanted.store(false, Ordering::SeqCst);
    }

    /// A status whose server was asked at `since` or later, if there is one in time; else the last one.
    /// `asked_at`: when the server was asked, if it is up and answers; otherwise there is nothing to wait for.
    pub(crate) async fn since<S>(
        &self,
        since: Timestamp,
        mut status: watch::Receiver<Arc<S>>,
        asked_at: fn(&S) -> Option<Timestamp>,
    ) -> Arc<S> {
        let is_new = |status: &Arc<S>| asked_at(status).is_none_or(|at| at >= since);
        let seen = asked_at(&status.borrow());
        let looked = async {
            if let Some(seen) = seen {
                tokio::time::sleep(clock::now().until(seen + SPACING)).await;
            }
            if !is_new(&status.borrow()) {
                self.want();
            }
            status.wait_for(is_new).await.is_ok()
        };
        let _ = tokio::time::timeout(PATIENCE, looked).await;
        status.borrow().clone()
    }

    fn want(&self) {
        // A full queue means a loop that is busy; the next caller tries again.
        if !self.wanted.swap(true, Ordering::SeqCst) && self.events.try_send(Event::Look).is_err() {
            self.taken();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Loop {
        looks: Looks,
        events: mpsc::Receiver<Event>,
        status: watch::Sender<Arc<Option<Timestamp>>>,
    }

    fn looked_at(asked_at: Option<Timestamp>) -> Loop {
        let (sender, events) = mpsc::channel(4);
        Loop { looks: Looks::new(sender), events, status: watch::channel(Arc::new(asked_at)).0 }
    }

    #[tokio::test]
    async fn callers_share_a_look_and_get_what_was_asked_after_they_came() {
        let mut agent = looked_at(Some(clock::now().saturating_sub(Duration::from_secs(8))));
        let came = clock::now();
        let callers: Vec<_> = (0..5)
            .map(|_| {
                let (looks, status) = (agent.looks.clone(), agent.status.subscribe());
                tokio::spawn(async move { looks.since(came, status, |at| *at).await })
            })
            .collect();
        assert!(matches!(agent.events.recv().await, Some(Event::Look)));
        tokio::task::yield_now().await;
        assert!(agent.events.try_recv().is_err(), "one look for all");
        agent.looks.taken();
        let now = clock::now();
        // Another tick may publish before the look.
        agent.status.send_replace(Arc::new(Some(came.saturating_sub(Duration::from_millis(1)))));
        agent.status.send_replace(Arc::new(Some(now)));
        for caller in callers {
            assert_eq!(*caller.await.unwrap(), Some(now));
        }
    }

    #[tokio::test]
    async fn a_server_that_hangs_does_not_keep_the_answer() {
        let seen = clock::now().saturating_sub(Duration::from_secs(1));
        let mut agent = looked_at(Some(seen));
        let began = clock::now();
        let answer = agent.looks.since(began, agent.status.subscribe(), |at| *at).await;
        assert_eq!(*answer, Some(seen));
        assert!(clock::now().since(began) >= PATIENCE, "it was waited for");
        assert!(matches!(agent.events.try_recv(), Ok(Event::Look)));
        // The loop has not taken the wish yet, and so needs no second one.
        agent.looks.since(clock::now(), agent.status.subscribe(), |at| *at).await;
        assert!(agent.events.try_recv().is_err());
    }

    #[tokio::test]
    async fn nobody_waits_for_a_server_that_is_down() {
        let mut agent = looked_at(None);
        let answer = agent.looks.since(clock::now(), agent.status.subscribe(), |at| *at).await;
        assert_eq!(*answer, None);
        assert!(agent.events.try_recv().is_err());
    }
}
