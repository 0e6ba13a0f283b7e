//! Long work beside the loop: one job at a time, cancellable, seen by decisions through [`Jobs::view`].

use std::{future::Future, time::Duration};

use bellwether_ha::view::{Divergence, FinishedJob, Job, JobKind, JobOutcome, JobPhase};
use bellwether_postgres::postmaster::Postmaster;
use bellwether_types::Timestamp;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{clock, event::Event};

/// How long a job that was cancelled may take to clean up before the next one starts beside it.
const CLEANUP: Duration = Duration::from_secs(12);

/// What a job tells the loop.
#[derive(Debug)]
pub(crate) enum JobNews {
    Phase(JobPhase),
    /// It started a postmaster.
    Started(Postmaster),
    /// It compared histories.
    Compared(Divergence),
    Ended(JobOutcome),
}

/// What a job gets: the way to tell news, and the token that asks it to stop.
#[derive(Clone, Debug)]
pub(crate) struct JobContext {
    id: u64,
    events: mpsc::Sender<Event>,
    pub(crate) cancel: CancellationToken,
}

impl JobContext {
    pub(crate) async fn tell(&self, news: JobNews) {
        let _ = self.events.send(Event::Job { id: self.id, news }).await;
    }
}

#[derive(Debug)]
struct Running {
    id: u64,
    kind: JobKind,
    since: Timestamp,
    phase: JobPhase,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

/// The job that runs, and how the last one ended.
#[derive(Debug)]
pub(crate) struct Jobs {
    events: mpsc::Sender<Event>,
    next_id: u64,
    running: Option<Running>,
    last: Option<FinishedJob>,
}

impl Jobs {
    pub(crate) fn new(events: mpsc::Sender<Event>) -> Self {
        Self { events, next_id: 1, running: None, last: None }
    }

    pub(crate) fn view(&self) -> Option<Job> {
        self.running.as_ref().map(|job| Job {
            kind: job.kind.clone(),
            since: job.since,
            phase: job.phase.clone(),
        })
    }

    pub(crate) fn last(&self) -> Option<FinishedJob> {
        self.last.clone()
    }

    pub(crate) fn kind(&self) -> Option<&JobKind> {
        self.running.as_ref().map(|job| &job.kind)
    }

    /// Starts `work`. A job that still runs is cancelled, and `work` begins when it has cleaned up.
    pub(crate) fn start<F, W>(&mut self, kind: JobKind, work: W)
    where
        W: FnOnce(JobContext) -> F + Send + 'static,
        F: Future<Output = JobOutcome> + Send,
    {
        let before = self.running.take().inspect(|job| job.cancel.cancel());
        let context =
            JobContext { id: self.next_id, events: self.events.clone(), cancel: CancellationToken::new() };
        self.next_id += 1;
        let (id, cancel) = (context.id, context.cancel.clone());
        let task = tokio::spawn(async move {
            if let Some(before) = before {
                let _ = tokio::time::timeout(CLEANUP, before.task).await;
            }
            let outcome = work(context.clone()).await;
            context.tell(JobNews::Ended(outcome)).await;
        });
        self.running =
            Some(Running { id, kind, since: clock::now(), phase: JobPhase::Working, cancel, task });
    }

    pub(crate) fn cancel(&mut self, kind: &JobKind) -> bool {
        match &self.running {
            Some(job) if job.kind == *kind => {
                job.cancel.cancel();
                true
            }
            _ => false,
        }
    }

    /// Takes over news of the present job and says what kind of job it is; news of a superseded one is `None`.
    pub(crate) fn hear(&mut self, id: u64, news: &JobNews) -> Option<JobKind> {
        let job = self.running.as_mut().filter(|job| job.id == id)?;
        let kind = job.kind.clone();
        match news {
            JobNews::Phase(phase) => job.phase = phase.clone(),
            JobNews::Started(_) | JobNews::Compared(_) => {}
            JobNews::Ended(outcome) => {
                self.last = Some(FinishedJob {
                    kind: kind.clone(),
                    ended_at: clock::now(),
                    outcome: outcome.clone(),
                });
                self.running = None;
            }
        }
        Some(kind)
    }
}
