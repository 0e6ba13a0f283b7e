//! `log.format`: a template as Python's logging knows it, `%(asctime)s %(levelname)-8s: %(message)s`.

use std::fmt::Write;

use bellwether_config::sections::log::{DEFAULT_LOG_FORMAT, LogFormat};
use jiff::{
    Zoned,
    fmt::strtime::{BrokenDownTime, Config},
};

use super::record::Record;

/// A template, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field { name: String, pad: Pad, precision: Option<usize>, kind: char },
}

/// How a field is brought to a width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pad {
    width: usize,
    left: bool,
    zeros: bool,
}

/// How `asctime` is written: a strftime pattern, or `2026-11-22 01:02:03,456`.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    pub(crate) format: Option<String>,
}

impl Clock {
    fn tell(&self, time: &Zoned) -> String {
        let config = Config::new().lenient(true);
        let given = self
            .format
            .as_deref()
            .and_then(|format| BrokenDownTime::from(time).to_string_with_config(&config, format).ok());
        given.unwrap_or_else(|| format!("{},{:03}", time.strftime("%Y-%m-%d %H:%M:%S"), time.millisecond()))
    }
}

impl Template {
    /// What is no template (a list, which is for JSON) means the usual one.
    pub(crate) fn of(format: &LogFormat) -> Self {
        match format {
            LogFormat::Template(text) => Self::parse(text),
            LogFormat::Fields(_) => Self::parse(DEFAULT_LOG_FORMAT),
        }
    }

    /// What is no field stands in the line as it is written.
    fn parse(text: &str) -> Self {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            plain.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some(after) = rest.strip_prefix("%%") {
                plain.push('%');
                rest = after;
            } else if let Some((field, after)) = read_field(rest) {
                if !plain.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                }
                pieces.push(field);
                rest = after;
            } else {
                plain.push('%');
                rest = &rest[1..];
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Self(pieces)
    }

    /// The names of its fields, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Field { name, .. } => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }

    pub(crate) fn line(&self, record: &Record, clock: &Clock, short_causes: bool) -> String {
        let mut line = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => line.push_str(text),
                Piece::Field { name, pad, precision, kind } => {
                    let value = if name == "message" {
                        record.text(short_causes)
                    } else {
                        value(name, record, clock).unwrap_or_default()
                    };
                    write_field(&mut line, &value, *pad, *precision, *kind);
                }
            }
        }
        // One event is one line: what comes from outside must not look like a line of ours.
        if !line.contains(['\n', '\r']) {
            return line;
        }
        line.split(['\n', '\r']).map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
    }
}

/// `%(name)-8.3s` at the beginning of `text`, and what follows it.
fn read_field(text: &str) -> Option<(Piece, &str)> {
    let (name, rest) = text.strip_prefix("%(")?.split_once(')')?;
    let kind_at = rest.find(|c: char| c.is_ascii_alphabetic())?;
    let kind = rest[kind_at..].chars().next()?;
    let (mut left, mut zeros) = (false, false);
    let mut flags = &rest[..kind_at];
    while let Some(flag) = flags.chars().next().filter(|c| matches!(c, '-' | '0' | '+' | ' ' | '#')) {
        left |= flag == '-';
        zeros |= flag == '0';
        flags = &flags[1..];
    }
    let (width, precision) = match flags.split_once('.') {
        Some((width, precision)) => (width, Some(precision.parse().ok()?)),
        None => (flags, None),
    };
    let width = if width.is_empty() { 0 } else { width.parse().ok()? };
    let pad = Pad { width: std::cmp::min(width, 200), left, zeros };
    Some((Piece::Field { name: name.to_owned(), pad, precision, kind }, &rest[kind_at + 1..]))
}

fn write_field(line: &mut String, value: &str, pad: Pad, precision: Option<usize>, kind: char) {
    let number = value.parse::<f64>().ok().filter(|_| !matches!(kind, 's' | 'r' | 'a'));
    let text = match (number, kind) {
        (Some(number), 'd' | 'i' | 'u') => format!("{}", number.trunc()),
        (Some(number), 'f' | 'F') => format!("{number:.*}", precision.unwrap_or(6)),
        _ => value.chars().take(precision.unwrap_or(usize::MAX)).collect(),
    };
    let _ = match (pad.left, pad.zeros && number.is_some()) {
        (true, _) => write!(line, "{text:<0$}", pad.width),
        (false, true) => write!(line, "{text:0>0$}", pad.width),
        (false, false) => write!(line, "{text:>0$}", pad.width),
    };
}

/// An attribute of a log record under its name in Python; `None`: there is none of this name.
pub(crate) fn value(name: &str, record: &Record, clock: &Clock) -> Option<String> {
    let metadata = record.metadata;
    let path = metadata.file().unwrap_or_default();
    let file = path.rsplit('/').next().unwrap_or_default();
    let module = metadata.module_path().unwrap_or(metadata.target());
    let (level, number) = record.level();
    Some(match name {
        "asctime" => clock.tell(&record.time),
        "created" => format!("{:.6}", record.time.timestamp().as_microsecond() as f64 / 1e6),
        "msecs" => record.time.millisecond().to_string(),
        "levelname" => level.to_owned(),
        "levelno" => number.to_string(),
        "message" => record.text(false),
        "name" => metadata.target().replace("::", "."),
        "module" => module.rsplit("::").next().unwrap_or_default().to_owned(),
        "funcName" => module.replace("::", "."),
        "pathname" => path.to_owned(),
        "filename" => file.to_owned(),
        "lineno" => metadata.line().unwrap_or(0).to_string(),
        "process" => std::process::id().to_string(),
        "processName" => "MainProcess".to_owned(),
        "threadName" => std::thread::current().name().unwrap_or("thread").to_owned(),
        "thread" => rustix::thread::gettid().as_raw_nonzero().get().to_string(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logging::tests::record;

    fn line(format: &str) -> String {
        let clock = Clock { format: None };
        let record = record(|| tracing::warn!(lsn = 5, peer = "b", "waiting"));
        Template::parse(format).line(&record, &clock, false)
    }

    #[test]
    fn templates_are_filled_as_python_fills_them() {
        for (format, expected) in [
            (DEFAULT_LOG_FORMAT, "2026-11-22 01:02:03,004 WARNING: waiting, lsn=5, peer=b"),
            ("%(levelname)-8s|%(levelname)10s|%(levelname).4s", "WARNING |   WARNING|WARN"),
            ("%(levelno)03d 100%% %d %(", "030 100% %d %("),
            ("%(name)s", "bellwether.logging.template.tests"),
            ("%(filename)s %(nonsense)s.", "template.rs ."),
        ] {
            assert_eq!(line(format), expected, "{format}");
        }
        assert!(line("[%(pathname)s:%(lineno)d - %(funcName)s]").contains("template.rs:"));
    }

    #[test]
    fn a_line_is_one_line() {
        let clock = Clock { format: None };
        let line = |record| Template::parse("%(message)s").line(&record, &clock, false);
        let disguised = record(|| tracing::info!("a\n2026-11-22 01:02:03,004 ERROR: b"));
        assert_eq!(line(disguised), "a; 2026-11-22 01:02:03,004 ERROR: b");
        let remedy =
            record(|| tracing::warn!("t.yml:2: ttl: has no effect\n  help: put it into `bootstrap.dcs`"));
        assert_eq!(line(remedy), "t.yml:2: ttl: has no effect; help: put it into `bootstrap.dcs`");
    }

    #[test]
    fn the_time_has_the_pattern_that_was_asked_for() {
        let time = "2026-11-22T01:02:03.004+00:00[UTC]".parse().unwrap();
        for (format, expected) in
            [(None, "2026-11-22 01:02:03,004"), (Some("%d/%m/%y %H.%M %J"), "22/11/26 01.02 %J")]
        {
            assert_eq!(Clock { format: format.map(str::to_owned) }.tell(&time), expected, "{format:?}");
        }
    }

    #[test]
    fn causes_are_a_detail_where_traces_are_for_debugging() {
        let clock = Clock { format: None };
        let error = std::io::Error::other("disk gone");
        let record = record(|| tracing::error!(error = &error as &dyn std::error::Error, "failed"));
        let text = |short| Template::parse("%(message)s").line(&record, &clock, short);
        assert_eq!(text(false), "failed, error=disk gone");
        assert_eq!(text(true), "failed, DETAIL: 'disk gone'");

        let record = record_of_itself();
        let line = Template::parse("%(message)s").line(&record, &clock, false);
        assert_eq!(line, "disk gone", "a message that is the error itself is told once");
    }

    fn record_of_itself() -> Record {
        let error = std::io::Error::other("disk gone");
        record(|| tracing::error!(error = &error as &dyn std::error::Error, "{error}"))
    }
}
