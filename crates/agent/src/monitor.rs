//! The task that owns the one persistent connection to the local PostgreSQL.
//!
//! A hanging server keeps this task waiting, never the loop: the loop asks with a limit of its own and goes on with what it
//! knew. Calls are served one after the other.

use std::{sync::Arc, time::Duration};

use bellwether_postgres::{
    checkpointer,
    config::ConfigPlan,
    detach::{self, DetachError},
    monitor::{Monitor, MonitorError},
    observation::Observation,
    postmaster::{Postmaster, PostmasterId},
    server::Server,
    settings::PgSettings,
};
use bellwether_types::{Lsn, Timestamp, WalPosition};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::clock;

/// For the last look of a detachment that has reached its limit.
const DETACH_GRACE: Duration = Duration::from_millis(200);

/// A small SQL errand on the local server.
#[derive(Clone, Debug)]
pub(crate) enum Errand {
    GenerateWal,
    CreateSlot(String),
    DropSlot(String),
    AdvanceSlot(String, Lsn),
    ResumeReplay,
}

/// An answer, with the instant at which the server was asked.
type Answer = Result<(Timestamp, Observation), MonitorError>;

enum Call {
    Observe(PostmasterId, oneshot::Sender<Answer>),
    Run(PostmasterId, Errand, oneshot::Sender<Result<bool, MonitorError>>),
    ReadConfiguration(PostmasterId, oneshot::Sender<Result<bool, MonitorError>>),
    Detach(Box<Detachment>),
    Checksums(PostmasterId, oneshot::Sender<Result<u64, MonitorError>>),
    Settings(Arc<PgSettings>),
    Disconnect,
}

/// A standby that is to leave its upstream; see [`detach::detach`].
struct Detachment {
    server: Server,
    postmaster: Postmaster,
    plan: ConfigPlan,
    limit: Duration,
    done: oneshot::Sender<Result<WalPosition, DetachError>>,
}

/// Why a standby was not shown to have left its upstream.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotDetached {
    #[error("the local server has not answered within {} ms", .0.as_millis())]
    Pending(Duration),
    #[error(transparent)]
    Failed(#[from] DetachError),
}

/// Why the loop did not get an answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    #[error("the local server has not answered yet")]
    Pending,
    #[error(transparent)]
    Failed(#[from] MonitorError),
}

/// Talks to the task.
#[derive(Debug)]
pub(crate) struct MonitorHandle {
    calls: mpsc::Sender<Call>,
    /// A question whose answer nobody has taken yet.
    waiting: Option<(PostmasterId, oneshot::Receiver<Answer>)>,
}

impl MonitorHandle {
    /// Starts the task; it ends with `stop`.
    pub(crate) fn spawn(
        settings: Arc<PgSettings>,
        stop: CancellationToken,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        // The loop waits for its answers, so few calls are ever queued; a full queue means a hanging server.
        let (calls, received) = mpsc::channel(8);
        let task = tokio::spawn(serve(Monitor::new(settings), received, stop));
        (Self { calls, waiting: None }, task)
    }

    /// One look at the server that `postmaster` is, or `Pending` after `limit`. An answer that came too late for the last call is
    /// taken by this one, with the time that it belongs to: a slow server is not a silent one.
    pub(crate) async fn observe(
        &mut self,
        postmaster: &PostmasterId,
        limit: Duration,
    ) -> Result<(Timestamp, Observation), NoAnswer> {
        let give_up_at = tokio::time::Instant::now() + limit;
        let mut late = None;
        if let Some((of, mut answered)) = self.waiting.take().filter(|(of, _)| of == postmaster) {
            match tokio::time::timeout_at(give_up_at, &mut answered).await {
                Ok(Ok(answer)) => late = Some(answer),
                Ok(Err(_)) => {}
                Err(_) => {
                    self.waiting = Some((of, answered));
                    return Err(NoAnswer::Pending);
                }
            }
        }
        let (answer, mut answered) = oneshot::channel();
        let or_late = |late: Option<Answer>| late.map_or(Err(NoAnswer::Pending), |late| Ok(late?));
        if self.calls.try_send(Call::Observe(postmaster.clone(), answer)).is_err() {
            return or_late(late);
        }
        match tokio::time::timeout_at(give_up_at, &mut answered).await {
            Ok(Ok(answer)) => Ok(answer?),
            Ok(Err(_)) => or_late(late),
            Err(_) => {
                self.waiting = Some((postmaster.clone(), answered));
                or_late(late)
            }
        }
    }

    /// The server was asked and has not answered yet.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// `false`: there was nothing to do.
    pub(crate) async fn run(
        &self,
        postmaster: &PostmasterId,
        errand: Errand,
        limit: Duration,
    ) -> Result<bool, NoAnswer> {
        let (answer, answered) = oneshot::channel();
        self.calls.try_send(Call::Run(postmaster.clone(), errand, answer)).map_err(|_| NoAnswer::Pending)?;
        match tokio::time::timeout(limit, answered).await {
            Ok(Ok(result)) => Ok(result?),
            _ => Err(NoAnswer::Pending),
        }
    }

    /// See [`checkpointer::read_configuration`].
    pub(crate) async fn read_configuration(
        &self,
        postmaster: &PostmasterId,
        limit: Duration,
    ) -> Result<bool, NoAnswer> {
        let (answer, answered) = oneshot::channel();
        let call = Call::ReadConfiguration(postmaster.clone(), answer);
        self.calls.try_send(call).map_err(|_| NoAnswer::Pending)?;
        match tokio::time::timeout(limit, answered).await {
            Ok(Ok(result)) => Ok(result?),
            _ => Err(NoAnswer::Pending),
        }
    }

    /// See [`detach::detach`]. After an error the files may name nobody all the same.
    pub(crate) async fn detach(
        &self,
        server: Server,
        postmaster: Postmaster,
        plan: ConfigPlan,
        limit: Duration,
    ) -> Result<WalPosition, NotDetached> {
        let (done, answered) = oneshot::channel();
        let call = Call::Detach(Box::new(Detachment { server, postmaster, plan, limit, done }));
        self.calls.try_send(call).map_err(|_| NotDetached::Pending(Duration::ZERO))?;
        match tokio::time::timeout(limit + DETACH_GRACE, answered).await {
            Ok(Ok(end)) => Ok(end?),
            _ => Err(NotDetached::Pending(limit)),
        }
    }

    /// How many pages with a wrong checksum the server has read.
    pub(crate) async fn checksum_failures(
        &self,
        postmaster: &PostmasterId,
        limit: Duration,
    ) -> Result<u64, NoAnswer> {
        let (answer, answered) = oneshot::channel();
        let call = Call::Checksums(postmaster.clone(), answer);
        self.calls.try_send(call).map_err(|_| NoAnswer::Pending)?;
        match tokio::time::timeout(limit, answered).await {
            Ok(Ok(result)) => Ok(result?),
            _ => Err(NoAnswer::Pending),
        }
    }

    pub(crate) async fn set_settings(&self, settings: Arc<PgSettings>) {
        let _ = self.calls.send(Call::Settings(settings)).await;
    }

    /// Closes the connection; a hanging server must not keep a new one from being made.
    pub(crate) fn disconnect(&self) {
        let _ = self.calls.try_send(Call::Disconnect);
    }
}

async fn serve(mut monitor: Monitor, mut calls: mpsc::Receiver<Call>, stop: CancellationToken) {
    loop {
        let call = tokio::select! {
            () = stop.cancelled() => return,
            call = calls.recv() => call,
        };
        match call {
            None => return,
            Some(Call::Settings(settings)) => monitor.set_settings(settings),
            Some(Call::Disconnect) => monitor.disconnect(),
            // Nobody waits any more for an answer that came too late.
            Some(Call::Observe(postmaster, answer)) => {
                if !answer.is_closed() {
                    let asked_at = clock::now();
                    let observed = monitor.observe(&postmaster).await;
                    let _ = answer.send(observed.map(|observation| (asked_at, observation)));
                }
            }
            Some(Call::ReadConfiguration(postmaster, answer)) => {
                if !answer.is_closed() {
                    let _ = answer.send(checkpointer::read_configuration(&mut monitor, &postmaster).await);
                }
            }
            // Not begun for nobody: it takes the upstream out of the files.
            Some(Call::Detach(wish)) if wish.done.is_closed() => {}
            Some(Call::Detach(wish)) => {
                let Detachment { server, postmaster, plan, limit, mut done } = *wish;
                tokio::select! {
                    // Given up: the files must not be changed behind the back of whoever goes on without it.
                    () = done.closed() => {}
                    end = detach::detach(&server, &mut monitor, &postmaster, &plan, limit) => drop(done.send(end)),
                }
            }
            Some(Call::Checksums(postmaster, answer)) => {
                if !answer.is_closed() {
                    let _ = answer.send(monitor.checksum_failures(&postmaster).await);
                }
            }
            Some(Call::Run(postmaster, errand, answer)) => {
                let _ = answer.send(run(&mut monitor, &postmaster, errand).await);
            }
        }
    }
}

async fn run(monitor: &mut Monitor, on: &PostmasterId, errand: Errand) -> Result<bool, MonitorError> {
    match errand {
        Errand::GenerateWal => monitor.generate_wal(on).await?,
        Errand::CreateSlot(name) => monitor.create_physical_slot(on, &name).await?,
        Errand::DropSlot(name) => return monitor.drop_slot(on, &name).await,
        Errand::AdvanceSlot(name, to) => monitor.advance_slot(on, &name, to).await?,
        Errand::ResumeReplay => monitor.resume_replay(on).await?,
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn an_answer_that_comes_late_is_taken_and_not_asked_for_again() {
        let (calls, mut received) = mpsc::channel(8);
        let mut handle = MonitorHandle { calls, waiting: None };
        let of = PostmasterId { pid: 1, start_ticks: 1, data_dir: "/data".into() };

        let too_soon = handle.observe(&of, Duration::from_millis(5)).await;
        assert!(matches!(too_soon, Err(NoAnswer::Pending)) && handle.is_waiting());
        let again = handle.observe(&of, Duration::from_millis(5)).await;
        assert!(matches!(again, Err(NoAnswer::Pending)));
        let Some(Call::Observe(_, answer)) = received.recv().await else { panic!("it was asked") };
        assert!(received.try_recv().is_err(), "once");

        answer.send(Err(MonitorError::Timeout { limit: LONG })).expect("it is still waited for");
        // What was late is taken, and a new question is on its way.
        let late = handle.observe(&of, Duration::from_millis(5)).await;
        assert!(matches!(late, Err(NoAnswer::Failed(MonitorError::Timeout { limit: LONG }))), "{late:?}");
        assert!(handle.is_waiting() && received.try_recv().is_ok());

        let next = PostmasterId { pid: 2, ..of };
        let other = handle.observe(&next, Duration::from_millis(5)).await;
        assert!(matches!(other, Err(NoAnswer::Pending)), "the answer of another server is no answer");
    }
}
