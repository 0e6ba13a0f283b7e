//! `bellwether dcs ...`: looking into the store, and after the embedded one. Data goes to standard output, everything else to standard error.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use bellwether_config::{ClientConfig, load_client, sections::raft::Raft};
use bellwether_dcs::{Deadline, Store, codec::feature_level};
use bellwether_dcs_raft::{
    ForceQuorum, MemberInfo, RaftClient, StoreStatus, recover_force_quorum, restore_from,
};
use bellwether_types::{ClusterName, Failure};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use crate::{exit::Status, failure, run, store};

/// How long one question to the store may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// A new member copies the store before it gets its vote.
const JOIN_PATIENCE: Duration = Duration::from_secs(60);

/// Looks into the store (the DCS), and after the embedded one: its members, its keys, its backups.
#[derive(Args, Clone, Debug)]
pub(crate) struct DcsArgs {
    /// The configuration of a member, or a short file with `scope` and the store's section
    #[arg(short, long = "config-file", value_name = "FILE", env = "BELLWETHER_CONFIG", global = true)]
    config: Option<PathBuf>,

    /// How to print
    #[arg(short, long, value_enum, default_value_t = Format::Pretty, global = true)]
    format: Format,

    #[command(subcommand)]
    command: DcsCommand,
}

impl DcsArgs {
    /// `-c` may also stand before `dcs`.
    pub(crate) fn or_config(mut self, config: Option<PathBuf>) -> Self {
        self.config = self.config.or(config);
        self
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Pretty,
    Json,
}

#[derive(Clone, Debug, Subcommand)]
enum DcsCommand {
    /// What each node of the store says about itself
    Status,
    /// Who votes, and who leads the store
    Members,
    /// Gives the node that waits at ADDRESS (running, with an empty store directory) a vote
    Add { address: String },
    /// Takes a vote away; the node may be dead. MEMBER is its address or its id
    Remove { member: String },
    /// Moves the store's leadership to another node
    Transfer {
        /// Address of the node; the healthiest other one if absent
        to: Option<String>,
    },
    /// Prints the value of a key, for example `config` or `members/pg-1`
    Get { key: String },
    /// Lists keys with their revisions
    Ls {
        #[arg(default_value = "")]
        prefix: String,
    },
    /// Writes all keys that hang on no lease to a new file
    Snapshot { file: PathBuf },
    /// Founds a store from a snapshot, on this node, while its agent is stopped
    Restore { file: PathBuf },
    /// The way back after a majority of the store is lost for ever; on this node, while its agent is stopped
    #[command(
        long_about = "Makes this node the only voter of the store. For the day when a majority of the nodes is lost for ever: \
        stop the agent here, name every other voter with --lost, then start it again and add new nodes with `bellwether dcs \
        add`. If a lost node came back with its old data there would be two stores: destroy its store directory first. What \
        only the lost nodes knew is gone; a record of the recovery is written beside the store directory."
    )]
    Recover {
        /// Confirms that this is wanted
        #[arg(long, required = true)]
        force_quorum: bool,
        /// Address of a voter that is lost for ever; repeat it for each
        #[arg(long, value_name = "ADDRESS", required = true)]
        lost: Vec<String>,
    },
}

/// A command failed: what, and what to do.
#[derive(Debug, thiserror::Error)]
enum DcsError {
    #[error("{0}")]
    Load(#[from] bellwether_config::LoadError),
    #[error("the configuration has no `{0}`, which this command needs")]
    Missing(&'static str),
    #[error(transparent)]
    Start(#[from] store::StartError),
    #[error("the embedded store cannot be used with this configuration")]
    Raft(#[from] bellwether_dcs_raft::StartError),
    #[error("the store did not answer; `bellwether dcs status` asks each node by itself")]
    Store(#[from] bellwether_dcs::StoreError),
    #[error("the membership was not changed")]
    Membership(#[from] bellwether_dcs_raft::MembershipError),
    #[error("the files of the store are as they were")]
    Offline(#[from] bellwether_dcs_raft::OfflineError),
    #[error("there is no key `{0}`; `bellwether dcs ls` lists them")]
    NoSuchKey(String),
}

impl DcsError {
    fn failure(&self) -> Failure {
        match self {
            Self::Load(error) => error.failure(),
            Self::Missing(_) => Failure::ConfigInvalid,
            Self::Start(error) => error.failure(),
            Self::Raft(error) => error.failure(),
            Self::Store(error) => error.failure(),
            Self::Membership(error) => error.failure(),
            Self::Offline(error) => error.failure(),
            Self::NoSuchKey(_) => Failure::NoSuchKey,
        }
    }
}

#[expect(clippy::print_stderr, reason = "errors of a command go to the person who gave it")]
pub(crate) fn run(args: DcsArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("the kernel gives a process its first threads");
    match runtime.block_on(obey(args)) {
        Ok(()) => Status::Ok.code(false),
        Err(error) => {
            eprintln!("bellwether dcs: {}", failure::text(&error, error.failure()));
            match error {
                DcsError::Load(_) | DcsError::Missing(_) => Status::Config.code(false),
                _ => Status::Failed.code(false),
            }
        }
    }
}

async fn obey(args: DcsArgs) -> Result<(), DcsError> {
    let config = load_client(args.config.as_deref(), &run::environment(), None)?.config;
    let by = || Deadline::after(PATIENCE);
    match &args.command {
        DcsCommand::Get { key } => return get(&*any_store(&config).await?, key, by()).await,
        DcsCommand::Ls { prefix } => {
            return list(&*any_store(&config).await?, prefix, args.format, by()).await;
        }
        _ => {}
    }
    let (raft, cluster) = raft_section(&config)?;
    match args.command {
        DcsCommand::Restore { file } => restore(raft, cluster, &file),
        DcsCommand::Recover { lost, .. } => recover(raft, cluster, lost, args.format),
        online => {
            let client = store::connect_raft(raft, cluster).await?;
            match online {
                DcsCommand::Status => {
                    let nodes = nodes(&client, raft).await;
                    let snapshot = client.snapshot(by()).await.ok();
                    let level = snapshot.as_ref().and_then(feature_level);
                    print_status(&nodes, level, args.format);
                }
                DcsCommand::Members => print_members(&client.status(None, by()).await?, args.format),
                DcsCommand::Add { address } => {
                    client.add_member(&address, Deadline::after(JOIN_PATIENCE)).await?;
                    say(&format!("{address} votes in the store now"));
                }
                DcsCommand::Remove { member } => {
                    client.remove_member(&member, Deadline::after(JOIN_PATIENCE)).await?;
                    say(&format!(
                        "{member} has no vote any more; empty its store directory before it may join again"
                    ));
                }
                DcsCommand::Transfer { to } => {
                    client.transfer_leadership(to.as_deref(), by()).await?;
                    say("the leadership of the store has moved");
                }
                DcsCommand::Snapshot { file } => {
                    let backup = client.snapshot_to(&file, by()).await?;
                    say(&format!(
                        "{} keys at revision {} are in {}",
                        backup.keys,
                        backup.revision,
                        file.display()
                    ));
                }
                DcsCommand::Get { .. }
                | DcsCommand::Ls { .. }
                | DcsCommand::Restore { .. }
                | DcsCommand::Recover { .. } => unreachable!("handled above"),
            }
            Ok(())
        }
    }
}

fn raft_section(config: &ClientConfig) -> Result<(&Raft, &ClusterName), DcsError> {
    let cluster = config.scope.as_ref().ok_or(DcsError::Missing("scope"))?;
    let raft = config.store.as_ref().and_then(|store| store.raft()).ok_or(DcsError::Missing("raft"))?;
    Ok((raft, cluster))
}

/// Whatever store it is: its keys can be read.
async fn any_store(config: &ClientConfig) -> Result<Arc<dyn Store>, DcsError> {
    let cluster = config.scope.as_ref().ok_or(DcsError::Missing("scope"))?;
    let section = config.store.as_ref().ok_or(DcsError::Missing(store::ANY_STORE))?;
    let of = store::Of { cluster, namespace: &config.namespace, group: None, member: config.name.as_ref() };
    Ok(store::connect(section, &of).await?)
}

/// Each node's own words; nodes that do not answer are told by their absence.
async fn nodes(client: &RaftClient, raft: &Raft) -> Vec<(String, Option<StoreStatus>)> {
    let mut addresses: BTreeSet<String> =
        raft.self_addr.iter().chain(&raft.partner_addrs).map(ToString::to_string).collect();
    let mut answers = Vec::new();
    if let Ok(any) = client.status(None, Deadline::after(PATIENCE)).await {
        addresses.extend(any.members.iter().map(|member| member.addr.clone()));
    }
    for address in addresses {
        let status = client.status(Some(&address), Deadline::after(Duration::from_secs(1))).await.ok();
        answers.push((address, status));
    }
    answers
}

#[expect(clippy::print_stdout, reason = "this is the command's data")]
fn print_status(nodes: &[(String, Option<StoreStatus>)], level: Option<u32>, format: Format) {
    if format == Format::Json {
        let rows: Vec<_> =
            nodes.iter().map(|(address, status)| json!({"address": address, "status": status})).collect();
        println!("{}", json!(rows));
        return;
    }
    println!(
        "{:<24} {:<18} {:<10} {:>6} {:>9} {:>9} {:>7} {:>8}",
        "address", "id", "state", "term", "applied", "revision", "leases", "protocol"
    );
    for (address, status) in nodes {
        match status {
            Some(status) => println!(
                "{:<24} {:<18} {:<10} {:>6} {:>9} {:>9} {:>7} {:>8}",
                address,
                format!("{:x}", status.node),
                status.state,
                status.term,
                status.applied.unwrap_or_default(),
                status.revision,
                status.leases,
                status.protocol
            ),
            None => println!("{address:<24} {:<18} does not answer", "?"),
        }
    }
    if let Some(level) = level {
        println!("feature level that all members understand: {level}");
    }
}

#[expect(clippy::print_stdout, reason = "this is the command's data")]
fn print_members(status: &StoreStatus, format: Format) {
    if format == Format::Json {
        println!("{}", json!({"leader": status.leader, "members": status.members}));
        return;
    }
    for MemberInfo { id, addr, role, .. } in &status.members {
        let leads = if status.leader.as_deref() == Some(addr) { "leader" } else { "" };
        println!("{addr:<24} {id:<18x} {:<8} {leads}", format!("{role:?}").to_lowercase());
    }
}

async fn get(client: &dyn Store, key: &str, by: Deadline) -> Result<(), DcsError> {
    use std::io::Write;
    let snapshot = client.snapshot(by).await?;
    let entry = snapshot.entries.get(&key.into()).ok_or_else(|| DcsError::NoSuchKey(key.to_owned()))?;
    let mut out = std::io::stdout().lock();
    // A reader that has gone away is no failure of ours.
    let _ = out.write_all(&entry.value).and_then(|()| out.write_all(b"\n"));
    Ok(())
}

#[expect(clippy::print_stdout, reason = "this is the command's data")]
async fn list(client: &dyn Store, prefix: &str, format: Format, by: Deadline) -> Result<(), DcsError> {
    let snapshot = client.snapshot(by).await?;
    let entries = snapshot.entries.iter().filter(|(key, _)| key.as_str().starts_with(prefix));
    if format == Format::Json {
        let rows: Vec<_> = entries
            .map(|(key, entry)| {
                json!({"key": key.as_str(), "modified": entry.modified, "created": entry.created, "lease": entry.lease})
            })
            .collect();
        println!("{}", json!(rows));
    } else {
        for (key, entry) in entries {
            let lease = entry.lease.map_or_else(String::new, |lease| format!("  lease {}", lease.0));
            println!("{:>8}  {key}{lease}", entry.modified.0);
        }
    }
    Ok(())
}

fn restore(raft: &Raft, cluster: &ClusterName, file: &Path) -> Result<(), DcsError> {
    let (data_dir, address) = own_node(raft)?;
    let backup = restore_from(file, data_dir, cluster.as_str(), &address)?;
    say(&format!(
        "{} keys at revision {} are restored into {}; start the agent here, then add the other nodes",
        backup.keys,
        backup.revision,
        data_dir.display()
    ));
    Ok(())
}

#[expect(clippy::print_stdout, reason = "this is the command's data")]
fn recover(raft: &Raft, cluster: &ClusterName, lost: Vec<String>, format: Format) -> Result<(), DcsError> {
    let (data_dir, address) = own_node(raft)?;
    let confirmed = ForceQuorum { cluster: cluster.to_string(), lost_members: lost.into_iter().collect() };
    let record = recover_force_quorum(data_dir, &address, &confirmed)?;
    if format == Format::Json {
        println!("{}", json!(record));
    }
    say(&format!(
        "{} is the only voter of the store now, with everything up to log entry {}; start the agent here, then `bellwether dcs add` the others",
        record.address, record.last_log
    ));
    Ok(())
}

fn own_node(raft: &Raft) -> Result<(&Path, String), DcsError> {
    let data_dir = raft.data_dir.as_deref().ok_or(DcsError::Missing("raft.data_dir"))?;
    let address = raft.self_addr.as_ref().ok_or(DcsError::Missing("raft.self_addr"))?;
    Ok((data_dir, address.to_string()))
}

#[expect(clippy::print_stderr, reason = "for the person, not part of the data")]
fn say(text: &str) {
    eprintln!("{text}");
}
