//! `flush`: discard what was scheduled.

use bellwether_api_client::Method;
use bellwether_dcs::{CommitOutcome, codec, ops};
use bellwether_types::cluster::Cluster;

use super::list::table;
use crate::{
    command::{FlushArgs, FlushTarget, RoleChoice},
    error::CliError,
    groups::Groups,
    manner::Outcome,
    members::{Choice, join, pick, require_some},
    schedule,
    session::{CALL_PATIENCE, Session, Target, deadline, with_api},
};

pub(crate) async fn flush(session: &mut Session, args: &FlushArgs) -> Result<Outcome, CliError> {
    let (what, names) = match args.names.split_last() {
        Some((last, names)) if last == "restart" => (FlushTarget::Restart, names),
        Some((last, names)) if last == "switchover" => (FlushTarget::Switchover, names),
        None => return Err(CliError::Usage("Missing argument 'CLUSTER_NAME'.".to_owned())),
        Some((_, [])) => {
            return Err(CliError::Usage(
                "Missing argument '{restart|switchover}'. Choose from:\n\trestart,\n\tswitchover".to_owned(),
            ));
        }
        Some((last, _)) => {
            return Err(CliError::Usage(format!(
                "Invalid value for '{{restart|switchover}}': '{last}' is not one of 'restart', 'switchover'."
            )));
        }
    };
    let (cluster_name, names) = session.split_names(names)?;
    let target = session.target(cluster_name).await?;
    let groups = target.groups().await?;
    match what {
        FlushTarget::Restart => flush_restart(session, args, &target, &groups, names).await,
        FlushTarget::Switchover => flush_switchover(session, &target, groups.main()).await,
    }
}

async fn flush_restart(
    session: &mut Session,
    args: &FlushArgs,
    target: &Target,
    groups: &Groups,
    names: &[String],
) -> Result<Outcome, CliError> {
    let choice = Choice { role: args.role.unwrap_or(RoleChoice::Any), quoted: true };
    require_some(groups, target.name.as_str(), choice.role)?;
    session.talk.note_block(&table(target, groups));
    let members = pick(groups, target.name.as_str(), names, choice)?;
    let question = format!("Are you sure you want to flush members {}?", join(&members));
    if !args.force.force && !session.talk.confirm(&question)? {
        return Err(CliError::refused("Aborted flush"));
    }
    let mut outcome = Outcome::Done;
    for member in members {
        let name = &member.name;
        if member.scheduled_restart.is_none() {
            session.talk.line(format!("No scheduled restart for member {name}"));
            continue;
        }
        let text = match session.call(member, Method::DELETE, "restart", None, CALL_PATIENCE).await {
            Ok(answer) if answer.status == 200 => {
                format!("Success: flush scheduled restart for member {name}")
            }
            Ok(answer) => {
                outcome = Outcome::Failed;
                let (status, body) = (answer.status, answer.body);
                format!("Failed: flush scheduled restart for member {name}, status code={status}, ({body})")
            }
            Err(error) => {
                outcome = Outcome::Failed;
                format!("Failed: flush scheduled restart for member {name}, {error}")
            }
        };
        session.talk.line(text);
    }
    Ok(outcome)
}

async fn flush_switchover(
    session: &mut Session,
    target: &Target,
    cluster: &Cluster,
) -> Result<Outcome, CliError> {
    let is_scheduled = cluster.failover_request().is_some_and(|(request, _)| request.scheduled_at.is_some());
    if !is_scheduled {
        session.talk.line("No pending scheduled switchover");
        return Ok(Outcome::Done);
    }
    for member in with_api(cluster) {
        match session.call(member, Method::DELETE, "switchover", None, CALL_PATIENCE).await {
            Ok(answer) if answer.status == 200 => {
                session.talk.line(format!("Success: {}", answer.body));
                return Ok(Outcome::Done);
            }
            Ok(answer) if answer.status == 404 => {
                session.talk.line(format!("Failed: {}", answer.body));
                return Ok(Outcome::Failed);
            }
            Ok(answer) => session.talk.line(format!(
                "Failed: member={}, status_code={}, ({})",
                member.name, answer.status, answer.body
            )),
            Err(error) => session.not_accessible(member, &error),
        }
    }
    session.talk.warn("Failing over to DCS");
    session.talk.note(format!(
        "{} Could not find any accessible member of cluster {}",
        schedule::stamp(),
        target.name
    ));
    let target = session.target_to_write(target).await?;
    let snapshot = target.snapshot().await?;
    let seen = ops::Seen::in_snapshot(&snapshot, codec::keys::FAILOVER);
    match ops::clear_failover(target.store.as_ref(), seen, &[], deadline()).await {
        CommitOutcome::Applied(_) => Ok(Outcome::Done),
        CommitOutcome::Refused { .. } => Err(CliError::refused(
            "the request was changed at the same time; look again before you discard it",
        )),
        CommitOutcome::Unknown(error) => Err(error.into()),
    }
}
