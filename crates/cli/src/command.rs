//! What can be typed: every operator's command with its options, in both manners the same.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::render::output::Format;

/// `patronictl`: global options stand before the command.
#[derive(Debug, Parser)]
#[command(
    name = "patronictl",
    about = "Command-line interface for interacting with the cluster.",
    disable_version_flag = true,
    args_override_self = true,
    disable_help_subcommand = true,
    infer_long_args = false
)]
pub struct Patronictl {
    #[command(flatten)]
    pub globals: Globals,
    /// The store, instead of the one in the configuration: [scheme://]host[:port][/namespace] [env: DCS_URL].
    #[arg(short = 'd', long = "dcs-url", visible_alias = "dcs", value_name = "URL")]
    pub dcs_url: Option<String>,
    #[command(subcommand)]
    pub command: Command,
}

/// Where the configuration is. May stand before the command and, `query` apart, behind it, which wins.
#[derive(Clone, Debug, Default, Args)]
pub struct Globals {
    /// The configuration file of a member, or a short one with `scope` and a store
    /// [env: PATRONICTL_CONFIG_FILE, BELLWETHER_CONFIG].
    #[arg(short = 'c', long = "config-file", value_name = "FILE")]
    pub config_file: Option<PathBuf>,
    /// Do not check the certificates of REST APIs.
    #[arg(short = 'k', long)]
    pub insecure: bool,
    /// The group of a Citus cluster.
    #[arg(long, value_name = "N")]
    pub group: Option<i32>,
    /// `--dcs-url`, which only `patronictl` has.
    #[arg(skip)]
    pub dcs_url: Option<String>,
}

impl Globals {
    /// These options, where `later` does not say otherwise.
    pub(crate) fn overridden_by(self, later: &Globals) -> Self {
        Self {
            config_file: later.config_file.clone().or(self.config_file),
            insecure: self.insecure || later.insecure,
            group: later.group.or(self.group),
            dcs_url: later.dcs_url.clone().or(self.dcs_url),
        }
    }
}

/// An operator's command.
#[derive(Clone, Debug, Subcommand)]
#[non_exhaustive]
pub enum Command {
    /// List the members of a cluster.
    List(ListArgs),
    /// Show the members of a cluster as a tree: who streams from whom.
    Topology(TopologyArgs),
    /// Show the history of switchovers and failovers.
    History(HistoryArgs),
    /// Hand the leadership of a healthy cluster over to another member.
    Switchover(SwitchoverArgs),
    /// Make a member the leader, whatever the present leader does.
    Failover(FailoverArgs),
    /// Restart PostgreSQL on members.
    Restart(RestartArgs),
    /// Reload the configuration of members.
    Reload(ReloadArgs),
    /// Rebuild replicas from scratch.
    Reinit(ReinitArgs),
    /// Disable automatic failover: the maintenance mode.
    Pause(PauseArgs),
    /// Resume automatic failover.
    Resume(PauseArgs),
    /// Show the dynamic configuration.
    ShowConfig(ShowConfigArgs),
    /// Change the dynamic configuration.
    EditConfig(EditConfigArgs),
    /// Send an SQL statement to a member.
    Query(QueryArgs),
    /// Print a connection string for a member.
    Dsn(DsnArgs),
    /// Remove everything about a cluster from the store.
    Remove(RemoveArgs),
    /// Show the version of this program and of the members.
    Version(VersionArgs),
    /// Discard scheduled restarts or a scheduled switchover.
    Flush(FlushArgs),
    /// Make the cluster a standby cluster: it follows a remote primary.
    DemoteCluster(DemoteClusterArgs),
    /// Make a standby cluster one that stands alone.
    PromoteCluster(PromoteClusterArgs),
    /// Tell what happened and why: failovers, restarts, refusals.
    Explain(ExplainArgs),
    /// Tell what would happen if a member were lost: who would lead, how soon, and what could be lost. Changes nothing.
    WhatIf(WhatIfArgs),
    /// Collect journals, configuration and states into one file for support; secrets are left out.
    SupportBundle(SupportBundleArgs),
    /// Print a shell's completion script.
    Completion(CompletionArgs),
    /// Print the manual page, or write all of them to a directory.
    Man(ManArgs),
}

/// The members that a command may be limited to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RoleChoice {
    Leader,
    Primary,
    StandbyLeader,
    Replica,
    Standby,
    Any,
}

impl RoleChoice {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Primary => "primary",
            Self::StandbyLeader => "standby-leader",
            Self::Replica => "replica",
            Self::Standby => "standby",
            Self::Any => "any",
        }
    }
}

/// `--force` of Patroni and `--yes` of ours: no questions. Checks are never skipped.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct Force {
    /// Do not ask for confirmation at any point.
    #[arg(long, visible_alias = "yes")]
    pub force: bool,
}

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
pub struct SwitchoverArgs {
    #[arg(value_name = "CLUSTER_NAME")]
    pub cluster: Option<String>,
    /// The present leader.
    #[arg(long, visible_alias = "primary", value_name = "NAME")]
    pub leader: Option<String>,
    /// The member to become the leader; any fit one if not given.
    #[arg(long, value_name = "NAME")]
    pub candidate: Option<String>,
    /// When, for example 2026-12-31T02:00; `now` is the default.
    #[arg(long, value_name = "TIME")]
    pub scheduled: Option<String>,
    #[command(flatten)]
    pub force: Force,
    #[command(flatten)]
    pub globals: Globals,
}

#[derive(Clone, Debug, Default, Args)]
pub struct FailoverArgs {
    #[arg(value_name = "CLUSTER_NAME")]
    pub cluster: Option<String>,
    /// The member to become the leader.
    #[arg(long, value_name = "NAME")]
    pub candidate: Option<String>,
    #[command(flatten)]
    pub force: Force,
    #[command(flatten)]
    pub globals: Globals,
}

#[derive(Clone, Debug, Default, Args)]
pub struct RestartArgs {
    /// The cluster, then members; all members if none is named.
    #[arg(value_name = "CLUSTER_NAME MEMBER_NAMES")]
    pub names: Vec<String>,
    /// Only members with this role.
    #[arg(short, long, value_enum)]
    pub role: Option<RoleChoice>,
    /// One member by chance.
    #[arg(long)]
    pub any: bool,
    /// When, for example 2026-12-31T02:00; `now` is the default.
    #[arg(long, value_name = "TIME")]
    pub scheduled: Option<String>,
    /// Restart if the PostgreSQL version is less than this one.
    #[arg(long, value_name = "VERSION")]
    pub pg_version: Option<String>,
    /// Restart if a restart is pending.
    #[arg(long)]
    pub pending: bool,
    /// Give the start so long before the cluster fails over, where that is possible.
    #[arg(long)]
    pub timeout: Option<String>,
    #[command(flatten)]
    pub force: Force,
    #[command(flatten)]
    pub globals: Globals,
}

#[derive(Clone, Debug, Default, Args)]
pub struct ReloadArgs {
    /// The cluster, then members; all members if none is named.
    #[arg(value_name = "CLUSTER_NAME MEMBER_NAMES")]
    pub names: Vec<String>,
    /// Only members with this role.
    #[arg(short, long, value_enum)]
    pub role: Option<RoleChoice>,
    #[command(flatten)]
    pub force: Force,
    #[command(flatten)]
    pub globals: Globals,
}

#[derive(Clone, Debug, Default, Args)]
pub struct ReinitArgs {
    /// The cluster, then replicas.
    #[arg(value_name = "CLUSTER_NAME MEMBER_NAMES")]
    pub names: Vec<String>,
    /// Take the base backup from the leader.
    #[arg(long)]
    pub from_leader: bool,
    /// Wait until the members are rebuilt.
    #[arg(long)]
    pub wait: bool,
    #[command(flatten)]
    pub force: Force,
    #[command(flatten)]
    pub globals: Globals,
}

#[derive(Clone, Debug, Default, Args)]
pub struct PauseArgs {
    #[arg(value_name = "CLUSTER_NAME")]
    pub cluster: Option<String>,
    /// Wait until all members have seen it.
    #[arg(long)]
    pub wait: bool,
    /// Resume although a running primary may be without an agent.
    #[arg(long, hide = true)]
    pub force: bool,
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
pub struct EditConfigArgs {
    #[arg(value_name = "CLUSTER_NAME")]
    pub cluster: Option<String>,
    /// Do not show the changes.
    #[arg(short, long)]
    pub quiet: bool,
    /// Set a key, for example `ttl=20`; `null` deletes it. Can be given several times.
    #[arg(short, long, value_name = "CONFIG=VALUE")]
    pub set: Vec<String>,
    /// Set a PostgreSQL parameter: `-p x=1` is `-s postgresql.parameters.x=1`.
    #[arg(short, long, value_name = "PARAMETER=VALUE")]
    pub pg: Vec<String>,
    /// Merge a file into the configuration; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    pub apply: Option<String>,
    /// Replace the configuration by a file; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    pub replace: Option<String>,
    #[command(flatten)]
    pub force: Force,
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
    #[command(flatten)]
    pub globals: Globals,
}

#[derive(Clone, Debug, Default, Args)]
pub struct RemoveArgs {
    #[arg(value_name = "CLUSTER_NAME")]
    pub cluster: Option<String>,
    #[arg(short, long, value_enum, default_value_t)]
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

/// What `flush` discards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FlushTarget {
    Restart,
    Switchover,
}

#[derive(Clone, Debug, Default, Args)]
pub struct FlushArgs {
    /// The cluster, then members, then `restart` or `switchover`.
    #[arg(value_name = "CLUSTER_NAME MEMBER_NAMES {restart|switchover}")]
    pub names: Vec<String>,
    /// Only members with this role.
    #[arg(short, long, value_enum)]
    pub role: Option<RoleChoice>,
    #[command(flatten)]
    pub force: Force,
    #[command(flatten)]
    pub globals: Globals,
}

#[derive(Clone, Debug, Default, Args)]
pub struct DemoteClusterArgs {
    #[arg(value_name = "CLUSTER_NAME")]
    pub cluster: Option<String>,
    /// The address of the remote primary.
    #[arg(long)]
    pub host: Option<String>,
    /// The port of the remote primary.
    #[arg(long, allow_negative_numbers = true)]
    pub port: Option<i64>,
    /// The command that restores WAL of the remote primary.
    #[arg(long)]
    pub restore_command: Option<String>,
    /// The slot on the remote primary.
    #[arg(long, value_name = "NAME")]
    pub primary_slot_name: Option<String>,
    #[command(flatten)]
    pub force: Force,
    #[command(flatten)]
    pub globals: Globals,
}

#[derive(Clone, Debug, Default, Args)]
pub struct PromoteClusterArgs {
    #[arg(value_name = "CLUSTER_NAME")]
    pub cluster: Option<String>,
    #[command(flatten)]
    pub force: Force,
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

impl Command {
    /// The word that it is typed as.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::List(_) => "list",
            Self::Topology(_) => "topology",
            Self::History(_) => "history",
            Self::Switchover(_) => "switchover",
            Self::Failover(_) => "failover",
            Self::Restart(_) => "restart",
            Self::Reload(_) => "reload",
            Self::Reinit(_) => "reinit",
            Self::Pause(_) => "pause",
            Self::Resume(_) => "resume",
            Self::ShowConfig(_) => "show-config",
            Self::EditConfig(_) => "edit-config",
            Self::Query(_) => "query",
            Self::Dsn(_) => "dsn",
            Self::Remove(_) => "remove",
            Self::Version(_) => "version",
            Self::Flush(_) => "flush",
            Self::DemoteCluster(_) => "demote-cluster",
            Self::PromoteCluster(_) => "promote-cluster",
            Self::Explain(_) => "explain",
            Self::WhatIf(_) => "what-if",
            Self::SupportBundle(_) => "support-bundle",
            Self::Completion(_) => "completion",
            Self::Man(_) => "man",
        }
    }

    /// The options of the command itself that say where the configuration is.
    pub(crate) fn globals(&self) -> Globals {
        match self {
            Self::List(args) => args.globals.clone(),
            Self::Topology(args) => args.globals.clone(),
            Self::History(args) => args.globals.clone(),
            Self::Switchover(args) => args.globals.clone(),
            Self::Failover(args) => args.globals.clone(),
            Self::Restart(args) => args.globals.clone(),
            Self::Reload(args) => args.globals.clone(),
            Self::Reinit(args) => args.globals.clone(),
            Self::Pause(args) | Self::Resume(args) => args.globals.clone(),
            Self::ShowConfig(args) => args.globals.clone(),
            Self::EditConfig(args) => args.globals.clone(),
            Self::Query(args) => {
                Globals { config_file: args.config_file.clone(), group: args.group, ..Globals::default() }
            }
            Self::Dsn(args) => args.globals.clone(),
            Self::Remove(args) => args.globals.clone(),
            Self::Version(args) => args.globals.clone(),
            Self::Flush(args) => args.globals.clone(),
            Self::DemoteCluster(args) => args.globals.clone(),
            Self::PromoteCluster(args) => args.globals.clone(),
            Self::Explain(args) => args.globals.clone(),
            Self::WhatIf(args) => args.globals.clone(),
            Self::SupportBundle(args) => args.globals.clone(),
            Self::Completion(_) | Self::Man(_) => Globals::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_options_do_not_contradict_each_other() {
        Patronictl::command().debug_assert();
    }

    #[test]
    fn options_of_the_command_win_over_those_before_it() {
        let line = ["patronictl", "-c", "a.yml", "list", "-c", "b.yml", "-e"];
        let typed = Patronictl::try_parse_from(line).unwrap();
        let globals = typed.globals.overridden_by(&typed.command.globals());
        assert_eq!(globals.config_file, Some("b.yml".into()));
        let query =
            Patronictl::try_parse_from(["patronictl", "-c", "a.yml", "query", "-c", "SELECT 1"]).unwrap();
        assert!(matches!(query.command, Command::Query(args) if args.command.as_deref() == Some("SELECT 1")));
    }
}
