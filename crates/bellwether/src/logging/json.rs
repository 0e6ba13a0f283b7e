//! `log.type: json`: one object a line.

use bellwether_config::sections::log::{Log, LogFormat};
use serde_json::{Map, Value, json};

use super::{
    record::Record,
    template::{self, Clock, Template},
};

/// The fields of each object.
pub(crate) struct Fields {
    /// Field of the record, and its name in the object.
    wanted: Vec<(String, String)>,
    fixed: Vec<(String, Value)>,
}

impl Fields {
    /// A template names fields as well as a list does.
    pub(crate) fn of(log: &Log) -> Self {
        let wanted = match &log.format {
            LogFormat::Fields(fields) => fields.clone(),
            LogFormat::Template(_) => {
                let template = Template::of(&log.format);
                template.names().map(|name| (name.to_owned(), name.to_owned())).collect()
            }
        };
        let fixed = log.static_fields.iter().map(|(name, value)| (name.clone(), value.clone()));
        Self { wanted, fixed: fixed.collect() }
    }

    /// What was asked for, then what the event says besides, then what is the same in each line, then the causes.
    pub(crate) fn line(&self, record: &Record, clock: &Clock) -> String {
        let mut object = Map::new();
        for (field, name) in &self.wanted {
            object.insert(name.clone(), value(field, record, clock));
        }
        for (name, value) in &record.fields {
            object.entry(*name).or_insert_with(|| value.clone());
        }
        for (name, value) in &self.fixed {
            object.insert(name.clone(), value.clone());
        }
        if let Some(error) = record.causes() {
            object.insert("exc_info".to_owned(), json!(error));
        }
        Value::Object(object).to_string()
    }
}

/// Numbers are numbers; a field that no record has is `null`.
fn value(field: &str, record: &Record, clock: &Clock) -> Value {
    if field == "message" {
        return json!(record.message);
    }
    let Some(text) = template::value(field, record, clock) else { return Value::Null };
    match field {
        "levelno" | "lineno" | "process" | "thread" => text.parse::<u64>().map_or(json!(text), Value::from),
        "created" | "msecs" => text.parse::<f64>().map_or(json!(text), Value::from),
        _ => Value::String(text),
    }
}

#[cfg(test)]
mod tests {
    use bellwether_config::sections::log::LogLevel;

    use super::*;
    use crate::logging::tests::record;

    #[test]
    fn objects_have_the_fields_that_were_asked_for() {
        let clock = Clock { format: None };
        let error = std::io::Error::other("gone");
        let error = &error as &dyn std::error::Error;
        let record = record(|| tracing::error!(peer = "b", critical = true, error, "lost"));
        let line = |log: &Log| Fields::of(log).line(&record, &clock);
        let mut log = Log { level: LogLevel::Info, ..Log::default() };
        assert_eq!(
            line(&log),
            r#"{"asctime":"2026-11-22 01:02:03,004","levelname":"CRITICAL","message":"lost","peer":"b","exc_info":"gone"}"#
        );
        let field = |field: &str, name: &str| (field.to_owned(), name.to_owned());
        log.format = LogFormat::Fields(vec![field("message", "text"), field("levelno", "level")]);
        log.static_fields.insert("app".to_owned(), json!("pg"));
        assert_eq!(line(&log), r#"{"text":"lost","level":50,"peer":"b","app":"pg","exc_info":"gone"}"#);
    }
}
