//! Which members a command is about.

use bellwether_types::{
    PostgresState, Role,
    cluster::{Cluster, Member},
};

use crate::{command::RoleChoice, error::CliError, render::members::settings};

/// Whether a member has a role, judged by the store.
pub(crate) fn has_role(cluster: &Cluster, member: &Member, role: RoleChoice) -> bool {
    let leads = cluster.leader_name() == Some(&member.name);
    let is_standby_cluster = settings(cluster).standby_cluster.is_some();
    match role {
        RoleChoice::Leader => leads,
        RoleChoice::Primary => leads && !is_standby_cluster && member.role != Some(Role::StandbyLeader),
        RoleChoice::StandbyLeader => {
            leads && (is_standby_cluster || member.role == Some(Role::StandbyLeader))
        }
        RoleChoice::Replica => !leads && member.state == Some(PostgresState::Running),
        RoleChoice::Standby => !leads || member.role == Some(Role::StandbyLeader),
        RoleChoice::Any => true,
    }
}

/// The members with a role, in the order of their names.
pub(crate) fn with_role(cluster: &Cluster, role: RoleChoice) -> Vec<&Member> {
    cluster.members.values().filter(|member| has_role(cluster, member, role)).collect()
}

/// Whom to pick from: a role, and how errors name it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice {
    pub(crate) role: RoleChoice,
    /// Put the role into quotes in the message.
    pub(crate) quoted: bool,
}

/// The members that were named, as far as they fit the role; all that fit if none was named. Names that do not fit are
/// dropped as long as one does.
pub(crate) fn pick<'a>(
    cluster: &'a Cluster,
    cluster_name: &str,
    names: &[String],
    choice: Choice,
) -> Result<Vec<&'a Member>, CliError> {
    if cluster.members.is_empty() {
        return Err(CliError::refused(format!("{cluster_name} cluster doesn't have any members")));
    }
    let fitting = match choice.role {
        // As Patroni's `replica` here: every member that does not lead, whatever its PostgreSQL does.
        RoleChoice::Replica => {
            cluster.members.values().filter(|member| !has_role(cluster, member, RoleChoice::Leader)).collect()
        }
        role => with_role(cluster, role),
    };
    if names.is_empty() {
        return Ok(fitting);
    }
    let picked: Vec<&Member> =
        fitting.into_iter().filter(|member| names.iter().any(|name| name == member.name.as_str())).collect();
    if picked.is_empty() {
        let role = choice.role.word();
        let role = if choice.quoted { format!("'{role}'") } else { role.to_owned() };
        return Err(CliError::with_help(
            format!("No {role} among provided members"),
            format!("`bellwether list {cluster_name}` shows the members"),
        ));
    }
    Ok(picked)
}

/// `a, b`.
pub(crate) fn join(members: &[&Member]) -> String {
    members.iter().map(|member| member.name.as_str()).collect::<Vec<_>>().join(", ")
}
