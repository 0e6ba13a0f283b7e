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
    /// It made the first data directory, and starts it.
    Created,
    /// It started a postmaster.
    Started(Postmaster),
    /// It compared histories.
    Compared(Divergence),
    /// From now on the data files are a mixture until it has succeeded.
    Changing,
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

/// The job that was superseded, if one was: cancelled, and perhaps not at its end yet.
#[derive(Debug)]
pub(crate) struct Predecessor(Option<JoinHandle<()>>);

impl Predecessor {
    /// Waits until it can do nothing any more, but not for ever.
    pub(crate) async fn ended(self) {
        if let Some(task) = self.0 {
            let _ = tokio::time::timeout(CLEANUP, task).await;
        }
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
        self.take_over(kind, move |job, before| async move {
            before.ended().await;
            work(job).await
        });
    }

    /// Starts `work` at once, beside a job that still runs and is cancelled: `work` waits for the end of that one itself.
    pub(crate) fn take_over<F, W>(&mut self, kind: JobKind, work: W)
    where
        W: FnOnce(JobContext, Predecessor) -> F + Send + 'static,
        F: Future<Output = JobOutcome> + Send,
    {
        let before = self.running.take().inspect(|job| job.cancel.cancel());
        let context =
            JobContext { id: self.next_id, events: self.events.clone(), cancel: CancellationToken::new() };
        self.next_id += 1;
        let (id, cancel) = (context.id, context.cancel.clone());
        let task = tokio::spawn(async move {
            let outcome = work(context.clone(), Predecessor(before.map(|job| job.task))).await;
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
            JobNews::Created | JobNews::Started(_) | JobNews::Compared(_) | JobNews::Changing => {}
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

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    async fn next_end(events: &mut mpsc::Receiver<Event>) -> (u64, JobOutcome) {
        let heard = async {
            loop {
                if let Some(Event::Job { id, news: JobNews::Ended(outcome) }) = events.recv().await {
                    return (id, outcome);
                }
            }
        };
        tokio::time::timeout(LONG, heard).await.expect("the job ends")
    }

    #[tokio::test]
    async fn a_take_over_begins_although_the_job_before_cleans_up_at_length() {
        let (events, mut heard) = mpsc::channel(8);
        let mut jobs = Jobs::new(events);
        let cleaned_up = CancellationToken::new();
        let clean = cleaned_up.clone();
        jobs.start(JobKind::Restart, move |job| async move {
            job.cancel.cancelled().await;
            clean.cancelled().await;
            JobOutcome::Cancelled
        });
        let began = CancellationToken::new();
        let begun = began.clone();
        jobs.take_over(JobKind::Demote, move |_, before| async move {
            begun.cancel();
            before.ended().await;
            JobOutcome::Succeeded
        });
        tokio::time::timeout(LONG, began.cancelled()).await.expect("it does not wait for the restart");
        assert!(heard.try_recv().is_err(), "but its end does");
        cleaned_up.cancel();
        assert_eq!(next_end(&mut heard).await, (1, JobOutcome::Cancelled));
        assert_eq!(next_end(&mut heard).await, (2, JobOutcome::Succeeded));
    }
}
