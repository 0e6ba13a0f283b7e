//! `pause` and `resume`: the maintenance mode.

use std::time::Duration;

use bellwether_api_client::Method;
use bellwether_types::{
    PostgresState, Role,
    cluster::{Cluster, Member},
};
use serde_json::{Value, json};

use crate::{
    command::PauseArgs,
    error::CliError,
    manner::{Manner, Outcome},
    render::members::{loop_wait_secs, settings},
    session::{CALL_PATIENCE, Session, Target, with_api},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Paused,
    Resumed,
}

impl Wanted {
    fn verb(self) -> &'static str {
        match self {
            Self::Paused => "pause",
            Self::Resumed => "resume",
        }
    }

    fn is_paused(self) -> bool {
        self == Self::Paused
    }

    fn patch(self) -> Value {
        match self {
            Self::Paused => json!({"pause": true}),
            Self::Resumed => json!({"pause": null}),
        }
    }
}

pub(crate) async fn pause(session: &mut Session, args: &PauseArgs) -> Result<Outcome, CliError> {
    toggle(session, args, Wanted::Paused).await
}

pub(crate) async fn resume(session: &mut Session, args: &PauseArgs) -> Result<Outcome, CliError> {
    toggle(session, args, Wanted::Resumed).await
}

async fn toggle(session: &mut Session, args: &PauseArgs, wanted: Wanted) -> Result<Outcome, CliError> {
    let target = session.target_of_own_group(args.cluster.as_deref()).await?;
    let before = target.cluster().await?;
    if settings(&before).pause == wanted.is_paused() {
        let state = if wanted.is_paused() { "already paused" } else { "not paused" };
        return Err(CliError::refused(format!("Cluster is {state}")));
    }
    if session.manner == Manner::Bellwether && wanted == Wanted::Resumed && !args.force {
        refuse_unattended_primary(&before)?;
    }
    send(session, &target, &before, wanted, args.wait).await
}

/// A running primary whose agent does not echo the pause may have no guardian: resuming would leave it without a fence.
fn refuse_unattended_primary(cluster: &Cluster) -> Result<(), CliError> {
    let is_unattended = |member: &&Member| {
        let is_primary = matches!(member.role, Some(Role::Primary | Role::Promoted));
        is_primary && member.state == Some(PostgresState::Running) && !member.pause
    };
    match cluster.members.values().find(is_unattended) {
        None => Ok(()),
        Some(member) => Err(CliError::with_help(
            format!(
                "the agent of the running primary {} has not seen the pause; resuming now is not safe",
                member.name
            ),
            format!(
                "start or repair the agent on {0}, wait until it reports, or insist with `--force`",
                member.name
            ),
        )),
    }
}

async fn send(
    session: &mut Session,
    target: &Target,
    before: &Cluster,
    wanted: Wanted,
    wait: bool,
) -> Result<Outcome, CliError> {
    for member in with_api(before) {
        let body = wanted.patch();
        let answer = match session.call(member, Method::PATCH, "config", Some(&body), CALL_PATIENCE).await {
            Ok(answer) => answer,
            Err(error) => {
                session.not_accessible(member, &error);
                continue;
            }
        };
        if answer.status != 200 {
            let verb = wanted.verb();
            session.talk.line(format!(
                "Failed: {verb} cluster management status code={}, ({})",
                answer.status, answer.body
            ));
            return Ok(Outcome::Failed);
        }
        return match wait {
            true => wait_for_echoes(session, target, before, wanted).await,
            false => confirm(session, target, wanted).await,
        };
    }
    Err(CliError::with_help(
        "Can not find accessible cluster member",
        format!("`bellwether list {}` shows the members; is an agent running anywhere?", target.name),
    ))
}

async fn confirm(session: &mut Session, target: &Target, wanted: Wanted) -> Result<Outcome, CliError> {
    if session.manner == Manner::Bellwether && settings(&target.cluster().await?).pause != wanted.is_paused()
    {
        session.talk.note("The request was accepted, but the store does not show it; somebody else may have changed it back");
        return Ok(Outcome::Unconfirmed);
    }
    session.talk.line(format!("Success: cluster management is {}d", wanted.verb()));
    Ok(Outcome::Done)
}

/// Waits until every member of before echoes the new state: as Patroni one loop, in our own manner at least one ttl.
async fn wait_for_echoes(
    session: &mut Session,
    target: &Target,
    before: &Cluster,
    wanted: Wanted,
) -> Result<Outcome, CliError> {
    session
        .talk
        .line(format!("'{}' request sent, waiting until it is recognized by all nodes", wanted.verb()));
    let settings = settings(before);
    let seconds = match session.manner {
        Manner::Patronictl => loop_wait_secs(before),
        Manner::Bellwether => settings.loop_wait.as_secs().max(settings.ttl.as_secs()).max(5) + 1,
    };
    let mut missing = Vec::new();
    for _ in 0..seconds {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = target.cluster().await?;
        missing = before
            .members
            .keys()
            .filter(|name| now.member(name).is_some_and(|member| member.pause != wanted.is_paused()))
            .cloned()
            .collect();
        if missing.is_empty() {
            session.talk.line(format!("Success: cluster management is {}d", wanted.verb()));
            return Ok(Outcome::Done);
        }
    }
    let names: Vec<&str> = missing.iter().map(|name| name.as_str()).collect();
    session
        .talk
        .line(format!("{} members didn't recognized pause state after {seconds} seconds", names.join(", ")));
    Ok(Outcome::Unconfirmed)
}
