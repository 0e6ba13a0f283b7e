//! `bellwether vip ...`: what is left of virtual addresses on this host when no agent runs.

use std::{path::PathBuf, process::ExitCode};

use bellwether_agent::runtime_dir;
use bellwether_entrypoint::vip::{
    manager::take_back,
    record::{Record, Recorded},
};
use clap::{Args, Subcommand};

use crate::{exit::Status, run};

/// Looks after virtual addresses on this host.
#[derive(Args, Clone, Debug)]
pub(crate) struct VipArgs {
    #[command(subcommand)]
    command: VipCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum VipCommand {
    /// Removes the addresses that an agent has added to this host and not taken back
    #[command(
        long_about = "Removes the addresses that an agent has added to this host and not taken back. It is the last step of the \
        service's unit (ExecStopPost), and can be typed by hand while the agent is stopped. Two kinds stay unless `--force` is \
        given: those of an agent that has died and is started again at once (systemd says so in SERVICE_RESULT), which the \
        kernel drops with the lease; and those that were left for some minutes because the cluster is paused."
    )]
    Release {
        /// The configuration of the member
        #[arg(value_name = "CONFIG")]
        file: Option<PathBuf>,
        /// All entries; there is no other choice yet
        #[arg(long)]
        all: bool,
        /// Those too that would stay
        #[arg(long)]
        force: bool,
    },
}

#[expect(clippy::print_stderr, clippy::print_stdout, reason = "it talks to a person, not to a log")]
pub(crate) async fn run(args: VipArgs, config: Option<PathBuf>) -> ExitCode {
    let VipCommand::Release { file, all: _, force } = args.command;
    let loaded = match run::load_or_explain(file.or(config).as_deref()) {
        Ok(loaded) => loaded,
        Err(status) => return status.code(false),
    };
    let record = Record::within(&runtime_dir(&loaded.config));
    let left = match record.read() {
        Ok(left) => left,
        Err(error) => {
            eprintln!("bellwether vip: {}: {error}", record.path().display());
            eprintln!("  help: look at `ip address` for labels that end with `:bw`, and remove this file");
            return Status::Failed.code(false);
        }
    };
    let restarts = std::env::var("SERVICE_RESULT").is_ok_and(|result| result != "success");
    let (stays, goes): (Vec<Recorded>, Vec<Recorded>) =
        left.into_iter().partition(|left| !force && (left.is_kept || (restarts && left.is_finite)));
    if let Err(error) = take_back(&goes).await {
        eprintln!("bellwether vip: the addresses cannot be removed: {error}");
        eprintln!("  help: run it as root, or with CAP_NET_ADMIN, in the network namespace of the agent");
        return Status::Failed.code(false);
    }
    for left in &goes {
        println!("{} is not on {} any more", left.address, left.interface);
    }
    for left in &stays {
        println!("{} stays on {}; `--force` removes it, too", left.address, left.interface);
    }
    if !goes.is_empty()
        && let Err(error) = record.write(&stays)
    {
        eprintln!("bellwether vip: {}: {error}", record.path().display());
        return Status::Failed.code(false);
    }
    Status::Ok.code(false)
}
