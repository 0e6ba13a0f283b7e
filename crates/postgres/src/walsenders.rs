//! Whether the walsenders act by the configuration files.
//!
//! A walsender that hears of a standby's acknowledgement releases the commits that wait for it, by the
//! `synchronous_standby_names` that *it* has read. One that has not read the present ones yet (stopped, or busy) may release commits that the
//! old names allow, although every session shows the new ones. How its reading is proved: [`crate::rereading`]. It reads the
//! files after its wait and before it listens to its standby.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    monitor::{Monitor, MonitorError},
    postmaster::PostmasterId,
    rereading::Told,
};

/// Those that copy a data directory hear no acknowledgements; one that connects from now on begins with the files as they are.
const STATEMENT: &str = "SELECT a.pid, a.wait_event FROM pg_stat_activity a JOIN pg_stat_replication r USING (pid) \
                         WHERE r.state <> 'backup'";

/// Milliseconds before each look; idle walsenders need less than the first.
const PAUSES: [u64; 5] = [2, 4, 8, 16, 32];

/// Makes all walsenders of this server read its configuration files. `true`: they have, and act by them as they were at the time of
/// the call, or later. `false`: one of them did not get to it within some 60 ms; that is no error.
///
/// Call it when a session shows that the postmaster itself has read the files: only then do new walsenders begin with them.
pub async fn read_configuration(
    monitor: &mut Monitor,
    postmaster: &PostmasterId,
) -> Result<bool, MonitorError> {
    let mut left = Vec::new();
    for pid in look(monitor, postmaster).await?.into_keys() {
        left.extend(Told::child(pid, postmaster)?);
    }
    for pause in PAUSES {
        if left.is_empty() {
            return Ok(true);
        }
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let mut taken = Vec::new();
        for told in &left {
            taken.push(told.has_taken_it()?);
        }
        let before = look(monitor, postmaster).await?;
        let mut asleep = Vec::new();
        for told in &left {
            asleep.push(told.is_asleep()?);
        }
        let after = look(monitor, postmaster).await?;
        let mut unproved = Vec::new();
        for (told, (taken, asleep)) in left.into_iter().zip(taken.into_iter().zip(asleep)) {
            let waits = |seen: &BTreeMap<i32, bool>| seen.get(&told.pid) == Some(&true);
            let is_proved = (taken && waits(&before) && asleep && waits(&after)) || told.is_gone()?;
            if !is_proved {
                unproved.push(told);
            }
        }
        left = unproved;
    }
    Ok(left.is_empty())
}

/// Each walsender, and whether it is in a wait that a signal ends and after which it reads the files.
async fn look(monitor: &mut Monitor, postmaster: &PostmasterId) -> Result<BTreeMap<i32, bool>, MonitorError> {
    let rows = monitor.query(postmaster, STATEMENT, &[]).await?;
    let mut seen = BTreeMap::new();
    for row in rows {
        let pid = row.try_get(0).map_err(MonitorError::Query)?;
        let wait: Option<&str> = row.try_get(1).map_err(MonitorError::Query)?;
        seen.insert(pid, wait == Some("WalSenderMain"));
    }
    Ok(seen)
}
