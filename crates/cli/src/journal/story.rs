//! From records to events. Pure.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::record::Record;

/// Clocks of members differ, and a decision is noted before its effect is measured.
const SLACK: SignedDuration = SignedDuration::from_secs(2);
/// Between a request and the change of leader that it caused.
const REQUEST_REACH: SignedDuration = SignedDuration::from_secs(60);

/// Codes of decisions that tell nothing new.
const ROUTINE: [&str; 8] = [
    "leader_with_the_lock",
    "standby_leader_with_the_lock",
    "secondary_following",
    "nothing_to_follow",
    "in_progress",
    "updated_lock_during",
    "polling_peers",
    "leader_starting",
];

/// Codes that say why a member did not become the leader, whoever noted them.
const PASSED_OVER: &[&str] = &[
    "lost_race",
    "not_healthiest",
    "not_allowed_to_promote",
    "lag_too_high",
    "timeline_unknown",
    "timeline_behind",
    "primary_alive",
    "peer_ahead",
    "former_leader_priority",
    "peer_priority",
    "quorum_unreachable",
    "not_in_failsafe",
    "not_synchronous",
    "watchdog_not_usable",
    "watchdog_unusable_replica",
    "pre_promote_backoff",
    "pre_promote_failed",
    "sync_names_not_in_force",
    "sync_names_stuck",
    "released_shortly_ago",
    "postgres_starting",
    "race_backoff",
    "leader_alive_by_failsafe",
    "leaving_it_to_candidate",
    "stepped_down",
    "no_initialize_key",
    "system_id_mismatch",
    "system_id_invalid",
    "sync_changed_by_somebody",
    "arming_guardian",
    "guardian_stays_dead",
    "waiting_for_leader",
    "store_unreachable",
];

/// Codes in the winner's journal that tell about another member.
const ABOUT_OTHERS: [&str; 5] = [
    "member_unreachable",
    "member_not_promotable",
    "member_no_watchdog",
    "member_lagging",
    "member_timeline_behind",
];

/// Codes with which a leader gives up.
const GAVE_UP: [&str; 12] = [
    "switchover_demoting",
    "failover_demoting",
    "lost_leader_lock",
    "renewal_rejected",
    "lease_running_out",
    "handed_over",
    "released_after_stop",
    "failing_over_after_crash",
    "released_after_failed_start",
    "watchdog_unusable_primary",
    "guardian_stays_dead",
    "start_timeout_stopped",
];

/// One thing that happened.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Failover(Failover),
    Note(Note),
}

impl Event {
    pub(crate) fn time(&self) -> Timestamp {
        match self {
            Self::Failover(failover) => failover.time,
            Self::Note(note) => note.time,
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        match self {
            Self::Failover(failover) => failover.to_json(),
            Self::Note(note) => json!({
                "event": "note", "time": note.time.to_string(), "member": note.member,
                "kind": note.kind, "text": note.text,
            }),
        }
    }
}

/// A single record that is worth a line.
#[derive(Clone, Debug)]
pub(crate) struct Note {
    pub(crate) time: Timestamp,
    pub(crate) member: String,
    pub(crate) kind: String,
    pub(crate) text: String,
}

/// The cluster could not be written to, and then it could again.
#[derive(Clone, Debug)]
pub(crate) struct Failover {
    /// When it was over.
    pub(crate) time: Timestamp,
    /// `takeover` or `restart_in_place`.
    pub(crate) kind: String,
    pub(crate) new_leader: String,
    pub(crate) old_leader: Option<String>,
    pub(crate) cause: String,
    /// Milliseconds, in the order of the steps; absent steps are unknown.
    pub(crate) budget: Vec<(&'static str, u64)>,
    pub(crate) total_ms: Option<u64>,
    /// What each member saw when the leader was chosen.
    pub(crate) saw: BTreeMap<String, Sight>,
    /// The rules that fired meanwhile, in order.
    pub(crate) rules: Vec<Fired>,
    /// Who did not become the leader, and why.
    pub(crate) passed_over: BTreeMap<String, Vec<String>>,
}

/// What a member knew: of itself, of the store, of its peers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sight {
    pub(crate) lsn: Option<String>,
    pub(crate) timeline: Option<u64>,
    pub(crate) role: Option<String>,
    pub(crate) leader: Option<String>,
    pub(crate) store_age_ms: Option<u64>,
    pub(crate) answer_age_ms: Option<u64>,
    /// Per peer: `refused`, `silent`, or where its WAL ends.
    pub(crate) peers: BTreeMap<String, String>,
}

/// A rule that fired somewhere.
#[derive(Clone, Debug)]
pub(crate) struct Fired {
    pub(crate) time: Timestamp,
    pub(crate) member: String,
    pub(crate) reason: String,
    pub(crate) sentence: String,
    pub(crate) actions: Vec<String>,
}

/// Makes events of records, which are in the order of time.
pub(crate) fn tell(records: &[Record]) -> Vec<Event> {
    let failovers: Vec<Failover> = records
        .iter()
        .filter(|record| record.kind == "failover")
        .map(|record| failover(record, records))
        .collect();
    let is_told = |record: &Record| {
        record.kind == "decision"
            && failovers.iter().any(|failover| {
                let (from, to) = failover.window();
                from <= record.time && record.time <= to
            })
    };
    let notes = records.iter().filter(|record| !is_told(record)).filter_map(note).map(Event::Note);
    let mut events: Vec<Event> = notes.collect();
    events.extend(failovers.into_iter().map(Event::Failover));
    events.sort_by_key(Event::time);
    events
}

impl Failover {
    /// From the leader's last sign to the new one at work.
    fn window(&self) -> (Timestamp, Timestamp) {
        window(self.time, self.total_ms)
    }

    fn to_json(&self) -> Value {
        let mut budget = Map::new();
        for (step, ms) in &self.budget {
            budget.insert(format!("{step}_ms"), json!(ms));
        }
        budget.insert("total_ms".to_owned(), json!(self.total_ms));
        let saw: Map<String, Value> =
            self.saw.iter().map(|(name, sight)| (name.clone(), sight.to_json())).collect();
        let rules: Vec<Value> = self
            .rules
            .iter()
            .map(|rule| {
                json!({"time": rule.time.to_string(), "member": rule.member, "reason": rule.reason,
                       "sentence": rule.sentence, "actions": rule.actions})
            })
            .collect();
        json!({
            "event": self.kind, "time": self.time.to_string(), "new_leader": self.new_leader,
            "old_leader": self.old_leader, "cause": self.cause, "budget": budget, "saw": saw,
            "rules": rules, "passed_over": self.passed_over,
        })
    }
}

impl Sight {
    fn to_json(&self) -> Value {
        json!({
            "lsn": self.lsn, "timeline": self.timeline, "role": self.role, "leader": self.leader,
            "store_age_ms": self.store_age_ms, "answer_age_ms": self.answer_age_ms, "peers": self.peers,
        })
    }
}

fn window(end: Timestamp, total_ms: Option<u64>) -> (Timestamp, Timestamp) {
    let total = SignedDuration::from_millis(i64::try_from(total_ms.unwrap_or(0)).unwrap_or(i64::MAX / 2));
    let from = end.checked_sub(total).and_then(|from| from.checked_sub(SLACK)).unwrap_or(Timestamp::MIN);
    (from, end.checked_add(SLACK).unwrap_or(Timestamp::MAX))
}

fn failover(end: &Record, records: &[Record]) -> Failover {
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

/// The line for a record that belongs to no failover; `None` for routine.
fn note(record: &Record) -> Option<Note> {
    let text = match record.kind.as_str() {
        "failover" => return None,
        "decision" => {
            let actions = record.actions();
            if ROUTINE.contains(&record.reason()) && actions.is_empty() {
                return None;
            }
            let deeds =
                if actions.is_empty() { String::new() } else { format!(" -> {}", actions.join(", ")) };
            format!("{}: {}{deeds}", record.reason(), record.sentence())
        }
        "call" => {
            let message = record.text("message").map(|message| format!(" {message}")).unwrap_or_default();
            let (method, path) = (record.text("method").unwrap_or("?"), record.text("path").unwrap_or("?"));
            let status = record.number("status").map(|status| status.to_string()).unwrap_or_default();
            format!("{method} {path} by {}: {status}{message}", caller(record))
        }
        "job" => {
            let job = record.fields.get("job").and_then(super::record::variant).unwrap_or("a job");
            format!("{job}: {}", outcome(record.fields.get("outcome")))
        }
        "start" => format!("the agent started (version {})", record.text("version").unwrap_or("unknown")),
        "configuration" => "a changed dynamic configuration was taken into use".to_owned(),
        "guardian_fired" => {
            "the guardian had killed PostgreSQL: the lease ran out without an agent to renew it".to_owned()
        }
        other => other.to_owned(),
    };
    Some(Note { time: record.time, member: record.member.clone(), kind: record.kind.clone(), text })
}

fn outcome(outcome: Option<&Value>) -> String {
    let Some(outcome) = outcome else { return "ended".to_owned() };
    let name = super::record::variant(outcome).unwrap_or("ended").to_lowercase();
    let why = outcome.as_object().and_then(|map| map.values().next()).and_then(|inner| inner.get("why"));
    match why.and_then(Value::as_str) {
        Some(why) => format!("{name}: {why}"),
        None => name,
    }
}

#[cfg(test)]
#[path = "story_tests.rs"]
mod tests;
