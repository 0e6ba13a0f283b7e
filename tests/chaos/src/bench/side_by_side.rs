//! All stacks in one run, one after the other on the same machine.

use std::{env, fs, io, path::Path, process::Command};

use serde::Serialize;

use super::{Event, StackReport, plot, table};
use crate::stack::Stack;

/// What the run leaves as JSON.
#[derive(Debug, Serialize)]
struct Run<'a> {
    cores: usize,
    kernel: String,
    stacks: &'a [StackReport],
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
    let mut reports = Vec::new();
    for &stack in stacks {
        let rounds = if stack.is_patroni() { patroni_rounds } else { rounds };
        eprintln!("{stack}: {rounds} rounds");
        reports.push(one(stack, rounds, events)?);
        let run = Run { cores: cores(), kernel: kernel(), stacks: &reports };
        fs::write(out.join("results.json"), serde_json::to_string_pretty(&run)?)?;
    }
    let table = table::markdown(&reports);
    fs::write(out.join("table.md"), &table)?;
    fs::write(out.join("outages.svg"), plot::svg(&table::cells(&reports)))?;
    println!("{table}");
    for report in &reports {
        if let Some(problem) = &report.problem {
            eprintln!("{}: {problem}", report.stack);
        }
    }
    Ok(reports.iter().all(|report| report.problem.is_none()))
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
