//! `bellwether-chaos run` does harm and proves that nothing was lost; `bench` measures outages beside Patroni; `check` judges a history
//! again.

use std::{fs, io, path::PathBuf, process::ExitCode};

use bellwether_chaos::{
    alarms,
    bench::{self, Event},
    faults::{self, Campaign, Fault},
    isolation,
    laboratory::Laboratory,
    soak,
    stack::Stack,
    vip,
};
use clap::{Parser, ValueEnum as _};
use serde_json::{Value, json};

#[derive(Debug, Parser)]
#[command(
    name = "bellwether-chaos",
    about = "Whole hosts in network namespaces: faults and outages (needs root)"
)]
enum Command {
    /// Harm one host after the other under load, and prove that nothing acknowledged was lost.
    Run(Run),
    /// Let a healthy cluster write on a busy machine with latency spikes: nobody may take over.
    Soak(Soak),
    /// Measure how long writes are away, by event and stack.
    Bench(Bench),
    /// Put the results of several such runs into one table and picture.
    Table(Table),
    /// Let a page rot and a disk fill, and wait for the alarms: three minutes.
    Alarms(Alarms),
    /// Follow a virtual address through a switchover and the loss of its holder.
    Vip(Vip),
    /// Measure one stack, and print JSON (what `bench` runs).
    BenchOne(BenchOne),
}

#[derive(Debug, clap::Args)]
struct Run {
    #[arg(long, default_value = "bellwether")]
    stack: Stack,
    /// Three or five.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Faults, one after the other.
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// Chooses faults, victims and times.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only these kinds (all that suit the stack).
    #[arg(long, value_delimiter = ',')]
    faults: Vec<Fault>,
    /// Laid over the cluster's first settings, as JSON.
    #[arg(long, default_value = "{}")]
    dcs: String,
    /// Where a failed run leaves its history, logs and journals.
    #[arg(long, default_value = "chaos-artefacts")]
    out: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Soak {
    #[arg(long, default_value = "bellwether")]
    stack: Stack,
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// Where a failed run leaves logs and journals.
    #[arg(long, default_value = "soak-artefacts")]
    out: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Alarms {
    /// Where a failed run leaves logs and journals.
    #[arg(long, default_value = "alarms-artefacts")]
    out: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Vip {
    /// Where a failed run leaves logs and journals.
    #[arg(long, default_value = "vip-artefacts")]
    out: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Bench {
    /// Rounds per event of Bellwether.
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// Rounds per event of Patroni, which takes its time.
    #[arg(long, default_value_t = 5)]
    patroni_rounds: usize,
    #[arg(long, value_delimiter = ',', default_value = "bellwether,bellwether-etcd,patroni-fast,patroni")]
    stacks: Vec<Stack>,
    /// Only these (all).
    #[arg(long, value_delimiter = ',')]
    events: Vec<Event>,
    /// Where JSON, table and plot go.
    #[arg(long, default_value = "bench-failover")]
    out: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Table {
    /// `results.json` of each.
    #[arg(required = true)]
    results: Vec<PathBuf>,
    /// Where JSON, table and plot go.
    #[arg(long, default_value = "bench-failover")]
    out: PathBuf,
}

#[derive(Debug, clap::Args)]
struct BenchOne {
    #[arg(long)]
    stack: Stack,
    #[arg(long)]
    rounds: usize,
    #[arg(long, value_delimiter = ',')]
    events: Vec<Event>,
    /// Laid over the cluster's first settings, as JSON.
    #[arg(long, default_value = "{}")]
    dcs: String,
}

#[expect(clippy::print_stderr, reason = "it talks to a person")]
fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::Run(arguments) => run(&arguments),
        Command::Soak(arguments) => soak(&arguments),
        Command::Bench(arguments) => bench::side_by_side(
            &arguments.stacks,
            [arguments.rounds, arguments.patroni_rounds],
            &arguments.events,
            &arguments.out,
        ),
        Command::Table(arguments) => bench::together(&arguments.results, &arguments.out),
        Command::Alarms(arguments) => await_alarms(&arguments),
        Command::Vip(arguments) => follow_address(&arguments),
        Command::BenchOne(arguments) => bench_one(&arguments),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bellwether-chaos: {error}");
            ExitCode::from(2)
        }
    }
}

#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the report is data, the rounds are for a person"
)]
fn run(arguments: &Run) -> io::Result<bool> {
    isolation::enter()?;
    let dir = tempfile::Builder::new().prefix("bw-chaos-").tempdir()?;
    let mut laboratory = Laboratory::build(arguments.nodes, dir.path())?;
    laboratory.give_small_disks()?;
    laboratory.give_machines()?;
    let mut faults = arguments.faults.clone();
    if faults.is_empty() {
        faults = Fault::value_variants().to_vec();
    }
    faults.retain(|fault| fault.suits(arguments.stack));
    let history = dir.path().join("history.jsonl");
    let campaign =
        Campaign { stack: arguments.stack, faults, rounds: arguments.rounds, seed: arguments.seed, history };
    let report = tokio::runtime::Runtime::new()?.block_on(async {
        arguments.stack.install(&mut laboratory, &synchronous(arguments.stack, &arguments.dcs)?)?;
        Ok::<_, io::Error>(faults::run(&laboratory, &campaign, |line| eprintln!("{line}")).await)
    })?;
    println!("{}", serde_json::to_string_pretty(&report)?);
    let is_good = report.is_good();
    if !is_good {
        fs::create_dir_all(&arguments.out)?;
        fs::write(arguments.out.join("report.json"), serde_json::to_string_pretty(&report)?)?;
        laboratory.keep_evidence(&arguments.out)?;
        eprintln!("history, logs and journals are in {}", arguments.out.display());
    }
    for host in &laboratory.hosts {
        host.power_off()?;
    }
    Ok(is_good)
}

/// Shows the report, keeps what explains a bad one, and turns the hosts off. Whether all was well.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the report is data, the rest is for a person")]
fn conclude(
    report: &impl serde::Serialize,
    is_good: bool,
    laboratory: &Laboratory,
    out: &std::path::Path,
) -> io::Result<bool> {
    println!("{}", serde_json::to_string_pretty(report)?);
    if !is_good {
        fs::create_dir_all(out)?;
        laboratory.keep_evidence(out)?;
        eprintln!("logs and journals are in {}", out.display());
    }
    for host in &laboratory.hosts {
        host.power_off()?;
    }
    Ok(is_good)
}

#[expect(clippy::print_stderr, reason = "for a person who waits")]
fn soak(arguments: &Soak) -> io::Result<bool> {
    isolation::enter()?;
    let dir = tempfile::Builder::new().prefix("bw-soak-").tempdir()?;
    let mut laboratory = Laboratory::build(3, dir.path())?;
    let report = tokio::runtime::Runtime::new()?.block_on(async {
        arguments.stack.install(&mut laboratory, &synchronous(arguments.stack, "{}")?)?;
        Ok::<_, io::Error>(soak::soak(&laboratory, arguments.minutes, |line| eprintln!("{line}")).await)
    })?;
    conclude(&report, report.is_good(), &laboratory, &arguments.out)
}

#[expect(clippy::print_stderr, reason = "for a person who waits")]
fn await_alarms(arguments: &Alarms) -> io::Result<bool> {
    isolation::enter()?;
    let dir = tempfile::Builder::new().prefix("bw-alarms-").tempdir()?;
    let mut laboratory = Laboratory::build(3, dir.path())?;
    laboratory.give_small_disks()?;
    let report = tokio::runtime::Runtime::new()?.block_on(async {
        Stack::Bellwether.install(&mut laboratory, &json!({}))?;
        Ok::<_, io::Error>(alarms::run(&laboratory, |line| eprintln!("{line}")).await)
    })?;
    conclude(&report, report.is_good(), &laboratory, &arguments.out)
}

#[expect(clippy::print_stderr, reason = "for a person who waits")]
fn follow_address(arguments: &Vip) -> io::Result<bool> {
    isolation::enter()?;
    let dir = tempfile::Builder::new().prefix("bw-vip-").tempdir()?;
    let mut laboratory = Laboratory::build(3, dir.path())?;
    vip::add_ipv6(&laboratory)?;
    for host in &mut laboratory.hosts {
        host.capabilities = Some("+net_admin,+net_raw");
    }
    let report = tokio::runtime::Runtime::new()?.block_on(async {
        Stack::Bellwether.install_with(&mut laboratory, &json!({}), &vip::configuration())?;
        Ok::<_, io::Error>(vip::run(&laboratory, |line| eprintln!("{line}")).await)
    })?;
    conclude(&report, report.is_good(), &laboratory, &arguments.out)
}

/// The mode in which nothing acknowledged may be lost, where it is not the default.
fn synchronous(stack: Stack, over: &str) -> io::Result<Value> {
    let mut dcs: Value = serde_json::from_str(over)?;
    if stack.uses_etcd() && dcs.get("synchronous_mode").is_none() {
        dcs["synchronous_mode"] = json!("quorum");
    }
    if stack == Stack::BellwetherEtcd && dcs.get("ttl").is_none() {
        (dcs["ttl"], dcs["loop_wait"], dcs["retry_timeout"]) = (json!(5), json!(1), json!(2));
    }
    if dcs.get("failsafe_mode").is_none() {
        dcs["failsafe_mode"] = json!(true);
    }
    Ok(dcs)
}

#[expect(clippy::print_stdout, reason = "the report is data")]
fn bench_one(arguments: &BenchOne) -> io::Result<bool> {
    isolation::enter()?;
    let dir = tempfile::Builder::new().prefix("bw-bench-").tempdir()?;
    let mut laboratory = Laboratory::build(3, dir.path())?;
    let events = if arguments.events.is_empty() { Event::value_variants() } else { &arguments.events };
    let report = tokio::runtime::Runtime::new()?.block_on(async {
        arguments.stack.install(&mut laboratory, &synchronous(arguments.stack, &arguments.dcs)?)?;
        Ok::<_, io::Error>(bench::measure(&laboratory, arguments.stack, events, arguments.rounds).await)
    })?;
    println!("{}", json!(report));
    if report.problem.is_some() {
        let out = PathBuf::from(format!("bench-failover-{}-evidence", arguments.stack));
        fs::create_dir_all(&out)?;
        laboratory.keep_evidence(&out)?;
    }
    for host in &laboratory.hosts {
        host.power_off()?;
    }
    Ok(report.problem.is_none())
}
