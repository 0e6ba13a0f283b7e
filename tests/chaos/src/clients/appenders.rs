//! Clients that append to lists and read them, at every host that says it is a primary, and record all that they see.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use bellwether_acceptance::sql::Session;
use rand::RngExt as _;
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_postgres::{Error, error::SqlState};

use super::session_with_primary;
use crate::history::{Kind, Operation, Outcome, Recorder};

/// Lists that are appended to at a time.
const LISTS: i64 = 4;
/// So many numbers go to the lists before the next lists begin: long ones would make each append slow.
const PER_GENERATION: i64 = 2_000;
/// After this an operation counts as unknown and its session is left.
const ANSWERED_WITHIN: Duration = Duration::from_secs(4);
const PAUSE_MILLIS: std::ops::Range<u64> = 5..40;
/// One in so many operations is a plain read.
const READS: u32 = 4;

const CREATE: &str = "CREATE TABLE IF NOT EXISTS lists (key bigint PRIMARY KEY, items bigint[] NOT NULL)";
/// The timeline of the server that commits this: it is in the name of the file that it writes to.
const TIMELINE: &str = "('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int";

/// Running clients.
#[derive(Debug)]
pub struct Appenders {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

/// One client: one session at a time with one host.
struct Appender {
    client: usize,
    host: String,
    address: String,
    recorder: Arc<Recorder>,
    next: Arc<AtomicI64>,
    stop: Arc<AtomicBool>,
}

impl Appenders {
    /// Starts `each` clients for each of these hosts (name and address).
    pub fn start(hosts: &[(String, String)], each: usize, recorder: &Arc<Recorder>) -> Self {
        let (stop, next): (Arc<AtomicBool>, Arc<AtomicI64>) = Default::default();
        let places = hosts.iter().flat_map(|host| std::iter::repeat_n(host, each));
        let tasks = places.enumerate().map(|(client, (host, address))| {
            let appender = Appender {
                client,
                host: host.clone(),
                address: address.clone(),
                recorder: Arc::clone(recorder),
                next: Arc::clone(&next),
                stop: Arc::clone(&stop),
            };
            tokio::spawn(appender.run())
        });
        let tasks = tasks.collect();
        Self { stop, tasks }
    }

    /// Ends them; what was asked for is waited for, as long as the clients would have waited.
    pub async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            let _ = timeout(2 * ANSWERED_WITHIN, task).await;
        }
    }
}

impl Appender {
    async fn run(self) {
        while !self.is_over() {
            if let Some(session) = session_with_primary(&self.address).await
                && matches!(timeout(ANSWERED_WITHIN, session.client.batch_execute(CREATE)).await, Ok(Ok(())))
            {
                while !self.is_over() && self.operate(&session).await {
                    let pause = rand::rng().random_range(PAUSE_MILLIS);
                    sleep(Duration::from_millis(pause)).await;
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// One operation; whether the session can go on.
    async fn operate(&self, session: &Session) -> bool {
        let (is_read, list) = {
            let mut random = rand::rng();
            (random.random_range(0..READS) == 0, random.random_range(0..LISTS))
        };
        let kind = match is_read {
            true => Kind::Read,
            false => Kind::Append(self.next.fetch_add(1, Ordering::Relaxed)),
        };
        let generation = self.next.load(Ordering::Relaxed) / PER_GENERATION;
        let key = generation * LISTS + list;
        let began = self.recorder.now();
        let outcome = match timeout(ANSWERED_WITHIN, ask(session, key, kind)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => judge(&error),
            Err(_) => Outcome::Unknown(format!("no answer in {} s", ANSWERED_WITHIN.as_secs())),
        };
        let ended = self.recorder.now();
        let goes_on = matches!(outcome, Outcome::Done { .. });
        let host = self.host.clone();
        self.recorder.enter(Operation { client: self.client, host, key, kind, began, ended, outcome });
        goes_on
    }
}

async fn ask(session: &Session, key: i64, kind: Kind) -> Result<Outcome, Error> {
    let row = match kind {
        Kind::Append(number) => {
            let statement = format!(
                "INSERT INTO lists AS l VALUES ({key}, ARRAY[{number}::bigint]) \
                 ON CONFLICT (key) DO UPDATE SET items = l.items || {number}::bigint RETURNING items, {TIMELINE}"
            );
            Some(session.client.query_one(&statement, &[]).await?)
        }
        Kind::Read => {
            let statement = format!("SELECT items, {TIMELINE} FROM lists WHERE key = {key}");
            session.client.query_opt(&statement, &[]).await?
        }
    };
    let told = row.map(|row| (row.get(0), row.get::<_, i32>(1)));
    let (list, timeline) = told.unwrap_or_default();
    Ok(Outcome::Done { list, timeline: timeline.unsigned_abs() })
}

/// Only what a server says before it does anything is a refusal; a connection that breaks leaves its commit in doubt.
fn judge(error: &Error) -> Outcome {
    let refusals = [SqlState::READ_ONLY_SQL_TRANSACTION, SqlState::CANNOT_CONNECT_NOW, SqlState::DISK_FULL];
    match error.code() {
        Some(code) if refusals.contains(code) => Outcome::Refused(code.code().to_owned()),
        _ => Outcome::Unknown(error.to_string()),
    }
}
