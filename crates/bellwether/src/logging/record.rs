//! One event, read.

use std::{fmt, fmt::Write};

use jiff::Zoned;
use serde_json::Value;
use tracing::{Event, Level, Metadata, field::Field, field::Visit};

/// What a line is made from.
pub(crate) struct Record {
    pub(crate) time: Zoned,
    pub(crate) metadata: &'static Metadata<'static>,
    /// A person must act at once: told by the field `critical` of an error.
    pub(crate) critical: bool,
    pub(crate) message: String,
    /// In the order of the event, without message and causes.
    pub(crate) fields: Vec<(&'static str, Value)>,
    /// The field `error` with everything that caused it.
    pub(crate) error: Option<String>,
}

impl Record {
    pub(crate) fn read(event: &Event<'_>) -> Self {
        let mut record = Self {
            time: Zoned::now(),
            metadata: event.metadata(),
            critical: false,
            message: String::new(),
            fields: Vec::new(),
            error: None,
        };
        event.record(&mut record);
        record
    }

    /// Python's name of the level, and its number.
    pub(crate) fn level(&self) -> (&'static str, u32) {
        match *self.metadata.level() {
            Level::ERROR if self.critical => ("CRITICAL", 50),
            Level::ERROR => ("ERROR", 40),
            Level::WARN => ("WARNING", 30),
            Level::INFO => ("INFO", 20),
            Level::DEBUG | Level::TRACE => ("DEBUG", 10),
        }
    }

    /// The message with its fields behind it. `short_causes`: what failed stands in `DETAIL`.
    pub(crate) fn text(&self, short_causes: bool) -> String {
        let mut text = self.message.clone();
        for (name, value) in &self.fields {
            let _ = match value {
                Value::String(value) => write!(text, ", {name}={value}"),
                value => write!(text, ", {name}={value}"),
            };
        }
        if let Some(error) = self.causes() {
            let _ = if short_causes {
                write!(text, ", DETAIL: '{error}'")
            } else {
                write!(text, ", error={error}")
            };
        }
        text
    }

    /// What failed and why, as far as the message does not say it already.
    pub(crate) fn causes(&self) -> Option<&str> {
        let error = self.error.as_deref()?;
        let rest = error.strip_prefix(&self.message).map(|rest| rest.strip_prefix(": ").unwrap_or(rest));
        Some(rest.unwrap_or(error)).filter(|error| !error.is_empty())
    }

    fn add(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message.push_str(&text),
            ("error", Value::String(text)) => self.error = Some(text),
            (name, value) => self.fields.push((name, value)),
        }
    }
}

impl Visit for Record {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, Value::String(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, Value::from(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        if field.name() == "critical" {
            self.critical = value;
        } else {
            self.add(field, Value::from(value));
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.add(field, Value::String(bellwether_types::chain(value)));
    }
}
