//! `restart`: PostgreSQL on members, now or at a time.

use bellwether_api_client::{Answer, ClientError, Method};
use bellwether_types::cluster::Member;
use jiff::tz::TimeZone;
use rand::seq::IndexedRandom;
use serde_json::{Map, Value, json};

use super::list::table;
use crate::{
    command::{RestartArgs, RoleChoice},
    error::CliError,
    manner::{Manner, Outcome},
    members::{Choice, join, pick, require_some},
    render::members::settings,
    schedule,
    session::{CALL_PATIENCE, Session, WORK_PATIENCE},
};

pub(crate) async fn restart(session: &mut Session, args: &RestartArgs) -> Result<Outcome, CliError> {
    let (cluster_name, names) = session.split_names(&args.names)?;
    let target = session.target(cluster_name).await?;
    let groups = target.groups().await?;
    let choice = Choice { role: args.role.unwrap_or(RoleChoice::Any), quoted: true };
    require_some(&groups, target.name.as_str(), choice.role)?;
    session.talk.note_block(&table(&target, &groups));
    let mut members = pick(&groups, target.name.as_str(), names, choice)?;

    let scheduled_at = when(session, args)?;
    if args.any {
        members = members.choose(&mut rand::rng()).copied().into_iter().collect();
    }
    confirm(session, args, &members, scheduled_at.as_deref())?;
    let version = version_below(session, args)?;
    if scheduled_at.is_some() && settings(groups.main()).pause {
        return Err(CliError::refused("Can't schedule restart in the paused state"));
    }

    let body = body(args, version, scheduled_at.as_deref());
    let mut outcome = Outcome::Done;
    for member in members {
        if args.pending && scheduled_at.is_none() && !member.pending_restart {
            if session.manner == Manner::Bellwether {
                session.talk.note(format!("No restart is pending on member {}", member.name));
            }
            continue;
        }
        if args.force.force && scheduled_at.is_some() && member.scheduled_restart.is_some() {
            discard_scheduled(session, member).await;
        }
        outcome = outcome.and(send(session, member, &body).await);
    }
    Ok(outcome)
}

fn when(session: &mut Session, args: &RestartArgs) -> Result<Option<String>, CliError> {
    let typed = match &args.scheduled {
        Some(scheduled) => scheduled.clone(),
        None if args.force.force => return Ok(None),
        None => {
            let example = schedule::in_an_hour();
            session.talk.ask(&format!("When should the restart take place (e.g. {example}) "), Some("now"))?
        }
    };
    schedule::parse(&typed, &TimeZone::system())
}

fn confirm(
    session: &mut Session,
    args: &RestartArgs,
    members: &[&Member],
    scheduled_at: Option<&str>,
) -> Result<(), CliError> {
    if args.force.force {
        return Ok(());
    }
    let names = join(members);
    let (question, aborted) = match scheduled_at {
        Some(_) if args.pending => (
            "The nodes needing a restart will be identified at the scheduled time, and might be different from the ones \
             showing pending restart right now. Is this fine?"
                .to_owned(),
            "Aborted scheduled restart",
        ),
        Some(at) => (
            format!("Are you sure you want to schedule restart of members {names} at {}?", at.replacen('T', " ", 1)),
            "Aborted scheduled restart",
        ),
        None => (format!("Are you sure you want to restart members {names}?"), "Aborted restart"),
    };
    match session.talk.confirm(&question)? {
        true => Ok(()),
        false => Err(CliError::refused(aborted)),
    }
}

/// The version below which servers are to be restarted; the empty answer means all.
fn version_below(session: &mut Session, args: &RestartArgs) -> Result<Option<String>, CliError> {
    let typed = match &args.pg_version {
        Some(version) => version.clone(),
        None if args.force.force => return Ok(None),
        None => session
            .talk
            .ask("Restart if the PostgreSQL version is less than provided (e.g. 9.5.2) ", Some(""))?,
    };
    match typed.as_str() {
        "" => Ok(None),
        version => check_version(version).map(|()| Some(typed)),
    }
}

/// `X.Y` from PostgreSQL 10 on, `X.Y.Z` always.
fn check_version(text: &str) -> Result<(), CliError> {
    let parts: Result<Vec<u32>, _> = text.split('.').map(str::parse).collect();
    let Ok(parts) = parts else {
        return Err(CliError::refused(format!("Invalid PostgreSQL version: {text}")));
    };
    let is_complete = matches!((parts.first(), parts.len()), (Some(10..), 2) | (Some(_), 3));
    match is_complete {
        true => Ok(()),
        false => Err(CliError::refused(format!(
            "Invalid PostgreSQL version format: X.Y or X.Y.Z is accepted: {text}"
        ))),
    }
}

fn body(args: &RestartArgs, version: Option<String>, scheduled_at: Option<&str>) -> Value {
    let mut body = Map::new();
    if args.pending {
        body.insert("restart_pending".to_owned(), json!(true));
    }
    if let Some(version) = version {
        body.insert("postgres_version".to_owned(), json!(version));
    }
    if let Some(at) = scheduled_at {
        body.insert("schedule".to_owned(), json!(at));
    }
    if let Some(timeout) = &args.timeout {
        body.insert("timeout".to_owned(), json!(timeout));
    }
    Value::Object(body)
}

/// With `--force` a new schedule replaces an old one.
async fn discard_scheduled(session: &mut Session, member: &Member) {
    let name = &member.name;
    match session.call(member, Method::DELETE, "restart", None, CALL_PATIENCE).await {
        Ok(Answer { status: 200, .. }) => {}
        Ok(Answer { status, body }) => session.talk.line(format!(
            "Failed: flush scheduled restart for member {name}, status code={status}, ({body})"
        )),
        Err(error) => tracing::debug!(member = %name, %error, "the scheduled restart could not be discarded"),
    }
}

async fn send(session: &mut Session, member: &Member, body: &Value) -> Outcome {
    let result = session.call(member, Method::POST, "restart", Some(body), WORK_PATIENCE).await;
    let was_restarted = matches!(&result, Ok(Answer { status: 200, .. }));
    let (text, outcome) = tell(member, result);
    session.talk.line(text);
    match was_restarted && session.manner == Manner::Bellwether {
        true => verify(session, member).await,
        false => outcome,
    }
}

/// Whether PostgreSQL runs again, as the member itself sees it.
async fn verify(session: &mut Session, member: &Member) -> Outcome {
    let answer = session.call(member, Method::GET, "patroni", None, CALL_PATIENCE).await;
    let document = answer.ok().and_then(|answer| answer.json()).unwrap_or_default();
    let state = document.get("state").and_then(Value::as_str).unwrap_or("unknown");
    let since = document.get("postmaster_start_time").and_then(Value::as_str).unwrap_or("an unknown time");
    let name = &member.name;
    if state == "running" {
        session.talk.note(format!("Verified: PostgreSQL on {name} runs since {since}"));
        return Outcome::Done;
    }
    session.talk.note(format!("Not confirmed: PostgreSQL on {name} is {state}"));
    Outcome::Unconfirmed
}

fn tell(member: &Member, result: Result<Answer, ClientError>) -> (String, Outcome) {
    let name = &member.name;
    match result {
        Ok(Answer { status: 200, .. }) => (format!("Success: restart on member {name}"), Outcome::Done),
        Ok(Answer { status: 202, .. }) => {
            (format!("Success: restart scheduled on member {name}"), Outcome::Done)
        }
        Ok(Answer { status: 409, .. }) => {
            (format!("Failed: another restart is already scheduled on member {name}"), Outcome::Failed)
        }
        Ok(Answer { status, body }) => {
            (format!("Failed: restart for member {name}, status code={status}, ({body})"), Outcome::Failed)
        }
        Err(error @ (ClientError::TimedOut { .. } | ClientError::BrokenOff { .. })) => (
            format!("Failed: restart for member {name}: outcome not confirmed, {error}"),
            Outcome::Unconfirmed,
        ),
        Err(error) => (format!("Failed: restart for member {name}, {error}"), Outcome::Unreachable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_the_parts_of_their_time() {
        for (version, is_good) in [
            ("15.4", true),
            ("9.5.2", true),
            ("15", false),
            ("9.5", false),
            ("15.4.1", true),
            ("9.5.2.1", false),
        ] {
            assert_eq!(check_version(version).is_ok(), is_good, "{version}");
        }
        let error = |version| check_version(version).unwrap_err().to_string();
        assert_eq!(error("x"), "Invalid PostgreSQL version: x");
        assert_eq!(error("15"), "Invalid PostgreSQL version format: X.Y or X.Y.Z is accepted: 15");
    }
}
