//! Leaving an upstream so that nothing more is received from it, and coming back.
//!
//! A standby detaches when `primary_conninfo` is cleared and the files are read anew; no restart. That the WAL receiver is not there is
//! no proof: only the startup process asks for one, and one that has not read the files yet may ask with the old address. So:
//!
//! 1. the files are written, everybody is told to read them, and the startup process once more by name;
//! 2. the startup process has read them, or will before it can ask for another receiver ([`Startup::is_settled`]);
//! 3. the receiver that is still there is told to end. One that was asked for and has not begun finds its request withdrawn;
//! 4. no receiver is there, and the standby has come to the end of what it had when it was started: else it has more than anybody can tell.
//!
//! What it has received is flushed by then (it flushes when it ends), whatever `synchronous_commit` the primary's sessions have: a
//! standby that acknowledged a mere write (`remote_write`) has it on disk now, unless its operating system has failed in between,
//! against which `remote_write` never was a protection.
//!
//! Measured on an idle machine, 13 to 18: 10 to 25 ms for all of it, most of that for writing the files. A replay that is paused or
//! held up by a query makes no difference as long as the standby streams; one that is held up while it does not stream ends in
//! [`DetachError::Unproved`], and so does a startup process that was stopped.

use std::{
    io,
    path::Path,
    time::{Duration, Instant},
};

use bellwether_types::{Lsn, TimelineId, WalPosition};

use crate::{
    config::{ConfigPlan, Recovery},
    monitor::{Monitor, MonitorError},
    observation::is_at_end,
    postmaster::{Postmaster, PostmasterId},
    program::blocking,
    receiver::Receiver,
    rereading::Told,
    server::{Server, ServerError},
};

/// Before each look; the last one is repeated.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(1),
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(4),
    Duration::from_millis(8),
];

/// Why a standby could not be shown to receive nothing any more. It may be detached all the same, and its files say so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DetachError {
    #[error("the standby's files could not be written")]
    Files(#[source] ServerError),
    #[error("the standby could not be asked")]
    Query(#[source] MonitorError),
    #[error("the WAL receiver could not be told to end")]
    Process(#[source] io::Error),
    #[error("the server is no standby any more")]
    NotAStandby,
    /// Somebody's own file wins over ours.
    #[error("`primary_conninfo` is still set to `{value}`, by a file other than ours")]
    StillConfigured { value: String },
    /// The startup process did not get to its files (it waits for: `waits_for`), or a receiver did not end.
    #[error("not shown to be detached after {} ms (the startup process is in: {waits_for})", after.as_millis())]
    Unproved { after: Duration, waits_for: String },
    /// It was restarted, and replays what it had before: nobody can tell yet how much that is.
    #[error(
        "the standby has not come to the end of the WAL that it has (the startup process is in: {waits_for})"
    )]
    OwnWalUnread { waits_for: String },
    #[error("the end of the received WAL could not be found in pg_wal")]
    NoWal(#[source] io::Error),
}

/// Makes the standby leave its upstream: `plan` is that of a standby without one. When this returns, no WAL receiver is there, none will
/// be started before the files name an upstream again (not even by a restart), and everything received is flushed and at or before
/// the position in the answer. Takes 10 to 25 ms, at most about `limit`; safe to repeat, and to cancel (it may be detached then).
///
/// # Errors
/// If that could not be shown. Nothing may be promised then.
pub async fn detach(
    server: &Server,
    monitor: &mut Monitor,
    postmaster: &Postmaster,
    plan: &ConfigPlan,
    limit: Duration,
) -> Result<WalPosition, DetachError> {
    debug_assert!(matches!(plan.recovery, Recovery::Standby { upstream: None }));
    let began = Instant::now();
    server.apply_config(plan).await.map_err(DetachError::Files)?;
    server.sync_files().await.map_err(DetachError::Files)?;
    server.reload(postmaster).map_err(DetachError::Files)?;
    let of = postmaster.id();
    let first = Look::at(monitor, of).await?;
    let told = Told::child(first.startup, of).map_err(DetachError::Query)?.ok_or(DetachError::NotAStandby)?;
    let mut startup = Startup { told, replayed: Vec::new(), is_settled: false };
    let mut pauses = PAUSES.into_iter();
    let mut pause = PAUSES[0];
    loop {
        pause = pauses.next().unwrap_or(pause);
        tokio::time::sleep(pause).await;
        let look = startup.look(monitor, of).await?;
        if startup.is_settled {
            let receiver = match look.receiver {
                Some(pid) => Receiver::open(of, pid).map_err(DetachError::Process)?,
                None => None,
            };
            match receiver {
                Some(receiver) => receiver.terminate().map_err(DetachError::Process)?,
                None if look.receiver.is_none() && look.conninfo.is_empty() => {
                    if let Some(end) = end_of_received(server, monitor, of).await? {
                        return Ok(end);
                    }
                }
                None => {}
            }
        }
        if began.elapsed() >= limit {
            return Err(match look.conninfo {
                value if startup.is_settled && !value.is_empty() => DetachError::StillConfigured { value },
                _ if startup.is_settled && look.receiver.is_none() => {
                    DetachError::OwnWalUnread { waits_for: look.waits_for }
                }
                _ => DetachError::Unproved { after: began.elapsed(), waits_for: look.waits_for },
            });
        }
    }
}

/// Makes the standby stream from the upstream of `plan`, which may be another one than before, and kicks it: it connects at once
/// instead of at its next try. No restart. Measured, 13 to 18, on loopback: the receiver streams after 15 to 40 ms.
///
/// # Errors
/// If the files could not be written.
pub async fn reattach(
    server: &Server,
    monitor: &mut Monitor,
    postmaster: &Postmaster,
    plan: &ConfigPlan,
) -> Result<(), DetachError> {
    server.apply_config(plan).await.map_err(DetachError::Files)?;
    server.reload(postmaster).map_err(DetachError::Files)?;
    // The postmaster passes it on, after it has read the files itself; this one wakes up at once.
    let look = Look::at(monitor, postmaster.id()).await?;
    Told::child(look.startup, postmaster.id()).map_err(DetachError::Query)?;
    Ok(())
}

/// The startup process, as far as it has shown that it knows the files.
struct Startup {
    told: Told,
    /// Different ends of replay since the signal was taken.
    replayed: Vec<Lsn>,
    is_settled: bool,
}

impl Startup {
    async fn look(&mut self, monitor: &mut Monitor, of: &PostmasterId) -> Result<Look, DetachError> {
        let has_taken_it = self.told.has_taken_it().map_err(DetachError::Query)?;
        let look = Look::at(monitor, of).await?;
        if self.is_settled || !has_taken_it || look.startup != self.told.pid {
            return Ok(look);
        }
        self.is_settled = self.has_replayed(look.replayed)
            || (look.is_held_up() && Self::streams(&look, of)?)
            || self.waits_again(&look, monitor, of).await?;
        Ok(look)
    }

    /// It replays: between two records it reads the files. The record that ends at the third position was begun after the first was
    /// seen.
    fn has_replayed(&mut self, position: Lsn) -> bool {
        if self.replayed.last() != Some(&position) {
            self.replayed.push(position);
        }
        self.replayed.len() > 2
    }

    /// Held up within a record or between two, and it takes WAL from the receiver that is there: it does not ask for another before it has
    /// read the files. (It asks when its other sources have failed, and reads the files in between.)
    fn streams(look: &Look, of: &PostmasterId) -> Result<bool, DetachError> {
        let Some(pid) = look.receiver else { return Ok(false) };
        Ok(Receiver::open(of, pid).map_err(DetachError::Process)?.is_some())
    }

    /// See [`crate::rereading`].
    async fn waits_again(
        &self,
        look: &Look,
        monitor: &mut Monitor,
        of: &PostmasterId,
    ) -> Result<bool, DetachError> {
        if !look.waits_for_wal() || !self.told.is_asleep().map_err(DetachError::Query)? {
            return Ok(false);
        }
        Ok(Look::at(monitor, of).await?.waits_for_wal())
    }
}

/// One look at what matters here.
struct Look {
    startup: i32,
    waits_for: String,
    replayed: Lsn,
    /// The pid of the WAL receiver.
    receiver: Option<i32>,
    /// As our session has read it.
    conninfo: String,
}

impl Look {
    async fn at(monitor: &mut Monitor, of: &PostmasterId) -> Result<Self, DetachError> {
        const STATEMENT: &str = "SELECT a.pid, coalesce(a.wait_event_type || '/' || a.wait_event, 'running'), \
             coalesce(pg_last_wal_replay_lsn(), '0/0')::text, \
             coalesce((SELECT pid FROM pg_stat_get_wal_receiver() WHERE pid IS NOT NULL), \
               (SELECT min(pid) FROM pg_stat_activity WHERE backend_type = 'walreceiver')), \
             current_setting('primary_conninfo') \
             FROM pg_stat_activity a WHERE a.backend_type = 'startup'";
        let rows = monitor.query(of, STATEMENT, &[]).await.map_err(DetachError::Query)?;
        let row = rows.first().ok_or(DetachError::NotAStandby)?;
        let failed = |error| DetachError::Query(MonitorError::Query(error));
        let replayed: &str = row.try_get(2).map_err(failed)?;
        Ok(Self {
            startup: row.try_get(0).map_err(failed)?,
            waits_for: row.try_get(1).map_err(failed)?,
            replayed: replayed.parse().unwrap_or(Lsn::ZERO),
            receiver: row.try_get(3).map_err(failed)?,
            conninfo: row.try_get(4).map_err(failed)?,
        })
    }

    /// For more WAL, or for the time of a delayed record: in waits that a signal ends.
    fn waits_for_wal(&self) -> bool {
        ["Activity/RecoveryWalStream", "Timeout/RecoveryRetrieveRetryInterval", "Timeout/RecoveryApplyDelay"]
            .contains(&self.waits_for.as_str())
    }

    /// By somebody who paused the replay, or by a query that still needs what a record takes away.
    fn is_held_up(&self) -> bool {
        let (kind, event) = self.waits_for.split_once('/').unwrap_or_default();
        event == "RecoveryPause"
            || event.starts_with("RecoveryConflict")
            || (kind == "Lock" && event == "relation")
            || kind == "BufferPin"
    }
}

/// Where the WAL ends that this standby has: received and flushed, or replayed. For one whose receiver is gone. `None`: it was sent nothing
/// since it was started, and has not come to the end of what it had before.
async fn end_of_received(
    server: &Server,
    monitor: &mut Monitor,
    of: &PostmasterId,
) -> Result<Option<WalPosition>, DetachError> {
    const STATEMENT: &str = "SELECT greatest(coalesce(pg_last_wal_receive_lsn(), '0/0'), pg_last_wal_replay_lsn())::text, \
         pg_size_bytes(current_setting('wal_segment_size')), \
         (SELECT timeline_id FROM pg_control_checkpoint()), \
         pg_last_wal_receive_lsn() IS NOT NULL, \
         (SELECT coalesce(wait_event, '') FROM pg_stat_activity WHERE backend_type = 'startup')";
    let rows = monitor.query(of, STATEMENT, &[]).await.map_err(DetachError::Query)?;
    let row = rows.first().ok_or(DetachError::NotAStandby)?;
    let failed = |error| DetachError::Query(MonitorError::Query(error));
    let was_sent_something: bool = row.try_get(3).map_err(failed)?;
    let startup_waits: Option<&str> = row.try_get(4).map_err(failed)?;
    if !was_sent_something && !startup_waits.is_some_and(is_at_end) {
        return Ok(None);
    }
    let lsn: Option<&str> = row.try_get(0).map_err(failed)?;
    let lsn: Lsn = lsn.and_then(|lsn| lsn.parse().ok()).ok_or(DetachError::NotAStandby)?;
    let segment_size: i64 = row.try_get(1).map_err(failed)?;
    let checkpoint: i32 = row.try_get(2).map_err(failed)?;
    let dir = server.settings().data_dir.join("pg_wal");
    let size = segment_size.unsigned_abs();
    let newest = blocking(move || newest_timeline_at(&dir, lsn, size)).await.map_err(DetachError::NoWal)?;
    let timeline = newest.max(Some(TimelineId(checkpoint.unsigned_abs())));
    Ok(Some(WalPosition { timeline: timeline.expect("the checkpoint's timeline is there"), lsn }))
}

/// The newest timeline that has a segment with the byte before `lsn`. The receiver says on which timeline it is only while it is there, and
/// the control file hears of a new one with the next restart point; but the segment that was written to bears its number. Segments
/// that were made ready beforehand bear that of the replay, which is not ahead of what is received.
fn newest_timeline_at(dir: &Path, lsn: Lsn, segment_size: u64) -> io::Result<Option<TimelineId>> {
    let segment = lsn.0.saturating_sub(1) / segment_size;
    let per_id = (1u64 << 32) / segment_size;
    let wanted = format!("{:08X}{:08X}", segment / per_id, segment % per_id);
    let mut newest = None;
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let Some((timeline, rest)) = name.to_str().and_then(|name| name.split_at_checked(8)) else {
            continue;
        };
        if rest == wanted
            && let Ok(timeline) = u32::from_str_radix(timeline, 16)
        {
            newest = newest.max(Some(TimelineId(timeline)));
        }
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_segment_with_the_last_byte_tells_the_timeline() {
        const MIB_16: u64 = 16 << 20;
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "000000010000000000000003",
            "000000020000000000000003",
            "000000020000000000000004",
            "000000030000000100000000",
            "00000009.history",
            "000000090000000000000003.partial",
            "archive_status",
        ] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let at = |lsn: u64| newest_timeline_at(dir.path(), Lsn(lsn), MIB_16).unwrap().map(|found| found.0);
        assert_eq!(at(3 * MIB_16 + 1), Some(2));
        assert_eq!(at(4 * MIB_16), Some(2), "the last byte of segment 3");
        assert_eq!(at(4 * MIB_16 + 5), Some(2));
        assert_eq!(at(5 * MIB_16 + 5), None);
        assert_eq!(at((1 << 32) + 7), Some(3), "256 segments to the next id");
    }
}
