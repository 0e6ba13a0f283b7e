//! Stopping the local server: politely, and on a clock.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    control::{ClusterState, ShutdownCheckpoint},
    monitor,
    postmaster::{Postmaster, StopMode},
    program::{blocking, run},
    server::{Server, ServerError},
};

/// How to stop, and how long to be patient. All times count from the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopRequest {
    pub mode: StopMode,
    /// A CHECKPOINT before the stop, so that the stop itself is short.
    pub checkpoint: bool,
    /// Run the `before_stop` hook.
    pub hook: bool,
    /// Wait for the transactions that are in flight when all else is prepared, at most so long. Clients that are sent elsewhere begin no
    /// new ones; those of others are not waited for.
    pub drain: Option<Duration>,
    /// Turn to an immediate stop after this time; `None` = never.
    pub immediate_after: Option<Duration>,
    /// Kill the whole process tree after this time; `None` = never.
    pub kill_after: Option<Duration>,
}

impl StopRequest {
    /// A plain stop without hook, checkpoint or clock.
    pub fn plain(mode: StopMode) -> Self {
        Self { mode, checkpoint: false, hook: false, drain: None, immediate_after: None, kill_after: None }
    }
}

/// How far a stop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopStage {
    Preparing,
    Signalled,
    /// No client backend is left: nothing can be committed any more.
    BackendsGone,
    /// The control file says `shut down`; the postmaster may still be archiving or sending WAL. Not every stop passes through
    /// here: the postmaster may be gone sooner.
    ShutDown(ShutdownCheckpoint),
    /// What is left was killed and runs no code any more, but has not left the kernel: a disk hangs. Nothing can be committed, and
    /// nothing is acknowledged any more.
    Harmless,
    Gone,
}

/// How a stop ended. In every case no process of the server is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopEnd {
    /// As asked.
    AsAsked,
    /// After turning to an immediate stop.
    Immediate,
    /// Killed: crash recovery has the rest to do.
    Killed,
}

/// How long a killed process may be able to act.
const KILL_LIMIT: Duration = Duration::from_secs(10);
/// A stop that has no more time than this is not worth waking a stopped server for.
const HURRY: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(20);
/// How soon a deadline that passed during a suspension is noticed.
const LONGEST_NAP: Duration = Duration::from_millis(100);

impl Server {
    /// Stops the server and returns when no process of it is left; `stage` tells how far it is.
    ///
    /// Dropping the future leaves the signal sent and ends the escalation: give it a task of its own.
    pub async fn stop(
        &self,
        postmaster: &Postmaster,
        request: &StopRequest,
        stage: &watch::Sender<StopStage>,
    ) -> Result<StopEnd, ServerError> {
        self.stop_after(postmaster, request, stage, std::future::ready(())).await
    }

    /// The same after `last_word`, which comes when everything else is prepared, so that the server is down soon after it.
    pub async fn stop_after<F>(
        &self,
        postmaster: &Postmaster,
        request: &StopRequest,
        stage: &watch::Sender<StopStage>,
        last_word: F,
    ) -> Result<StopEnd, ServerError>
    where
        F: Future<Output = ()> + Send,
    {
        stage.send_replace(StopStage::Preparing);
        let clock = Clock::start(request, boottime);
        let signalled =
            |result: std::io::Result<()>| result.map_err(ServerError::io("could not signal the postmaster"));
        if request.mode != StopMode::Immediate && request.immediate_after.is_none_or(|after| after > HURRY) {
            signalled(postmaster.wake().await)?;
        }
        self.prepare(postmaster, request, &clock, last_word).await;

        tracing::info!(pid = postmaster.id().pid, mode = ?request.mode, "stopping PostgreSQL");
        if request.mode == StopMode::Immediate && postmaster.is_stopped() {
            // It would not take the signal, and is not to be woken for it: it might fork, and acknowledge, once more.
            return self.kill(postmaster, stage, StopEnd::Killed).await;
        }
        signalled(postmaster.signal_stop(request.mode))?;
        stage.send_replace(StopStage::Signalled);

        let mut end = StopEnd::AsAsked;
        let mut watch = Watch { server: self, postmaster, stage, backends_gone: false, shut_down: false };
        loop {
            tokio::select! {
                biased;
                result = postmaster.exited() => {
                    result.map_err(ServerError::io("could not watch the postmaster"))?;
                    break;
                }
                () = clock.kill() => {
                    tracing::warn!(pid = postmaster.id().pid, "PostgreSQL did not stop in time, killing it");
                    end = StopEnd::Killed;
                    break;
                }
                () = clock.immediate(), if end == StopEnd::AsAsked => {
                    tracing::warn!(pid = postmaster.id().pid, "PostgreSQL did not stop in time, stopping it immediately");
                    end = StopEnd::Immediate;
                    signalled(postmaster.signal_stop(StopMode::Immediate))?;
                }
                () = watch.look() => {}
            }
        }
        self.kill(postmaster, stage, end).await
    }

    /// Ends whatever is left: a backend may outlive its postmaster, and could still acknowledge a commit.
    async fn kill(
        &self,
        postmaster: &Postmaster,
        stage: &watch::Sender<StopStage>,
        end: StopEnd,
    ) -> Result<StopEnd, ServerError> {
        postmaster.kill_until_harmless(KILL_LIMIT).await.map_err(ServerError::Unkillable)?;
        let looked_at = postmaster.clone();
        let is_left = blocking(move || looked_at.any_process_left()).await;
        if is_left.map_err(ServerError::Unkillable)? {
            stage.send_replace(StopStage::Harmless);
            self.wait_for_kernel(postmaster).await?;
        }
        stage.send_replace(StopStage::Gone);
        Ok(end)
    }

    /// The files belong to what was killed until it is gone.
    async fn wait_for_kernel(&self, postmaster: &Postmaster) -> Result<(), ServerError> {
        let gone = postmaster.gone();
        tokio::pin!(gone);
        let waited = match tokio::time::timeout(HURRY, &mut gone).await {
            Ok(gone) => gone,
            Err(_) => {
                tracing::warn!(
                    pid = postmaster.id().pid,
                    "processes of PostgreSQL were killed and do not end: the kernel keeps them, probably for a disk that hangs"
                );
                gone.await
            }
        };
        waited.map_err(ServerError::Unkillable)
    }

    /// Checkpoint, hook and the last word, as long as the clock allows; none can keep the server from being stopped.
    async fn prepare<F>(&self, postmaster: &Postmaster, request: &StopRequest, clock: &Clock, last_word: F)
    where
        F: Future<Output = ()> + Send,
    {
        let work = async {
            if request.checkpoint
                && let Err(error) = monitor::checkpoint(self.settings()).await
            {
                tracing::warn!(%error, "the checkpoint before the stop failed");
            }
            if request.hook
                && let Some(line) = &self.settings().before_stop
            {
                self.run_before_stop(line).await;
            }
            last_word.await;
            if let Some(limit) = request.drain {
                let drained = monitor::drain(self.settings());
                match tokio::time::timeout(limit, drained).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        tracing::warn!(%error, "transactions in flight could not be waited for")
                    }
                    Err(_) => tracing::info!("transactions in flight are ended: they take too long"),
                }
            }
        };
        tokio::select! {
            () = work => {}
            _ = postmaster.exited() => {}
            () = clock.immediate() => {}
            () = clock.kill() => {}
        }
    }

    /// Its exit code does not matter.
    async fn run_before_stop(&self, line: &str) {
        let finished = match self.settings().hook(line) {
            Ok(mut command) => {
                command.kill_on_drop(true);
                run(command, None, &CancellationToken::new()).await
            }
            Err(error) => Err(error),
        };
        match finished {
            Ok(finished) => {
                tracing::info!(status = %finished.status, output = finished.last_line(), "before_stop script ended");
            }
            Err(error) => tracing::warn!(%error, "before_stop script failed"),
        }
    }
}

/// Since boot, and while the machine is suspended: the lease that a stop must end before does not wait for a suspended machine.
fn boottime() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The two deadlines of a stop.
struct Clock {
    now: fn() -> Duration,
    immediate: Option<Duration>,
    kill: Option<Duration>,
}

impl Clock {
    fn start(request: &StopRequest, now: fn() -> Duration) -> Self {
        let begin = now();
        Self {
            now,
            immediate: request
                .immediate_after
                .filter(|_| request.mode != StopMode::Immediate)
                .map(|after| begin + after),
            kill: request.kill_after.map(|after| begin + after),
        }
    }

    async fn immediate(&self) {
        self.reached(self.immediate).await;
    }

    async fn kill(&self) {
        self.reached(self.kill).await;
    }

    async fn reached(&self, deadline: Option<Duration>) {
        let Some(deadline) = deadline else { return std::future::pending().await };
        loop {
            let left = deadline.saturating_sub((self.now)());
            if left.is_zero() {
                return;
            }
            // Timers stand still while the machine does, so none is trusted for long.
            tokio::time::sleep(left.min(LONGEST_NAP)).await;
        }
    }
}

/// Looks at a stopping server and tells the stages.
struct Watch<'a> {
    server: &'a Server,
    postmaster: &'a Postmaster,
    stage: &'a watch::Sender<StopStage>,
    backends_gone: bool,
    shut_down: bool,
}

impl Watch<'_> {
    async fn look(&mut self) {
        tokio::time::sleep(POLL).await;
        if !self.backends_gone {
            let postmaster = self.postmaster.clone();
            if matches!(blocking(move || postmaster.client_backends()).await, Ok(0)) {
                self.backends_gone = true;
                self.stage.send_replace(StopStage::BackendsGone);
            }
        }
        if !self.shut_down
            && self.server.peek().await.is_some_and(|peek| peek.state == ClusterState::ShutDown)
        {
            self.shut_down = true;
            match self.read_shutdown_checkpoint().await {
                Ok(checkpoint) => drop(self.stage.send_replace(StopStage::ShutDown(checkpoint))),
                Err(error) => tracing::warn!(%error, "the shutdown checkpoint could not be read"),
            }
        }
    }

    async fn read_shutdown_checkpoint(&self) -> Result<ShutdownCheckpoint, ServerError> {
        self.server.shutdown_checkpoint(&self.server.control_data().await?).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    static SECONDS: AtomicU64 = AtomicU64::new(100);

    fn told() -> Duration {
        Duration::from_secs(SECONDS.load(Ordering::SeqCst))
    }

    #[tokio::test]
    async fn a_suspended_machine_does_not_stop_the_clock_of_a_stop() {
        let hour = Duration::from_secs(3600);
        let request = StopRequest {
            immediate_after: Some(hour),
            kill_after: Some(2 * hour),
            ..StopRequest::plain(StopMode::Fast)
        };
        let clock = Clock::start(&request, told);
        let waiting = async { tokio::join!(clock.immediate(), clock.kill()) };
        let wakes_up = async {
            tokio::task::yield_now().await;
            SECONDS.fetch_add(3 * 3600, Ordering::SeqCst);
        };
        let both = async { tokio::join!(waiting, wakes_up) };
        tokio::time::timeout(Duration::from_secs(30), both).await.expect("both deadlines have passed");
    }

    #[test]
    fn the_clock_goes_on_while_the_machine_is_suspended() {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let uptime: f64 = uptime.split_whitespace().next().unwrap().parse().unwrap();
        assert!((boottime().as_secs_f64() - uptime).abs() < 5.0, "/proc/uptime counts suspension");
    }
}
