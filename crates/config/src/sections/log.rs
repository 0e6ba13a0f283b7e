//! `log`.

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::Value;

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
