//! What can be typed: every operator's command with its options, in both manners the same.

mod changing;
mod reading;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use self::changing::FlushTarget;
pub use self::{
    changing::{
        DemoteClusterArgs, EditConfigArgs, FailoverArgs, FlushArgs, Force, PauseArgs, PromoteClusterArgs,
        ReinitArgs, ReloadArgs, RemoveArgs, RestartArgs, RoutingArgs, SwitchoverArgs,
    },
    reading::{
        CompletionArgs, DsnArgs, EntrypointsArgs, ExplainArgs, HaproxyConfigArgs, HistoryArgs,
        KeepalivedConfigArgs, ListArgs, ManArgs, PgbouncerConfigArgs, QueryArgs, ShowConfigArgs, StoryFormat,
        SupportBundleArgs, TimingArgs, TopologyArgs, VersionArgs, Watch, WhatIfArgs,
    },
};

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
    /// Lead no new readers to a member; those that are there may stay.
    Drain(RoutingArgs),
    /// Lead no readers to a member, and send those away that are between transactions.
    Maint(RoutingArgs),
    /// Lead readers to a member again.
    Ready(RoutingArgs),
    /// Show the dynamic configuration.
    ShowConfig(ShowConfigArgs),
    /// Change the dynamic configuration.
    EditConfig(EditConfigArgs),
    /// Send an SQL statement to a member.
    Query(QueryArgs),
    /// Print a connection string for a member.
    Dsn(DsnArgs),
    /// Show the virtual addresses and DNS records of every member.
    Entrypoints(EntrypointsArgs),
    /// Print a configuration of HAProxy for this cluster.
    HaproxyConfig(HaproxyConfigArgs),
    /// Print a configuration of keepalived for this member.
    KeepalivedConfig(KeepalivedConfigArgs),
    /// Print a configuration of PgBouncer for this cluster.
    PgbouncerConfig(PgbouncerConfigArgs),
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
    /// Tell which `ttl` the measured speed of store, disk and machines allows, and what each second of it costs.
    Timing(TimingArgs),
    /// Collect journals, configuration and states into one file for support; secrets are left out.
    SupportBundle(SupportBundleArgs),
    /// Print a shell's completion script.
    Completion(CompletionArgs),
    /// Print the manual page, or write all of them to a directory.
    Man(ManArgs),
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
            Self::Drain(_) => "drain",
            Self::Maint(_) => "maint",
            Self::Ready(_) => "ready",
            Self::ShowConfig(_) => "show-config",
            Self::EditConfig(_) => "edit-config",
            Self::Query(_) => "query",
            Self::Dsn(_) => "dsn",
            Self::Entrypoints(_) => "entrypoints",
            Self::HaproxyConfig(_) => "haproxy-config",
            Self::KeepalivedConfig(_) => "keepalived-config",
            Self::PgbouncerConfig(_) => "pgbouncer-config",
            Self::Remove(_) => "remove",
            Self::Version(_) => "version",
            Self::Flush(_) => "flush",
            Self::DemoteCluster(_) => "demote-cluster",
            Self::PromoteCluster(_) => "promote-cluster",
            Self::Explain(_) => "explain",
            Self::WhatIf(_) => "what-if",
            Self::Timing(_) => "timing",
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
            Self::Drain(args) | Self::Maint(args) | Self::Ready(args) => args.globals.clone(),
            Self::ShowConfig(args) => args.globals.clone(),
            Self::EditConfig(args) => args.globals.clone(),
            Self::Query(args) => {
                Globals { config_file: args.config_file.clone(), group: args.group, ..Globals::default() }
            }
            Self::Dsn(args) => args.globals.clone(),
            Self::Entrypoints(args) => args.globals.clone(),
            Self::HaproxyConfig(args) => args.globals.clone(),
            Self::KeepalivedConfig(args) => args.globals.clone(),
            Self::PgbouncerConfig(args) => args.globals.clone(),
            Self::Remove(args) => args.globals.clone(),
            Self::Version(args) => args.globals.clone(),
            Self::Flush(args) => args.globals.clone(),
            Self::DemoteCluster(args) => args.globals.clone(),
            Self::PromoteCluster(args) => args.globals.clone(),
            Self::Explain(args) => args.globals.clone(),
            Self::WhatIf(args) => args.globals.clone(),
            Self::Timing(args) => args.globals.clone(),
            Self::SupportBundle(args) => args.globals.clone(),
            Self::Completion(_) | Self::Man(_) => Globals::default(),
        }
    }
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
