//! The log: what is written, in which shape, and where to.
//!
//! Lines look as log processors of Patroni's users know them: `log.format` (time, level, message), then the fields of the event.
//! All of `log` is put in force anew by a reload. Nobody waits for a terminal or a disk: lines go through a queue of bounded
//! length, and what does not fit is counted instead of written, because an agent that hangs in its log loses its lease.
//!
//! [`filter`] chooses what is told, [`record`] reads an event, [`template`] and [`json`] give it a shape, [`queue`] and
//! [`output`] bring it to standard error or into a file.

mod filter;
mod json;
mod output;
mod queue;
mod record;
mod template;

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use bellwether_agent::CYCLE;
use bellwether_config::sections::log::{Log, LogLevel, LogType};
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer, Registry, layer::Context, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

use self::{json::Fields, output::Output, queue::Queue, record::Record, template::Template};

/// How long the process waits at its end until its last lines are written.
const LAST_LINES: Duration = Duration::from_secs(2);

static LOG: OnceLock<Running> = OnceLock::new();

/// What can be changed while lines are written.
struct Running {
    filter: reload::Handle<EnvFilter, Registry>,
    shape: Arc<RwLock<Shape>>,
    queue: Arc<Queue>,
}

/// Starts logging as the configuration says; `BELLWETHER_LOG` (a tracing filter) wins over its levels.
pub(crate) fn init(log: &Log) {
    let queue = Arc::new(Queue::new(log.max_queue_size, output(log)));
    let shape = Arc::new(RwLock::new(Shape::new(log)));
    let (filter, handle) = reload::Layer::new(filter::of(log));
    let lines = Lines { shape: Arc::clone(&shape), queue: Arc::clone(&queue), heartbeat: Mutex::default() };
    // A second initialisation (tests) keeps the first.
    if tracing_subscriber::registry().with(filter).with(lines).try_init().is_ok() {
        queue.start();
        let _ = LOG.set(Running { filter: handle, shape, queue });
    }
}

/// Puts new settings in force. The file is opened anew, so that it may have been moved away meanwhile.
pub(crate) fn reload(log: &Log) {
    let Some(running) = LOG.get() else { return };
    let _ = running.filter.reload(filter::of(log));
    *running.shape.write().unwrap_or_else(PoisonError::into_inner) = Shape::new(log);
    running.queue.change(log.max_queue_size, output(log));
}

/// Waits until everything is written, for two seconds at most; whether it is.
pub(crate) fn flush() -> bool {
    LOG.get().is_none_or(|running| running.queue.settle(LAST_LINES))
}

/// Lines that wait to be written, and how many have been lost so far.
pub(crate) fn backlog() -> (usize, u64) {
    LOG.get().map_or((0, 0), |running| running.queue.backlog())
}

/// A file that cannot be written must not keep the agent from running: its lines go to standard error then.
#[expect(clippy::print_stderr, reason = "where the log itself fails there is nothing else to tell it with")]
fn output(log: &Log) -> Output {
    Output::open(log).unwrap_or_else(|error| {
        eprintln!("the log goes to standard error: `log.dir` cannot be used: {error}");
        Output::Stderr
    })
}

/// How an event becomes a line.
struct Shape {
    look: Look,
    clock: template::Clock,
    /// Chains of causes are told as `DETAIL: '...'`: `log.traceback_level` is DEBUG, and the level is higher.
    short_causes: bool,
    only_critical: bool,
    deduplicate_heartbeats: bool,
}

enum Look {
    Plain(Template),
    Json(Fields),
}

impl Shape {
    fn new(log: &Log) -> Self {
        let look = match log.kind {
            LogType::Plain => Look::Plain(Template::of(&log.format)),
            LogType::Json => Look::Json(Fields::of(log)),
        };
        Self {
            look,
            clock: template::Clock { format: log.dateformat.clone() },
            short_causes: log.traceback_level == LogLevel::Debug && log.level > LogLevel::Debug,
            only_critical: log.level == LogLevel::Critical,
            deduplicate_heartbeats: log.deduplicate_heartbeat_logs,
        }
    }
}

/// The layer that turns events into lines.
struct Lines {
    shape: Arc<RwLock<Shape>>,
    queue: Arc<Queue>,
    /// The last line of the loop.
    heartbeat: Mutex<String>,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let shape = self.shape.read().unwrap_or_else(PoisonError::into_inner);
        let record = Record::read(event);
        if filter::is_noise(event.metadata().target(), &record.message) {
            return;
        }
        if shape.only_critical && !record.critical {
            return;
        }
        if event.metadata().target() == CYCLE {
            let mut last = self.heartbeat.lock().unwrap_or_else(PoisonError::into_inner);
            if shape.deduplicate_heartbeats && *last == record.message {
                return;
            }
            last.clone_from(&record.message);
        }
        let mut line = match &shape.look {
            Look::Plain(template) => template.line(&record, &shape.clock, shape.short_causes),
            Look::Json(fields) => fields.line(&record, &shape.clock),
        };
        line.push('\n');
        self.queue.push(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Keep(Arc<Mutex<Option<Record>>>);

    impl<S: Subscriber> Layer<S> for Keep {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            *self.0.lock().unwrap() = Some(Record::read(event));
        }
    }

    /// The event that `tell` sends, on a fixed time.
    pub(crate) fn record(tell: impl FnOnce()) -> Record {
        let kept = Arc::new(Mutex::default());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(Keep(Arc::clone(&kept))), tell);
        let mut record = kept.lock().unwrap().take().expect("an event was sent");
        record.time = "2026-11-22T01:02:03.004+00:00[UTC]".parse().unwrap();
        record
    }

    #[test]
    fn heartbeats_that_say_the_same_are_told_once_if_that_is_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let log = |deduplicate| Log {
            dir: Some(dir.path().to_owned()),
            deduplicate_heartbeat_logs: deduplicate,
            level: LogLevel::Critical,
            ..Log::default()
        };
        let written = |deduplicate| {
            let log = log(deduplicate);
            let queue = Arc::new(Queue::new(100, Output::open(&log).unwrap()));
            let shape = Arc::new(RwLock::new(Shape { only_critical: false, ..Shape::new(&log) }));
            let lines = Lines { shape, queue: Arc::clone(&queue), heartbeat: Mutex::default() };
            queue.start();
            tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
                for message in ["no action", "no action", "no action. I lead"] {
                    tracing::info!(target: CYCLE, "{message}");
                    tracing::info!("something else");
                }
            });
            queue.settle(LAST_LINES);
            let text = std::fs::read_to_string(dir.path().join("patroni.log")).unwrap();
            std::fs::remove_file(dir.path().join("patroni.log")).unwrap();
            text.lines().map(|line| line[24..].to_owned()).collect::<Vec<_>>()
        };
        let (same, other, lead) = ("INFO: no action", "INFO: something else", "INFO: no action. I lead");
        assert_eq!(written(false), [same, other, same, other, lead, other]);
        assert_eq!(written(true), [same, other, other, lead, other]);
    }

    #[test]
    fn only_what_is_critical_is_told_if_that_is_wanted() {
        let shape = |level| Shape::new(&Log { level, ..Log::default() });
        assert!(shape(LogLevel::Critical).only_critical && !shape(LogLevel::Error).only_critical);
        assert_eq!(record(|| tracing::error!(critical = true, "gone")).level(), ("CRITICAL", 50));
    }
}
