//! `reinit`: rebuild replicas from scratch.

use std::time::Duration;

use bellwether_api_client::Method;
use bellwether_types::{PostgresState, cluster::Member};
use serde_json::json;

use super::list::table;
use crate::{
    command::{ReinitArgs, RoleChoice},
    error::CliError,
    manner::Outcome,
    members::{Choice, join, pick, require_some},
    session::{CALL_PATIENCE, Session},
};

/// Between two looks at a member that is being rebuilt.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// After so many looks a member that was never seen at work was too quick for us.
const LOOKS: u32 = 5;

pub(crate) async fn reinit(session: &mut Session, args: &ReinitArgs) -> Result<Outcome, CliError> {
    let (cluster_name, names) = session.split_names(&args.names)?;
    let target = session.target(cluster_name).await?;
    let groups = target.groups().await?;
    let choice = Choice { role: RoleChoice::Replica, quoted: false };
    require_some(&groups, target.name.as_str(), choice.role)?;
    session.talk.note_block(&table(&target, &groups));
    let replicas = pick(&groups, target.name.as_str(), &[], choice)?;
    let members = match names {
        [] if args.force.force => return Ok(Outcome::Done),
        [] => vec![ask(session, &replicas)?],
        names => pick(&groups, target.name.as_str(), names, choice)?,
    };
    let question = format!("Are you sure you want to reinitialize members {}?", join(&members));
    if !args.force.force && !session.talk.confirm(&question)? {
        return Err(CliError::refused("Aborted reinitialize"));
    }
    let mut outcome = Outcome::Done;
    let mut started = Vec::new();
    for member in members {
        match rebuild(session, args, member).await? {
            Outcome::Done => started.push(member),
            other => outcome = outcome.and(other),
        }
    }
    if args.wait && !started.is_empty() {
        wait(session, started).await;
    }
    Ok(outcome)
}

fn ask<'a>(session: &mut Session, replicas: &[&'a Member]) -> Result<&'a Member, CliError> {
    let question = format!("Which member do you want to reinitialize [{}]?", join(replicas));
    let typed = session.talk.ask(&question, Some(""))?;
    let found = replicas.iter().find(|member| member.name.as_str() == typed).copied();
    found.ok_or_else(|| CliError::refused(format!("{typed} is not a member of cluster")))
}

async fn rebuild(session: &mut Session, args: &ReinitArgs, member: &Member) -> Result<Outcome, CliError> {
    let name = &member.name;
    let mut force = args.force.force;
    loop {
        let body = json!({"force": force, "from_leader": args.from_leader});
        let answer =
            match session.call(member, Method::POST, "reinitialize", Some(&body), CALL_PATIENCE).await {
                Ok(answer) => answer,
                Err(error) => {
                    session.talk.line(format!("Failed: reinitialize for member {name}, {error}"));
                    return Ok(Outcome::Unreachable);
                }
            };
        if answer.status == 200 {
            session.talk.line(format!("Success: reinitialize for member {name}"));
            return Ok(Outcome::Done);
        }
        session.talk.line(format!(
            "Failed: reinitialize for member {name}, status code={}, ({})",
            answer.status, answer.body
        ));
        let is_busy = answer.body.ends_with(" already in progress");
        if force || !is_busy || !session.talk.confirm("Do you want to cancel it and reinitialize anyway?")? {
            return Ok(Outcome::Failed);
        }
        force = true;
    }
}

/// Until each member runs again, as it says itself; Ctrl-C ends the waiting, not the rebuilding.
async fn wait(session: &mut Session, mut waiting: Vec<&Member>) {
    session.talk.note(format!("Waiting for reinitialize to complete on: {}", join(&waiting)));
    let mut seen_at_work: Vec<&Member> = Vec::new();
    let mut looks = 0;
    while !waiting.is_empty() {
        tokio::time::sleep(LOOK_EVERY).await;
        looks += 1;
        let mut rest = Vec::new();
        for member in waiting {
            let runs = runs(session, member).await;
            if runs == Some(false) {
                seen_at_work.push(member);
            }
            // A job that has not begun yet shows the old server, which runs.
            let has_begun = looks >= LOOKS || seen_at_work.iter().any(|seen| seen.name == member.name);
            if runs == Some(true) && has_begun {
                session.talk.note(format!("Reinitialize is completed on: {}", member.name));
            } else {
                rest.push(member);
            }
        }
        waiting = rest;
    }
}

/// `None`: it does not answer.
async fn runs(session: &Session, member: &Member) -> Option<bool> {
    let answer = session.call(member, Method::GET, "patroni", None, CALL_PATIENCE).await.ok()?;
    Some(answer.json()?.get("state")?.as_str()? == PostgresState::Running.as_str())
}
