//! When a health check answers 200: what load balancers route by.

use bellwether_types::{ReplicationState, Role};
use serde_json::Value;

use crate::{
    facts::{Facts, SyncStandby},
    quantity::{self, Unit},
    request::Query,
};

/// The status code of a health path. Rules are tried from top to bottom, the first ones by substring, so that every
/// spelling in the field (`/read-write`, `/standby-leader`, `/master`) finds its check. A path nobody knows is 503.
pub(crate) fn check(facts: &Facts<'_>, path: &str, query: &Query) -> u16 {
    let path = if path.trim_matches('/').is_empty() { "/primary" } else { path };
    let has = |word: &str| path.contains(word);
    let replica = || is_replica(facts, query);
    let writable_or_standby_leader = || is_primary(facts) || is_standby_leader(facts);
    let standby = facts.standby;

    let (healthy, tags_count) = if has("standby_leader") || has("standby-leader") {
        (is_standby_leader(facts), false)
    } else if has("leader") {
        (is_leader(facts), false)
    } else if has("master") || has("primary") || has("read-write") {
        (is_primary(facts), false)
    } else if has("replica") {
        (replica(), true)
    } else if has("read-only") && !has("sync") && !has("quorum") {
        (writable_or_standby_leader() || replica(), true)
    } else if has("health") {
        (facts.is_running(), true)
    } else if facts.view.is_none() {
        (false, true)
    } else {
        let healthy = match path {
            "/sync" | "/synchronous" => standby == Some(SyncStandby::Sync) && replica(),
            "/quorum" => standby == Some(SyncStandby::Quorum) && replica(),
            "/async" | "/asynchronous" => standby.is_none() && replica(),
            "/read-only-quorum" => {
                writable_or_standby_leader() || standby == Some(SyncStandby::Quorum) && replica()
            }
            "/read-only-sync" | "/read-only-synchronous" => {
                writable_or_standby_leader() || standby == Some(SyncStandby::Sync) && replica()
            }
            _ => false,
        };
        (healthy, true)
    };
    if healthy && (!tags_count || tags_match(facts, query)) { 200 } else { 503 }
}

/// Paused and without the store nobody can hold a lease, and PostgreSQL is left alone: the role is the only evidence.
fn goes_by_role(facts: &Facts<'_>) -> bool {
    facts.is_fresh && facts.view.is_none() && facts.is_paused()
}

fn is_leader(facts: &Facts<'_>) -> bool {
    if goes_by_role(facts) { matches!(facts.role, Role::Primary | Role::StandbyLeader) } else { facts.leads }
}

fn is_primary(facts: &Facts<'_>) -> bool {
    if goes_by_role(facts) { facts.role == Role::Primary } else { facts.leads && !facts.is_standby_cluster() }
}

fn is_standby_leader(facts: &Facts<'_>) -> bool {
    if goes_by_role(facts) {
        facts.role == Role::StandbyLeader
    } else {
        facts.leads && facts.is_standby_cluster() && matches!(facts.role, Role::Replica | Role::StandbyLeader)
    }
}

fn is_replica(facts: &Facts<'_>, query: &Query) -> bool {
    let wanted = query.first("replication_state");
    !(facts.leads && facts.is_standby_cluster())
        && facts.role == Role::Replica
        && facts.is_running()
        && takes_readers(facts)
        && !is_lagging(facts, query)
        && wanted.is_none_or(|wanted| facts.replication_state().is_some_and(|state| state.as_str() == wanted))
}

/// Whether neither the node's file nor an operator has taken it out.
fn takes_readers(facts: &Facts<'_>) -> bool {
    let status = &facts.status;
    !status.tags.noloadbalance() && !status.settings.routing.contains_key(&status.me)
}

/// An unparsable limit is no limit, and so is an unknown leader position.
fn is_lagging(facts: &Facts<'_>, query: &Query) -> bool {
    let limit = query.first("lag").and_then(|text| quantity::parse(text, Unit::Bytes));
    let (Some(limit), Some(leader)) = (limit, facts.leader_lsn()) else { return false };
    let (_, replayed) = facts.standby_positions();
    i128::from(leader.0) > i128::from(replayed.0) + i128::from(limit)
}

/// All `tag_<name>=<value>` must match; values that are no text are compared as lower-case text.
fn tags_match(facts: &Facts<'_>, query: &Query) -> bool {
    let tags = facts.status.tags.published();
    query.with_prefix("tag_").all(|(name, wanted)| match tags.0.get(name) {
        None | Some(Value::Null) => false,
        Some(Value::String(text)) => text == wanted,
        Some(value) => value.to_string().to_lowercase() == wanted,
    })
}

/// `GET /liveness`: whether the agent's loop turns.
pub(crate) fn liveness(facts: &Facts<'_>) -> u16 {
    if facts.is_paused() || facts.now < facts.status.next_tick_by { 200 } else { 503 }
}

/// `GET /readiness`: whether this member leads or follows closely. `Err` says why not.
pub(crate) fn readiness(facts: &Facts<'_>, query: &Query) -> Result<(), String> {
    if facts.leads {
        return Ok(());
    }
    if !facts.is_running() {
        return Err("PostgreSQL is not running".to_owned());
    }
    if facts.replication_state() != Some(ReplicationState::Streaming) {
        return Err("PostgreSQL replication state is not streaming".to_owned());
    }
    let announced = facts.server.and_then(|server| server.latest_end_lsn);
    if facts.view.is_none() && announced.is_none() {
        let active = facts.is_failsafe_active();
        return if active { Ok(()) } else { Err("DCS is not accessible".to_owned()) };
    }
    let (received, replayed) = facts.standby_positions();
    let (position, kind) =
        if query.first("mode") == Some("write") { (received, "write") } else { (replayed, "apply") };
    let lag = facts.leader_lsn().map_or(0, |leader| leader - position);
    let asked = query.first("lag").and_then(|text| quantity::parse(text, Unit::Bytes));
    let limit =
        asked.map_or(facts.status.settings.maximum_lag_on_failover, |limit| limit.max(0).unsigned_abs());
    if lag > limit {
        return Err(format!("Replication {kind} lag {lag} exceeds maximum allowable {limit}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
