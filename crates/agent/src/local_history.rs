//! The history file of the timeline that is being written, read beside the loop: a disk that hangs must not cost the lease.

use std::path::Path;

use bellwether_ha::view::LocalHistory;
use bellwether_types::{Lsn, TimelineHistory, TimelineId, WalPosition};
use tokio::sync::mpsc;
use tracing::debug;

use crate::event::Event;

/// What is known of it.
#[derive(Debug, Default)]
pub(crate) struct HistoryFile {
    read: Option<LocalHistory>,
    reading: bool,
}

impl HistoryFile {
    /// The history of this timeline, if it has been read.
    pub(crate) fn of(&self, timeline: TimelineId) -> Option<&LocalHistory> {
        self.read.as_ref().filter(|history| history.timeline == timeline)
    }

    /// Reads the file of `timeline` in `data_dir` once. What it says comes back as [`Event::HistoryRead`].
    pub(crate) fn look(&mut self, data_dir: &Path, timeline: TimelineId, events: &mpsc::Sender<Event>) {
        if timeline.0 < 2 || self.reading || self.of(timeline).is_some() {
            return;
        }
        self.reading = true;
        let path = data_dir.join(format!("pg_wal/{:08X}.history", timeline.0));
        let events = events.clone();
        tokio::spawn(async move {
            let history = tokio::task::spawn_blocking(move || read(&path, timeline)).await.unwrap_or(None);
            // Nobody listens: the agent has ended.
            let _ = events.send(Event::HistoryRead(history)).await;
        });
    }

    /// It has been read; `None`: it could not be, and the next look tries again.
    pub(crate) fn ended(&mut self, history: Option<LocalHistory>) {
        self.reading = false;
        self.read = history.or(self.read.take());
    }
}

fn read(path: &Path, timeline: TimelineId) -> Option<LocalHistory> {
    let history = (|| {
        let text = std::fs::read_to_string(path).ok()?;
        let history = TimelineHistory::parse(WalPosition { timeline, lsn: Lsn::ZERO }, &text).ok()?;
        let written = std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()?;
        let written = jiff::Timestamp::try_from(written).ok()?.to_zoned(jiff::tz::TimeZone::system());
        let written_at = written.strftime("%Y-%m-%dT%H:%M:%S.%6f%:z").to_string();
        Some(LocalHistory { timeline, switches: history.switches, written_at })
    })();
    if history.is_none() {
        debug!(path = %path.display(), "the timeline history could not be read");
    }
    history
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::SlowFile;

    async fn answer(events: &mut mpsc::Receiver<Event>) -> Option<LocalHistory> {
        match tokio::time::timeout(Duration::from_secs(60), events.recv()).await {
            Ok(Some(Event::HistoryRead(history))) => history,
            other => panic!("{other:?}"),
        }
    }

    /// On one thread, as the loop would be that reads by itself.
    #[tokio::test]
    async fn a_disk_that_hangs_does_not_hold_up_the_loop() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("pg_wal")).unwrap();
        let disk = SlowFile::to_read(&dir.path().join("pg_wal/00000002.history"), "1\t0/3000000\treason\n");
        let (events_in, mut events) = mpsc::channel(8);
        let mut file = HistoryFile::default();
        for _ in 0..3 {
            file.look(dir.path(), TimelineId(2), &events_in);
        }
        tokio::task::yield_now().await;
        disk.still_hangs();
        assert_eq!(file.of(TimelineId(2)), None);
        // The reader is on another thread, and so is the end of the disk's silence.
        let going_on = tokio::task::spawn_blocking(move || disk.goes_on());
        file.ended(answer(&mut events).await);
        going_on.await.unwrap();
        let history = file.of(TimelineId(2)).expect("read at last");
        assert_eq!((history.switches.len(), history.switches[0].end), (1, Lsn(0x300_0000)));
        assert!(events.try_recv().is_err(), "three looks, one reading");
    }

    #[tokio::test]
    async fn a_file_that_is_not_there_yet_is_looked_for_again() {
        let dir = tempfile::tempdir().unwrap();
        let (events_in, mut events) = mpsc::channel(8);
        let mut file = HistoryFile::default();
        file.look(dir.path(), TimelineId(2), &events_in);
        file.ended(answer(&mut events).await);
        std::fs::create_dir(dir.path().join("pg_wal")).unwrap();
        std::fs::write(dir.path().join("pg_wal/00000002.history"), "1\t0/3000000\treason\n").unwrap();
        file.look(dir.path(), TimelineId(2), &events_in);
        file.ended(answer(&mut events).await);
        assert!(file.of(TimelineId(2)).is_some());
    }
}
