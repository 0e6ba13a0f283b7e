//! The one clock of fencing.

use bellwether_types::Timestamp;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Now, on CLOCK_BOOTTIME: the clock of every deadline in this crate. It goes on while the machine is suspended.
pub fn boottime() -> Timestamp {
    from_timespec(clock_gettime(ClockId::Boottime))
}

/// Milliseconds since 1970, for the record that people read.
pub(crate) fn unix_millis() -> i64 {
    let now = clock_gettime(ClockId::Realtime);
    now.tv_sec.saturating_mul(1000).saturating_add(now.tv_nsec / 1_000_000)
}

fn from_timespec(time: Timespec) -> Timestamp {
    let secs = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    Timestamp::from_nanos(secs.saturating_mul(1_000_000_000).saturating_add(nanos))
}

pub(crate) fn to_timespec(at: Timestamp) -> Timespec {
    let nanos = at.as_nanos();
    Timespec {
        tv_sec: i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX),
        tv_nsec: (nanos % 1_000_000_000) as i64,
    }
}
