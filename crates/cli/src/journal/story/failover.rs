//! One failover out of the records around it: its cause, what each member saw, which rules fired, and who was passed over.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{
    Failover, Fired, Sight,
    codes::{ABOUT_OTHERS, GAVE_UP, PASSED_OVER},
};
use crate::journal::record::Record;

/// Clocks of members differ, and a decision is noted before its effect is measured.
const SLACK: SignedDuration = SignedDuration::from_secs(2);

/// Between a request and the change of leader that it caused.
const REQUEST_REACH: SignedDuration = SignedDuration::from_secs(60);

pub(super) fn window(end: Timestamp, total_ms: Option<u64>) -> (Timestamp, Timestamp) {
    let total = SignedDuration::from_millis(i64::try_from(total_ms.unwrap_or(0)).unwrap_or(i64::MAX / 2));
    let from = end.checked_sub(total).and_then(|from| from.checked_sub(SLACK)).unwrap_or(Timestamp::MIN);
    (from, end.checked_add(SLACK).unwrap_or(Timestamp::MAX))
}

pub(super) fn failover(end: &Record, records: &[Record]) -> Failover {
    let total_ms = end.number("total_ms");
    let (from, to) = window(end.time, total_ms);
    let is_within = |record: &&Record| from <= record.time && record.time <= to;
    let within: Vec<&Record> = records.iter().filter(is_within).collect();
    let decisions: Vec<&Record> = within.iter().copied().filter(|record| record.kind == "decision").collect();
    let old_leader = end.text("old_leader").map(str::to_owned).or_else(|| leader_before(end, &decisions));
    let kind = end.text("event").unwrap_or("takeover").to_owned();
    let steps = ["detect", "decide", "fence", "promote", "route"];
    Failover {
        time: end.time,
        new_leader: end.member.clone(),
        cause: cause(&kind, end, old_leader.as_deref(), records, &decisions),
        budget: steps.iter().filter_map(|step| Some((*step, end.number(&format!("{step}_ms"))?))).collect(),
        total_ms,
        saw: saw(end, &decisions),
        rules: decisions.iter().map(|record| fired(record)).collect(),
        passed_over: passed_over(end, &decisions),
        kind,
        old_leader,
    }
}

/// Whom somebody saw leading last, other than the one that took over.
fn leader_before(end: &Record, decisions: &[&Record]) -> Option<String> {
    let mut leaders = decisions.iter().filter_map(|record| record.seen()?.get("leader")?.as_str());
    leaders.rfind(|leader| *leader != end.member).map(str::to_owned)
}

/// When a guardian acted. It could write only its own file: the agent's next start told the journal, perhaps much later.
fn fired_at(record: &Record) -> Option<Timestamp> {
    let (_, rest) = record.text("record")?.split_once("unix_millis: ")?;
    let digits = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
    Timestamp::from_millisecond(rest[..digits].parse().ok()?).ok()
}

fn cause(
    kind: &str,
    end: &Record,
    old_leader: Option<&str>,
    records: &[Record],
    decisions: &[&Record],
) -> String {
    let (from, to) = window(end.time, end.number("total_ms"));
    let reach = from.checked_sub(REQUEST_REACH).unwrap_or(Timestamp::MIN);
    let fired =
        |code: &str| decisions.iter().any(|record| record.rules().iter().any(|(reason, _)| *reason == code));
    let request = records.iter().rfind(|record| {
        let path = record.text("path").unwrap_or_default();
        record.kind == "call"
            && reach <= record.time
            && record.time <= to
            && matches!(path, "/switchover" | "/failover")
    });
    let by = request.map(|call| format!(", asked for by {}", caller(call))).unwrap_or_default();
    if fired("switchover_demoting") || request.is_some_and(|call| call.text("path") == Some("/switchover")) {
        return format!("planned switchover{by}");
    }
    if fired("failover_demoting") || request.is_some() {
        return format!("manual failover{by}");
    }
    let killed = records.iter().any(|record| {
        let is_of_old_leader = record.kind == "guardian_fired" && Some(record.member.as_str()) == old_leader;
        is_of_old_leader && fired_at(record).is_some_and(|at| from <= at && at <= to)
    });
    if killed {
        return "the guardian killed PostgreSQL of the old leader when its lease ran out".to_owned();
    }
    if kind == "restart_in_place" {
        return "PostgreSQL ended and was started again where it was".to_owned();
    }
    let gave_up = decisions
        .iter()
        .find(|record| Some(record.member.as_str()) == old_leader && GAVE_UP.contains(&record.reason()));
    if let Some(record) = gave_up {
        return format!("{} gave up: {}", record.member, record.sentence());
    }
    match old_leader {
        Some(name) => match last_answer(end, decisions, name) {
            Some(answer) => format!("the lock of {name} ran out ({name} {})", answer_text(&answer)),
            None => format!("the lock of {name} ran out"),
        },
        None => "nobody held the leader lock".to_owned(),
    }
}

/// What the winner heard from a peer.
fn last_answer(end: &Record, decisions: &[&Record], peer: &str) -> Option<String> {
    let own = decisions.iter().rfind(|record| record.member == end.member && !peers(record).is_empty())?;
    peers(own).remove(peer)
}

fn answer_text(answer: &str) -> String {
    match answer {
        "refused" => "refused the connection".to_owned(),
        "silent" => "did not answer".to_owned(),
        position => format!("was at {position}"),
    }
}

/// Who asked.
pub(crate) fn caller(call: &Record) -> String {
    let origin = call.text("origin").unwrap_or("an unknown address");
    match call.text("identity") {
        Some(identity) => format!("{identity} at {origin}"),
        None => origin.to_owned(),
    }
}

/// Per member the last sight before the end, the winner's with the answers of its peers.
fn saw(end: &Record, decisions: &[&Record]) -> BTreeMap<String, Sight> {
    let mut sights = BTreeMap::new();
    for record in decisions.iter().filter(|record| record.time <= end.time) {
        if record.seen().is_none() {
            continue;
        }
        let mut sight = sight(record);
        if sight.peers.is_empty()
            && let Some(earlier) = sights.remove(&record.member)
        {
            let Sight { peers, .. } = earlier;
            sight.peers = peers;
        }
        sights.insert(record.member.clone(), sight);
    }
    sights
}

fn sight(record: &Record) -> Sight {
    let field = |key: &str| record.seen().and_then(|seen| seen.get(key)).filter(|value| !value.is_null());
    let text = |key: &str| field(key).and_then(Value::as_str).map(str::to_owned);
    let number = |key: &str| field(key).and_then(Value::as_u64);
    Sight {
        lsn: text("lsn"),
        timeline: number("timeline"),
        role: text("role"),
        leader: text("leader"),
        store_age_ms: number("store_age_ms"),
        answer_age_ms: number("answer_age_ms"),
        peers: peers(record),
    }
}

fn peers(record: &Record) -> BTreeMap<String, String> {
    let answers = record.seen().and_then(|seen| seen.pointer("/peers/answers")).and_then(Value::as_object);
    let tell = |answer: &Value| match answer {
        Value::String(word) => word.clone(),
        answer => {
            let lsn = answer.get("lsn").and_then(Value::as_str).unwrap_or("an unknown position");
            match answer.get("timeline").and_then(Value::as_u64) {
                Some(timeline) => format!("{lsn} on timeline {timeline}"),
                None => lsn.to_owned(),
            }
        }
    };
    answers.into_iter().flatten().map(|(name, answer)| (name.clone(), tell(answer))).collect()
}

fn fired(record: &Record) -> Fired {
    Fired {
        time: record.time,
        member: record.member.clone(),
        reason: record.reason().to_owned(),
        sentence: record.sentence().to_owned(),
        actions: record.actions().into_iter().map(str::to_owned).collect(),
    }
}

fn passed_over(end: &Record, decisions: &[&Record]) -> BTreeMap<String, Vec<String>> {
    let mut passed: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut add = |name: &str, why: String| {
        let reasons = passed.entry(name.to_owned()).or_default();
        if !reasons.contains(&why) {
            reasons.push(why);
        }
    };
    for record in decisions.iter().filter(|record| record.time <= end.time) {
        let rules = record.rules();
        if record.member == end.member {
            for (code, sentence) in rules {
                if ABOUT_OTHERS.contains(&code)
                    && let Some(name) = named(record, sentence)
                {
                    add(&name, sentence.to_owned());
                }
            }
            for (name, answer) in peers(record) {
                if matches!(answer.as_str(), "refused" | "silent") {
                    add(&name, format!("it {}", answer_text(&answer)));
                }
            }
        } else {
            for (_, sentence) in rules.into_iter().filter(|(code, _)| PASSED_OVER.contains(code)) {
                add(&record.member, sentence.to_owned());
            }
        }
    }
    passed
}

/// The member that a sentence is about: the longest known name that stands in it as a word.
fn named(record: &Record, sentence: &str) -> Option<String> {
    let members = record.seen()?.get("members")?.as_object()?;
    let words: Vec<&str> = sentence.split_whitespace().collect();
    members.keys().filter(|name| words.contains(&name.as_str())).max_by_key(|name| name.len()).cloned()
}
