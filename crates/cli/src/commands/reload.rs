//! `reload`: like SIGHUP to the agents.

use bellwether_api_client::Method;

use super::list::table;
use crate::{
    command::{ReloadArgs, RoleChoice},
    error::CliError,
    manner::Outcome,
    members::{Choice, join, pick, require_some},
    render::members::loop_wait_secs,
    session::{CALL_PATIENCE, Session},
};

pub(crate) async fn reload(session: &mut Session, args: &ReloadArgs) -> Result<Outcome, CliError> {
    let (cluster_name, names) = session.split_names(&args.names)?;
    let target = session.target(cluster_name).await?;
    let groups = target.groups().await?;
    let choice = Choice { role: args.role.unwrap_or(RoleChoice::Any), quoted: true };
    require_some(&groups, target.name.as_str(), choice.role)?;
    session.talk.note_block(&table(&target, &groups));
    let members = pick(&groups, target.name.as_str(), names, choice)?;
    let question = format!("Are you sure you want to reload members {}?", join(&members));
    if !args.force.force && !session.talk.confirm(&question)? {
        return Err(CliError::refused("Aborted reload"));
    }
    let loop_wait = loop_wait_secs(groups.main());
    let mut outcome = Outcome::Done;
    for member in members {
        let name = &member.name;
        let text = match session.call(member, Method::POST, "reload", None, CALL_PATIENCE).await {
            Ok(answer) if answer.status == 202 => format!(
                "Reload request received for member {name} and will be processed within {loop_wait} seconds"
            ),
            Ok(answer) if answer.status == 200 => format!("No changes to apply on member {name}"),
            Ok(answer) => {
                outcome = outcome.and(Outcome::Failed);
                format!("Failed: reload for member {name}, status code={}, ({})", answer.status, answer.body)
            }
            Err(error) => {
                outcome = outcome.and(Outcome::Unreachable);
                format!("Failed: reload for member {name}, {error}")
            }
        };
        session.talk.line(text);
    }
    Ok(outcome)
}
