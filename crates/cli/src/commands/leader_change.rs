//! `switchover` and `failover`.
//!
//! The request goes to a member's REST API, which checks it and waits for the end. Only where no API is reached is it written
//! into the store directly. A call that broke off after it was sent is *not* repeated that way: it may have been carried out.

mod plan;

use std::time::Duration;

use bellwether_api_client::{Answer, Method};
use bellwether_dcs::{CommitOutcome, codec, ops};
use bellwether_types::{
    MemberName, PostgresState, Role,
    cluster::{Cluster, FailoverRequest, Member},
};
use serde_json::{Map, Value, json};

use self::plan::{confirm, plan};
use super::list::table;
use crate::{
    command::{FailoverArgs, SwitchoverArgs},
    error::CliError,
    groups::{Groups, Part},
    manner::{Manner, Outcome},
    schedule,
    session::{Session, Target, WORK_PATIENCE, deadline},
};

/// How long to look for the new leader at work, once somebody has said that it leads.
const VERIFICATION: Duration = Duration::from_secs(15);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Switchover,
    Failover,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Switchover => "switchover",
            Self::Failover => "failover",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Switchover => "Switchover",
            Self::Failover => "Failover",
        }
    }
}

/// What was typed.
struct Wish<'a> {
    kind: Kind,
    leader: Option<&'a str>,
    candidate: Option<&'a str>,
    scheduled: Option<&'a str>,
    force: bool,
}

/// What is to be done, after all checks and questions.
struct Plan {
    kind: Kind,
    /// Set for a switchover.
    leader: Option<MemberName>,
    candidate: Option<MemberName>,
    /// Somebody was asked for a candidate and named none.
    left_to_chance: bool,
    scheduled_at: Option<String>,
}

pub(crate) async fn switchover(session: &mut Session, args: &SwitchoverArgs) -> Result<Outcome, CliError> {
    let wish = Wish {
        kind: Kind::Switchover,
        leader: args.leader.as_deref(),
        candidate: args.candidate.as_deref(),
        scheduled: args.scheduled.as_deref(),
        force: args.force.force,
    };
    change(session, args.cluster.as_deref(), &wish).await
}

pub(crate) async fn failover(session: &mut Session, args: &FailoverArgs) -> Result<Outcome, CliError> {
    let wish = Wish {
        kind: Kind::Failover,
        leader: None,
        candidate: args.candidate.as_deref(),
        scheduled: None,
        force: args.force.force,
    };
    change(session, args.cluster.as_deref(), &wish).await
}

async fn change(
    session: &mut Session,
    cluster_name: Option<&str>,
    wish: &Wish<'_>,
) -> Result<Outcome, CliError> {
    let target = session.target(cluster_name).await?;
    let groups = target.groups().await?;
    session.talk.note("Current cluster topology");
    session.talk.note_block(&table(&target, &groups));
    let (target, cluster) = match target.part {
        Part::EveryGroup => {
            let part = ask_group(session, wish.force)?;
            let target = session.target_part(cluster_name, part).await?;
            let cluster = target.cluster().await?;
            (target, cluster)
        }
        _ => (target, groups.main().clone()),
    };
    let plan = plan(session, &target, &cluster, wish)?;
    confirm(session, &target, &cluster, &plan, wish.force)?;
    carry_out(session, &target, &cluster, &plan).await
}

/// The leadership changes in one group of a Citus cluster.
fn ask_group(session: &mut Session, force: bool) -> Result<Part, CliError> {
    if force {
        return Err(CliError::refused("For Citus clusters the --group must me specified"));
    }
    loop {
        let typed = session.talk.ask("Citus group", None)?;
        match typed.parse() {
            Ok(group) => return Ok(Part::Group(group)),
            Err(_) => session.talk.note(format!("Error: '{typed}' is not a valid integer.")),
        }
    }
}

async fn carry_out(
    session: &mut Session,
    target: &Target,
    cluster: &Cluster,
    plan: &Plan,
) -> Result<Outcome, CliError> {
    let addressee = cluster
        .leader_member()
        .filter(|member| member.api_url.is_some())
        .or_else(|| plan.candidate.as_ref().and_then(|name| cluster.member(name)))
        .filter(|member| member.api_url.is_some());
    let reachable = match addressee {
        Some(member) if session.is_reachable(member).await => Some(member),
        _ => None,
    };
    let Some(member) = reachable else {
        return request_in_store(session, target, cluster, plan).await;
    };
    match post(session, member, plan).await {
        Ok(answer) if matches!(answer.status, 200 | 202) => {
            session.talk.note(format!("{} {}", schedule::stamp(), answer.body));
            finish(session, target, plan).await
        }
        Ok(answer) => {
            let body = answer.body;
            let what = match body.contains("status unknown") {
                true => "result unknown",
                false => "failed",
            };
            session.talk.note(format!("{} {what}, details: {}, {body}", plan.kind.title(), answer.status));
            Ok(if what == "failed" { Outcome::Failed } else { Outcome::Unconfirmed })
        }
        Err(error) => {
            session.talk.note(format!("{} result unknown, details: {error}", plan.kind.title()));
            if session.manner == Manner::Bellwether {
                session.talk.note(format!("  help: `bellwether list {}` shows who leads now", target.name));
            }
            Ok(Outcome::Unconfirmed)
        }
    }
}

async fn post(
    session: &Session,
    member: &Member,
    plan: &Plan,
) -> Result<Answer, bellwether_api_client::ClientError> {
    let body = body(plan);
    let answer = session.call(member, Method::POST, plan.kind.word(), Some(&body), WORK_PATIENCE).await?;
    // Members older than `/switchover` know only `/failover`.
    let is_unknown_there =
        answer.status == 501 && answer.body.contains("Server does not support this operation");
    if is_unknown_there && plan.kind == Kind::Switchover {
        return session.call(member, Method::POST, "failover", Some(&body), WORK_PATIENCE).await;
    }
    Ok(answer)
}

fn body(plan: &Plan) -> Value {
    let mut body = Map::new();
    // As Patroni's own tool does, which tells the two apart; its agents do not.
    let nobody = if plan.left_to_chance { json!("") } else { Value::Null };
    body.insert("candidate".to_owned(), plan.candidate.as_ref().map_or(nobody, |name| json!(name)));
    if let Some(leader) = &plan.leader {
        body.insert("leader".to_owned(), json!(leader));
    }
    if let Some(at) = &plan.scheduled_at {
        body.insert("scheduled_at".to_owned(), json!(at));
    }
    Value::Object(body)
}

/// Nobody's API answers: the agents find the request in the store, if any of them runs.
async fn request_in_store(
    session: &mut Session,
    target: &Target,
    before: &Cluster,
    plan: &Plan,
) -> Result<Outcome, CliError> {
    let word = plan.kind.word();
    session
        .talk
        .note(format!("{} Could not {word} using Patroni api, falling back to DCS", schedule::stamp()));
    let snapshot = target.snapshot().await?;
    let request = FailoverRequest {
        leader: plan.leader.clone(),
        candidate: plan.candidate.clone(),
        scheduled_at: plan.scheduled_at.as_deref().map(codec::parse_schedule),
    };
    let seen = ops::Seen::in_snapshot(&snapshot, codec::keys::FAILOVER);
    match ops::write_failover(target.store.as_ref(), &request, seen, deadline()).await {
        CommitOutcome::Applied(_) => {}
        CommitOutcome::Refused { .. } => {
            return Err(CliError::refused(format!("somebody else asked for a {word} at the same time")));
        }
        CommitOutcome::Unknown(error) => {
            session.talk.note(format!("{} result unknown, details: {error}", plan.kind.title()));
            return Ok(Outcome::Unconfirmed);
        }
    }
    let groups = match session.manner {
        // It shows what it has read before.
        Manner::Patronictl => Groups::of(target.part, before.clone()),
        Manner::Bellwether => target.groups().await?,
    };
    session.talk.note_block(&table(target, &groups));
    if session.manner == Manner::Bellwether && plan.scheduled_at.is_none() {
        session.talk.note("The request is in the store; an agent that comes back will carry it out");
        return Ok(Outcome::Unconfirmed);
    }
    Ok(Outcome::Done)
}

/// The table after the act; in our own manner only once the new leader is seen at work.
async fn finish(session: &mut Session, target: &Target, plan: &Plan) -> Result<Outcome, CliError> {
    if session.manner == Manner::Patronictl || plan.scheduled_at.is_some() {
        let groups = target.groups().await?;
        session.talk.note_block(&table(target, &groups));
        return Ok(Outcome::Done);
    }
    let until = tokio::time::Instant::now() + VERIFICATION;
    loop {
        let groups = target.groups().await?;
        let at_work = new_leader(groups.main(), plan);
        if at_work.is_some() || tokio::time::Instant::now() >= until {
            session.talk.note_block(&table(target, &groups));
            let Some(leader) = at_work else {
                session.talk.note(format!(
                    "Not confirmed: the store does not show a new leader at work after {} s",
                    VERIFICATION.as_secs()
                ));
                return Ok(Outcome::Unconfirmed);
            };
            let timeline =
                leader.timeline.map(|timeline| format!(" on timeline {timeline}")).unwrap_or_default();
            session.talk.note(format!("Verified: {} leads{timeline}", leader.name));
            return Ok(Outcome::Done);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The member that took over, if it runs as what it is to be.
fn new_leader<'a>(cluster: &'a Cluster, plan: &Plan) -> Option<&'a Member> {
    let member = cluster.leader_member()?;
    let took_over = plan.leader.as_ref() != Some(&member.name);
    let runs = member.state == Some(PostgresState::Running);
    let leads = matches!(member.role, Some(Role::Primary | Role::StandbyLeader));
    (took_over && runs && leads).then_some(member)
}
