//! Lines on their way. A thread of its own writes them, so that a full pipe or a slow disk holds nobody up.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::output::Output;

/// Takes lines from anybody and gives them to one writer, in order.
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    /// There is something to write, or everything is written.
    changed: Condvar,
}

struct Waiting {
    lines: VecDeque<String>,
    /// More lines than that are not kept.
    limit: usize,
    /// Since the start, and those of them that have been told in the log.
    lost: u64,
    told: u64,
    output: Option<Output>,
    is_writing: bool,
}

impl Queue {
    pub(crate) fn new(limit: usize, output: Output) -> Self {
        let waiting = Waiting {
            lines: VecDeque::new(),
            limit: limit.max(1),
            lost: 0,
            told: 0,
            output: Some(output),
            is_writing: false,
        };
        Self { waiting: Mutex::new(waiting), changed: Condvar::new() }
    }

    /// Begins to write. The thread ends with the process.
    pub(crate) fn start(self: &Arc<Self>) {
        let queue = Arc::clone(self);
        let started = std::thread::Builder::new().name("log".to_owned()).spawn(move || queue.write_lines());
        started.expect("the kernel gives a process its first threads");
    }

    /// Never waits for the writer: what does not fit is counted.
    pub(crate) fn push(&self, line: String) {
        let mut waiting = self.lock();
        if waiting.lines.len() >= waiting.limit {
            waiting.lost += 1;
        } else {
            waiting.lines.push_back(line);
            self.changed.notify_all();
        }
    }

    /// From now on lines go there.
    pub(crate) fn change(&self, limit: usize, output: Output) {
        let mut waiting = self.lock();
        waiting.limit = limit.max(1);
        waiting.output = Some(output);
    }

    pub(crate) fn backlog(&self) -> (usize, u64) {
        let waiting = self.lock();
        (waiting.lines.len(), waiting.lost)
    }

    /// Waits until everything is written, but no longer than `limit`; whether it is.
    pub(crate) fn settle(&self, limit: Duration) -> bool {
        let is_busy = |waiting: &mut Waiting| waiting.is_writing || !waiting.lines.is_empty();
        let waited = self.changed.wait_timeout_while(self.lock(), limit, is_busy);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_lines(&self) {
        let mut output = Output::Stderr;
        loop {
            let is_idle = |waiting: &mut Waiting| waiting.lines.is_empty();
            let mut waiting =
                self.changed.wait_while(self.lock(), is_idle).unwrap_or_else(PoisonError::into_inner);
            let lines = std::mem::take(&mut waiting.lines);
            waiting.is_writing = true;
            if let Some(other) = waiting.output.take() {
                output = other;
            }
            let lost = waiting.lost - waiting.told;
            waiting.told = waiting.lost;
            drop(waiting);
            for line in lines {
                // There is nobody to tell that the log cannot be written.
                let _ = output.write(&line);
            }
            if lost > 0 {
                // A line like any other, with its time and in its turn.
                tracing::warn!("QueueHandler has lost {lost} log records");
            }
            self.lock().is_writing = false;
            self.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use bellwether_config::sections::log::Log;

    use super::*;

    #[test]
    fn what_does_not_fit_is_counted_and_the_rest_is_written_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log { dir: Some(dir.path().to_owned()), ..Log::default() };
        let queue = Arc::new(Queue::new(2, Output::open(&log).unwrap()));
        for line in ["1\n", "2\n", "3\n"] {
            queue.push(line.to_owned());
        }
        assert_eq!(queue.backlog(), (2, 1));
        assert!(!queue.settle(Duration::from_millis(1)), "nobody writes");
        queue.start();
        assert!(queue.settle(Duration::from_secs(30)));
        assert_eq!(queue.backlog(), (0, 1));
        let written = || std::fs::read_to_string(dir.path().join("patroni.log")).unwrap();
        assert_eq!(written(), "1\n2\n");

        let other = tempfile::tempdir().unwrap();
        queue.change(2, Output::open(&Log { dir: Some(other.path().to_owned()), ..log }).unwrap());
        queue.push("4\n".to_owned());
        queue.settle(Duration::from_secs(30));
        assert_eq!(written(), "1\n2\n");
        assert_eq!(std::fs::read_to_string(other.path().join("patroni.log")).unwrap(), "4\n");
    }
}
