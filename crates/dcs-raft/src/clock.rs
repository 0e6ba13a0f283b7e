//! CLOCK_BOOTTIME for everything that bounds a lease.

use std::time::Duration;

use bellwether_dcs::Deadline;
use bellwether_types::Timestamp;

/// CLOCK_BOOTTIME now: goes on while the machine sleeps.
pub(crate) fn now() -> Timestamp {
    bellwether_dcs::store::now()
}

/// What is left until `by`, but at least a millisecond so that it can be sent as a budget.
pub(crate) fn budget(by: Deadline) -> Duration {
    by.remaining().max(Duration::from_millis(1))
}

pub(crate) fn is_over(by: Deadline) -> bool {
    by.remaining().is_zero()
}
