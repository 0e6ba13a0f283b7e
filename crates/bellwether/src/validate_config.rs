//! `patroni --validate-config`: every problem of a configuration at once, on standard error, without running anything.

use std::{
    net::{TcpStream, ToSocketAddrs as _},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use bellwether_config::{HostPort, LoadError, Probe, Problem, validate};

use crate::{exit::Status, failure, run};

/// For one address to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// What to judge, and how.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) file: Option<PathBuf>,
    /// The member may be running: its own ports are in use.
    pub(crate) ignore_listen_port: bool,
    /// Print the merged local configuration, secrets included.
    pub(crate) print: bool,
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "data and problems of a command")]
pub(crate) fn run(request: &Request) -> Status {
    let found = match validate(request.file.as_deref(), &run::environment()) {
        Ok(found) => found,
        Err(error) => {
            eprintln!("{}", unreadable(&error, request.file.as_deref()));
            return Status::Config;
        }
    };
    let mut problems = found.problems;
    for probe in found.probes {
        let is_own_port = matches!(probe, Probe::Free { .. });
        if !(is_own_port && request.ignore_listen_port) {
            problems.extend(ask(probe));
        }
    }
    if !problems.is_empty() {
        for problem in &problems {
            eprintln!("{}", problem.as_patroni_tells());
        }
        return Status::Config;
    }
    if request.print {
        print!("{}", bellwether_cli::yaml(&found.document));
    }
    Status::Ok
}

/// A file that is no map gets a second line that names it, as scripts know it.
pub(crate) fn unreadable(error: &LoadError, file: Option<&Path>) -> String {
    let mut text = failure::text(error, error.failure());
    if let (LoadError::Syntax(_), Some(file)) = (error, file) {
        text.push_str(&format!("\ninvalid config file {}", file.display()));
    }
    text
}

fn ask(probe: Probe) -> Option<Problem> {
    match probe {
        Probe::Free { addresses, problem } => {
            let mut answers = addresses.iter().map(answers);
            match answers.find(|answer| !matches!(answer, Ok(false))) {
                Some(Ok(_)) => Some(problem),
                Some(Err(error)) => Some(failed(problem, &error)),
                None => None,
            }
        }
        Probe::Reachable { address, problem } => match answers(&address) {
            Ok(true) => None,
            Ok(false) => Some(problem),
            Err(error) => Some(failed(problem, &error)),
        },
        Probe::Version { program, data_version, mut problem } => {
            let version = major_version(&program)?;
            let differs = version != data_version;
            problem.reason = problem.reason.replace("(?)", &format!("({version})"));
            differs.then_some(problem)
        }
    }
}

fn failed(problem: Problem, error: &std::io::Error) -> Problem {
    Problem { reason: format!("didn't pass validation: {error}"), ..problem }
}

/// Whether a connection can be made. A name that means nothing is an error.
fn answers(address: &HostPort) -> std::io::Result<bool> {
    let mut resolved = (address.host.as_str(), address.port).to_socket_addrs()?;
    Ok(resolved.any(|address| TcpStream::connect_timeout(&address, PATIENCE).is_ok()))
}

/// `15` of `postgres (PostgreSQL) 15.4`, `9.6` of `9.6.24`; `None` if the program cannot be run.
pub(crate) fn major_version(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>();
    let mut parts = number.split('.').map(digits);
    let first = parts.next()?;
    if first.parse::<u32>().ok()? >= 10 { Some(first) } else { Some(format!("{first}.{}", parts.next()?)) }
}
