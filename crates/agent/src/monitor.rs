//! The task that owns the one persistent connection to the local PostgreSQL.
//!
//! A hanging server keeps this task waiting, never the loop: the loop asks with a limit of its own and goes on with what it
//! knew. Calls are served one after the other.

use std::{sync::Arc, time::Duration};

use bellwether_postgres::{
    checkpointer,
    monitor::{Monitor, MonitorError},
    observation::Observation,
    postmaster::PostmasterId,
    settings::PgSettings,
};
use bellwether_types::Lsn;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// A small SQL errand on the local server.
#[derive(Clone, Debug)]
pub(crate) enum Errand {
    GenerateWal,
    CreateSlot(String),
    DropSlot(String),
    AdvanceSlot(String, Lsn),
    ResumeReplay,
}

enum Call {
    Observe(PostmasterId, oneshot::Sender<Result<Observation, MonitorError>>),
    Run(PostmasterId, Errand, oneshot::Sender<Result<(), MonitorError>>),
    ReadConfiguration(PostmasterId, oneshot::Sender<Result<bool, MonitorError>>),
    Settings(Arc<PgSettings>),
    Disconnect,
}

/// Why the loop did not get an answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    #[error("the local server has not answered yet")]
    Pending,
    #[error(transparent)]
    Failed(#[from] MonitorError),
}

/// Talks to the task. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct MonitorHandle {
    calls: mpsc::Sender<Call>,
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
        (Self { calls }, task)
    }

    /// One look at the server that `postmaster` is, or `Pending` after `limit`.
    pub(crate) async fn observe(
        &self,
        postmaster: &PostmasterId,
        limit: Duration,
    ) -> Result<Observation, NoAnswer> {
        let (answer, answered) = oneshot::channel();
        self.calls.try_send(Call::Observe(postmaster.clone(), answer)).map_err(|_| NoAnswer::Pending)?;
        match tokio::time::timeout(limit, answered).await {
            Ok(Ok(result)) => Ok(result?),
            _ => Err(NoAnswer::Pending),
        }
    }

    pub(crate) async fn run(
        &self,
        postmaster: &PostmasterId,
        errand: Errand,
        limit: Duration,
    ) -> Result<(), NoAnswer> {
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
                    let _ = answer.send(monitor.observe(&postmaster).await);
                }
            }
            Some(Call::ReadConfiguration(postmaster, answer)) => {
                if !answer.is_closed() {
                    let _ = answer.send(checkpointer::read_configuration(&mut monitor, &postmaster).await);
                }
            }
            Some(Call::Run(postmaster, errand, answer)) => {
                let _ = answer.send(run(&mut monitor, &postmaster, errand).await);
            }
        }
    }
}

async fn run(monitor: &mut Monitor, on: &PostmasterId, errand: Errand) -> Result<(), MonitorError> {
    match errand {
        Errand::GenerateWal => monitor.generate_wal(on).await,
        Errand::CreateSlot(name) => monitor.create_physical_slot(on, &name).await,
        Errand::DropSlot(name) => monitor.drop_slot(on, &name).await.map(|_| ()),
        Errand::AdvanceSlot(name, to) => monitor.advance_slot(on, &name, to).await,
        Errand::ResumeReplay => monitor.resume_replay(on).await,
    }
}
