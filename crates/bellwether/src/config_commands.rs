//! `bellwether config ...`: looking at a configuration without running it.

use std::{path::PathBuf, process::ExitCode};

use bellwether_config::{json_schema, load, render, sample};
use clap::{Args, Subcommand};

use crate::{exit::Status, failure, run};

/// Checks and explains configurations; connects to nothing.
#[derive(Args, Clone, Debug)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum ConfigCommand {
    /// Tells every problem of a file, each with its line, its reason and what to do
    Check {
        file: PathBuf,
        /// Unknown keys and doubtful values are errors, too
        #[arg(long)]
        strict: bool,
    },
    /// Prints the configuration in force (file and PATRONI_* variables merged), without secrets
    Show { file: Option<PathBuf> },
    /// Prints a sample configuration with comments
    Sample,
    /// Prints the JSON schema of the configuration, for editors
    Schema,
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "data and problems of a command")]
pub(crate) fn run(args: ConfigArgs) -> ExitCode {
    let environment = run::environment();
    let status = match args.command {
        ConfigCommand::Sample => {
            print!("{}", sample());
            Status::Ok
        }
        ConfigCommand::Schema => {
            println!("{:#}", json_schema());
            Status::Ok
        }
        ConfigCommand::Check { file, strict } => match load(Some(&file), &environment) {
            Ok(loaded) => {
                eprint!("{}", render(&loaded.warnings));
                if strict && !loaded.warnings.is_empty() { Status::Config } else { Status::Ok }
            }
            Err(error) => {
                eprintln!("{}", failure::text(&error, error.failure()));
                Status::Config
            }
        },
        ConfigCommand::Show { file } => match load(file.as_deref(), &environment) {
            Ok(loaded) => {
                println!("{:#}", loaded.redacted());
                Status::Ok
            }
            Err(error) => {
                eprintln!("{}", failure::text(&error, error.failure()));
                Status::Config
            }
        },
    };
    status.code(false)
}
