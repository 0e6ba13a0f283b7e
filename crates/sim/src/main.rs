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

use bellwether_sim::{Bug, Coverage, Outcome, Stats, Verbosity, run, run_calm, shrink, world::World};
use clap::Parser;

#[derive(Debug, Parser)]
#[command(name = "bellwether-sim", about = "Simulates whole clusters, one per seed")]
struct Arguments {
    /// A seed, or FROM..TO (TO is not run).
    #[arg(long, default_value = "0..100", value_parser = seeds)]
    seeds: std::ops::Range<u64>,
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// What kind of worlds.
    #[arg(long, value_enum, default_value_t = Kind::Faults)]
    world: Kind,
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
    /// Begin no further seed after so many seconds, and tell which was the last.
    #[arg(long, value_name = "SECONDS")]
    stop_after: Option<u64>,
    /// Go on after a violation.
    #[arg(long)]
    keep_going: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// Much goes wrong, and at the end the cluster heals.
    Faults,
    /// Nothing is broken, and nothing is always quick: nobody may be replaced.
    Calm,
}

impl Kind {
    fn run(self, seed: u64, bug: Bug, verbosity: Verbosity) -> Outcome {
        match self {
            Self::Faults => run(seed, bug, verbosity),
            Self::Calm => run_calm(seed, bug, verbosity),
        }
    }

    fn option(self) -> &'static str {
        match self {
            Self::Faults => "",
            Self::Calm => " --world calm",
        }
    }
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
    /// The highest seed that was run.
    last: u64,
}

impl Total {
    fn add(&mut self, outcome: Outcome) {
        self.seeds += 1;
        self.coverage.merge(&outcome.coverage);
        self.stats.add(&outcome.stats);
        self.slowest_healing = self.slowest_healing.max(outcome.stats.healed_after);
        if outcome.violation.is_some() {
            self.violations.push(outcome);
        }
    }

    fn merge(&mut self, other: Total) {
        self.seeds += other.seeds;
        self.coverage.merge(&other.coverage);
        self.stats.add(&other.stats);
        self.slowest_healing = self.slowest_healing.max(other.slowest_healing);
        self.last = self.last.max(other.last);
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
    #[expect(clippy::disallowed_methods, reason = "how long the simulator itself may take")]
    let began = std::time::Instant::now();
    let is_late = || arguments.stop_after.is_some_and(|seconds| began.elapsed().as_secs() >= seconds);
    let verbosity = if arguments.trace { Verbosity::Everything } else { Verbosity::Hash };
    let work = || {
        let mut total = Total::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= arguments.seeds.end || is_late() {
                return total;
            }
            let mut outcome = arguments.world.run(seed, arguments.bug, verbosity);
            if outcome.violation.is_some() && !arguments.trace {
                // The same run again, this time with its story.
                outcome = arguments.world.run(seed, arguments.bug, Verbosity::Tail);
            }
            if arguments.shrink
                && let Some(scenario) = shrink(&outcome.scenario, arguments.bug)
            {
                outcome = World::new(scenario, arguments.bug, Verbosity::Tail).run();
            }
            total.last = total.last.max(seed);
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
        writeln!(
            out,
            "  repeat with: bellwether-sim --seeds {}{} --trace{bug}",
            outcome.scenario.seed,
            arguments.world.option()
        )?;
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
        "{} seeds, up to {}, {} violations; {:.1} simulated hours in {:.1} s; {decisions} decisions ({:.0}/s), {events} events",
        total.seeds,
        total.last,
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
