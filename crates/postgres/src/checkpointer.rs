//! Whether the checkpointer acts by the configuration files.
//!
//! Backends wait for synchronous standbys only if a flag in shared memory says so, and only the checkpointer sets it, when it has read
//! `synchronous_standby_names`. A checkpointer that is busy (an immediate checkpoint, the fsync phase of any) or stopped does not read,
//! although every session shows the new names. PostgreSQL, 13 to 18, tells nobody when it has; the system does:
//!
//! 1. SIGHUP goes to the checkpointer itself, after the files were written. From then on the signal is pending or handled.
//! 2. It is not pending any more: the handler has set the checkpointer's latch, or will before anything else happens.
//! 3. PostgreSQL shows it in one of the two waits that end when the latch is set, the system shows it asleep, and PostgreSQL shows it
//!    in such a wait again. With the latch set it would not sleep there; so it went on from the wait in which the signal found
//!    it, and before it waits again it reads the files and sets the flag.

use std::{io, time::Duration};

use rustix::process::Signal;

use crate::{
    monitor::{Monitor, MonitorError},
    postmaster::PostmasterId,
    process,
};

const STATEMENT: &str = "SELECT pid, wait_event FROM pg_stat_activity WHERE backend_type = 'checkpointer'";

/// Milliseconds before each look; an idle checkpointer needs less than the first.
const PAUSES: [u64; 5] = [2, 4, 8, 16, 32];

/// Makes the checkpointer of this server read its configuration files. `true`: it has, and acts by them as they were at the
/// time of the call, or later. `false`: it did not get to it within some 60 ms; that is no error.
pub async fn read_configuration(
    monitor: &mut Monitor,
    postmaster: &PostmasterId,
) -> Result<bool, MonitorError> {
    let Some((pid, _)) = look(monitor, postmaster).await? else { return Ok(false) };
    let Some(checkpointer) = process::read(pid).map_err(unreadable)? else { return Ok(false) };
    if checkpointer.parent != postmaster.pid {
        return Err(MonitorError::Answer { what: format!("process {pid} is no child of the postmaster") });
    }
    process::signal(&checkpointer, Signal::HUP).map_err(unreadable)?;
    for pause in PAUSES {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        if process::is_pending(pid, Signal::HUP).map_err(unreadable)?
            || look(monitor, postmaster).await? != Some((pid, true))
        {
            continue;
        }
        let now = process::read(pid).map_err(unreadable)?;
        let is_asleep = now.is_some_and(|now| now.start_ticks == checkpointer.start_ticks && now.is_asleep());
        if is_asleep && look(monitor, postmaster).await? == Some((pid, true)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The checkpointer, and whether it is in a wait that a signal ends and before which it reads the files.
async fn look(monitor: &mut Monitor, postmaster: &PostmasterId) -> Result<Option<(i32, bool)>, MonitorError> {
    let rows = monitor.query(postmaster, STATEMENT, &[]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let pid = row.try_get(0).map_err(MonitorError::Query)?;
    let wait: Option<&str> = row.try_get(1).map_err(MonitorError::Query)?;
    Ok(Some((pid, matches!(wait, Some("CheckpointerMain" | "CheckpointWriteDelay")))))
}

fn unreadable(error: io::Error) -> MonitorError {
    MonitorError::Answer { what: format!("the checkpointer's process cannot be looked at: {error}") }
}
