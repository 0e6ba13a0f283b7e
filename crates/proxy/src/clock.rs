//! The only place in the proxy that asks what time it is.

use bellwether_types::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// CLOCK_BOOTTIME: it goes on while the machine is suspended, as leases do.
pub(crate) fn now() -> Timestamp {
    let time = clock_gettime(ClockId::Boottime);
    let (seconds, nanos) =
        (u64::try_from(time.tv_sec).unwrap_or(0), u64::try_from(time.tv_nsec).unwrap_or(0));
    Timestamp::from_nanos(seconds * 1_000_000_000 + nanos)
}
