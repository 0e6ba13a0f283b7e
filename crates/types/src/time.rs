//! Two kinds of time that must not be mixed.

use std::{
    fmt,
    ops::{Add, Sub},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// An instant on CLOCK_BOOTTIME: monotonic, and it goes on while the machine is suspended. For deadlines and ages.
///
/// Meaningless on another machine or after a reboot. Read it with the agent's clock; nothing below the agent asks for "now".
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp {
    nanos: u64,
}

impl Timestamp {
    pub const ZERO: Timestamp = Timestamp { nanos: 0 };
    /// Later than any real instant.
    pub const MAX: Timestamp = Timestamp { nanos: u64::MAX };

    pub const fn from_nanos(nanos: u64) -> Self {
        Self { nanos }
    }

    pub const fn from_millis(millis: u64) -> Self {
        Self { nanos: millis * 1_000_000 }
    }

    pub const fn as_nanos(self) -> u64 {
        self.nanos
    }

    pub const fn as_millis(self) -> u64 {
        self.nanos / 1_000_000
    }

    /// How long ago `earlier` was; zero if it lies in the future.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_nanos(self.nanos.saturating_sub(earlier.nanos))
    }

    /// The time left until `later`; zero if it has passed.
    pub fn until(self, later: Timestamp) -> Duration {
        later.since(self)
    }

    pub fn saturating_sub(self, by: Duration) -> Self {
        Self { nanos: self.nanos.saturating_sub(duration_nanos(by)) }
    }
}

fn duration_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Add<Duration> for Timestamp {
    type Output = Timestamp;
    fn add(self, by: Duration) -> Self {
        Self { nanos: self.nanos.saturating_add(duration_nanos(by)) }
    }
}

impl Sub<Timestamp> for Timestamp {
    type Output = Duration;
    /// Saturates at zero.
    fn sub(self, earlier: Timestamp) -> Duration {
        self.since(earlier)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}s", self.nanos / 1_000_000_000, self.nanos / 1_000_000 % 1000)
    }
}

/// Wall-clock time in milliseconds since 1970-01-01 UTC: for people, schedules and files, never for leases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WallTime {
    pub unix_millis: i64,
}

impl WallTime {
    pub const fn from_unix_millis(unix_millis: i64) -> Self {
        Self { unix_millis }
    }

    /// Milliseconds from `self` to `later`, negative if `later` has passed.
    pub fn millis_until(self, later: WallTime) -> i64 {
        later.unix_millis.saturating_sub(self.unix_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_runs_below_zero() {
        let (early, late) = (Timestamp::from_millis(1), Timestamp::from_millis(5));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(late.since(early), Duration::from_millis(4));
        assert_eq!(early.saturating_sub(Duration::from_secs(1)), Timestamp::ZERO);
        assert_eq!(Timestamp::MAX + Duration::from_secs(1), Timestamp::MAX);
    }
}
