//! `GET /cluster`, `/history`, `/config` and `/failsafe`: the store's content as the agent saw it last.

use bellwether_types::{
    Lsn,
    cluster::{Cluster, ConfigDocument, HistoryEntry, Member, Schedule},
};
use serde_json::{Map, Value, json};

use crate::{
    facts::{Facts, SyncStandby},
    reply::Reply,
};

const NO_VIEW: &str = "the state of the cluster is not known: the store could not be read";

/// All members and what is planned for them.
pub(crate) fn cluster(facts: &Facts<'_>) -> Reply {
    let Some(view) = facts.view else { return Reply::error_page(503, NO_VIEW) };
    let members: Vec<_> = view.members.values().map(|one| member(facts, view, one)).collect();
    let mut fields = Map::new();
    fields.insert("members".to_owned(), Value::Array(members));
    if facts.is_paused() {
        fields.insert("pause".to_owned(), json!(true));
    }
    if let Some(planned) = scheduled_switchover(view) {
        fields.insert("scheduled_switchover".to_owned(), planned);
    }
    fields.insert("scope".to_owned(), json!(facts.status.cluster));
    Reply::json(200, &fields)
}

fn member(facts: &Facts<'_>, view: &Cluster, member: &Member) -> Value {
    let leads = view.leader_name() == Some(&member.name);
    let sync_word = SyncStandby::of(facts.status.settings.sync_mode()).map(SyncStandby::word);
    let is_voter = view.active_sync().is_some_and(|sync| sync.has_voter(&member.name));
    let role = match sync_word {
        _ if leads && facts.is_standby_cluster() => "standby_leader",
        _ if leads => "leader",
        Some(word) if is_voter => word,
        _ => "replica",
    };
    // As published: a state or a tag that we do not know is shown as it is.
    let published = |key: &str| member.raw.get(key).filter(|value| !value.is_null());
    let replication_state = published("replication_state").filter(|_| role != "leader");
    let state = replication_state.or_else(|| published("state")).cloned().unwrap_or_else(|| json!(""));

    let mut fields = Map::new();
    let mut put = |key: &str, value: Value| {
        fields.insert(key.to_owned(), value);
    };
    put("name", json!(member.name));
    put("role", json!(role));
    put("state", state);
    put("api_url", json!(member.api_url));
    if let Some((host, port)) = member.conn_url.as_deref().and_then(host_and_port) {
        put("host", json!(host));
        put("port", json!(port));
    }
    for key in ["timeline", "pending_restart", "pending_restart_reason", "scheduled_restart", "tags"] {
        if let Some(value) = published(key) {
            put(key, value.clone());
        }
    }
    if let Some(duty) = facts.status.settings.routing.get(&member.name) {
        put("routing", json!(duty));
    }
    if !leads {
        for (lag, lsn, position) in [
            ("receive_lag", "receive_lsn", member.receive_lsn),
            ("replay_lag", "replay_lsn", member.replay_lsn),
            ("lag", "lsn", member.xlog_location),
        ] {
            let known = position.filter(|lsn| *lsn > Lsn::ZERO);
            put(lag, known.map_or_else(|| json!("unknown"), |lsn| json!(view.optime() - lsn)));
            put(lsn, known.map_or_else(|| json!("unknown"), |lsn| json!(lsn.to_string())));
        }
    }
    Value::Object(fields)
}

fn scheduled_switchover(view: &Cluster) -> Option<Value> {
    let (request, _) = view.failover_request()?;
    let at = match request.scheduled_at.as_ref()? {
        Schedule::At { text, .. } | Schedule::Unparsable { text } => text,
    };
    let mut planned = Map::new();
    planned.insert("at".to_owned(), json!(at));
    for (key, name) in [("from", &request.leader), ("to", &request.candidate)] {
        if let Some(name) = name {
            planned.insert(key.to_owned(), json!(name));
        }
    }
    Some(Value::Object(planned))
}

/// Host and port of a `postgres://` URL; the port is 5432 where none is given.
fn host_and_port(url: &str) -> Option<(&str, u16)> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?']).next()?;
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, rest.strip_prefix(':'))
        }
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map_or(Some(5432), |port| port.parse().ok())?;
    (!host.is_empty()).then_some((host, port))
}

/// Finished timelines; `[]` if there are none.
pub(crate) fn history(facts: &Facts<'_>) -> Reply {
    let Some(view) = facts.view else { return Reply::error_page(503, NO_VIEW) };
    let entries = view.history.as_ref().map_or(&[][..], |keyed| &keyed.value.0);
    let rows: Vec<_> = entries.iter().map(history_row).collect();
    Reply::json(200, &rows)
}

fn history_row(entry: &HistoryEntry) -> Value {
    let mut row = vec![json!(entry.timeline), json!(entry.end), json!(entry.reason)];
    if let Some(promoted_at) = &entry.promoted_at {
        row.push(json!(promoted_at));
        row.extend(entry.new_leader.as_ref().map(|name| json!(name)));
    }
    Value::Array(row)
}

/// The stored dynamic configuration.
pub(crate) fn config(facts: &Facts<'_>) -> Reply {
    let Some(view) = facts.view else { return Reply::error_page(503, NO_VIEW) };
    match view.config.as_ref().map(|keyed| &keyed.value) {
        Some(ConfigDocument::Valid(document)) => Reply::json(200, document),
        Some(ConfigDocument::Invalid) => Reply::error_page(502, "the stored configuration is no JSON object"),
        None => Reply::error_page(502, "there is no configuration in the store"),
    }
}

/// The members that a leader without a store must ask.
pub(crate) fn failsafe(facts: &Facts<'_>) -> Reply {
    match &facts.status.failsafe {
        Some(map) => Reply::json(200, &map.0),
        None => Reply::error_page(502, "there is no failsafe map"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_urls_have_a_host_and_a_port() {
        for (url, expected) in [
            ("postgres://10.0.0.2:5433/postgres", Some(("10.0.0.2", 5433))),
            ("postgres://db1/postgres?application_name=x", Some(("db1", 5432))),
            ("postgres://[::1]:5432/postgres", Some(("::1", 5432))),
            ("postgres://user:pw@db1:6000", Some(("db1", 6000))),
            ("postgres:///postgres", None),
            ("db1:5432", None),
            ("postgres://db1:port/", None),
        ] {
            assert_eq!(host_and_port(url), expected, "{url}");
        }
    }
}
