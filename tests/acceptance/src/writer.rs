//! A client as an application would be: a URL with all hosts, one insert each 10 ms, a reconnect after each error. It never
//! repeats an insert: a row whose answer did not come counts as unknown, and the next one has the next number.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use crate::{
    sql::{self, Session},
    wait::{PATIENCE, until},
};

const EACH: Duration = Duration::from_millis(10);
/// For one attempt over all hosts.
const CONNECTED_WITHIN: Duration = Duration::from_secs(2);
/// After this the client gives the server up and looks for another one.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
const RETRY_AFTER: Duration = Duration::from_millis(20);
const CREATE: &str = "CREATE TABLE IF NOT EXISTS written (id bigint PRIMARY KEY)";

/// A running client.
#[derive(Debug)]
pub struct Writer {
    ledger: Arc<Mutex<Ledger>>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

pub use crate::ledger::Ledger;

impl Writer {
    /// Starts writing to whoever of these is the primary.
    pub fn start(ports: Vec<u16>) -> Self {
        let (ledger, stop) = (Arc::default(), Arc::default());
        let task = tokio::spawn(write_until_stopped(ports, Arc::clone(&ledger), Arc::clone(&stop)));
        Self { ledger, stop, task }
    }

    /// A copy of what the client knows now.
    pub fn ledger(&self) -> Ledger {
        lock(&self.ledger).clone()
    }

    pub fn acknowledged(&self) -> usize {
        lock(&self.ledger).acknowledged.len()
    }

    pub fn begin_event(&self) {
        lock(&self.ledger).begin_event();
    }

    /// The longest time without an acknowledged write since [`Writer::begin_event`].
    pub fn outage(&self) -> Duration {
        lock(&self.ledger).longest_gap(Instant::now())
    }

    /// Waits until `rows` more rows were acknowledged.
    pub async fn writes(&self, rows: usize) {
        let from = self.acknowledged();
        until(format!("{rows} more rows acknowledged"), PATIENCE, || self.acknowledged() >= from + rows)
            .await;
    }

    /// Ends the writing; what was sent is waited for.
    pub async fn stop(self) -> Ledger {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.task.await;
        lock(&self.ledger).clone()
    }
}

async fn write_until_stopped(ports: Vec<u16>, ledger: Arc<Mutex<Ledger>>, stop: Arc<AtomicBool>) {
    let mut row = 0;
    for first in (0..ports.len()).cycle() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let target = sql::writable(&ports, first);
        match timeout(CONNECTED_WITHIN, Session::open(&target)).await {
            Ok(Ok(session)) => write(&session, &mut row, &ledger, &stop).await,
            // Nobody there, or nobody who takes writes: try the next order.
            Ok(Err(_)) | Err(_) => sleep(RETRY_AFTER).await,
        }
    }
}

/// Writes row after row until the first that is not acknowledged.
async fn write(session: &Session, row: &mut i64, ledger: &Mutex<Ledger>, stop: &AtomicBool) {
    let prepared = async {
        session.client.batch_execute(CREATE).await?;
        session.client.prepare("INSERT INTO written VALUES ($1)").await
    };
    let Ok(Ok(insert)) = timeout(ANSWERED_WITHIN, prepared).await else { return };
    lock(ledger).sessions += 1;
    let mut beat = interval(EACH);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !stop.load(Ordering::Relaxed) {
        beat.tick().await;
        *row += 1;
        let failure = match timeout(ANSWERED_WITHIN, session.client.execute(&insert, &[&*row])).await {
            Ok(Ok(_)) => {
                lock(ledger).acknowledge(*row, Instant::now());
                continue;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", ANSWERED_WITHIN.as_secs()),
        };
        lock(ledger).failed.push(failure);
        return;
    }
}

fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    // Each change leaves it whole.
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}
