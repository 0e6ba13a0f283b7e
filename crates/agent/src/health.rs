//! What is found out about the server and its disks beside the loop: facts for [`View`](bellwether_ha::View), no judgement.
//!
//! Everything here may hang with what it looks at, so nothing waits for it: one tried commit and one look at the disks at a time, each
//! in a task of its own; the loop reads what they found last.

mod disks;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bellwether_dcs::alarm::Alarm as Wakeup;
use bellwether_ha::{
    gray::Standing,
    view::health::{Activity, Disks, Health, Probe, ProbeFailure, ProbeStage, Stopped},
};
use bellwether_postgres::{
    commit_probe::{CommitProbe, ProbeError},
    postmaster::{self, Postmaster, PostmasterId},
    settings::PgSettings,
    stop_watch::StopWatch,
};
use bellwether_types::{Alarm, Role, Timestamp};
use serde_json::json;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{agent::Agent, clock, event::Event, execute::Effect, measures::Measures, work};
use disks::Trend;

/// How often the disks are looked at, and how often while they fill or have little left.
const DISKS_EVERY: Duration = Duration::from_secs(15);
const FILLING_DISKS_EVERY: Duration = Duration::from_secs(5);
/// How often the server is asked for failed checksums, and how long it is waited for.
const CHECKSUMS_EVERY: Duration = Duration::from_secs(60);
const CHECKSUMS_PATIENCE: Duration = Duration::from_millis(200);

/// What was found out last, and the tasks that find out.
#[derive(Debug)]
pub(crate) struct HealthKeeper {
    events: mpsc::Sender<Event>,
    probe: Arc<Mutex<Option<Probe>>>,
    disks: Arc<Mutex<Option<Disks>>>,
    /// Kept from one commit to the next; whoever holds it tries.
    session: Arc<tokio::sync::Mutex<CommitProbe>>,
    trying: Option<(PostmasterId, JoinHandle<()>)>,
    stopped: Stopped,
    checksums: Checksums,
    measures: Measures,
}

/// Failed checksums, as the server counts them.
#[derive(Debug, Default)]
struct Checksums {
    asked_at: Option<Timestamp>,
    first: Option<u64>,
    last: u64,
}

impl Drop for HealthKeeper {
    fn drop(&mut self) {
        self.leave_off();
    }
}

impl HealthKeeper {
    /// Begins to look at the disks; that ends with `stop`.
    pub(crate) fn new(
        data_dir: PathBuf,
        events: mpsc::Sender<Event>,
        measures: Measures,
        stop: CancellationToken,
    ) -> Self {
        let disks = Arc::new(Mutex::new(None));
        tokio::spawn(watch_disks(data_dir, disks.clone(), stop));
        Self {
            events,
            probe: Arc::default(),
            disks,
            session: Arc::default(),
            trying: None,
            stopped: Stopped::Nothing,
            checksums: Checksums::default(),
            measures,
        }
    }

    pub(crate) fn facts(&self) -> Health {
        Health {
            stopped: self.stopped,
            probe: lock(&self.probe).clone(),
            activity: None,
            disks: lock(&self.disks).clone(),
            checksum_failures: self.checksums.last - self.checksums.first.unwrap_or(self.checksums.last),
            measured: self.measures.in_short(clock::now()),
        }
    }

    /// Tries a commit on this server. `false`: the one before has not ended.
    pub(crate) fn try_commit(&mut self, settings: Arc<PgSettings>, on: PostmasterId) -> bool {
        if self.trying.as_ref().is_some_and(|(_, task)| !task.is_finished()) {
            return false;
        }
        let began_at = clock::now();
        let show = Shown { probe: self.probe.clone(), began_at };
        show.stage(ProbeStage::Connecting);
        let (session, events, to) = (self.session.clone(), self.events.clone(), on.clone());
        let measures = self.measures.clone();
        let task = tokio::spawn(async move {
            let mut session = session.lock().await;
            let stage = match try_once(&mut session, &settings, &to, &show).await {
                Ok(committing_since) => {
                    measures.committed(clock::now().since(committing_since));
                    ProbeStage::Committed { after: clock::now().since(began_at) }
                }
                Err(error) => {
                    debug!(error = work::chain(&error), "a tried commit failed");
                    session.disconnect();
                    ProbeStage::Failed { why: failure(&error) }
                }
            };
            show.stage(stage);
            nudge(&events);
        });
        self.trying = Some((on, task));
        true
    }

    /// The server is gone, or is no primary any more: what was tried on it says nothing about the next one.
    pub(crate) fn leave_off(&mut self) {
        if let Some((_, task)) = self.trying.take() {
            task.abort();
        }
        self.session = Arc::default();
        *lock(&self.probe) = None;
    }

    /// No server runs.
    pub(crate) fn lost_postmaster(&mut self) {
        self.stopped = Stopped::Nothing;
        if self.trying.is_some() {
            self.leave_off();
        }
    }

    /// `postmaster` runs, as a primary or not: what was tried on another server, or by a primary that is a standby now, is over.
    fn runs(&mut self, postmaster: &PostmasterId, is_primary: bool) {
        if self.trying.as_ref().is_some_and(|(on, _)| !is_primary || on != postmaster) {
            self.leave_off();
        }
    }

    /// Whether it is time to ask for failed checksums; if so, it counts as asked.
    pub(crate) fn asks_for_checksums(&mut self, now: Timestamp) -> bool {
        let is_due = self.checksums.asked_at.is_none_or(|at| now.since(at) >= CHECKSUMS_EVERY);
        if is_due {
            self.checksums.asked_at = Some(now);
        }
        is_due
    }

    /// The server's own count, which begins anew when its statistics are reset.
    pub(crate) fn count_checksums(&mut self, failures: u64) {
        let first = *self.checksums.first.get_or_insert(failures);
        self.checksums.first = Some(first.min(failures));
        self.checksums.last = failures;
    }
}

impl Agent {
    /// Whether the server can answer at all: one that is stopped is not worth the wait.
    pub(crate) async fn may_answer(&mut self, postmaster: &Postmaster) -> bool {
        self.health.stopped = match postmaster.stopped().await {
            Ok(postmaster::Stopped::Nothing) => Stopped::Nothing,
            Ok(postmaster::Stopped::Postmaster) => Stopped::Postmaster,
            Ok(postmaster::Stopped::Everything) => Stopped::Everything,
            Err(error) => {
                debug!(%error, "the processes of PostgreSQL cannot be looked at");
                Stopped::Nothing
            }
        };
        self.health.stopped != Stopped::Everything
    }

    /// What can be told without waiting for anybody, and now and then the count of failed checksums.
    pub(crate) async fn look_at_health(&mut self, postmaster: &Postmaster) {
        self.health.runs(postmaster.id(), self.local.role == Role::Primary);
        if !self.local.answered || self.monitor.is_waiting() || !self.health.asks_for_checksums(clock::now())
        {
            return;
        }
        match self.monitor.checksum_failures(postmaster.id(), CHECKSUMS_PATIENCE).await {
            Ok(failures) => self.health.count_checksums(failures),
            Err(error) => debug!(error = work::chain(&error), "failed checksums could not be counted"),
        }
    }

    pub(crate) fn health_view(&self) -> Health {
        let observation = self.local.observation.as_ref().map(|(_, observation)| observation);
        let activity =
            observation.and_then(|observation| observation.activity.as_ref()).map(|seen| Activity {
                clients: seen.clients,
                clients_allowed: seen.max_connections.saturating_sub(seen.reserved),
                flushing: seen.flushing,
                waiting_for_standbys: seen.waiting_for_standbys,
                probe_waits_for_standbys: seen.probe_waits_for_standbys,
            });
        Health { activity, ..self.health.facts() }
    }

    pub(crate) fn try_commit(&mut self) -> Effect {
        if let Some(postmaster) = &self.local.postmaster {
            self.health.try_commit(self.settings.clone(), postmaster.id().clone());
        }
        Effect::Nothing
    }

    /// Logs and journals what has come up and what is over; `before` stood until now.
    pub(crate) fn tell_alarms(&mut self, before: &BTreeMap<Alarm, Standing>) {
        let now = &self.memory.gray.alarms;
        for alarm in now.keys().filter(|alarm| !before.contains_key(alarm)) {
            warn!(alarm = alarm.code(), "{}", alarm.sentence());
            let record = json!({"alarm": alarm.code(), "sentence": alarm.sentence(), "stands": true});
            self.journal.record("alarm", record);
        }
        for alarm in before.keys().filter(|alarm| !now.contains_key(alarm)) {
            info!(alarm = alarm.code(), "the trouble is over");
            let record = json!({"alarm": alarm.code(), "sentence": alarm.sentence(), "stands": false});
            self.journal.record("alarm", record);
        }
    }
}

/// Wakes the loop as soon as a signal stops the postmaster, or wakes it up. Never ends by itself.
pub(crate) async fn watch_for_stop(postmaster: &Postmaster, events: &mpsc::Sender<Event>) -> Infallible {
    let mut watch = match StopWatch::new(postmaster) {
        Ok(watch) => watch,
        Err(error) => {
            debug!(%error, "the postmaster cannot be watched");
            return std::future::pending().await;
        }
    };
    loop {
        watch.changed().await;
        nudge(events);
    }
}

/// Has the loop look at once. Where many events wait it does so anyhow; where nobody takes them any more, the agent has ended.
fn nudge(events: &mpsc::Sender<Event>) {
    if let Err(error) = events.try_send(Event::Nudge) {
        debug!(%error, "the loop need not be woken");
    }
}

/// Where the state of a tried commit is shown.
struct Shown {
    probe: Arc<Mutex<Option<Probe>>>,
    began_at: Timestamp,
}

impl Shown {
    fn stage(&self, stage: ProbeStage) {
        let mut shown = lock(&self.probe);
        let at = shown.as_ref().filter(|probe| probe.began_at == self.began_at).and_then(|probe| probe.at);
        *shown = Some(Probe { began_at: self.began_at, stage, at });
    }

    fn at(&self, at: bellwether_types::Lsn) {
        if let Some(probe) = lock(&self.probe).as_mut() {
            probe.at = Some(at);
        }
    }
}

/// Since when the commit was under way that went through.
async fn try_once(
    session: &mut CommitProbe,
    settings: &Arc<PgSettings>,
    to: &PostmasterId,
    show: &Shown,
) -> Result<Timestamp, ProbeError> {
    session.connect(settings, to).await?;
    show.stage(ProbeStage::Committing);
    show.at(session.write().await?);
    let since = clock::now();
    session.commit().await?;
    Ok(since)
}

fn failure(error: &ProbeError) -> ProbeFailure {
    match error {
        ProbeError::NoConnectionLeft => ProbeFailure::NoConnectionLeft,
        ProbeError::NoConnection { .. } => ProbeFailure::NoConnection,
        ProbeError::DiskFull => ProbeFailure::DiskFull,
        other => ProbeFailure::Other(work::chain(other)),
    }
}

async fn watch_disks(data_dir: PathBuf, shown: Arc<Mutex<Option<Disks>>>, stop: CancellationToken) {
    let (mut trend, mut is_roomy, mut alarm) = (Trend::default(), false, Wakeup::new());
    loop {
        let dir = data_dir.clone();
        // On a dead disk it hangs here, and what was found last stays: no figure is better than a guess.
        let found = tokio::task::spawn_blocking(move || disks::look(&dir)).await;
        if let Ok(Ok(mut disks)) = found {
            disks.wal.full_in = trend.full_in(disks.looked_at, disks.wal.free);
            is_roomy = disks::is_roomy(&disks);
            *lock(&shown) = Some(disks);
        }
        let pause = if is_roomy { DISKS_EVERY } else { FILLING_DISKS_EVERY };
        if stop.run_until_cancelled(alarm.at(clock::now() + pause)).await.is_none() {
            return;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn failed_checksums_count_from_the_first_look() {
        let (events, _heard) = mpsc::channel(1);
        let mut keeper =
            HealthKeeper::new("/nowhere".into(), events, Measures::default(), CancellationToken::new());
        let now = Timestamp::from_millis(1_000_000);
        assert!(keeper.asks_for_checksums(now) && !keeper.asks_for_checksums(now));
        for (counted, expected) in [(7, 0), (9, 2), (0, 0), (1, 1)] {
            keeper.count_checksums(counted);
            assert_eq!(keeper.facts().checksum_failures, expected, "after a count of {counted}");
        }
    }
}
