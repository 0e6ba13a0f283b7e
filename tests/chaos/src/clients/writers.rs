//! One insert each 10 ms at whoever takes it: how long were writes away?

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use bellwether_acceptance::{ledger::Ledger, sql::Session};
use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval, timeout},
};

use super::session_with_primary;

const EACH: Duration = Duration::from_millis(10);
/// After this a session is given up: its statement may have been done or not.
const ANSWERED_WITHIN: Duration = Duration::from_secs(40);
const CREATE: &str = "CREATE TABLE IF NOT EXISTS written (id bigint PRIMARY KEY)";
const INSERT: &str = "INSERT INTO written VALUES ($1)";

/// A running writer per host.
#[derive(Debug)]
pub struct Writers {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    ledger: Mutex<Ledger>,
    next: AtomicI64,
    stop: AtomicBool,
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Writers {
    /// Starts one for each of these addresses.
    pub fn start(addresses: &[String]) -> Self {
        let shared: Arc<Shared> = Arc::default();
        let tasks = addresses.iter().map(|address| {
            let (address, shared) = (address.clone(), Arc::clone(&shared));
            tokio::spawn(async move {
                while !shared.is_over() {
                    if let Some(session) = session_with_primary(&address).await {
                        write(&session, &shared).await;
                    }
                }
            })
        });
        let tasks = tasks.collect();
        Self { shared, tasks }
    }

    /// What they know now.
    pub fn ledger(&self) -> Ledger {
        self.shared.ledger().clone()
    }

    pub fn acknowledged(&self) -> usize {
        self.shared.ledger().acknowledged.len()
    }

    /// What comes belongs to another event.
    pub fn begin_event(&self) {
        self.shared.ledger().begin_event();
    }

    /// The longest time without an acknowledged write since [`Writers::begin_event`].
    pub fn outage(&self) -> Duration {
        self.shared.ledger().longest_gap(Instant::now())
    }

    /// Ends the writing, without waiting for servers that do not answer.
    pub fn stop(self) -> Ledger {
        self.shared.stop.store(true, Ordering::Relaxed);
        for task in &self.tasks {
            task.abort();
        }
        self.shared.ledger().clone()
    }
}

/// Writes row after row until the first that is not acknowledged.
async fn write(session: &Session, shared: &Shared) {
    let prepared = async {
        session.client.batch_execute(CREATE).await?;
        session.client.prepare(INSERT).await
    };
    let Ok(Ok(insert)) = timeout(ANSWERED_WITHIN, prepared).await else { return };
    shared.ledger().sessions += 1;
    let mut ticks = interval(EACH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !shared.is_over() {
        ticks.tick().await;
        let row = shared.next.fetch_add(1, Ordering::Relaxed);
        match timeout(ANSWERED_WITHIN, session.client.execute(&insert, &[&row])).await {
            Ok(Ok(_)) => shared.ledger().acknowledge(row, Instant::now()),
            Ok(Err(error)) => {
                shared.ledger().failed.push(error.to_string());
                return;
            }
            Err(_) => {
                shared.ledger().failed.push("no answer".to_owned());
                return;
            }
        }
    }
}
