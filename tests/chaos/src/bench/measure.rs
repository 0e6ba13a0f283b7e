//! One stack through all events.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};

use bellwether_acceptance::{
    journal::{Journal, Moment},
    sql::{self, Session},
};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout};

use super::Event;
use crate::{
    clients::writers::Writers,
    cluster::{Cluster, within},
    faults::{Fault, Victim},
    host::Host,
    laboratory::Laboratory,
    stack::{POSTGRES, Stack},
    store,
};

const UP_WITHIN: Duration = Duration::from_secs(180);
/// For writes to be back.
const WRITES_WITHIN: Duration = Duration::from_secs(90);
const WHOLE_WITHIN: Duration = Duration::from_secs(120);
/// Rows without a disturbance before and after an event.
const CALM_ROWS: usize = 100;
/// A longer gap is no calm.
const CALM: Duration = Duration::from_millis(300);
/// How long the store is split.
const SPLIT: Duration = Duration::from_secs(10);

/// What one stack did.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct StackReport {
    pub stack: String,
    pub measured: Vec<Measured>,
    pub acknowledged: usize,
    pub failed_statements: usize,
    /// Acknowledged rows that were not there at the end.
    pub lost: usize,
    /// Why it ended early.
    pub problem: Option<String>,
}

/// One event.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    pub event: String,
    pub outage_ms: u64,
    /// From the event until the cluster was whole again, the time included that a host stayed away.
    pub whole_after_ms: u64,
    pub leader_changed: bool,
    /// Where the time went, in milliseconds by step, as the journal of the new leader has it. Patroni keeps none.
    pub steps: BTreeMap<String, u64>,
    /// Load of the machine over the last minute.
    pub load: f64,
}

/// Goes through the events, `rounds` times each, round by round.
pub async fn measure(laboratory: &Laboratory, stack: Stack, events: &[Event], rounds: usize) -> StackReport {
    let mut report = StackReport { stack: stack.to_string(), ..StackReport::default() };
    let cluster = Cluster::of(laboratory, stack.is_synchronous());
    if let Err(problem) = cluster.whole_within(UP_WITHIN).await {
        report.problem = Some(problem);
        return report;
    }
    let addresses: Vec<String> = laboratory.hosts.iter().map(Host::address).collect();
    let writers = Writers::start(&addresses);
    let suitable = events.iter().copied().filter(|event| event.fault().suits(stack));
    let events: Vec<Event> = suitable.collect();
    'rounds: for _ in 0..rounds {
        for &event in &events {
            match put_to(laboratory, stack, &cluster, &writers, event).await {
                Ok(measured) => report.measured.push(measured),
                Err(problem) => {
                    report.problem = Some(format!("{event}: {problem}"));
                    break 'rounds;
                }
            }
        }
    }
    let ledger = writers.stop();
    report.acknowledged = ledger.acknowledged.len();
    report.failed_statements = ledger.failed.len();
    match rows(laboratory, &cluster).await {
        Ok(rows) => report.lost = ledger.missing_from(&rows).len(),
        Err(problem) => report.problem = report.problem.or(Some(problem)),
    }
    report
}

async fn put_to(
    laboratory: &Laboratory,
    stack: Stack,
    cluster: &Cluster,
    writers: &Writers,
    event: Event,
) -> Result<Measured, String> {
    let leader = calm(cluster, writers).await?;
    let host = laboratory.host(&leader);
    if let Some(on_it) = event.store_leader_on_it() {
        store::place(laboratory, stack, host, on_it).await?;
        // Moving it may have disturbed somebody.
        if calm(cluster, writers).await? != leader {
            return Err("the leader changed when the store's leader was moved".to_owned());
        }
    }
    let victim = Victim { laboratory, cluster, stack, host, leader: &leader };
    let (load, event_at) = (load(), Moment::now());
    writers.begin_event();
    let began = Instant::now();
    let rows = writers.acknowledged();
    let fault = event.fault();
    match fault {
        Fault::Switchover | Fault::StoreLeaderKilled => victim.suffer(fault, Duration::ZERO).await?,
        fault => victim.begin(fault).map_err(|error| error.to_string())?,
    }
    if fault == Fault::StoreSplit {
        sleep(SPLIT).await;
    }
    // Whatever was on its way when the event came may still be answered; writes are back when many are.
    let back = within(WRITES_WITHIN, || async {
        let more = writers.acknowledged() - rows;
        (more >= CALM_ROWS).then_some(()).ok_or_else(|| format!("{more} rows since"))
    });
    let back = back.await.map_err(|missing| format!("no writes: {missing}"));
    let still_frozen = fault == Fault::PostgresFrozen && host.postmaster().is_some();
    victim.end(fault)?;
    back?;
    let leads = cluster.whole_within(WHOLE_WITHIN).await?;
    if still_frozen && leads == leader {
        return Err("PostgreSQL was frozen, and nobody did anything until it was let go".to_owned());
    }
    Ok(Measured {
        event: event.to_string(),
        outage_ms: millis(writers.outage()),
        whole_after_ms: millis(began.elapsed()),
        leader_changed: leads != leader,
        steps: steps(laboratory.host(&leads), event_at),
        load,
    })
}

/// Waits until the cluster is whole and rows come without a gap; who leads then.
async fn calm(cluster: &Cluster, writers: &Writers) -> Result<String, String> {
    within(WHOLE_WITHIN, || async {
        let before = writers.acknowledged();
        writers.begin_event();
        let leader = cluster.whole().await?;
        sleep(CALM_ROWS as u32 * Duration::from_millis(10)).await;
        let (rows, gap) = (writers.acknowledged() - before, writers.outage());
        match rows >= CALM_ROWS / 2 && gap < CALM {
            true => Ok(leader),
            false => Err(format!("{rows} rows, {} ms without one", gap.as_millis())),
        }
    })
    .await
}

/// The rows that the primary has at the end.
async fn rows(laboratory: &Laboratory, cluster: &Cluster) -> Result<BTreeSet<i64>, String> {
    let leader = within(WHOLE_WITHIN, || cluster.primary()).await?;
    let server = sql::server(&laboratory.host(&leader).address(), POSTGRES);
    let read = async { Session::open(&server).await?.written_rows().await };
    let rows = timeout(WHOLE_WITHIN, read).await.map_err(|_| "the rows cannot be read".to_owned())?;
    rows.map_err(|error| error.to_string())
}

/// What the leader's journal tells of its last failover since then.
fn steps(host: &Host, since: Moment) -> BTreeMap<String, u64> {
    let journal = Journal::read(&host.dir.join("data.bellwether")).since(since);
    let last = journal.records.iter().rfind(|record| record["total_ms"].is_u64());
    let fields = last.and_then(|record| record.as_object()).into_iter().flatten();
    fields
        .filter_map(|(name, value)| Some((name.strip_suffix("_ms")?.to_owned(), value.as_u64()?)))
        .filter(|(name, _)| name != "boottime")
        .collect()
}

fn load() -> f64 {
    let file = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    file.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or_default()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
