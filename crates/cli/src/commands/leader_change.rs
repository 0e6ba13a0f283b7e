//! `switchover` and `failover`.
//!
//! The request goes to a member's REST API, which checks it and waits for the end. Only where no API is reached is it written
//! into the store directly. A call that broke off after it was sent is *not* repeated that way: it may have been carried out.

use std::time::Duration;

use bellwether_api_client::{Answer, Method};
use bellwether_dcs::{CommitOutcome, codec, ops};
use bellwether_types::{
    MemberName, PostgresState,
    cluster::{Cluster, FailoverRequest, Member},
    settings::SyncMode,
};
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};

use super::list::table;
use crate::{
    command::{FailoverArgs, SwitchoverArgs},
    error::CliError,
    groups::{Groups, Part},
    manner::{Manner, Outcome},
    render::members::settings,
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

/// Checks and questions, in the order in which Patroni's users know them.
fn plan(
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

fn confirm(
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
    let leads =
        matches!(member.role, Some(bellwether_types::Role::Primary | bellwether_types::Role::StandbyLeader));
    (took_over && runs && leads).then_some(member)
}
