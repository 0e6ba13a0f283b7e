//! `reload`: like SIGHUP to the agents.

use bellwether_api_client::Method;

use super::list::table;
use crate::{
    command::{ReloadArgs, RoleChoice},
    error::CliError,
    manner::Outcome,
    members::{Choice, join, pick},
    render::members::settings,
    session::{CALL_PATIENCE, Session},
};

pub(crate) async fn reload(session: &mut Session, args: &ReloadArgs) -> Result<Outcome, CliError> {
    let (cluster_name, names) = session.split_names(&args.names)?;
    let target = session.target(cluster_name).await?;
    let cluster = target.cluster().await?;
    session.talk.note_block(&table(&target, &cluster));
    let choice = Choice { role: args.role.unwrap_or(RoleChoice::Any), quoted: true };
    let members = pick(&cluster, target.name.as_str(), names, choice)?;
    let question = format!("Are you sure you want to reload members {}?", join(&members));
    if !args.force.force && !session.talk.confirm(&question)? {
        return Err(CliError::refused("Aborted reload"));
    }
    let loop_wait = settings(&cluster).loop_wait.as_secs();
    let mut outcome = Outcome::Done;
    for member in members {
        let name = &member.name;
        let text = match session.call(member, Method::POST, "reload", None, CALL_PATIENCE).await {
            Ok(answer) if answer.status == 202 => format!(
                "Reload request received for member {name} and will be processed within {loop_wait} seconds"
            ),
            Ok(answer) if answer.status == 200 => format!("No changes to apply on member {name}"),
            Ok(answer) => {
                outcome = Outcome::Failed;
                format!("Failed: reload for member {name}, status code={}, ({})", answer.status, answer.body)
            }
            Err(error) => {
                outcome = Outcome::Failed;
                format!("Failed: reload for member {name}, {error}")
            }
        };
        session.talk.line(text);
    }
    Ok(outcome)
}
