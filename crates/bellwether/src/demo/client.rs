//! A client as an application would be: a URL with all three hosts, one insert each 10 ms, and a reconnect after each error.
//!
//! It never repeats an insert: a row whose answer did not come counts as unknown, and the next one has the next number.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_postgres::{
    Config, NoTls,
    config::{SslMode, TargetSessionAttrs},
    error::SqlState,
};
use tokio_util::sync::CancellationToken;

use super::{
    layout::{Layout, Node, SUPERUSER},
    ledger::Ledger,
};

const EACH: Duration = Duration::from_millis(10);
/// For one attempt over all hosts; a healthy one answers within some milliseconds.
const CONNECTED_WITHIN: Duration = Duration::from_millis(700);
/// For a single host on the way.
const HOST_ANSWERS_WITHIN: Duration = Duration::from_millis(300);
/// After this the client gives the server up and looks for another one.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);
const RETRY_AFTER: Duration = Duration::from_millis(20);

const CREATE: &str = "CREATE TABLE IF NOT EXISTS demo_rows (id bigint PRIMARY KEY, written_at timestamptz NOT NULL DEFAULT now())";
const INSERT: &str = "INSERT INTO demo_rows (id) VALUES ($1)";

#[derive(Debug)]
pub(super) struct Client {
    ledger: Arc<Mutex<Ledger>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Client {
    pub(super) fn start(layout: &Layout) -> Self {
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let stop = CancellationToken::new();
        let writing = write_until_stopped(targets(layout), Arc::clone(&ledger), stop.clone());
        Self { task: tokio::spawn(writing), ledger, stop }
    }

    /// A copy of what the client knows now.
    pub(super) fn ledger(&self) -> Ledger {
        lock(&self.ledger).clone()
    }

    pub(super) fn acknowledged(&self) -> u64 {
        lock(&self.ledger).acknowledged().len()
    }

    pub(super) fn begin_event(&self) {
        lock(&self.ledger).begin_event();
    }

    pub(super) fn longest_gap(&self) -> Duration {
        lock(&self.ledger).longest_gap(Instant::now())
    }

    /// Ends the writing; what was sent is waited for.
    pub(super) async fn stop(&self) {
        self.stop.cancel();
        while !self.task.is_finished() {
            sleep(EACH).await;
        }
    }
}

/// Connection settings for the database on one node, as the superuser.
pub(super) fn connection_to(layout: &Layout, node: &Node) -> Config {
    let mut config = settings(layout);
    config.host("127.0.0.1").port(node.postgres_port);
    config
}

fn settings(layout: &Layout) -> Config {
    let mut config = Config::new();
    config
        .user(SUPERUSER)
        .password(&layout.passwords.superuser)
        .dbname("postgres")
        .application_name("bellwether demo")
        .ssl_mode(SslMode::Disable)
        .connect_timeout(HOST_ANSWERS_WITHIN);
    config
}

/// The same three hosts in each order of turning: a host that accepts connections but does not answer would otherwise hide
/// those behind it.
fn targets(layout: &Layout) -> Vec<Config> {
    (0..layout.nodes.len())
        .map(|first| {
            let mut config = settings(layout);
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
            for node in layout.nodes[first..].iter().chain(&layout.nodes[..first]) {
                config.host("127.0.0.1").port(node.postgres_port);
            }
            config
        })
        .collect()
}

async fn write_until_stopped(targets: Vec<Config>, ledger: Arc<Mutex<Ledger>>, stop: CancellationToken) {
    let mut row = 0;
    for target in targets.iter().cycle() {
        if stop.is_cancelled() {
            return;
        }
        match timeout(CONNECTED_WITHIN, target.connect(NoTls)).await {
            Ok(Ok((client, connection))) => {
                let connection = tokio::spawn(connection);
                write(&client, &mut row, &ledger, &stop).await;
                connection.abort();
            }
            // Nobody there, or nobody who takes writes: try the next order.
            Ok(Err(_)) | Err(_) => sleep(RETRY_AFTER).await,
        }
    }
}

/// Writes row after row until the first that is not acknowledged.
async fn write(
    client: &tokio_postgres::Client,
    row: &mut i64,
    ledger: &Mutex<Ledger>,
    stop: &CancellationToken,
) {
    if !matches!(timeout(ANSWERED_WITHIN, client.batch_execute(CREATE)).await, Ok(Ok(()))) {
        return;
    }
    let Ok(Ok(insert)) = timeout(ANSWERED_WITHIN, client.prepare(INSERT)).await else { return };
    let mut beat = interval(EACH);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !stop.is_cancelled() {
        beat.tick().await;
        *row += 1;
        match timeout(ANSWERED_WITHIN, client.execute(&insert, &[&*row])).await {
            Ok(Ok(_)) => lock(ledger).acknowledge(*row, Instant::now()),
            Ok(Err(error)) => {
                match error.code() {
                    Some(code) if is_certain(code) => lock(ledger).refuse(),
                    _ => lock(ledger).lose_sight_of(),
                }
                return;
            }
            Err(_) => {
                lock(ledger).lose_sight_of();
                return;
            }
        }
    }
}

/// Errors after which the row is certainly not there.
fn is_certain(code: &SqlState) -> bool {
    [SqlState::READ_ONLY_SQL_TRANSACTION, SqlState::CANNOT_CONNECT_NOW].contains(code)
}

fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    // Each change leaves it whole.
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}
