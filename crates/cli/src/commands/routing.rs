//! `drain`, `maint` and `ready`: whether a member takes readers.

use bellwether_api_client::Method;
use bellwether_types::{Duty, MemberName, cluster::Cluster};
use serde_json::{Value, json};

use crate::{
    command::RoutingArgs,
    error::CliError,
    manner::Outcome,
    render::members::settings,
    session::{CALL_PATIENCE, Session, with_api},
};

/// Writes it into the dynamic configuration, where every node's proxy reads it.
pub(crate) async fn set(session: &mut Session, args: &RoutingArgs, duty: Duty) -> Result<Outcome, CliError> {
    let target = session.target_of_own_group(args.cluster.as_deref()).await?;
    let before = target.cluster().await?;
    let member = known_member(&before, &args.member)?;
    if duty != Duty::Ready && before.leader_name() == Some(&member) && !args.force {
        return Err(CliError::with_help(
            format!("{member} is the leader, and a leader keeps its clients"),
            "hand over first (`bellwether switchover`), or set it with `--force` for the time when it is a replica",
        ));
    }
    let body = patch(&member, duty);
    for asked in with_api(&before) {
        let answer = match session.call(asked, Method::PATCH, "config", Some(&body), CALL_PATIENCE).await {
            Ok(answer) => answer,
            Err(error) => {
                session.not_accessible(asked, &error);
                continue;
            }
        };
        if answer.status != 200 {
            session
                .talk
                .line(format!("Failed: {duty} {member} status code={}, ({})", answer.status, answer.body));
            return Ok(Outcome::Failed);
        }
        let now = settings(&target.cluster().await?).routing.get(&member).copied().unwrap_or_default();
        if now != duty {
            session.talk.note(
                "The request was accepted, but the store does not show it; somebody else may have changed it back",
            );
            return Ok(Outcome::Unconfirmed);
        }
        session.talk.line(format!("Success: {member} {}", sentence(duty)));
        return Ok(Outcome::Done);
    }
    Err(CliError::with_help(
        "Can not find accessible cluster member",
        format!("`bellwether list {}` shows the members; is an agent running anywhere?", target.name),
    ))
}

fn known_member(cluster: &Cluster, name: &str) -> Result<MemberName, CliError> {
    let found = cluster.members.keys().find(|known| known.as_str() == name);
    // One that is away may be taken out, and brought back before it returns.
    let known = found.cloned().or_else(|| {
        let set = settings(cluster).routing;
        set.into_keys().find(|known| known.as_str() == name)
    });
    known.ok_or_else(|| {
        let names: Vec<&str> = cluster.members.keys().map(MemberName::as_str).collect();
        CliError::with_help(
            format!("there is no member {name} in the cluster"),
            format!("its members are: {}", names.join(", ")),
        )
    })
}

/// As it goes into `/config`; what is ready is not written down.
fn patch(member: &MemberName, duty: Duty) -> Value {
    let value = if duty == Duty::Ready { Value::Null } else { json!(duty) };
    json!({"routing": {member.as_str(): value}})
}

fn sentence(duty: Duty) -> &'static str {
    match duty {
        Duty::Ready => "takes readers again",
        Duty::Drain => "takes no new readers; those that are there may stay",
        Duty::Maint => "takes no readers; those that are between transactions are sent away",
    }
}
