//! All stacks in one run, one after the other on the same machine.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use serde::{Deserialize, Serialize};

use super::{Event, StackReport, plot, table};
use crate::stack::Stack;

/// What the run leaves as JSON.
#[derive(Debug, Serialize, Deserialize)]
struct Run {
    cores: usize,
    kernel: String,
    stacks: Vec<StackReport>,
}

impl Run {
    fn here() -> Self {
        Self { cores: cores(), kernel: kernel(), stacks: Vec::new() }
    }

    /// `results.json`, `table.md` and `outages.svg`.
    fn write(&self, out: &Path) -> io::Result<()> {
        fs::write(out.join("results.json"), serde_json::to_string_pretty(self)?)?;
        fs::write(out.join("table.md"), table::markdown(&self.stacks))?;
        fs::write(out.join("outages.svg"), plot::svg(&table::cells(&self.stacks)))
    }

    /// Adds what another run has measured: to the same stack, or as one more.
    fn add(&mut self, report: StackReport) {
        match self.stacks.iter_mut().find(|known| known.stack == report.stack) {
            Some(known) => {
                known.measured.extend(report.measured);
                known.acknowledged += report.acknowledged;
                known.failed_statements += report.failed_statements;
                known.lost += report.lost;
                known.problem = known.problem.take().or(report.problem);
            }
            None => self.stacks.push(report),
        }
    }
}

/// Measures each stack in a process of its own and writes `results.json`, `table.md` and `outages.svg` to `out`.
#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the table is the result; the rest is for a person"
)]
pub fn side_by_side(
    stacks: &[Stack],
    [rounds, patroni_rounds]: [usize; 2],
    events: &[Event],
    out: &Path,
) -> io::Result<bool> {
    fs::create_dir_all(out)?;
    let mut run = Run::here();
    for &stack in stacks {
        let rounds = if stack.is_patroni() { patroni_rounds } else { rounds };
        eprintln!("{stack}: {rounds} rounds");
        run.add(one(stack, rounds, events)?);
        // What is there is not lost if somebody ends the rest.
        run.write(out)?;
    }
    println!("{}", table::markdown(&run.stacks));
    for report in &run.stacks {
        if let Some(problem) = &report.problem {
            eprintln!("{}: {problem}", report.stack);
        }
    }
    Ok(run.stacks.iter().all(|report| report.problem.is_none()))
}

/// One table and picture of what several runs have measured, from their `results.json`.
#[expect(clippy::print_stdout, reason = "the table is the result")]
pub fn together(results: &[PathBuf], out: &Path) -> io::Result<bool> {
    fs::create_dir_all(out)?;
    let mut all = Run::here();
    for file in results {
        let told = |error: serde_json::Error| io::Error::other(format!("{}: {error}", file.display()));
        let run: Run = serde_json::from_str(&fs::read_to_string(file)?).map_err(told)?;
        (all.cores, all.kernel) = (run.cores, run.kernel);
        run.stacks.into_iter().for_each(|report| all.add(report));
    }
    all.write(out)?;
    println!("{}", table::markdown(&all.stacks));
    Ok(true)
}

fn one(stack: Stack, rounds: usize, events: &[Event]) -> io::Result<StackReport> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["bench-one", "--stack", &stack.to_string(), "--rounds", &rounds.to_string()]);
    if !events.is_empty() {
        let events: Vec<String> = events.iter().map(Event::to_string).collect();
        command.args(["--events", &events.join(",")]);
    }
    let output = command.stderr(std::process::Stdio::inherit()).output()?;
    serde_json::from_slice(&output.stdout)
        .map_err(|error| io::Error::other(format!("{stack} left no report: {error}")))
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(0, usize::from)
}

fn kernel() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(stack: &str, acknowledged: usize, lost: usize) -> StackReport {
        StackReport { stack: stack.to_owned(), acknowledged, lost, ..StackReport::default() }
    }

    #[test]
    fn what_one_stack_did_in_several_runs_is_added_up() {
        let mut run = Run::here();
        for report in [report("patroni", 5, 1), report("bellwether", 7, 0), report("patroni", 3, 2)] {
            run.add(report);
        }
        let summed: Vec<_> =
            run.stacks.iter().map(|of| (of.stack.as_str(), of.acknowledged, of.lost)).collect();
        assert_eq!(summed, [("patroni", 8, 3), ("bellwether", 7, 0)]);
    }
}
