//! Runs seeds and reports broken promises.
//!
//! `bellwether-sim --seeds 1..1000 --threads 2` runs them all; `--seeds 17 --trace` tells the story of one. Ends with status 1 if
//! a promise was broken.

use std::{
    io::{self, Write},
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bellwether_sim::{Bug, Coverage, Outcome, Stats, Verbosity, run, shrink, world::World};
use clap::Parser;

#[derive(Debug, Parser)]
#[command(name = "bellwether-sim", about = "Simulates whole clusters, one per seed")]
struct Arguments {
    /// A seed, or FROM..TO (TO is not run).
    #[arg(long, default_value = "0..100", value_parser = seeds)]
    seeds: std::ops::Range<u64>,
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Print everything that happens.
    #[arg(long)]
    trace: bool,
    /// Print one JSON object for the whole run.
    #[arg(long)]
    json: bool,
    /// Put a known bug back, to see it caught.
    #[arg(long, default_value = "none")]
    bug: Bug,
    /// Leave out what is not needed for a violation, and tell the rest.
    #[arg(long)]
    shrink: bool,
    /// Tell which reasons and actions were never reached.
    #[arg(long)]
    coverage: bool,
    /// Go on after a violation.
    #[arg(long)]
    keep_going: bool,
}

fn seeds(text: &str) -> Result<std::ops::Range<u64>, String> {
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("`{text}`: {error}"));
    match text.split_once("..") {
        Some((from, to)) => Ok(number(from)?..number(to)?),
        None => number(text).map(|seed| seed..seed + 1),
    }
}

/// The sum over all seeds.
#[derive(Debug, Default)]
struct Total {
    seeds: u64,
    stats: Stats,
    coverage: Coverage,
    violations: Vec<Outcome>,
    slowest_healing: u64,
}

impl Total {
    fn add(&mut self, outcome: Outcome) {
        let Stats { decisions, events, writes, acknowledged, lost, promotions, .. } = outcome.stats;
        self.seeds += 1;
        self.coverage.merge(&outcome.coverage);
        self.stats.decisions += decisions;
        self.stats.events += events;
        self.stats.writes += writes;
        self.stats.acknowledged += acknowledged;
        self.stats.lost += lost;
        self.stats.promotions += promotions;
        self.stats.rewinds += outcome.stats.rewinds;
        self.stats.clones += outcome.stats.clones;
        self.stats.guardian_kills += outcome.stats.guardian_kills;
        self.stats.takeovers += outcome.stats.takeovers;
        self.stats.takeovers_expected += outcome.stats.takeovers_expected;
        self.stats.takeover_took = self.stats.takeover_took.max(outcome.stats.takeover_took);
        self.stats.operator_failovers += outcome.stats.operator_failovers;
        self.stats.passed_over_timelines += outcome.stats.passed_over_timelines;
        self.stats.lasted += outcome.stats.lasted;
        self.slowest_healing = self.slowest_healing.max(outcome.stats.healed_after);
        if outcome.violation.is_some() {
            self.violations.push(outcome);
        }
    }

    fn merge(&mut self, other: Total) {
        self.seeds += other.seeds;
        self.coverage.merge(&other.coverage);
        let (mine, theirs) = (&mut self.stats, &other.stats);
        mine.decisions += theirs.decisions;
        mine.events += theirs.events;
        mine.writes += theirs.writes;
        mine.acknowledged += theirs.acknowledged;
        mine.lost += theirs.lost;
        mine.promotions += theirs.promotions;
        mine.rewinds += theirs.rewinds;
        mine.clones += theirs.clones;
        mine.guardian_kills += theirs.guardian_kills;
        mine.takeovers += theirs.takeovers;
        mine.takeovers_expected += theirs.takeovers_expected;
        mine.takeover_took = mine.takeover_took.max(theirs.takeover_took);
        mine.operator_failovers += theirs.operator_failovers;
        mine.passed_over_timelines += theirs.passed_over_timelines;
        mine.lasted += theirs.lasted;
        self.slowest_healing = self.slowest_healing.max(other.slowest_healing);
        self.violations.extend(other.violations);
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    #[expect(clippy::disallowed_methods, reason = "measures the simulator itself")]
    let began = std::time::Instant::now();
    let total = run_all(&arguments);
    let took = began.elapsed();
    let failed = !total.violations.is_empty();
    let told = if arguments.json { tell_json(&total, took) } else { tell(&arguments, &total, took) };
    match (told, failed) {
        (Err(_), _) => ExitCode::from(2),
        (Ok(()), true) => ExitCode::from(1),
        (Ok(()), false) => ExitCode::SUCCESS,
    }
}

fn run_all(arguments: &Arguments) -> Total {
    let next = AtomicU64::new(arguments.seeds.start);
    let verbosity = if arguments.trace { Verbosity::Everything } else { Verbosity::Hash };
    let work = || {
        let mut total = Total::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= arguments.seeds.end {
                return total;
            }
            let mut outcome = run(seed, arguments.bug, verbosity);
            if outcome.violation.is_some() && !arguments.trace {
                // The same run again, this time with its story.
                outcome = run(seed, arguments.bug, Verbosity::Tail);
            }
            if arguments.shrink
                && let Some(scenario) = shrink(&outcome.scenario, arguments.bug)
            {
                outcome = World::new(scenario, arguments.bug, Verbosity::Tail).run();
            }
            let stop = outcome.violation.is_some() && !arguments.keep_going;
            if arguments.trace {
                let _ =
                    writeln!(io::stdout(), "{}\n{}", outcome.scenario.summary(), outcome.trace.join("\n"));
            }
            total.add(outcome);
            if stop {
                next.store(arguments.seeds.end, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..arguments.threads.max(1)).map(|_| scope.spawn(work)).collect();
        let mut total = Total::default();
        for worker in workers {
            total.merge(worker.join().expect("a worker does not panic unless the model is broken"));
        }
        total.violations.sort_by_key(|outcome| outcome.scenario.seed);
        total
    })
}

fn tell(arguments: &Arguments, total: &Total, took: Duration) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for outcome in &total.violations {
        let Some(violation) = &outcome.violation else { continue };
        if !arguments.keep_going && !arguments.trace {
            writeln!(out, "{}", outcome.trace.join("\n"))?;
        }
        writeln!(out, "{}", outcome.scenario.summary())?;
        let seconds = violation.at / 1_000_000_000;
        writeln!(out, "  {} broken at {seconds} s: {}", violation.invariant, violation.text)?;
        let bug = if arguments.bug == Bug::None {
            String::new()
        } else {
            format!(" --bug {}", arguments.bug.as_str())
        };
        if arguments.shrink {
            for planned in &outcome.scenario.faults {
                let (at, lasts) = (planned.at as f64 / 1e9, planned.lasts as f64 / 1e9);
                writeln!(out, "  needs at {at:.3} s for {lasts:.3} s: {:?}", planned.fault)?;
            }
        }
        writeln!(out, "  repeat with: bellwether-sim --seeds {} --trace{bug}", outcome.scenario.seed)?;
    }
    if arguments.coverage {
        writeln!(out, "reasons never given: {}", total.coverage.unreached_reasons().join(", "))?;
        writeln!(out, "actions never decided on: {}", total.coverage.unreached_actions().join(", "))?;
        writeln!(out, "rarest reasons: {:?}", total.coverage.rarest_reasons(12))?;
    }
    let Stats { decisions, events, acknowledged, lost, promotions, rewinds, clones, guardian_kills, .. } =
        total.stats;
    writeln!(
        out,
        "{} seeds, {} violations; {:.1} simulated hours in {:.1} s; {decisions} decisions ({:.0}/s), {events} events",
        total.seeds,
        total.violations.len(),
        total.stats.lasted as f64 / 3.6e12,
        took.as_secs_f64(),
        decisions as f64 / took.as_secs_f64(),
    )?;
    writeln!(
        out,
        "{promotions} promotions, {} take-overs ({} expected in time), {rewinds} rewinds, {clones} copies, {guardian_kills} guardian kills; {acknowledged} writes \
         acknowledged, {lost} of them lost without synchronous replication; {} timelines passed over; {} failovers by an operator; slowest healing {:.1} s",
        total.stats.takeovers,
        total.stats.takeovers_expected,
        total.stats.passed_over_timelines,
        total.stats.operator_failovers,
        total.slowest_healing as f64 / 1e9,
    )
}

fn tell_json(total: &Total, took: Duration) -> io::Result<()> {
    let violations: Vec<_> = total
        .violations
        .iter()
        .filter_map(|outcome| {
            let violation = outcome.violation.as_ref()?;
            Some(serde_json::json!({
                "seed": outcome.scenario.seed,
                "invariant": violation.invariant,
                "at_seconds": violation.at as f64 / 1e9,
                "text": violation.text,
            }))
        })
        .collect();
    let report = serde_json::json!({
        "seeds": total.seeds,
        "violations": violations,
        "decisions": total.stats.decisions,
        "decisions_per_second": total.stats.decisions as f64 / took.as_secs_f64(),
        "simulated_hours": total.stats.lasted as f64 / 3.6e12,
        "acknowledged": total.stats.acknowledged,
        "lost_asynchronous": total.stats.lost,
        "promotions": total.stats.promotions,
        "takeovers": total.stats.takeovers,
        "slowest_healing_seconds": total.slowest_healing as f64 / 1e9,
    });
    writeln!(io::stdout(), "{report}")
}
