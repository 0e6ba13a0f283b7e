//! Which members a command is about.

use bellwether_types::{
    Role,
    cluster::{Cluster, Member},
};

use crate::{command::RoleChoice, error::CliError, groups::Groups};

/// Whether a member has a role: the store says who leads, the leader itself whether that is a standby leader.
pub(crate) fn has_role(cluster: &Cluster, member: &Member, role: RoleChoice) -> bool {
    let leads = cluster.leader_name() == Some(&member.name);
    match role {
        RoleChoice::Leader => leads,
        RoleChoice::Primary => leads && member.role != Some(Role::StandbyLeader),
        RoleChoice::StandbyLeader => leads && member.role == Some(Role::StandbyLeader),
        RoleChoice::Replica | RoleChoice::Standby => !leads,
        RoleChoice::Any => true,
    }
}

/// The members with a role, by group and name.
pub(crate) fn with_role(groups: &Groups, role: RoleChoice) -> Vec<&Member> {
    groups
        .members()
        .filter(|(cluster, member)| has_role(cluster, member, role))
        .map(|(_, member)| member)
        .collect()
}

/// Whom to pick from: a role, and how errors name it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice {
    pub(crate) role: RoleChoice,
    /// Put the role into quotes in the message.
    pub(crate) quoted: bool,
}

/// Refuses what there is nobody for.
pub(crate) fn require_some(groups: &Groups, cluster_name: &str, role: RoleChoice) -> Result<(), CliError> {
    match with_role(groups, role).is_empty() {
        true => Err(CliError::refused(format!("{cluster_name} cluster doesn't have any members"))),
        false => Ok(()),
    }
}

/// The members that were named, as far as they fit the role; all that fit if none was named. Names that do not fit are
/// dropped as long as one does.
pub(crate) fn pick<'a>(
    groups: &'a Groups,
    cluster_name: &str,
    names: &[String],
    choice: Choice,
) -> Result<Vec<&'a Member>, CliError> {
    let fitting = with_role(groups, choice.role);
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
