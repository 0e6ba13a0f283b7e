//! From records to events. Pure.

mod codes;
mod failover;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

pub(crate) use self::failover::caller;
use self::{
    codes::ROUTINE,
    failover::{failover, window},
};
use super::record::{Record, variant};

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
            let job = record.fields.get("job").and_then(variant).unwrap_or("a job");
            format!("{job}: {}", outcome(record.fields.get("outcome")))
        }
        "citus" => citus(record),
        "vip" | "dns" | "provider" => entry_point(record),
        "start" => format!("the agent started (version {})", record.text("version").unwrap_or("unknown")),
        "configuration" => "a changed dynamic configuration was taken into use".to_owned(),
        "alarm" => {
            let over = if record.fields.get("stands") == Some(&Value::Bool(false)) { "over: " } else { "" };
            format!("{over}{}: {}", record.text("alarm").unwrap_or("?"), record.sentence())
        }
        "guardian_fired" => {
            "the guardian had killed PostgreSQL: the lease ran out without an agent to renew it".to_owned()
        }
        other => other.to_owned(),
    };
    Some(Note { time: record.time, member: record.member.clone(), kind: record.kind.clone(), text })
}

/// What became of an address or a name that leads here.
fn entry_point(record: &Record) -> String {
    let entry = record.text("entry").unwrap_or("?");
    let address = record.text("address").map(|address| format!(" {address}")).unwrap_or_default();
    let what = match record.kind.as_str() {
        "vip" => "virtual address",
        "dns" => "name",
        _ => "the provider's address",
    };
    let details = [("interface", "on"), ("at", "by"), ("server", "at"), ("because", "because")];
    let details = details.iter().filter_map(|(field, word)| Some(format!(" {word} {}", record.text(field)?)));
    let did = record.text("action").unwrap_or("?");
    format!("{what} {entry}{address}: {did}{}", details.collect::<String>())
}

/// What was done about the metadata of a Citus cluster.
fn citus(record: &Record) -> String {
    let of_group = record.number("group").map(|group| format!(" of group {group}")).unwrap_or_default();
    if let Some(why) = record.text("failure") {
        return format!("the Citus metadata{of_group} could not be kept: {why}");
    }
    let changes = record.fields.get("changes").and_then(Value::as_array);
    let changes: Vec<&str> = changes.into_iter().flatten().filter_map(Value::as_str).collect();
    let (cause, end) = (record.text("cause").unwrap_or("?"), record.text("end").unwrap_or("?"));
    format!("Citus metadata{of_group} by {cause}: {} ({end})", changes.join(", "))
}

fn outcome(outcome: Option<&Value>) -> String {
    let Some(outcome) = outcome else { return "ended".to_owned() };
    let name = variant(outcome).unwrap_or("ended").to_lowercase();
    let why = outcome.as_object().and_then(|map| map.values().next()).and_then(|inner| inner.get("why"));
    match why.and_then(Value::as_str) {
        Some(why) => format!("{name}: {why}"),
        None => name,
    }
}
