//! `log`.

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::Value;

use crate::{node::Kind, section::Section, value::int_with_unit};

/// Where and how the daemon logs. All of it is applied on reload.
#[derive(Clone, Debug)]
pub struct Log {
    pub kind: LogType,
    pub level: LogLevel,
    /// At which level the chain of causes is shown: `Debug` or `Error`.
    pub traceback_level: LogLevel,
    pub format: LogFormat,
    /// A strftime pattern; `None` = `YYYY-MM-DD HH:MM:SS,mmm`.
    pub dateformat: Option<String>,
    /// Added to every JSON record.
    pub static_fields: BTreeMap<String, Value>,
    pub max_queue_size: usize,
    /// `None` = standard error.
    pub dir: Option<PathBuf>,
    /// Bytes after which a file is rotated.
    pub file_size: u64,
    /// Rotated files kept.
    pub file_num: u32,
    pub mode: Option<u32>,
    pub loggers: BTreeMap<String, LogLevel>,
    /// Drop a heartbeat line that is identical to the one before.
    pub deduplicate_heartbeat_logs: bool,
}

/// `log.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogType {
    Plain,
    Json,
}

/// Python's levels, which is what `patroni.yml` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    Debug,
    Info,
    Warning,
    Error,
    Critical,
}

/// `log.format`.
#[derive(Clone, Debug, PartialEq)]
pub enum LogFormat {
    /// A printf-style template, `%(asctime)s %(levelname)s: %(message)s`.
    Template(String),
    /// JSON: record field and the name that it gets.
    Fields(Vec<(String, String)>),
}

/// The template in force when none is given.
pub const DEFAULT_LOG_FORMAT: &str = "%(asctime)s %(levelname)s: %(message)s";

impl Default for Log {
    fn default() -> Self {
        Self {
            kind: LogType::Plain,
            level: LogLevel::Info,
            traceback_level: LogLevel::Error,
            format: LogFormat::Template(DEFAULT_LOG_FORMAT.to_owned()),
            dateformat: None,
            static_fields: BTreeMap::new(),
            max_queue_size: 1000,
            dir: None,
            file_size: 25_000_000,
            file_num: 4,
            mode: None,
            loggers: BTreeMap::new(),
            deduplicate_heartbeat_logs: false,
        }
    }
}

const LEVELS: [(&str, LogLevel); 7] = [
    ("DEBUG", LogLevel::Debug),
    ("INFO", LogLevel::Info),
    ("WARN", LogLevel::Warning),
    ("WARNING", LogLevel::Warning),
    ("ERROR", LogLevel::Error),
    ("FATAL", LogLevel::Critical),
    ("CRITICAL", LogLevel::Critical),
];

impl Log {
    pub(crate) fn read(section: &Section<'_>) -> Self {
        let default = Self::default();
        // Levels and the directory say whether anything is logged at all: those must be right, with Patroni too.
        let (strict, section) = (section, &section.lenient());
        Self {
            kind: section
                .choice("type", &[("plain", LogType::Plain), ("json", LogType::Json)])
                .unwrap_or(default.kind),
            level: strict.choice("level", &LEVELS).unwrap_or(default.level),
            traceback_level: section
                .choice("traceback_level", &[("DEBUG", LogLevel::Debug), ("ERROR", LogLevel::Error)])
                .unwrap_or(default.traceback_level),
            format: read_format(section).unwrap_or(default.format),
            dateformat: section.filled_text("dateformat"),
            static_fields: section
                .child("static_fields")
                .entries()
                .iter()
                .map(|entry| (entry.key.clone(), entry.node.to_value()))
                .collect(),
            max_queue_size: section
                .integer("max_queue_size", 1..=i64::from(u32::MAX))
                .map_or(default.max_queue_size, |size| size as usize),
            dir: strict.file("dir"),
            file_size: section
                .integer("file_size", 0..=i64::MAX)
                .map_or(default.file_size, i64::unsigned_abs),
            file_num: section.integer("file_num", 0..=100_000).map_or(default.file_num, |num| num as u32),
            mode: read_mode(section),
            loggers: read_loggers(&strict.child("loggers")),
            deduplicate_heartbeat_logs: section.flag("deduplicate_heartbeat_logs").unwrap_or(false),
        }
    }
}

/// Octal, in YAML's way (`0640`) or as text.
fn read_mode(section: &Section<'_>) -> Option<u32> {
    let value = section.node("mode")?.to_value();
    match int_with_unit(&value, None) {
        Some(mode @ 0..=0o777) => Some(mode as u32),
        _ => {
            let problem = section.about("mode", "is not a file mode between 0000 and 0777");
            section.complain(problem.help("write it in octal, with a leading zero: 0640"));
            None
        }
    }
}

fn read_format(section: &Section<'_>) -> Option<LogFormat> {
    let Kind::List(items) = &section.node("format")?.kind else {
        return section.filled_text("format").map(LogFormat::Template);
    };
    let fields = items.iter().filter_map(|item| match &item.kind {
        Kind::Scalar(scalar) => Some((scalar.written.clone(), scalar.written.clone())),
        Kind::Map(entries) if entries.len() == 1 => {
            let Kind::Scalar(renamed) = &entries[0].node.kind else { return None };
            Some((entries[0].key.clone(), renamed.written.clone()))
        }
        _ => {
            let problem =
                section.about("format", "expects field names, or maps of one field to its new name");
            section.complain(problem.at(&item.origin));
            None
        }
    });
    Some(LogFormat::Fields(fields.collect()))
}

fn read_loggers(section: &Section<'_>) -> BTreeMap<String, LogLevel> {
    let level = |key: &String| section.choice(key, &LEVELS).map(|level| (key.clone(), level));
    section.entries().iter().filter_map(|entry| level(&entry.key)).collect()
}
