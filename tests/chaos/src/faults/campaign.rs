//! One fault after the other under load, and the proof at the end.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bellwether_acceptance::sql::{self, Session};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use serde::Serialize;
use serde_json::json;
use tokio::time::{Instant, timeout};

use super::{Fault, Victim};
use crate::{
    clients::appenders::Appenders,
    cluster::{Cluster, within},
    history::{self, Final, Recorder, Verdict},
    laboratory::Laboratory,
    stack::{POSTGRES, Stack},
};

/// For a new cluster: initdb and base backups.
const UP_WITHIN: Duration = Duration::from_secs(180);
/// For the cluster to be whole again after the harm is over.
pub(super) const WHOLE_WITHIN: Duration = Duration::from_secs(120);
/// Undisturbed operations between two faults.
const CALM_OPERATIONS: usize = 40;
const HARM_MILLIS: std::ops::Range<u64> = 1_500..9_000;
/// How often the victim is the leader.
const LEADER: f64 = 0.7;
const CLIENTS_EACH: usize = 2;

/// What is to be done.
#[derive(Debug)]
pub struct Campaign {
    pub stack: Stack,
    pub faults: Vec<Fault>,
    pub rounds: usize,
    pub seed: u64,
    /// Where the history goes.
    pub history: PathBuf,
}

/// What came of it.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub stack: String,
    pub seed: u64,
    pub rounds: Vec<Round>,
    pub verdict: Verdict,
    /// Why it ended early.
    pub problem: Option<String>,
}

/// One fault.
#[derive(Debug, Serialize)]
pub struct Round {
    pub fault: String,
    pub host: String,
    pub was_leader: bool,
    pub harm_ms: u64,
    pub whole_after_ms: u64,
    pub leads: String,
}

impl Report {
    /// Whether everything held.
    pub fn is_good(&self) -> bool {
        self.problem.is_none() && self.verdict.findings.is_empty() && self.verdict.acknowledged > 0
    }
}

/// Runs it in a laboratory where the stack was installed. `tell` hears of each round.
pub async fn run(laboratory: &Laboratory, campaign: &Campaign, tell: impl Fn(&str)) -> Report {
    let mut report = Report { stack: campaign.stack.to_string(), seed: campaign.seed, ..Report::default() };
    if let Err(problem) = go_through(laboratory, campaign, &tell, &mut report).await {
        report.problem = Some(problem);
    }
    report
}

async fn go_through(
    laboratory: &Laboratory,
    campaign: &Campaign,
    tell: &impl Fn(&str),
    report: &mut Report,
) -> Result<(), String> {
    let cluster = Cluster::of(laboratory, true);
    cluster.whole_within(UP_WITHIN).await?;
    let recorder = Recorder::create(&campaign.history).map_err(|error| error.to_string())?;
    let recorder = Arc::new(recorder);
    let hosts: Vec<(String, String)> =
        laboratory.hosts.iter().map(|host| (host.name.clone(), host.address())).collect();
    let appenders = Appenders::start(&hosts, CLIENTS_EACH, &recorder);
    let mut random = StdRng::seed_from_u64(campaign.seed);
    let mut problem = None;
    for number in 1..=campaign.rounds {
        match round(laboratory, campaign, &cluster, &recorder, &mut random).await {
            Ok(round) => {
                tell(&format!("{number}/{}: {}", campaign.rounds, json!(round)));
                report.rounds.push(round);
            }
            Err(obstacle) => {
                problem = Some(format!("round {number}: {obstacle}"));
                break;
            }
        }
    }
    // However it went: what was acknowledged must be there.
    appenders.stop().await;
    let leader = within(WHOLE_WITHIN, || cluster.primary()).await?;
    let end = lists(&laboratory.host(&leader).address()).await?;
    report.verdict = history::check(&recorder.finish(), &end);
    problem.map_or(Ok(()), Err)
}

async fn round(
    laboratory: &Laboratory,
    campaign: &Campaign,
    cluster: &Cluster,
    recorder: &Recorder,
    random: &mut StdRng,
) -> Result<Round, String> {
    let leader = calm(cluster, recorder).await?;
    let fault = *campaign.faults.choose(random).ok_or("there is nothing to do")?;
    let was_leader = random.random_bool(LEADER);
    let others: Vec<_> = laboratory.hosts.iter().filter(|host| host.name != leader).collect();
    let host = match was_leader {
        true => laboratory.host(&leader),
        false => others.choose(random).ok_or("there is no other host")?,
    };
    let harm = Duration::from_millis(random.random_range(HARM_MILLIS));
    let victim = Victim { laboratory, cluster, stack: campaign.stack, host, leader: &leader };
    let in_words = format!("{fault} at {} (leader {leader})", host.name);
    victim.suffer(fault, harm).await.map_err(|error| format!("{in_words}: {error}"))?;
    let healed = Instant::now();
    let leads = cluster.whole_within(WHOLE_WITHIN).await.map_err(|error| format!("{in_words}: {error}"))?;
    Ok(Round {
        fault: fault.to_string(),
        host: host.name.clone(),
        was_leader,
        harm_ms: millis(harm),
        whole_after_ms: millis(healed.elapsed()),
        leads,
    })
}

/// Waits until the cluster is whole and clients get on; who leads then.
async fn calm(cluster: &Cluster, recorder: &Recorder) -> Result<String, String> {
    let from = recorder.len();
    let leader = cluster.whole_within(WHOLE_WITHIN).await?;
    within(WHOLE_WITHIN, || async {
        let operations = recorder.len() - from;
        (operations >= CALM_OPERATIONS).then_some(()).ok_or_else(|| format!("only {operations} operations"))
    })
    .await?;
    Ok(leader)
}

/// All lists of this server.
async fn lists(address: &str) -> Result<Final, String> {
    let server = sql::server(address, POSTGRES);
    let read = async {
        let session = Session::open(&server).await.map_err(|error| error.to_string())?;
        let rows = session.rows("SELECT key, items FROM lists", &[]).await;
        let rows = rows.map_err(|error| error.to_string())?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    };
    timeout(WHOLE_WITHIN, read).await.map_err(|_| "the lists cannot be read".to_owned())?
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
