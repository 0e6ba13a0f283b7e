//! Reading the local configuration again, beside the loop: a file system that hangs must not cost the lease.

use std::{fmt, sync::Arc};

use bellwether_config::Config;
use tokio::sync::mpsc;

use crate::event::Event;

/// A configuration that was read again.
#[derive(Debug)]
pub struct Reloaded {
    pub config: Config,
    /// To be logged.
    pub warnings: Vec<String>,
    /// Whether anything in the local configuration is different from the time before.
    pub changed: bool,
}

/// Why the configuration could not be read again.
#[derive(Debug)]
pub struct ReloadError {
    /// The file or directory.
    pub from: String,
    /// Every problem.
    pub why: String,
}

/// Where a reload reads the configuration from.
#[derive(Clone)]
pub struct ReloadSource(pub Arc<LoadAgain>);

/// Loads the local configuration anew.
pub type LoadAgain = dyn Fn() -> Result<Reloaded, ReloadError> + Send + Sync;

impl fmt::Debug for ReloadSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReloadSource")
    }
}

/// The reload that is under way. One at a time: what was asked for meanwhile is read once more after it.
#[derive(Debug, Default)]
pub(crate) struct Reloads {
    running: bool,
    again: bool,
}

impl Reloads {
    /// Somebody wants a reload. What is read comes back as [`Event::Reloaded`].
    pub(crate) fn ask(&mut self, source: &ReloadSource, events: &mpsc::Sender<Event>) {
        if self.running {
            // The file may have changed after it was read.
            self.again = true;
            return;
        }
        self.running = true;
        let (source, events) = (source.clone(), events.clone());
        tokio::spawn(async move {
            let read = tokio::task::spawn_blocking(move || (source.0)()).await.unwrap_or_else(|error| {
                Err(ReloadError { from: "its source".to_owned(), why: error.to_string() })
            });
            // Nobody listens: the agent has ended.
            let _ = events.send(Event::Reloaded(Box::new(read))).await;
        });
    }

    /// One has ended. Whether the next one has begun.
    pub(crate) fn ended(&mut self, source: &ReloadSource, events: &mpsc::Sender<Event>) -> bool {
        self.running = false;
        if std::mem::take(&mut self.again) {
            self.ask(source, events);
        }
        self.running
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex, mpsc as blocking},
        time::Duration,
    };

    use super::*;

    /// On one thread, as the loop would be that reads by itself: it could not even ask a second time.
    #[tokio::test]
    async fn a_file_that_hangs_keeps_nobody_and_is_read_once_more_for_who_came_later() {
        let (answer, hung) = blocking::channel::<()>();
        let hung = Mutex::new(hung);
        let source = ReloadSource(Arc::new(move || {
            hung.lock().unwrap().recv_timeout(Duration::from_secs(60)).expect("asked beside the loop");
            Err(ReloadError { from: "file".to_owned(), why: "wrong".to_owned() })
        }));
        let (events_in, mut events) = mpsc::channel(8);
        let mut reloads = Reloads::default();
        for _ in 0..3 {
            reloads.ask(&source, &events_in);
        }
        // Whoever read on this thread would hang here.
        tokio::task::yield_now().await;
        assert!(events.try_recv().is_err(), "the file has not answered");
        for goes_on in [true, false] {
            answer.send(()).unwrap();
            let read = tokio::time::timeout(Duration::from_secs(60), events.recv()).await;
            let Ok(Some(Event::Reloaded(read))) = read else { panic!("read at last") };
            assert_eq!(read.expect_err("as it said").why, "wrong");
            assert_eq!(reloads.ended(&source, &events_in), goes_on, "three wishes, two readings");
        }
    }
}
