//! The control file, read by `pg_controldata` or, for polling, directly; and the shutdown checkpoint that it points to.

mod shutdown;

use std::{collections::BTreeMap, io::Read, path::Path, time::Duration};

use bellwether_types::{Lsn, SystemId, TimelineId};
use tokio_util::sync::CancellationToken;

pub use self::shutdown::{ShutdownCheckpoint, shutdown_checkpoint, shutdown_checkpoint_end};
use crate::{
    program::{Finished, ProgramError, run},
    settings::PgSettings,
};

/// Both tools read a few kilobytes; more than this means a hanging disk.
const LIMIT: Duration = Duration::from_secs(30);

/// What the control file says. Values of a running server may be as old as its last checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlData {
    pub system_id: SystemId,
    pub state: ClusterState,
    /// Where the latest checkpoint record starts; after a clean stop, the shutdown checkpoint.
    pub checkpoint: Lsn,
    pub redo: Lsn,
    /// The timeline of the latest checkpoint.
    pub timeline: TimelineId,
    pub prev_timeline: TimelineId,
    /// How far a standby must replay before it is consistent; zero if it is not one.
    pub min_recovery_end: Lsn,
    pub min_recovery_timeline: TimelineId,
    /// Non-zero while a backup is being restored.
    pub backup_start: Lsn,
    pub backup_end: Lsn,
    pub end_of_backup_required: bool,
    pub data_checksums: bool,
    pub wal_log_hints: bool,
    pub wal_segment_size: u32,
    pub max_connections: u32,
    pub max_worker_processes: u32,
    pub max_wal_senders: u32,
    pub max_prepared_transactions: u32,
    pub max_locks_per_transaction: u32,
}

impl ControlData {
    /// The name of the WAL segment with the latest checkpoint record.
    pub(crate) fn checkpoint_segment(&self) -> String {
        let size = u64::from(self.wal_segment_size.max(1));
        let (number, per_id) = (self.checkpoint.0 / size, (1 << 32) / size);
        format!("{:08X}{:08X}{:08X}", self.timeline.0, number / per_id, number % per_id)
    }

    /// Parses the output of pg_controldata under the C locale.
    pub fn parse(text: &str) -> Result<Self, ControlError> {
        let fields: BTreeMap<&str, &str> = text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(label, value)| (label.trim(), value.trim()))
            .collect();
        let fields = Fields(fields);
        Ok(Self {
            system_id: fields.parsed("Database system identifier")?,
            state: ClusterState::from_label(fields.text("Database cluster state")?),
            checkpoint: fields.parsed("Latest checkpoint location")?,
            redo: fields.parsed("Latest checkpoint's REDO location")?,
            timeline: TimelineId(fields.parsed("Latest checkpoint's TimeLineID")?),
            prev_timeline: TimelineId(fields.parsed("Latest checkpoint's PrevTimeLineID")?),
            min_recovery_end: fields.parsed("Minimum recovery ending location")?,
            min_recovery_timeline: TimelineId(fields.parsed("Min recovery ending loc's timeline")?),
            backup_start: fields.parsed("Backup start location")?,
            backup_end: fields.parsed("Backup end location")?,
            end_of_backup_required: fields.text("End-of-backup record required")? == "yes",
            data_checksums: fields.parsed::<u32>("Data page checksum version")? != 0,
            wal_log_hints: fields.text("wal_log_hints setting")? == "on",
            wal_segment_size: fields.parsed("Bytes per WAL segment")?,
            max_connections: fields.parsed("max_connections setting")?,
            max_worker_processes: fields.parsed("max_worker_processes setting")?,
            max_wal_senders: fields.parsed("max_wal_senders setting")?,
            max_prepared_transactions: fields.parsed("max_prepared_xacts setting")?,
            max_locks_per_transaction: fields.parsed("max_locks_per_xact setting")?,
        })
    }

    /// Whether the blocks carry what pg_rewind needs.
    pub fn allows_rewind(&self) -> bool {
        self.data_checksums || self.wal_log_hints
    }
}

/// "Database cluster state".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    StartingUp,
    ShutDown,
    ShutDownInRecovery,
    ShuttingDown,
    InCrashRecovery,
    InArchiveRecovery,
    InProduction,
    Unknown,
}

impl ClusterState {
    fn from_label(text: &str) -> Self {
        match text {
            "starting up" => Self::StartingUp,
            "shut down" => Self::ShutDown,
            "shut down in recovery" => Self::ShutDownInRecovery,
            "shutting down" => Self::ShuttingDown,
            "in crash recovery" => Self::InCrashRecovery,
            "in archive recovery" => Self::InArchiveRecovery,
            "in production" => Self::InProduction,
            _ => Self::Unknown,
        }
    }

    /// Stopped cleanly: starting it needs no crash recovery.
    pub fn is_clean(self) -> bool {
        matches!(self, Self::ShutDown | Self::ShutDownInRecovery)
    }
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    #[error("could not run a PostgreSQL program")]
    Program(#[from] ProgramError),
    #[error("{program} ended with {status}: {last_line}")]
    Exited { program: &'static str, status: String, last_line: String },
    #[error("pg_controldata does not say `{label}` in a form that is understood (found: {found:?})")]
    Unparsable { label: &'static str, found: Option<String> },
    #[error("the WAL record at {at} is no shutdown checkpoint")]
    NoShutdownCheckpoint { at: Lsn },
}

impl ControlError {
    /// Whether trying again without human help can succeed.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Program(ProgramError::Timeout { .. } | ProgramError::Cancelled { .. }))
    }
}

/// The few facts at the start of the control file, whose place has not changed from PostgreSQL 13 to 18.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlPeek {
    pub state: ClusterState,
    pub checkpoint: Lsn,
    pub timeline: TimelineId,
}

/// Reads the state without starting a program: for polling. `None` if the file is not there or of an unknown version.
/// Blocking, but one small read.
pub fn peek(data_dir: &Path) -> Option<ControlPeek> {
    const KNOWN_VERSIONS: std::ops::Range<u32> = 1300..1900;
    let mut head = [0; 52];
    std::fs::File::open(data_dir.join("global/pg_control")).ok()?.read_exact(&mut head).ok()?;
    let number = |at: usize| head[at..at + 4].try_into().ok().map(u32::from_ne_bytes);
    let position = |at: usize| head[at..at + 8].try_into().ok().map(u64::from_ne_bytes).map(Lsn);
    if !KNOWN_VERSIONS.contains(&number(8)?) {
        return None;
    }
    let state = match number(16)? {
        0 => ClusterState::StartingUp,
        1 => ClusterState::ShutDown,
        2 => ClusterState::ShutDownInRecovery,
        3 => ClusterState::ShuttingDown,
        4 => ClusterState::InCrashRecovery,
        5 => ClusterState::InArchiveRecovery,
        6 => ClusterState::InProduction,
        _ => ClusterState::Unknown,
    };
    Some(ControlPeek { state, checkpoint: position(32)?, timeline: TimelineId(number(48)?) })
}

/// Reads the control file of `settings.data_dir`, whether the server runs or not. Safe to cancel.
pub async fn read(settings: &PgSettings) -> Result<ControlData, ControlError> {
    let mut command = settings.tool("pg_controldata");
    command.arg("-D").arg(&settings.data_dir).kill_on_drop(true);
    let finished = succeeded("pg_controldata", run(command, Some(LIMIT), &CancellationToken::new()).await?)?;
    ControlData::parse(&finished.stdout_text())
}

fn succeeded(program: &'static str, finished: Finished) -> Result<Finished, ControlError> {
    if finished.status.success() {
        return Ok(finished);
    }
    Err(ControlError::Exited {
        program,
        status: finished.status.to_string(),
        last_line: finished.last_line(),
    })
}

struct Fields<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Fields<'a> {
    fn text(&self, label: &'static str) -> Result<&'a str, ControlError> {
        self.0.get(label).copied().ok_or(ControlError::Unparsable { label, found: None })
    }

    fn parsed<T: std::str::FromStr>(&self, label: &'static str) -> Result<T, ControlError> {
        let text = self.text(label)?;
        text.parse().map_err(|_| ControlError::Unparsable { label, found: Some(text.to_owned()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "\
pg_control version number:            1300
Catalog version number:               202209061
Database system identifier:           7421833905512378144
Database cluster state:               in production
pg_control last modified:             Sun 22 Nov 2026 01:00:00 AM UTC
Latest checkpoint location:           0/1500098
Latest checkpoint's REDO location:    0/1500060
Latest checkpoint's REDO WAL file:    000000010000000000000001
Latest checkpoint's TimeLineID:       3
Latest checkpoint's PrevTimeLineID:   2
Latest checkpoint's full_page_writes: on
Minimum recovery ending location:     0/0
Min recovery ending loc's timeline:   0
Backup start location:                0/0
Backup end location:                  0/0
End-of-backup record required:        no
wal_level setting:                    replica
wal_log_hints setting:                on
max_connections setting:              100
max_worker_processes setting:         8
max_wal_senders setting:              10
max_prepared_xacts setting:           0
max_locks_per_xact setting:           64
track_commit_timestamp setting:       off
Bytes per WAL segment:                16777216
Data page checksum version:           0
";

    #[test]
    fn the_control_file_is_parsed_into_types() {
        let control = ControlData::parse(SAMPLE).unwrap();
        assert_eq!(control.system_id.to_string(), "7421833905512378144");
        assert_eq!((control.checkpoint, control.timeline), (Lsn(0x150_0098), TimelineId(3)));
        assert_eq!(control.checkpoint_segment(), "000000030000000000000001");
        assert_eq!((control.max_connections, control.max_locks_per_transaction), (100, 64));
        assert!(control.wal_log_hints && !control.data_checksums && control.allows_rewind());
    }

    #[test]
    fn every_state_has_its_word_and_the_rest_is_unknown() {
        for (word, state, clean) in [
            ("starting up", ClusterState::StartingUp, false),
            ("shut down", ClusterState::ShutDown, true),
            ("shut down in recovery", ClusterState::ShutDownInRecovery, true),
            ("shutting down", ClusterState::ShuttingDown, false),
            ("in crash recovery", ClusterState::InCrashRecovery, false),
            ("in archive recovery", ClusterState::InArchiveRecovery, false),
            ("in production", ClusterState::InProduction, false),
            ("unrecognized status code", ClusterState::Unknown, false),
        ] {
            let control = ControlData::parse(&SAMPLE.replace("in production", word)).unwrap();
            assert_eq!((control.state, control.state.is_clean()), (state, clean), "{word}");
        }
    }

    #[test]
    fn a_missing_or_odd_line_is_an_error_that_names_it() {
        for (from, to, label) in [
            ("Latest checkpoint location", "Letzter Checkpoint", "Latest checkpoint location"),
            ("0/1500098", "nowhere", "Latest checkpoint location"),
            ("7421833905512378144", "0", "Database system identifier"),
            ("max_connections setting:              100", "x: 1", "max_connections setting"),
        ] {
            match ControlData::parse(&SAMPLE.replace(from, to)) {
                Err(ControlError::Unparsable { label: found, .. }) => assert_eq!(found, label),
                other => panic!("{from}: {other:?}"),
            }
        }
    }
}
