//! A cluster on a machine that is busy with other things, over links that are slow at times: nothing is broken, so nobody may take over.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use rand::{RngExt as _, seq::IndexedRandom as _};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::{
    clients::writers::Writers,
    cluster::Cluster,
    host::Host,
    laboratory::Laboratory,
    network::{CLIENT, Link},
};

const UP_WITHIN: Duration = Duration::from_secs(180);
/// A spike: everything from and to a host takes this much longer...
const SPIKE: Link = Link { cut: false, loss: 0.0, delay: Duration::from_millis(200) };
/// ... for so long, and then nothing happens for a while.
const SPIKE_MILLIS: std::ops::Range<u64> = 300..1_500;
const QUIET_MILLIS: std::ops::Range<u64> = 1_000..6_000;

/// What came of it.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub minutes: u64,
    pub spikes: usize,
    pub acknowledged: usize,
    pub longest_outage_ms: u64,
    /// Every change of leader is a false failover here.
    pub leader_changes: Vec<String>,
    pub problem: Option<String>,
}

impl Report {
    pub fn is_good(&self) -> bool {
        self.problem.is_none() && self.leader_changes.is_empty() && self.acknowledged > 0
    }
}

/// Processes that keep every core busy; they end when this is dropped.
#[derive(Debug)]
struct Busy(Vec<Child>);

impl Busy {
    fn on_every_core() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let burn = |_| Command::new("sh").args(["-c", "while :; do :; done"]).stdin(Stdio::null()).spawn();
        Self((0..cores).filter_map(|core| burn(core).ok()).collect())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Lets a cluster write for so long on a busy machine with latency spikes.
pub async fn soak(laboratory: &Laboratory, minutes: u64, tell: impl Fn(&str)) -> Report {
    let mut report = Report { minutes, ..Report::default() };
    let cluster = Cluster::of(laboratory, true);
    let mut leader = match cluster.whole_within(UP_WITHIN).await {
        Ok(leader) => leader,
        Err(problem) => {
            report.problem = Some(problem);
            return report;
        }
    };
    let addresses: Vec<String> = laboratory.hosts.iter().map(Host::address).collect();
    let writers = Writers::start(&addresses);
    let _busy = Busy::on_every_core();
    let until = Instant::now() + Duration::from_secs(60 * minutes);
    writers.begin_event();
    while Instant::now() < until {
        spike(laboratory).await;
        report.spikes += 1;
        if let Ok(now) = cluster.primary().await
            && now != leader
        {
            report.leader_changes.push(format!("{leader} -> {now} after {} spikes", report.spikes));
            leader = now;
        }
        if report.spikes.is_multiple_of(20) {
            let (rows, worst) = (writers.acknowledged(), writers.outage().as_millis());
            tell(&format!("{} spikes, {rows} rows, longest gap {worst} ms, leader {leader}", report.spikes));
        }
    }
    report.longest_outage_ms = u64::try_from(writers.outage().as_millis()).unwrap_or(u64::MAX);
    report.acknowledged = writers.stop().acknowledged.len();
    report
}

async fn spike(laboratory: &Laboratory) {
    let millis = |range| Duration::from_millis(rand::rng().random_range(range));
    let port = laboratory.hosts.choose(&mut rand::rng()).map_or(CLIENT, |host| host.port);
    let others = laboratory.hosts.iter().map(|host| host.port).filter(|&other| other != port);
    for other in others.chain([CLIENT]) {
        laboratory.switch.rules().set_both(port, other, SPIKE);
    }
    sleep(millis(SPIKE_MILLIS)).await;
    laboratory.switch.rules().heal();
    sleep(millis(QUIET_MILLIS)).await;
}
