//! The command line of the process itself; operators' commands are in `bellwether-cli`.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::{
    config_commands::{self, ConfigArgs},
    dcs_commands::{self, DcsArgs},
    demo::{self, DemoArgs},
    exit::Status,
    run::{self, RunOptions},
    witness,
};

/// The name that the binary was called by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Called {
    Bellwether,
    Patroni,
    Patronictl,
}

/// Keeps a PostgreSQL cluster writable through the loss of any server.
#[derive(Debug, Parser)]
#[command(name = "bellwether", version, about, propagate_version = true)]
struct Bellwether {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs this node's agent until it is stopped (SIGTERM); SIGHUP reloads the file.
    Run {
        /// The configuration: a file, or a directory of *.yml files. Without it, PATRONI_* variables are used.
        #[arg(value_name = "CONFIG")]
        file: Option<PathBuf>,
    },
    /// Starts a three-node cluster on this machine to play with, or with --drill puts one to the test.
    Demo(DemoArgs),
    /// Votes in the embedded store without running PostgreSQL: the third vote of two nodes.
    Witness {
        /// The configuration: `name`, `scope` and `raft` are enough.
        #[arg(value_name = "CONFIG")]
        file: Option<PathBuf>,
    },
    /// Looks after the embedded store (the DCS): its members, its keys, its backups.
    Dcs(DcsArgs),
    /// Checks and explains configurations; connects to nothing.
    Config(ConfigArgs),
}

/// `patroni [configfile]`.
#[derive(Debug, Parser)]
#[command(name = "patroni", version, about = "Runs this node's agent as Patroni's users know it.")]
struct Patroni {
    #[arg(value_name = "configfile")]
    file: Option<PathBuf>,
}

pub(crate) fn dispatch(called: Called, arguments: Vec<OsString>) -> ExitCode {
    match called {
        Called::Patroni => {
            let file = Patroni::parse_from(arguments).file;
            run::run(&RunOptions { file, as_patroni: true })
        }
        Called::Patronictl => Status::Usage.code(true),
        Called::Bellwether => match Bellwether::parse_from(arguments).command {
            Command::Run { file } => run::run(&RunOptions { file, as_patroni: false }),
            Command::Demo(args) => show_demo(args),
            Command::Witness { file } => witness::run(file),
            Command::Dcs(args) => dcs_commands::run(args),
            Command::Config(args) => config_commands::run(args),
        },
    }
}

#[expect(clippy::print_stderr, reason = "the demo talks to a person, not to a log")]
fn show_demo(args: DemoArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("the kernel gives a process its first threads");
    match runtime.block_on(demo::run(args)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bellwether demo: {error}");
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                eprintln!("  because: {error}");
                cause = error.source();
            }
            Status::Failed.code(false)
        }
    }
}
