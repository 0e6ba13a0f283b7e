//! The control file, read by `pg_controldata`, and what `pg_waldump` knows about the end of a clean stop.

use std::{collections::BTreeMap, io::Read, path::Path, time::Duration};

use bellwether_types::{Lsn, SystemId, TimelineId};
use tokio_util::sync::CancellationToken;

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

/// A position that a clean stop left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShutdownCheckpoint {
    /// C: where the shutdown checkpoint record starts.
    pub checkpoint: Lsn,
    /// S: where the segment switch before it starts, if archiving made one; otherwise C.
    pub optime: Lsn,
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

impl ControlData {
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

/// After a clean stop of a primary (control state `shut down`): its shutdown checkpoint and the position that replicas need.
pub async fn shutdown_checkpoint(
    settings: &PgSettings,
    control: &ControlData,
) -> Result<ShutdownCheckpoint, ControlError> {
    let at = control.checkpoint;
    let output = waldump(settings, control.timeline, at, 1).await?;
    let text = output.stdout_text();
    let record = Record::parse_first(&text)
        .filter(|record| record.is("CHECKPOINT_SHUTDOWN"))
        .ok_or(ControlError::NoShutdownCheckpoint { at })?;
    let before = waldump(settings, control.timeline, record.prev, 1).await?;
    let switched = Record::parse_first(&before.stdout_text()).is_some_and(|record| record.is("SWITCH"));
    Ok(ShutdownCheckpoint { checkpoint: at, optime: if switched { record.prev } else { at } })
}

/// Where the shutdown checkpoint record ends, exactly; `None` if pg_waldump's words are not understood.
pub async fn shutdown_checkpoint_end(
    settings: &PgSettings,
    control: &ControlData,
) -> Result<Option<Lsn>, ControlError> {
    let output = waldump(settings, control.timeline, control.checkpoint, 2).await?;
    Ok(end_of_first_record(&output.stdout_text(), &output.stderr, control.checkpoint))
}

/// Dumps `count` records from `start`. A failure is no error here: running into the end of WAL is what is expected.
async fn waldump(
    settings: &PgSettings,
    timeline: TimelineId,
    start: Lsn,
    count: u32,
) -> Result<Finished, ControlError> {
    let mut command = settings.tool("pg_waldump");
    command.args(["-t", &timeline.to_string(), "-s", &start.to_string(), "-n", &count.to_string(), "-p"]);
    command.arg(settings.data_dir.join("pg_wal")).kill_on_drop(true);
    Ok(run(command, Some(LIMIT), &CancellationToken::new()).await?)
}

/// One line of pg_waldump.
struct Record<'a> {
    lsn: Lsn,
    prev: Lsn,
    manager: &'a str,
    description: &'a str,
}

impl<'a> Record<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let manager = line.strip_prefix("rmgr: ")?.split_whitespace().next()?;
        let after = |label: &str| line.split_once(label).map(|(_, rest)| rest);
        let position = |label: &str| after(label)?.split([',', ' ']).next()?.parse().ok();
        let description = after(" desc: ")?;
        Some(Self { lsn: position(" lsn: ")?, prev: position(" prev ")?, manager, description })
    }

    fn parse_first(text: &'a str) -> Option<Self> {
        text.lines().find_map(Self::parse)
    }

    fn is(&self, kind: &str) -> bool {
        self.manager == "XLOG" && self.description.split_whitespace().next() == Some(kind)
    }
}

/// The second record's start or, at the end of WAL, the position that the complaint about what follows names.
fn end_of_first_record(stdout: &str, stderr: &str, first: Lsn) -> Option<Lsn> {
    let mut records = stdout.lines().filter_map(Record::parse);
    records.next().filter(|record| record.lsn == first && record.is("CHECKPOINT_SHUTDOWN"))?;
    if let Some(second) = records.next() {
        return Some(second.lsn);
    }
    let (_, complaint) = stderr.lines().find_map(|line| line.split_once("error in WAL record at "))?;
    let (_, reason) = complaint.split_once(": ")?;
    // Both `expected at least 24` and `at 0/30000A0` may follow: only a position counts.
    let positions =
        reason.split(" at ").skip(1).filter_map(|rest| rest.split([':', ',', ' ']).next()?.parse().ok());
    let end: Lsn = positions.last()?;
    (end > first).then_some(end)
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

    const SHUTDOWN: &str = "rmgr: XLOG        len (rec/tot):    114/   114, tx:          0, lsn: 0/03000028, \
                            prev 0/02000148, desc: CHECKPOINT_SHUTDOWN redo 0/3000028; tli 1; prev tli 1; online";

    #[test]
    fn the_end_of_the_shutdown_checkpoint_is_where_the_next_record_would_be() {
        let next = "rmgr: XLOG        len (rec/tot):     42/    42, tx:          0, lsn: 0/030000A0, \
                    prev 0/03000028, desc: END_OF_RECOVERY tli 2";
        let complaint =
            |reason: &str| format!("pg_waldump: error: error in WAL record at 0/3000028: {reason}\n");
        for (case, stdout, stderr, end) in [
            (
                "13-15",
                SHUTDOWN.to_owned(),
                complaint("invalid record length at 0/30000A0: wanted 24, got 0"),
                Some(0x300_00A0),
            ),
            (
                "16+",
                SHUTDOWN.to_owned(),
                complaint("invalid record length at 0/30000A0: expected at least 24, got 0"),
                Some(0x300_00A0),
            ),
            (
                "recycled",
                SHUTDOWN.to_owned(),
                complaint("record with incorrect prev-link 0/1 at 0/30000A0"),
                Some(0x300_00A0),
            ),
            ("another record follows", format!("{SHUTDOWN}\n{next}"), String::new(), Some(0x300_00A0)),
            ("unknown words", SHUTDOWN.to_owned(), complaint("whatever"), None),
            ("no output", String::new(), String::new(), None),
            (
                "another record first",
                next.to_owned(),
                complaint("invalid record length at 0/30000F0: wanted 24"),
                None,
            ),
        ] {
            assert_eq!(end_of_first_record(&stdout, &stderr, Lsn(0x300_0028)), end.map(Lsn), "{case}");
        }
    }

    #[test]
    fn records_are_recognised_by_manager_and_kind() {
        let record = Record::parse_first(SHUTDOWN).unwrap();
        assert!(record.is("CHECKPOINT_SHUTDOWN") && !record.is("SWITCH"));
        assert_eq!(record.prev, Lsn(0x200_0148));
        let switch = "rmgr: XLOG        len (rec/tot):     24/    24, tx:          0, lsn: 0/02000148, prev 0/02000110, desc: SWITCH ";
        assert!(Record::parse_first(switch).unwrap().is("SWITCH"));
    }
}
