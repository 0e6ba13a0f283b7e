//! `bellwether adopt`: from a running Patroni, or from a bare PostgreSQL with streaming replication, to Bellwether, and back.
//!
//! It looks, prints what would happen and what cannot be kept, and stops there. `--install` writes the unit and the links,
//! `--back` prepares the way back; neither starts, stops or restarts anything: that is up to the person who reads the plan.

mod back;
mod findings;
mod install;
mod look;
mod plan;
mod print;

use std::{path::PathBuf, process::ExitCode};

use bellwether_types::Failure;
use clap::{Args, ValueEnum};

use crate::{exit::Status, failure, run};

/// Looks at this node before Bellwether takes it over, and says what would happen.
#[derive(Args, Clone, Debug)]
#[command(
    long_about = "Looks at this node, run by Patroni or by nobody, with the configuration that Bellwether would have, and prints \
    what would happen, what cannot be kept and what stands in the way. Nothing is changed without --install or --back, and \
    nothing is ever started or stopped. Ends with 1 if something stands in the way."
)]
pub(crate) struct AdoptArgs {
    /// The configuration: Patroni's, or a new one for a bare PostgreSQL
    #[arg(value_name = "CONFIG")]
    file: Option<PathBuf>,

    /// Writes the systemd unit, and the links `patroni` and `patronictl` to this program
    #[arg(long, conflicts_with = "back")]
    install: bool,

    /// With --install: where the unit goes
    #[arg(long, value_name = "DIR", default_value = "/etc/systemd/system")]
    unit_dir: PathBuf,

    /// With --install: where the links go
    #[arg(long, value_name = "DIR", default_value = "/usr/local/bin")]
    bin_dir: PathBuf,

    /// With --install: as whom the agent runs
    #[arg(long, value_name = "NAME", default_value = "postgres")]
    user: String,

    /// Prepares the way back to Patroni: timings that it does not allow are raised, and every member has to confirm them
    #[arg(long)]
    back: bool,

    /// How to print
    #[arg(short, long, value_enum, default_value_t = Format::Pretty)]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Pretty,
    Json,
}

/// Why nothing could be said or done.
#[derive(Debug, thiserror::Error)]
enum AdoptError {
    #[error("{0}")]
    Load(#[from] bellwether_config::LoadError),
    #[error(transparent)]
    Store(#[from] crate::store::StartError),
    #[error("the store did not answer")]
    StoreSilent(#[from] bellwether_dcs::StoreError),
    #[error("the client for the members' REST APIs cannot be made")]
    Client(#[from] bellwether_api_client::ConfigError),
    #[error(transparent)]
    Back(#[from] back::BackError),
    #[error(transparent)]
    Install(#[from] install::InstallError),
}

impl AdoptError {
    fn failure(&self) -> Option<Failure> {
        match self {
            Self::Load(error) => Some(error.failure()),
            Self::Store(error) => Some(error.failure()),
            Self::StoreSilent(error) => Some(error.failure()),
            Self::Client(_) => Some(Failure::ClientCertificates),
            Self::Back(_) | Self::Install(_) => None,
        }
    }
}

/// Runs the command to its exit status.
#[expect(clippy::print_stderr, reason = "errors of a command go to the person who gave it")]
pub(crate) async fn run(args: AdoptArgs) -> ExitCode {
    match obey(args).await {
        Ok(true) => Status::Ok.code(false),
        Ok(false) => Status::Failed.code(false),
        Err(error) => {
            let text = match error.failure() {
                Some(failure) => failure::text(&error, failure),
                None => failure::causes(&error),
            };
            eprintln!("bellwether adopt: {text}");
            let status = if matches!(error, AdoptError::Load(_)) { Status::Config } else { Status::Failed };
            status.code(false)
        }
    }
}

/// True if nothing stands in the way.
async fn obey(args: AdoptArgs) -> Result<bool, AdoptError> {
    let loaded = bellwether_config::load(args.file.as_deref(), &run::environment())?;
    if args.back {
        return Ok(back::prepare(&loaded.config).await.map(|()| true)?);
    }
    let findings = look::at(&loaded).await?;
    let plan = plan::make(&findings);
    match args.format {
        Format::Pretty => print::people(&findings, &plan),
        Format::Json => print::json(&findings, &plan),
    }
    if args.install && plan.obstacles.is_empty() {
        let places = install::Places {
            configuration: args.file,
            unit_dir: args.unit_dir,
            bin_dir: args.bin_dir,
            user: args.user,
        };
        print::installed(&install::install(&places)?);
    }
    Ok(plan.obstacles.is_empty())
}
