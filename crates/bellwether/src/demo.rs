//! `bellwether demo`: three nodes on this machine, a client that writes all the time, and a look at what happens.
//!
//! It is the main job of the product in small: real PostgreSQL, real agents with the embedded store, each node a child process
//! `bellwether run <folder>/<node>/bellwether.yml` under a respawner as systemd would be. Without `--drill` it shows a live table
//! until Ctrl-C, and one may try the printed commands on the cluster; with `--drill` it goes through a fixed [story](drill)
//! of faults by itself, compares every acknowledged row with what the servers hold at the end, and says so in its exit
//! status.
//!
//! It deliberately has no knowledge of the agents' inside: it sees them through their REST API, their processes and their
//! journals, as an operator would. Start reading with [`run`], then [`layout`] (what is where) and [`drill`].

mod account;
mod binaries;
mod budget;
mod client;
mod configuration;
mod drill;
mod layout;
mod ledger;
mod live;
mod members;
mod nodes;
mod ports;
mod processes;
mod report;
mod respawner;
mod verify;
mod welcome;

use std::{io, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, ValueEnum};
use tokio_util::sync::CancellationToken;

use self::{client::Client, layout::Layout, members::Members, nodes::Nodes};

/// How long the cluster may take from nothing to a first acknowledged write and two streaming replicas.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// Starts a three-node cluster on this machine to play with, or with `--drill` to be put to the test.
#[derive(Args, Clone, Debug)]
pub(crate) struct DemoArgs {
    /// Go through a fixed story of failures without questions, print the outage of each, and fail if a row was lost
    #[arg(long)]
    drill: bool,

    /// Of what the story consists [default: the five events that a drill is known for]
    #[arg(long, value_name = "EVENT", value_enum, value_delimiter = ',', requires = "drill")]
    events: Vec<drill::Event>,

    /// Where everything lives: an empty or a new directory [default: a new one in the temporary directory]
    #[arg(long, value_name = "DIRECTORY")]
    folder: Option<PathBuf>,

    /// Keep the folder at the end even if it was made by this command
    #[arg(long)]
    keep: bool,

    /// The directory with PostgreSQL's programs [default: the newest of versions 13 to 18 that is installed]
    #[arg(long, value_name = "DIRECTORY")]
    bin_dir: Option<PathBuf>,

    /// `pretty` for people; `json` for one object per second, or one report at the end of a drill
    #[arg(short, long, value_enum, default_value_t = Format::Pretty)]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Pretty,
    Json,
}

/// Why the demo could not be shown. Whatever it had started is stopped again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum DemoError {
    #[error(transparent)]
    Binaries(#[from] binaries::BinariesError),
    #[error(transparent)]
    Account(#[from] account::AccountError),
    #[error(transparent)]
    Layout(#[from] layout::LayoutError),
    #[error("could not start node {node}")]
    Start {
        node: String,
        #[source]
        cause: io::Error,
    },
    #[error("node {node} cannot run ({status}); the end of its log `{}`:\n{tail}", log.display())]
    GaveUp { node: String, status: String, log: PathBuf, tail: String },
    #[error("the cluster was not ready within {within:?}: {missing}; the nodes' logs are in `{}`", folder.display())]
    NotReady { within: Duration, missing: String, folder: PathBuf },
    #[error("could not listen for signals")]
    Signals {
        #[source]
        cause: io::Error,
    },
    #[error("could not write to standard output")]
    Output {
        #[source]
        cause: io::Error,
    },
}

/// Shows the demo until it is stopped, or runs the drill. Ends with 0 after a clean stop or a drill without loss, else with 1.
///
/// To be called in a multi-threaded runtime. Not to be dropped half-way: the nodes would go on running.
pub(crate) async fn run(args: DemoArgs) -> Result<ExitCode, DemoError> {
    let account = account::unprivileged()?;
    let bin_dir = binaries::find(args.bin_dir.as_deref())?;
    let layout = Layout::create(args.folder.as_deref(), account, bin_dir)?;
    let stop = stop_signal()?;

    let nodes = Nodes::start(&layout)?;
    let client = Client::start(&layout);
    let members = Members::watch(&layout);
    let shown = show(&args, &layout, &nodes, &client, &members, &stop).await;

    let progress = welcome::progress(args.format);
    progress.say("stopping the nodes");
    client.stop().await;
    nodes.stop(&members).await;
    drop(members);
    let clean = matches!(shown, Ok(ExitCode::SUCCESS));
    if layout.is_ours() && !args.keep && clean {
        layout.remove();
    } else {
        progress.say(&format!("everything is left in {}", layout.folder().display()));
    }
    shown
}

async fn show(
    args: &DemoArgs,
    layout: &Layout,
    nodes: &Nodes,
    client: &Client,
    members: &Members,
    stop: &CancellationToken,
) -> Result<ExitCode, DemoError> {
    let progress = welcome::progress(args.format);
    progress.say(&format!("three nodes start in {}", layout.folder().display()));
    tokio::select! {
        ready = wait_until_ready(layout, nodes, client, members) => ready?,
        () = stop.cancelled() => return Ok(ExitCode::SUCCESS),
    }
    if args.drill {
        let events = match args.events.as_slice() {
            [] => drill::Event::STORY.to_vec(),
            given => given.to_vec(),
        };
        let drill = drill::Drill { layout, nodes, client, members, progress, events };
        // Boxed: the compiler would not see through the depth of all that it waits for.
        let drilling = Box::pin(drill.run());
        let report = tokio::select! {
            report = drilling => report,
            () = stop.cancelled() => return Ok(ExitCode::FAILURE),
        };
        report.print(args.format).map_err(|cause| DemoError::Output { cause })?;
        return Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    if args.format == Format::Pretty {
        welcome::print(layout).map_err(|cause| DemoError::Output { cause })?;
    }
    live::show(args.format, layout, nodes, client, members, stop)
        .await
        .map_err(|cause| DemoError::Output { cause })?;
    Ok(ExitCode::SUCCESS)
}

async fn wait_until_ready(
    layout: &Layout,
    nodes: &Nodes,
    client: &Client,
    members: &Members,
) -> Result<(), DemoError> {
    let by = tokio::time::Instant::now() + READY_WITHIN;
    let mut changes = members.subscribe();
    loop {
        if let Some(gone) = nodes.given_up() {
            return Err(gone);
        }
        let missing = match members.now().whole() {
            Ok(_) if client.acknowledged() > 0 => return Ok(()),
            Ok(_) => "no write has been acknowledged".to_owned(),
            Err(missing) => missing.to_string(),
        };
        if tokio::time::timeout_at(by, changes.changed()).await.is_err() {
            let folder = layout.folder().to_owned();
            return Err(DemoError::NotReady { within: READY_WITHIN, missing, folder });
        }
    }
}

/// Cancelled by the first SIGINT or SIGTERM; later ones are ignored, so that a stop is not cut short by impatience.
fn stop_signal() -> Result<CancellationToken, DemoError> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| signal(kind).map_err(|cause| DemoError::Signals { cause });
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        told.cancel();
        // Keeps both signals caught until the process ends.
        std::future::pending::<()>().await;
    });
    Ok(stop)
}
