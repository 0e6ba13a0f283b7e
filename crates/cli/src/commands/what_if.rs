//! `what-if`: what would happen if a member were lost, by the election code itself on the state that stands.

mod telling;

use std::{collections::BTreeMap, time::Duration};

use bellwether_config::{Dynamic, Floors, dynamic};
use bellwether_dcs::{Snapshot, codec};
use bellwether_ha::{
    takeover,
    view::{AsOf, PeerReport},
    what_if::{
        Commits, Outlook, Situation, Told, Verdict,
        forecast::{self, Forecast, LeaseManner, Span},
    },
};
use bellwether_types::{
    MemberName, PostgresState, ReplicationState, Role, WallTime,
    cluster::{Cluster, ConfigDocument},
    settings::Settings,
};
use serde_json::{Map, Value, json};

use crate::{
    command::{StoryFormat, WhatIfArgs},
    error::CliError,
    journal::{record::Record, sources},
    manner::Outcome,
    render::json::one_line,
    session::{PROBE_PATIENCE, Session, Target, with_api},
};

/// Of the JSON form; a new one only when a field changes its meaning or vanishes.
const SCHEMA: u32 = 1;

/// Everything that is told.
struct Answer {
    outlook: Outlook,
    /// `None` while nobody new would lead.
    forecast: Option<Forecast>,
    /// How many voters the embedded store would have left, if that is no majority.
    store_lost: Option<StoreLost>,
}

/// The embedded store could elect nobody.
#[derive(Clone, Copy)]
struct StoreLost {
    voters: usize,
}

pub(crate) async fn what_if(session: &mut Session, args: &WhatIfArgs) -> Result<Outcome, CliError> {
    let target = session.target_of_own_group(args.cluster.as_deref()).await?;
    let snapshot = target.snapshot().await?;
    let cluster = codec::decode(&snapshot);
    let lost = lost(&cluster, args.member.as_deref())?;
    let settings = settings(&target, &cluster)?;
    let told = ask(session, &cluster).await;
    let capabilities = target.store.capabilities();
    let situation = Situation {
        cluster: &cluster,
        settings: &settings,
        told: &told,
        wall: WallTime::from_unix_millis(jiff::Timestamp::now().as_millisecond()),
        multi_key_transactions: capabilities.multi_key_transactions,
    };
    let mut outlook = situation.after_loss_of(&lost);
    let store_lost = store_lost(session, &cluster, &lost);
    if store_lost.is_some() {
        outlook.verdict = Verdict::Nobody;
        outlook.risk = None;
    }
    let forecast = match outlook.verdict {
        Verdict::Elected { .. } => {
            let by_loop = cluster.member(&lost).is_some_and(|member| member.bellwether.is_none());
            let lease = match capabilities.kind {
                "consul" => LeaseManner::consul(&settings, by_loop),
                _ => LeaseManner::punctual(&settings, by_loop),
            };
            let past = past_takeovers(&journals(session, &cluster, &snapshot).await);
            let forecast = forecast::after_silent_loss(&settings, lease, &past);
            let is_on = takeover::why_off(&settings, &cluster, capabilities.multi_key_transactions).is_none();
            Some(if is_on { forecast.with_quorum_takeover(&settings) } else { forecast })
        }
        _ => None,
    };
    let answer = Answer { outlook, forecast, store_lost };
    match args.format {
        StoryFormat::Json => session.talk.line(one_line(&answer.to_json())),
        StoryFormat::Pretty => session.talk.terminal.out(&telling::tell(&answer)),
    }
    Ok(Outcome::Done)
}

fn lost(cluster: &Cluster, given: Option<&str>) -> Result<MemberName, CliError> {
    let names = || cluster.members.keys().map(MemberName::as_str).collect::<Vec<_>>().join(", ");
    match given {
        Some(given) => cluster.members.keys().find(|name| name.as_str() == given).cloned().ok_or_else(|| {
            CliError::with_help(
                format!("the cluster has no member {given}"),
                format!("its members are {}", names()),
            )
        }),
        None => cluster.leader_name().cloned().ok_or_else(|| {
            CliError::with_help("the cluster has no leader now", format!("name a member: {}", names()))
        }),
    }
}

/// As the members have them in force.
pub(super) fn settings(target: &Target, cluster: &Cluster) -> Result<Settings, CliError> {
    let ours = Floors::bellwether(target.store.capabilities().minimum_ttl);
    let all_ours = cluster.members.values().all(|member| member.bellwether.is_some());
    let floors = if all_ours { ours } else { Floors::patroni() };
    let document = match cluster.config.as_ref().map(|config| &config.value) {
        Some(ConfigDocument::Valid(document)) => document.clone(),
        _ => json!({}),
    };
    let Dynamic { settings, .. } =
        dynamic::parse(&document, floors).map_err(|error| CliError::refused(error.to_string()))?;
    Ok(settings)
}

async fn ask(session: &Session, cluster: &Cluster) -> BTreeMap<MemberName, Told> {
    let mut told = BTreeMap::new();
    for member in with_api(cluster) {
        let url = member.api_url.as_deref().unwrap_or_default();
        if let Ok(status) = session.status(url, PROBE_PATIENCE).await {
            let report = PeerReport {
                role: status.role.unwrap_or(Role::Uninitialized),
                is_running_primary: status.may_be_primary(),
                position: status.position(),
                as_of: AsOf::Unsaid,
                timeline: status.timeline,
                nofailover: status.tags.nofailover(),
                failover_priority: status.tags.failover_priority(),
                watchdog_failed: status.watchdog_failed,
                at_rest: status.at_rest,
                holds_lock: status.holds_lock,
                system_id: status.system_id,
                takeover: status.takeover.clone(),
                unfit: status.alarms.iter().any(|alarm| alarm.makes_unfit()),
            };
            let answer = Told {
                report,
                is_running: status.state == Some(PostgresState::Running) && status.wal.is_some(),
                is_streaming: status.replication_state == Some(ReplicationState::Streaming),
                tags: status.tags,
                system_id: status.system_id,
                server_version: status.server_version.unwrap_or(0),
            };
            told.insert(member.name.clone(), answer);
        }
    }
    told
}

/// Of a voter's own configuration the number of all voters is known. One of two cannot go on alone.
fn store_lost(session: &Session, cluster: &Cluster, lost: &MemberName) -> Option<StoreLost> {
    let raft = session.config.store.as_ref()?.raft()?;
    raft.self_addr.as_ref()?;
    let voters = raft.partner_addrs.len() + 1;
    let is_alone = cluster.members.len() < 2 || voters > 2;
    (!is_alone && cluster.members.contains_key(lost)).then_some(StoreLost { voters })
}

async fn journals(session: &Session, cluster: &Cluster, snapshot: &Snapshot) -> Vec<Record> {
    let mut left = sources::left_in(snapshot);
    let mut records = Vec::new();
    for member in with_api(cluster) {
        match sources::ask(session, member).await {
            Ok(answer) => records.extend(answer.into_iter().filter_map(Record::parse)),
            Err(_) => records.extend(left.remove(&member.name).unwrap_or_default()),
        }
    }
    records
}

/// How long earlier changes of leader took from the free lock to the first write.
fn past_takeovers(records: &[Record]) -> Vec<Duration> {
    let takeovers = records.iter().filter(|record| record.text("event") == Some("takeover"));
    takeovers
        .filter_map(|record| {
            let total = record.number("total_ms")?;
            Some(Duration::from_millis(total.saturating_sub(record.number("detect_ms")?)))
        })
        .collect()
}

impl Answer {
    fn to_json(&self) -> Value {
        let Outlook { lost, verdict, others, risk, commits } = &self.outlook;
        let (verdict, candidates, leader) = match verdict {
            Verdict::LeaderStays { leader } => ("leader_stays", &[][..], Some(leader)),
            Verdict::Elected { candidates } => ("elected", &candidates[..], None),
            Verdict::Nobody => ("nobody", &[][..], None),
        };
        let members: Map<String, Value> = others
            .iter()
            .map(|(name, standing)| {
                let reasons: Vec<Value> = standing
                    .reasons
                    .iter()
                    .map(|reason| json!({"reason": reason.code(), "sentence": reason.sentence()}))
                    .collect();
                (name.to_string(), json!({"takes_lock": standing.takes_lock, "reasons": reasons}))
            })
            .collect();
        json!({
            "version": SCHEMA, "lost": lost, "verdict": verdict, "candidates": candidates, "leader": leader,
            "seconds": self.forecast.map(|forecast| json!({
                "total": span(forecast.total()), "detection": span(forecast.detection),
                "takeover": span(forecast.takeover), "past_takeovers": forecast.past,
            })),
            "risk": risk.map(|risk| json!({
                "bytes_behind": risk.behind, "acknowledged_commits_are_safe": risk.is_synchronous,
                "bytes_tolerated": if risk.is_synchronous { Value::Null } else { json!(risk.tolerated) },
            })),
            "commits": match commits {
                Commits::GoOn => "go_on",
                Commits::WaitForList => "wait_for_list",
                Commits::WaitForStandby => "wait_for_standby",
            },
            "members": members,
            "store_voters": self.store_lost.map(|store| store.voters),
        })
    }
}

fn span(span: Span) -> Value {
    let seconds = |time: Duration| (time.as_secs_f64() * 1000.0).round() / 1000.0;
    json!({"min": seconds(span.min), "typical": seconds(span.typical), "max": seconds(span.max)})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_follows_the_free_lock_is_taken_from_the_past() {
        let record = |fields: Value| {
            let mut record = json!({"time": "2026-11-22T10:00:00Z", "member": "b", "kind": "failover"});
            record.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            Record::parse(record).unwrap()
        };
        let records = [
            record(json!({"event": "takeover", "detect_ms": 4_500, "total_ms": 4_605})),
            record(json!({"event": "restart_in_place", "total_ms": 700})),
            record(json!({"event": "takeover", "total_ms": 100})),
        ];
        assert_eq!(past_takeovers(&records), [Duration::from_millis(105)]);
    }
}
