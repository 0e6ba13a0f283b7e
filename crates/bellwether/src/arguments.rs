//! The command line: the process's own commands here, operators' commands from `bellwether-cli`.

use std::{ffi::OsString, path::PathBuf, process::ExitCode, sync::Arc};

use bellwether_cli::{Console, Globals, Manner, Surroundings};
use bellwether_dcs::codec::COMPATIBLE_VERSION;
use clap::{CommandFactory, Parser, Subcommand};

use crate::{
    adopt::{self, AdoptArgs},
    config_commands::{self, ConfigArgs},
    dcs_commands::{self, DcsArgs},
    demo::{self, DemoArgs},
    exit::Status,
    generate_config, init, proxy, reader,
    run::{self, RunOptions},
    store, validate_config,
    vip_commands::{self, VipArgs},
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
    #[command(flatten)]
    globals: Globals,
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
    /// Leads clients to the right member from a host without an agent, where applications run; SIGHUP reloads the file.
    Proxy {
        /// The configuration: `scope`, a store, and `router` or `pooler` are enough.
        #[arg(value_name = "CONFIG")]
        file: Option<PathBuf>,
    },
    /// Looks after the embedded store (the DCS): its members, its keys, its backups.
    Dcs(DcsArgs),
    /// Looks at a node that Patroni or nobody runs, and says how Bellwether would take it over.
    Adopt(AdoptArgs),
    /// Checks and explains configurations; connects to nothing.
    Config(ConfigArgs),
    /// Looks after virtual addresses on this host.
    Vip(VipArgs),
    #[command(flatten)]
    Operator(bellwether_cli::Command),
}

/// The whole command line, for the reference page.
#[cfg(test)]
pub(crate) fn program() -> clap::Command {
    Bellwether::command()
}

/// `patroni [configfile]`, and what else Patroni's users type.
#[derive(Debug, Parser)]
#[command(name = "patroni", version = COMPATIBLE_VERSION, about = "Runs this node's agent as Patroni's users know it.")]
struct Patroni {
    /// A file, or a directory of *.yml files. Without it PATRONI_CONFIGURATION or the PATRONI_* variables are used
    #[arg(value_name = "configfile")]
    file: Option<PathBuf>,
    /// Tells every problem of the configuration and ends
    #[arg(long, group = "mode")]
    validate_config: bool,
    /// Prints (or writes to configfile) a configuration to start from
    #[arg(long, group = "mode")]
    generate_sample_config: bool,
    /// Prints (or writes to configfile) the configuration of a PostgreSQL that is running
    #[arg(long, group = "mode")]
    generate_config: bool,
    /// With --generate-config: how to connect to it as a superuser
    #[arg(long)]
    dsn: Option<String>,
    /// With --validate-config: `listen` ports may be in use
    #[arg(long, short)]
    ignore_listen_port: bool,
    /// With --validate-config: prints the local configuration, with what the environment changes in it
    #[arg(long, short)]
    print: bool,
}

impl Patroni {
    fn obey(self, arguments: &[OsString]) -> ExitCode {
        if self.validate_config || self.generate_sample_config || self.generate_config {
            reader::may_leave();
        }
        let status = if self.validate_config {
            validate_config::run(&validate_config::Request {
                file: self.file,
                ignore_listen_port: self.ignore_listen_port,
                print: self.print,
            })
        } else if self.generate_sample_config {
            generate_config::run(generate_config::Origin::Nothing, self.file.as_deref())
        } else if self.generate_config {
            generate_config::run(generate_config::Origin::Instance { dsn: self.dsn }, self.file.as_deref())
        } else if init::is_first_process() {
            return init::run(arguments);
        } else {
            return run::run(&RunOptions { file: self.file, as_patroni: true });
        };
        status.code(true)
    }
}

pub(crate) fn dispatch(called: Called, arguments: Vec<OsString>) -> ExitCode {
    match called {
        Called::Patroni => Patroni::parse_from(&arguments).obey(&arguments),
        Called::Patronictl => {
            reader::may_leave();
            let surroundings = surroundings(bellwether_cli::Patronictl::command());
            patronictl(arguments, surroundings)
        }
        Called::Bellwether => obey(Bellwether::parse_from(&arguments), &arguments),
    }
}

fn obey(line: Bellwether, arguments: &[OsString]) -> ExitCode {
    if !matches!(
        line.command,
        Command::Run { .. } | Command::Witness { .. } | Command::Proxy { .. } | Command::Demo(_)
    ) {
        reader::may_leave();
    }
    match line.command {
        Command::Run { .. } | Command::Witness { .. } | Command::Proxy { .. } if init::is_first_process() => {
            init::run(arguments)
        }
        Command::Run { file } => {
            run::run(&RunOptions { file: file.or(line.globals.config_file), as_patroni: false })
        }
        Command::Demo(args) => show_demo(args),
        Command::Witness { file } => witness::run(file.or(line.globals.config_file)),
        Command::Proxy { file } => proxy::alone::run(file.or(line.globals.config_file)),
        Command::Dcs(args) => dcs_commands::run(args.or_config(line.globals.config_file)),
        Command::Adopt(args) => client_runtime().block_on(adopt::run(args)),
        Command::Config(args) => config_commands::run(args),
        Command::Vip(args) => client_runtime().block_on(vip_commands::run(args, line.globals.config_file)),
        Command::Operator(command) => {
            let surroundings = surroundings(Bellwether::command());
            let carried_out = bellwether_cli::run(command, line.globals, Manner::Bellwether, surroundings);
            ExitCode::from(client_runtime().block_on(carried_out))
        }
    }
}

/// Ctrl-C ends `patronictl` with the words and the status that its users know, also while it watches or asks: the command has a
/// thread of its own, which may wait for a person.
#[expect(clippy::print_stderr, reason = "it is said to a person, not to a log")]
fn patronictl(arguments: Vec<OsString>, surroundings: Surroundings) -> ExitCode {
    let runtime = client_runtime();
    let handle = runtime.handle().clone();
    let command = runtime
        .spawn_blocking(move || handle.block_on(bellwether_cli::run_patronictl(arguments, surroundings)));
    let status = runtime.block_on(async {
        tokio::select! {
            status = command => status.unwrap_or(1),
            Ok(()) = tokio::signal::ctrl_c() => {
                eprintln!("\nAborted!");
                1
            }
        }
    });
    // Nobody waits for the thread that still reads from the terminal.
    runtime.shutdown_background();
    ExitCode::from(status)
}

fn surroundings(program: clap::Command) -> Surroundings {
    Surroundings {
        stores: Arc::new(store::Stores),
        terminal: Box::new(Console),
        env: run::environment(),
        program,
    }
}

/// A command waits for one answer at a time.
fn client_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("the kernel gives a process its first threads")
}

#[expect(clippy::print_stderr, reason = "the demo talks to a person, not to a log")]
fn show_demo(args: DemoArgs) -> ExitCode {
    match client_runtime().block_on(demo::run(args)) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_the_name_patroni_the_version_is_the_compatible_one() {
        let told = Patroni::try_parse_from(["patroni", "--version"]).unwrap_err();
        assert_eq!(told.kind(), clap::error::ErrorKind::DisplayVersion);
        assert_eq!(told.to_string(), format!("patroni {COMPATIBLE_VERSION}\n"));
        assert_eq!(told.exit_code(), 0);
        let wrong = Patroni::try_parse_from(["patroni", "a.yml", "b.yml"]).unwrap_err();
        assert_eq!(wrong.exit_code(), 2);
    }
}
