//! How often the bootstrap has failed here, and when it did last: kept on disk, because an agent whose bootstrap fails ends, and the service
//! manager starts the next one at once. What follows from it is decided in `bellwether-ha`.
//!
//! Under the name `patroni` nothing is kept: there nobody starts the agent again but a person, who wants to see what happens.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bellwether_ha::view;
use bellwether_types::PostgresState;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::clock;

const NAME: &str = "failed-bootstraps.json";
/// An older failure says nothing about the next attempt.
const COUNTS_FOR: Duration = Duration::from_secs(24 * 3600);

/// The record of one data directory.
#[derive(Debug)]
pub(crate) struct FailedBootstraps {
    path: Option<PathBuf>,
    known: Option<Known>,
}

#[derive(Debug)]
struct Known {
    text: Text,
    view: view::FailedBootstraps,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Text {
    times: u32,
    /// Of the wall clock: it outlives a restart of the machine.
    last_at_unix_seconds: u64,
    /// What `list` shows of a member that waits.
    state: PostgresState,
}

impl FailedBootstraps {
    /// Reads what earlier agents left. One that cannot be read is none: to wait for nothing would be worse.
    pub(crate) fn open(runtime_dir: &Path, as_patroni: bool) -> Self {
        let path = (!as_patroni).then(|| runtime_dir.join(NAME));
        let text = path.as_ref().and_then(|path| fs::read(path).ok());
        let text = text.and_then(|bytes| serde_json::from_slice::<Text>(&bytes).ok());
        let known = text.map(Known::of).filter(|(_, ago)| *ago < COUNTS_FOR).map(|(known, _)| known);
        Self { path, known }
    }

    pub(crate) fn view(&self) -> Option<view::FailedBootstraps> {
        self.known.as_ref().map(|known| known.view)
    }

    /// What became of PostgreSQL the last time.
    pub(crate) fn state(&self) -> Option<PostgresState> {
        self.known.as_ref().map(|known| known.text.state)
    }

    /// It has failed again; the process is about to end.
    pub(crate) fn add(&mut self, state: PostgresState) {
        let Some(path) = &self.path else { return };
        let times = self.known.as_ref().map_or(0, |known| known.text.times).saturating_add(1);
        let text = Text { times, last_at_unix_seconds: unix_seconds(), state };
        let written =
            serde_json::to_vec(&text).map_err(io::Error::other).and_then(|bytes| fs::write(path, bytes));
        if let Err(error) = written {
            warn!(%error, "that the bootstrap has failed could not be written down: the next agent tries it at once");
        }
        self.known = Some(Known::of(text).0);
    }

    /// The cluster is there.
    pub(crate) fn forget(&mut self) {
        if let (Some(path), Some(_)) = (&self.path, self.known.take())
            && let Err(error) = fs::remove_file(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            warn!(%error, "the record of failed bootstraps could not be removed");
        }
    }
}

impl Known {
    /// With how long ago it was; a wall clock that was set back since makes it just now.
    fn of(text: Text) -> (Self, Duration) {
        let ago = Duration::from_secs(unix_seconds().saturating_sub(text.last_at_unix_seconds));
        let view = view::FailedBootstraps { times: text.times, last_at: clock::now().saturating_sub(ago) };
        (Self { text, view }, ago)
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_agent_knows_how_often_it_has_failed_until_it_works() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = FailedBootstraps::open(dir.path(), false);
        assert_eq!(first.view(), None);
        first.add(PostgresState::CustomBootstrapFailed);
        let mut second = FailedBootstraps::open(dir.path(), false);
        assert_eq!(second.view().map(|failed| failed.times), Some(1));
        assert_eq!(second.state(), Some(PostgresState::CustomBootstrapFailed));
        second.add(PostgresState::InitdbFailed);
        let mut third = FailedBootstraps::open(dir.path(), false);
        let failed = third.view().unwrap();
        assert_eq!(failed.times, 2);
        assert!(clock::now().since(failed.last_at) < Duration::from_secs(60), "just now");
        third.forget();
        assert_eq!(FailedBootstraps::open(dir.path(), false).view(), None);
    }

    #[test]
    fn old_failures_unreadable_ones_and_those_of_patroni_do_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let written = |text: &str| {
            fs::write(dir.path().join(NAME), text).unwrap();
            FailedBootstraps::open(dir.path(), false).view().map(|failed| failed.times)
        };
        let at = |ago: u64| {
            format!(
                r#"{{"times":3,"last_at_unix_seconds":{},"state":"initdb failed"}}"#,
                unix_seconds() - ago
            )
        };
        assert_eq!(written(&at(100)), Some(3));
        assert_eq!(written(&at(25 * 3600)), None);
        assert_eq!(written("{"), None);
        let mut patronis = FailedBootstraps::open(dir.path(), true);
        patronis.add(PostgresState::InitdbFailed);
        assert_eq!(FailedBootstraps::open(dir.path(), true).view(), None);
    }
}
