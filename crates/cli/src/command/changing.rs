//! Commands that change the cluster, its members, or what the store holds of them.

use clap::Args;

use super::{Globals, RoleChoice};
use crate::render::output::Format;

/// `--force` of Patroni and `--yes` of ours: no questions. Checks are never skipped.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct Force {
    /// Do not ask for confirmation at any point.
    #[arg(long, visible_alias = "yes")]
    pub force: bool,
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
pub struct RoutingArgs {
    /// Whom it is about.
    #[arg(value_name = "MEMBER_NAME")]
    pub member: String,
    #[arg(value_name = "CLUSTER_NAME")]
    pub cluster: Option<String>,
    /// Also for the present leader: it counts once that is a replica.
    #[arg(long)]
    pub force: bool,
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
pub struct RemoveArgs {
    #[arg(value_name = "CLUSTER_NAME")]
    pub cluster: Option<String>,
    #[arg(short, long, value_enum, default_value_t)]
    pub format: Format,
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
