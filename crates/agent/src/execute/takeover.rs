//! Actions of a quorum take-over on the local server and its promise.

use std::time::Duration;

use bellwether_ha::view::TakeoverView;
use bellwether_types::{MemberName, Revision, takeover::Promise};
use tracing::{error, info, warn};

use super::Effect;
use crate::{agent::Agent, clock, work};

/// For all of a detachment. It takes some 30 ms; a server that needs longer promises nothing now, and is asked again.
const DETACHED_WITHIN: Duration = Duration::from_millis(500);

impl Agent {
    pub(crate) fn takeover_view(&self) -> TakeoverView {
        TakeoverView { hearing: self.ear.hearing().cloned(), promise: self.promise.present() }
    }

    /// Whether this member promised to receive nothing, in which case `what` is refused.
    pub(super) fn refuses(&self, what: &'static str) -> bool {
        self.promise.settle();
        let is_bound = self.promise.is_bound();
        if is_bound {
            warn!(
                what,
                "not done: this member has promised to receive nothing while a take-over is under way"
            );
        }
        is_bound
    }

    pub(super) async fn detach_and_promise(
        &mut self,
        revision: Revision,
        epoch: u64,
        leader: MemberName,
    ) -> Effect {
        if let Some(kept) = self.promise.present() {
            return Effect::of_kept(kept.promise.revision == revision);
        }
        let Some(postmaster) = self.local.postmaster.clone().filter(|_| self.jobs.kind().is_none()) else {
            return Effect::Failed;
        };
        let began = clock::now();
        self.clock.suspected(began);
        // From here on the files may name nobody: whoever is to be followed next is written anew.
        self.local.upstream = None;
        let plan = self.standby_plan(None);
        let position = match self.monitor.detach(self.server.clone(), postmaster, plan, DETACHED_WITHIN).await
        {
            Ok(position) => position,
            Err(error) => {
                warn!(error = work::chain(&error), "not shown to be detached: nothing is promised");
                return Effect::Failed;
            }
        };
        let detached_after = clock::now().since(began);
        let promise = Promise { revision, epoch, leader: leader.clone(), position };
        let (book, failsafe) = (self.promise.clone(), self.failsafe.clone());
        let kept = tokio::task::spawn_blocking(move || book.keep_unless_accepted(promise, &failsafe)).await;
        match kept.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            Ok(true) => {}
            Ok(false) => {
                warn!("the leader was promised in the meantime that it may go on: nothing else is promised");
                return Effect::Failed;
            }
            Err(error) => {
                error!(%error, "the promise could not be written: nothing is promised");
                return Effect::Failed;
            }
        }
        let took = clock::now().since(began);
        info!(
            epoch,
            %leader,
            timeline = position.timeline.0,
            lsn = %position.lsn,
            detach_ms = detached_after.as_millis(),
            took_ms = took.as_millis(),
            "detached, and promised to receive nothing from the leader any more"
        );
        self.journal.record(
            "promise",
            serde_json::json!({
                "epoch": epoch, "revision": revision, "leader": leader, "position": position,
                "detach_ms": u64::try_from(detached_after.as_millis()).unwrap_or(u64::MAX),
                "took_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            }),
        );
        Effect::Changed
    }

    pub(super) async fn forget_promise(&mut self, revision: Revision) -> Effect {
        let book = self.promise.clone();
        let forgotten = tokio::task::spawn_blocking(move || book.forget(revision)).await;
        match forgotten.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            Ok(forgotten) => {
                if forgotten {
                    info!("the take-over is over: its promise is forgotten");
                    self.journal.record("promise_forgotten", serde_json::json!({"revision": revision}));
                }
                Effect::of_change(forgotten)
            }
            Err(error) => {
                error!(%error, "the file of the promise could not be removed: this member stays detached");
                Effect::Failed
            }
        }
    }
}

impl Effect {
    /// A promise for this epoch is as good as a new one; one for another epoch is in the way.
    fn of_kept(is_for_this: bool) -> Self {
        if is_for_this { Self::Nothing } else { Self::Failed }
    }
}
