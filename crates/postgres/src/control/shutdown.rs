//! What `pg_waldump` knows about the end of a clean stop.

use bellwether_types::{Lsn, TimelineId};
use tokio_util::sync::CancellationToken;

use super::{ControlData, ControlError, LIMIT};
use crate::{
    program::{Finished, run},
    settings::PgSettings,
};

/// A position that a clean stop left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShutdownCheckpoint {
    /// C: where the shutdown checkpoint record starts.
    pub checkpoint: Lsn,
    /// S: where the segment switch before it starts, if archiving made one; otherwise C.
    pub optime: Lsn,
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
