//! The only place in Bellwether that asks what time it is.

use bellwether_types::{Timestamp, WallTime};

/// CLOCK_BOOTTIME: goes on while the machine is suspended.
pub fn now() -> Timestamp {
    bellwether_dcs::store::now()
}

/// CLOCK_REALTIME: for schedules and people.
pub fn wall() -> WallTime {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    WallTime::from_unix_millis(time.tv_sec * 1000 + time.tv_nsec / 1_000_000)
}

/// `wall` as RFC 3339 text in UTC.
pub fn wall_text(wall: WallTime) -> String {
    jiff::Timestamp::from_millisecond(wall.unix_millis)
        .map_or_else(|_| String::new(), |time| time.to_string())
}
