//! Commands that look and change nothing.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Globals, RoleChoice};
use crate::{interop::drivers::Driver, render::output::Format};

/// `-W` and `-w`.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct Watch {
    /// Update the screen every 2 seconds.
    #[arg(short = 'W')]
    pub auto: bool,
    /// Update the screen every so many seconds.
    #[arg(short = 'w', long, value_name = "SECS")]
    pub watch: Option<f64>,
}

#[derive(Clone, Debug, Default, Args)]
pub struct ListArgs {
    /// The clusters; the one of the configuration if not given.
    #[arg(value_name = "CLUSTER_NAMES")]
    pub clusters: Vec<String>,
    /// Show the optional columns even if they are empty.
    #[arg(short, long)]
    pub extended: bool,
    /// Print the time first.
    #[arg(short, long)]
    pub timestamp: bool,
    #[arg(short, long, value_enum, default_value_t)]
    pub format: Format,
    #[command(flatten)]
    pub watch: Watch,
    #[command(flatten)]
    pub globals: Globals,
}

#[derive(Clone, Debug, Default, Args)]
pub struct TopologyArgs {
    /// The clusters; the one of the configuration if not given.
    #[arg(value_name = "CLUSTER_NAMES")]
    pub clusters: Vec<String>,
    #[command(flatten)]
    pub watch: Watch,
    #[command(flatten)]
    pub globals: Globals,
}

#[derive(Clone, Debug, Default, Args)]
pub struct HistoryArgs {
    #[arg(value_name = "CLUSTER_NAME")]
    pub cluster: Option<String>,
    #[arg(short, long, value_enum, default_value_t)]
    pub format: Format,
    #[command(flatten)]
    pub globals: Globals,
}

#[derive(Clone, Debug, Default, Args)]
pub struct ShowConfigArgs {
    #[arg(value_name = "CLUSTER_NAME")]
    pub cluster: Option<String>,
    #[command(flatten)]
    pub globals: Globals,
}

#[derive(Clone, Debug, Default, Args)]
pub struct QueryArgs {
    #[arg(value_name = "CLUSTER_NAME")]
    pub cluster: Option<String>,
    /// pretty, tsv, json or yaml.
    #[arg(long, default_value = "tsv")]
    pub format: String,
    /// Execute the SQL statements of this file.
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Execute this SQL statement.
    #[arg(short, long, value_name = "SQL")]
    pub command: Option<String>,
    /// Ask for a password.
    #[arg(long)]
    pub password: bool,
    /// Connect as this user.
    #[arg(short = 'U', long)]
    pub username: Option<String>,
    /// Connect to this database.
    #[arg(short, long)]
    pub dbname: Option<String>,
    /// A member with this role; the leader is the default.
    #[arg(short, long, value_enum)]
    pub role: Option<RoleChoice>,
    /// This member.
    #[arg(short, long)]
    pub member: Option<String>,
    /// Between the columns of tsv.
    #[arg(long, default_value = "\t", hide_default_value = true)]
    pub delimiter: String,
    #[command(flatten)]
    pub watch: Watch,
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    pub config_file: Option<PathBuf>,
    /// The group of a Citus cluster.
    #[arg(long, value_name = "N")]
    pub group: Option<i32>,
}

#[derive(Clone, Debug, Default, Args)]
pub struct DsnArgs {
    #[arg(value_name = "CLUSTER_NAME")]
    pub cluster: Option<String>,
    /// A member with this role; the leader is the default.
    #[arg(short, long, value_enum)]
    pub role: Option<RoleChoice>,
    /// This member.
    #[arg(short, long)]
    pub member: Option<String>,
    /// For this driver, with every member in it, so that it finds the leader by itself.
    #[arg(long, value_enum, conflicts_with_all = ["role", "member"])]
    pub driver: Option<Driver>,
    /// With --driver: for sessions that only read.
    #[arg(long, requires = "driver")]
    pub reads: bool,
    /// With --driver: the database.
    #[arg(long, value_name = "NAME", default_value = "postgres", requires = "driver")]
    pub database: String,
    #[command(flatten)]
    pub globals: Globals,
}

#[derive(Clone, Debug, Default, Args)]
pub struct HaproxyConfigArgs {
    #[arg(value_name = "CLUSTER_NAME")]
    pub cluster: Option<String>,
    #[command(flatten)]
    pub globals: Globals,
}

#[derive(Clone, Debug, Default, Args)]
pub struct KeepalivedConfigArgs {
    /// The address that is to follow the leader.
    #[arg(value_name = "ADDRESS")]
    pub address: String,
    /// Where it belongs.
    #[arg(long, value_name = "NAME", default_value = "eth0")]
    pub interface: String,
    /// The number of the group of routers, unique in the network.
    #[arg(long, value_name = "N", default_value_t = 51, value_parser = clap::value_parser!(u8).range(1..))]
    pub id: u8,
    #[command(flatten)]
    pub globals: Globals,
}

#[derive(Clone, Debug, Default, Args)]
pub struct PgbouncerConfigArgs {
    /// What leads to the leader: a virtual address, or a router or HAProxy on this host.
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    pub host: String,
    /// Its port.
    #[arg(long, value_name = "PORT", default_value_t = 5000)]
    pub port: u16,
    /// Its port that leads to replicas.
    #[arg(long, value_name = "PORT")]
    pub replicas_port: Option<u16>,
    #[command(flatten)]
    pub globals: Globals,
}

#[derive(Clone, Debug, Default, Args)]
pub struct EntrypointsArgs {
    #[arg(value_name = "CLUSTER_NAME")]
    pub cluster: Option<String>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Format::Pretty)]
    pub format: Format,
    #[command(flatten)]
    pub globals: Globals,
}

#[derive(Clone, Debug, Default, Args)]
pub struct VersionArgs {
    /// The cluster, then members.
    #[arg(value_name = "CLUSTER_NAME MEMBER_NAMES")]
    pub names: Vec<String>,
    #[command(flatten)]
    pub globals: Globals,
}

/// The form of a story.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum StoryFormat {
    #[default]
    Pretty,
    /// One object with a versioned schema.
    Json,
}

#[derive(Clone, Debug, Default, Args)]
pub struct ExplainArgs {
    /// The cluster, or the code of a failure (BW0101), which is then explained instead.
    #[arg(value_name = "CLUSTER_NAME|CODE")]
    pub cluster: Option<String>,
    /// Only the last so many events.
    #[arg(long, value_name = "N")]
    pub last: Option<usize>,
    /// Only what this member recorded.
    #[arg(long, value_name = "NAME")]
    pub member: Option<String>,
    /// Only since then: a time, or an age such as `90s`, `2h`, `3d`.
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Read journal files below this directory instead of asking members; can be given several times.
    #[arg(long, value_name = "DIR")]
    pub dir: Vec<PathBuf>,
    #[arg(short, long, value_enum, default_value_t)]
    pub format: StoryFormat,
    #[command(flatten)]
    pub globals: Globals,
}

#[derive(Clone, Debug, Default, Args)]
pub struct WhatIfArgs {
    /// The member that would be lost; the leader if not given.
    #[arg(value_name = "MEMBER")]
    pub member: Option<String>,
    /// The cluster; the one of the configuration if not given.
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    #[arg(short, long, value_enum, default_value_t)]
    pub format: StoryFormat,
    #[command(flatten)]
    pub globals: Globals,
}

#[derive(Clone, Debug, Default, Args)]
pub struct TimingArgs {
    #[arg(value_name = "CLUSTER_NAME")]
    pub cluster: Option<String>,
    #[arg(short, long, value_enum, default_value_t)]
    pub format: StoryFormat,
    #[command(flatten)]
    pub globals: Globals,
}

#[derive(Clone, Debug, Default, Args)]
pub struct SupportBundleArgs {
    #[arg(value_name = "CLUSTER_NAME")]
    pub cluster: Option<String>,
    /// The file to write; `bellwether-CLUSTER-TIME.tar` in this directory if not given.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub globals: Globals,
}

#[derive(Clone, Debug, Args)]
pub struct CompletionArgs {
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

#[derive(Clone, Debug, Default, Args)]
pub struct ManArgs {
    /// Write a page per command to this directory.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}
