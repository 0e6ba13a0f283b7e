//! Log lines. Plain lines have the shape that log processors of Patroni's users know: time, level, message, then the fields.

use std::fmt;

use bellwether_config::sections::log::{Log, LogLevel, LogType};
use tracing::{Event, Level, Subscriber, field::Field};
use tracing_subscriber::{
    EnvFilter,
    field::Visit,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

/// Starts logging to standard error as the configuration says; `BELLWETHER_LOG` (a tracing filter) wins over it.
pub(crate) fn init(log: &Log) {
    let level = match log.level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warning => "warn",
        LogLevel::Error | LogLevel::Critical => "error",
    };
    // Libraries below us tell their own stories at levels that fit themselves, not an operator.
    let default = format!(
        "warn,bellwether={level},bellwether_agent={level},bellwether_ha={level},bellwether_dcs={level},bellwether_dcs_raft={level},bellwether_postgres={level},bellwether_api={level},bellwether_config={level},openraft=error"
    );
    let filter = EnvFilter::try_from_env("BELLWETHER_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let result = match log.kind {
        LogType::Json => builder.json().flatten_event(true).try_init(),
        LogType::Plain => builder.with_ansi(false).event_format(PlainLine).try_init(),
    };
    // A second initialisation (tests) keeps the first.
    drop(result);
}

/// `2026-11-22 01:02:03,456 INFO: message, field=value`.
struct PlainLine;

impl<S, N> FormatEvent<S, N> for PlainLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = match *event.metadata().level() {
            Level::ERROR => "ERROR",
            Level::WARN => "WARNING",
            Level::INFO => "INFO",
            Level::DEBUG | Level::TRACE => "DEBUG",
        };
        let now = jiff::Zoned::now();
        let millis = now.millisecond();
        let mut line = Line::default();
        event.record(&mut line);
        writeln!(
            writer,
            "{},{millis:03} {level}: {}{}",
            now.strftime("%Y-%m-%d %H:%M:%S"),
            line.message,
            line.fields
        )
    }
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        use fmt::Write;
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        } else {
            let _ = write!(self.fields, ", {}={value:?}", field.name());
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        use fmt::Write;
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            let _ = write!(self.fields, ", {}={value}", field.name());
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        use fmt::Write;
        let _ = write!(self.fields, ", {}={value}", field.name());
        let mut cause = value.source();
        while let Some(error) = cause {
            let _ = write!(self.fields, ": {error}");
            cause = error.source();
        }
    }
}
