//! `POST /switchover` and `/failover`: reading the request and what the status already rules out.
//!
//! These are courtesy checks, so that a caller hears at once what cannot work. The leader checks again before it steps down.

use bellwether_types::{
    MemberName, WallTime,
    cluster::{Cluster, Member},
    settings::{Settings, SyncMode},
    status::NodeStatus,
};
use serde_json::{Map, Value};

use crate::{
    control::{DeleteSwitchoverOutcome, LeaderChange, SwitchoverOutcome, SwitchoverRequest},
    reply::{Rejection, Reply},
    schedule,
};

impl LeaderChange {
    pub(crate) fn word(self) -> &'static str {
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

/// Reads and checks a request; `view` is the state of the cluster that the checks go by.
pub(crate) fn parse(
    asked: LeaderChange,
    body: &Map<String, Value>,
    status: &NodeStatus,
    view: &Cluster,
    now: WallTime,
) -> Result<SwitchoverRequest, Rejection> {
    let bad = |message: &str| Err(Rejection::new(400, message));
    let is_paused = status.settings.pause;
    let leader = text(body, "leader");
    let candidate = text(body, "candidate").or_else(|| text(body, "member"));
    let scheduled_at = body.get("scheduled_at").filter(|value| !is_empty(value));

    match asked {
        LeaderChange::Failover if candidate.is_none() => {
            return bad("Failover could be performed only to a specific candidate");
        }
        LeaderChange::Switchover if leader.is_none() => {
            return bad("Switchover could be performed only from a specific leader");
        }
        _ => {}
    }
    let scheduled_at = match scheduled_at {
        Some(_) if asked == LeaderChange::Failover => return bad("Failover can't be scheduled"),
        Some(_) if is_paused => return bad("Can't schedule switchover in the paused state"),
        Some(value) => Some(schedule::parse(value, now, asked.word())?),
        None => None,
    };
    if is_paused && candidate.is_none() {
        return bad("Switchover is possible only to a specific candidate in a paused state");
    }
    // Who names the leader expects it to step down in good order, whatever the path says.
    let change = if leader.is_some() { LeaderChange::Switchover } else { asked };
    if leader == candidate {
        return bad("Switchover target and source are the same");
    }
    if scheduled_at.is_none() {
        check(change, leader.as_deref(), candidate.as_deref(), &status.settings, view)
            .map_err(|message| Rejection::new(412, message))?;
    }
    let name = |text: Option<String>| match text.map(MemberName::new).transpose() {
        Ok(name) => Ok(name),
        Err(error) => Err(Rejection::new(400, error.to_string())),
    };
    Ok(SwitchoverRequest { change, leader: name(leader)?, candidate: name(candidate)?, scheduled_at })
}

/// The members that could become the leader, judged by the view alone.
fn eligible<'a>(view: &'a Cluster, settings: &Settings, candidate: Option<&str>) -> Vec<&'a Member> {
    let is_voter = |member: &Member| view.active_sync().is_some_and(|sync| sync.has_voter(&member.name));
    let may_lead = |member: &&Member| match candidate {
        Some(candidate) => member.name.as_str() == candidate,
        None if settings.sync_mode() == SyncMode::On => is_voter(member),
        None => view.leader_name() != Some(&member.name) && member.api_url.is_some(),
    };
    view.members.values().filter(may_lead).collect()
}

fn check(
    change: LeaderChange,
    leader: Option<&str>,
    candidate: Option<&str>,
    settings: &Settings,
    view: &Cluster,
) -> Result<(), String> {
    let current = view.leader_name().map(MemberName::as_str);
    let action = change.word();
    if leader.is_some() && leader != current {
        return Err("leader name does not match".to_owned());
    }
    let needs_voter = settings.sync_mode() == SyncMode::On;
    let eligible = eligible(view, settings, candidate);
    match candidate {
        Some(name) => {
            let name = MemberName::new(name).ok();
            let is_voter = || {
                name.as_ref().is_some_and(|name| view.active_sync().is_some_and(|sync| sync.has_voter(name)))
            };
            if change == LeaderChange::Switchover && needs_voter && !is_voter() {
                return Err("candidate name does not match with sync_standby".to_owned());
            }
            if eligible.is_empty() {
                return Err("candidate does not exists".to_owned());
            }
        }
        None if eligible.is_empty() && needs_voter => {
            return Err(format!("{action} is not possible: can not find sync_standby"));
        }
        None if eligible.is_empty() => {
            return Err(format!("{action} is not possible: cluster does not have members except leader"));
        }
        None => {}
    }
    Ok(())
}

fn is_empty(value: &Value) -> bool {
    matches!(value, Value::Null | Value::Bool(false)) || value.as_str() == Some("")
}

/// A field as text; absent, `null` and empty are the same.
fn text(body: &Map<String, Value>, key: &str) -> Option<String> {
    let value = body.get(key).filter(|value| !is_empty(value))?;
    Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

pub(crate) fn reply(request: &SwitchoverRequest, outcome: SwitchoverOutcome) -> Reply {
    let title = request.change.title();
    let (succeeded, moved) = match request.change {
        LeaderChange::Switchover => ("Successfully switched over", "Switched over"),
        LeaderChange::Failover => ("Successfully failed over", "Failed over"),
    };
    match outcome {
        SwitchoverOutcome::Done { new_leader } => match &request.candidate {
            Some(candidate) if *candidate != new_leader => {
                Reply::message(200, format!("{moved} to \"{new_leader}\" instead of \"{candidate}\""))
            }
            _ => Reply::message(200, format!("{succeeded} to \"{new_leader}\"")),
        },
        SwitchoverOutcome::Scheduled => Reply::message(202, format!("{title} scheduled")),
        SwitchoverOutcome::NoGoodCandidates => {
            let action = request.change.word();
            Reply::message(412, format!("{action} is not possible: no good candidates have been found"))
        }
        SwitchoverOutcome::NotWritten => Reply::message(503, "failed to write failover key into DCS"),
        SwitchoverOutcome::Failed => Reply::message(503, format!("{title} failed")),
        SwitchoverOutcome::Unknown { after_secs } => Reply::message(
            503,
            format!("{title} status unknown after {after_secs} seconds; operation may still be in progress"),
        ),
    }
}

pub(crate) fn delete_reply(outcome: DeleteSwitchoverOutcome) -> Reply {
    match outcome {
        DeleteSwitchoverOutcome::Deleted => Reply::message(200, "scheduled switchover deleted"),
        DeleteSwitchoverOutcome::NotScheduled => Reply::message(404, "no switchover is scheduled"),
        DeleteSwitchoverOutcome::LostRace => {
            Reply::error_page(409, "the switchover was changed at the same time: look at it and try again")
        }
        DeleteSwitchoverOutcome::Unavailable { why } => Reply::error_page(503, why),
    }
}

#[cfg(test)]
mod tests;
