//! Whether the checkpointer acts by the configuration files.
//!
//! Backends wait for synchronous standbys only if a flag in shared memory says so, and only the checkpointer sets it, when it has read
//! `synchronous_standby_names`. A checkpointer that is busy (an immediate checkpoint, the fsync phase of any) or stopped does not read,
//! although every session shows the new names. How its reading is proved: [`crate::rereading`]. Before it waits, it sets the flag.

use std::time::Duration;

use crate::{
    monitor::{Monitor, MonitorError},
    postmaster::PostmasterId,
    rereading::Told,
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
    let Some(told) = Told::child(pid, postmaster)? else { return Ok(false) };
    for pause in PAUSES {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        if told.has_taken_it()?
            && look(monitor, postmaster).await? == Some((pid, true))
            && told.is_asleep()?
            && look(monitor, postmaster).await? == Some((pid, true))
        {
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
