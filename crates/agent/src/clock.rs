//! The only place in Bellwether that asks what time it is.

use bellwether_types::{Timestamp, WallTime};

/// CLOCK_BOOTTIME: goes on while the machine is suspended.
pub fn now() -> Timestamp {
    bellwether_dcs::store::now()
}

/// CLOCK_REALTIME: for schedules and people.
pub fn wall() -> WallTime {
    // By the C library, as everybody else on the host asks.
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    WallTime::from_unix_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// `wall` as RFC 3339 text in UTC.
pub fn wall_text(wall: WallTime) -> String {
    jiff::Timestamp::from_millisecond(wall.unix_millis)
        .map_or_else(|_| String::new(), |time| time.to_string())
}
