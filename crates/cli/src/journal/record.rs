//! One record of a journal.

use jiff::Timestamp;
use serde_json::Value;

/// What one member noted at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) time: Timestamp,
    pub(crate) member: String,
    /// `decision`, `failover`, `call`, `job`, `start`, `configuration`, `guardian_fired`, ...
    pub(crate) kind: String,
    /// The whole object.
    pub(crate) fields: Value,
}

impl Record {
    /// `None` if it has no time: it cannot be placed in the story.
    pub(crate) fn parse(fields: Value) -> Option<Self> {
        let text = |key: &str| fields.get(key).and_then(Value::as_str).map(str::to_owned);
        let time = text("time")?.parse().ok()?;
        Some(Self {
            time,
            member: text("member").unwrap_or_default(),
            kind: text("kind").unwrap_or_default(),
            fields,
        })
    }

    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.fields.get(key).and_then(Value::as_str)
    }

    pub(crate) fn number(&self, key: &str) -> Option<u64> {
        self.fields.get(key).and_then(Value::as_u64)
    }

    pub(crate) fn reason(&self) -> &str {
        self.text("reason").unwrap_or_default()
    }

    pub(crate) fn sentence(&self) -> &str {
        self.text("sentence").unwrap_or_default()
    }

    /// Every rule that fired, the deciding one first: code and sentence.
    pub(crate) fn rules(&self) -> Vec<(&str, &str)> {
        let also = self.fields.get("also").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let first = (!self.reason().is_empty()).then(|| (self.reason(), self.sentence()));
        let rest = also.iter().filter_map(|value| {
            Some((
                value.get("reason")?.as_str()?,
                value.get("sentence").and_then(Value::as_str).unwrap_or_default(),
            ))
        });
        first.into_iter().chain(rest).collect()
    }

    /// The names of the actions that were decided on.
    pub(crate) fn actions(&self) -> Vec<&str> {
        let actions =
            self.fields.get("actions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        actions.iter().filter_map(variant).collect()
    }

    pub(crate) fn seen(&self) -> Option<&Value> {
        self.fields.get("seen").filter(|seen| seen.is_object())
    }
}

/// The name of an enum's variant in JSON: a text, or the only key of an object.
pub(crate) fn variant(value: &Value) -> Option<&str> {
    match value {
        Value::String(name) => Some(name),
        Value::Object(map) => map.keys().next().map(String::as_str),
        _ => None,
    }
}

/// All records in the order of their time; within a member the journal's own order decides.
pub(crate) fn merge(records: &mut [Record]) {
    records.sort_by_key(|record| record.time);
}
