//! When neighbours are told where an address is: a pure timetable.

use std::time::Duration;

use bellwether_config::sections::vip::Announce;
use bellwether_types::Timestamp;

/// How often the new holder speaks up while the lease of the old one may still last.
const WHILE_THE_OLD_LEASE_LASTS: Duration = Duration::from_secs(1);

/// The announcements of one address since it came here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announcing {
    pub since: Timestamp,
    /// How long the lease of a holder before us may have gone on.
    pub old_lease: Duration,
    pub last: Option<Timestamp>,
}

impl Announcing {
    pub fn from(since: Timestamp, old_lease: Duration) -> Self {
        Self { since, old_lease, last: None }
    }

    /// When the next one is due; `None`: never again.
    pub fn next(&self, settings: &Announce) -> Option<Timestamp> {
        if !settings.on {
            return None;
        }
        let Some(last) = self.last else { return Some(self.since) };
        let burst =
            |from: Duration| (0..settings.count).map(move |turn| self.since + from + settings.gap * turn);
        let seconds = u32::try_from(self.old_lease.as_secs()).unwrap_or(u32::MAX).min(600) + 1;
        let each_second = (1..=seconds).map(|turn| self.since + WHILE_THE_OLD_LEASE_LASTS * turn);
        let planned = burst(Duration::ZERO).chain(each_second).chain(burst(settings.delay));
        let next = planned.filter(|at| *at > last).min();
        next.or_else(|| settings.refresh.map(|refresh| last + refresh))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(settings: &Announce, old_lease: u64, count: usize) -> Vec<u64> {
        let mut announcing = Announcing::from(Timestamp::from_millis(1_000), Duration::from_secs(old_lease));
        let mut times = Vec::new();
        while let Some(next) = announcing.next(settings).filter(|_| times.len() < count) {
            announcing.last = Some(next);
            times.push(next.as_millis() - 1_000);
        }
        times
    }

    #[test]
    fn bursts_then_every_second_until_the_old_lease_has_ended_then_seldom() {
        let settings = Announce { count: 3, ..Announce::default() };
        assert_eq!(
            times(&settings, 3, 12),
            [0, 100, 200, 1_000, 2_000, 3_000, 4_000, 5_000, 5_100, 5_200, 65_200, 125_200]
        );
    }

    #[test]
    fn what_is_switched_off_stays_silent() {
        let settings = Announce { count: 1, refresh: None, ..Announce::default() };
        assert_eq!(times(&settings, 1, 12), [0, 1_000, 2_000, 5_000]);
        assert_eq!(times(&Announce { on: false, ..Announce::default() }, 1, 12), Vec::<u64>::new());
    }
}
