//! Checks and questions, in the order in which Patroni's users know them, until it is clear what is to be done.

use bellwether_types::{MemberName, cluster::Cluster, settings::SyncMode};
use jiff::tz::TimeZone;

use super::{Kind, Plan, Wish};
use crate::{
    error::CliError,
    render::members::settings,
    schedule,
    session::{Session, Target},
};

pub(super) fn plan(
    session: &mut Session,
    target: &Target,
    cluster: &Cluster,
    wish: &Wish<'_>,
) -> Result<Plan, CliError> {
    let current = cluster.leader_name();
    let leader = match wish.kind {
        Kind::Failover => None,
        Kind::Switchover => Some(old_leader(session, target, cluster, wish)?),
    };
    let candidates: Vec<&MemberName> = cluster
        .members
        .values()
        .filter(|member| Some(&member.name) != current && !member.tags.nofailover())
        .map(|member| &member.name)
        .collect();
    let word = wish.kind.word();
    if candidates.is_empty() {
        return Err(CliError::refused(format!("No candidates found to {word} to")));
    }
    let candidate = match wish.candidate {
        Some(candidate) => candidate.to_owned(),
        None if wish.force => String::new(),
        None => {
            let names: Vec<String> = candidates.iter().map(|name| format!("'{name}'")).collect();
            session.talk.ask(&format!("Candidate [{}]", names.join(", ")), Some(""))?
        }
    };
    if candidate.is_empty() && wish.kind == Kind::Failover {
        return Err(CliError::refused("Failover could be performed only to a specific candidate"));
    }
    let left_to_chance = candidate.is_empty() && wish.candidate.is_none() && !wish.force;
    let candidate = check_candidate(target, cluster, &candidates, &candidate)?;
    if wish.kind == Kind::Failover
        && let Some(candidate) = &candidate
    {
        confirm_asynchronous(session, cluster, candidate, wish.force)?;
    }
    let scheduled_at = match wish.kind {
        Kind::Failover => None,
        Kind::Switchover => when(session, cluster, wish)?,
    };
    Ok(Plan { kind: wish.kind, leader, candidate, left_to_chance, scheduled_at })
}

fn old_leader(
    session: &mut Session,
    target: &Target,
    cluster: &Cluster,
    wish: &Wish<'_>,
) -> Result<MemberName, CliError> {
    let Some(current) = cluster.leader_name() else {
        return Err(CliError::with_help(
            "This cluster has no leader",
            format!("`bellwether failover {} --candidate NAME` chooses one", target.name),
        ));
    };
    let typed = match wish.leader {
        Some(leader) => leader.to_owned(),
        None if wish.force => current.to_string(),
        None => {
            let role = if settings(cluster).standby_cluster.is_some() { "Standby Leader" } else { "Primary" };
            session.talk.ask(role, Some(current.as_str()))?
        }
    };
    match typed == current.as_str() {
        true => Ok(current.clone()),
        false => {
            Err(CliError::refused(format!("Member {typed} is not the leader of cluster {}", target.name)))
        }
    }
}

fn check_candidate(
    target: &Target,
    cluster: &Cluster,
    candidates: &[&MemberName],
    typed: &str,
) -> Result<Option<MemberName>, CliError> {
    if typed.is_empty() {
        return Ok(None);
    }
    if cluster.leader_name().is_some_and(|leader| leader.as_str() == typed) {
        return Err(CliError::refused(format!(
            "Member {typed} is already the leader of cluster {}",
            target.name
        )));
    }
    match candidates.iter().find(|name| name.as_str() == typed) {
        Some(name) => Ok(Some((*name).clone())),
        None => Err(CliError::refused(format!(
            "Member {typed} does not exist in cluster {} or is tagged as nofailover",
            target.name
        ))),
    }
}

/// A failover to a node that is not synchronous may lose acknowledged transactions.
fn confirm_asynchronous(
    session: &mut Session,
    cluster: &Cluster,
    candidate: &MemberName,
    force: bool,
) -> Result<(), CliError> {
    let is_asynchronous = settings(cluster).sync_mode() != SyncMode::Off
        && cluster.active_sync().is_some_and(|sync| !sync.includes(candidate));
    if !is_asynchronous || force {
        return Ok(());
    }
    let question = format!("Are you sure you want to failover to the asynchronous node {candidate}?");
    match session.talk.confirm(&question)? {
        true => Ok(()),
        false => Err(CliError::refused("Aborting failover")),
    }
}

fn when(session: &mut Session, cluster: &Cluster, wish: &Wish<'_>) -> Result<Option<String>, CliError> {
    let typed = match wish.scheduled {
        Some(scheduled) => scheduled.to_owned(),
        None if wish.force => "now".to_owned(),
        None => {
            let example = schedule::in_an_hour();
            session
                .talk
                .ask(&format!("When should the switchover take place (e.g. {example} ) "), Some("now"))?
        }
    };
    let scheduled_at = schedule::parse(&typed, &TimeZone::system())?;
    match scheduled_at.is_some() && settings(cluster).pause {
        true => Err(CliError::refused("Can't schedule switchover in the paused state")),
        false => Ok(scheduled_at),
    }
}

pub(super) fn confirm(
    session: &mut Session,
    target: &Target,
    cluster: &Cluster,
    plan: &Plan,
    force: bool,
) -> Result<(), CliError> {
    if force {
        return Ok(());
    }
    let word = plan.kind.word();
    let demoting =
        cluster.leader_name().map(|leader| format!(", demoting current leader {leader}")).unwrap_or_default();
    let name = &target.name;
    let (question, aborting) = match &plan.scheduled_at {
        Some(at) => (
            format!("Are you sure you want to schedule {word} of cluster {name} at {at}{demoting}?"),
            format!("Aborting scheduled {word}"),
        ),
        None => {
            (format!("Are you sure you want to {word} cluster {name}{demoting}?"), format!("Aborting {word}"))
        }
    };
    match session.talk.confirm(&question)? {
        true => Ok(()),
        false => Err(CliError::refused(aborting)),
    }
}
