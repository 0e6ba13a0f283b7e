//! The timing autopilot: from what was measured, the shortest `ttl` and `detect_timeout` that are safe here. Arithmetic only.
//!
//! A leader must keep its lease through everything that is usual where it runs: a renewal that is lost with its whole timeout and sent
//! again, an answer of the store as slow as the slowest that was seen, and a loop that wakes up as late as it ever did. What was seen so
//! far is not the worst that can happen, so it counts [`SAFETY`] times.

use std::time::Duration;

use bellwether_types::measured::{Measured, Span};

use crate::lease;

/// How much worse it may get than it was.
pub const SAFETY: u32 = 3;
/// Fewer figures than this are no ground for advice.
pub const ENOUGH: u32 = 30;
/// A `ttl` so many times longer than needed waits for nothing.
const LAX: u32 = 6;
const STEP: Duration = Duration::from_secs(1);
/// Patroni's default: a longer one is somebody's choice, and a shorter one never lax.
const USUAL_TTL: Duration = Duration::from_secs(30);
/// Keepalives and looks at the WAL receiver come so often.
const LISTENING: Duration = Duration::from_millis(250);
const SHORTEST_DETECTION: Duration = Duration::from_millis(500);

/// What was measured says of a `ttl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Too little was measured.
    Unknown,
    /// A leader may lose its lease although nothing is broken.
    TooTight,
    Fits,
    /// The loss of a host costs much more time than it has to.
    TooLax,
}

impl Verdict {
    pub fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::TooTight => "too_tight",
            Self::Fits => "fits",
            Self::TooLax => "too_lax",
        }
    }
}

/// Whether a lease of this length survives the usual, as it was measured.
pub fn survives(guaranteed: Duration, measured: &Measured) -> bool {
    let (answer, late) = worst(measured);
    let period = lease::renewal_period(guaranteed);
    let sent_at = bellwether_types::Timestamp::ZERO;
    let demote_at = lease::limits(sent_at, guaranteed).demote_at;
    // Confirmed; the next one is lost and takes its whole timeout; the one after that is answered late.
    let confirmed_again = sent_at + period + period + late + answer;
    answer + late < period && confirmed_again < demote_at
}

/// The shortest `ttl` in whole seconds, not below what the store can keep.
pub fn smallest_ttl(measured: &Measured, floor: Duration) -> Duration {
    let mut ttl = Duration::from_secs(floor.as_secs_f64().ceil() as u64).max(STEP);
    // Longer than an hour is no answer to anything.
    while !survives(ttl, measured) && ttl < Duration::from_secs(3600) {
        ttl += STEP;
    }
    ttl
}

/// How long a standby must have heard nothing before silence is no chance: keepalives come every [`LISTENING`], and as late as the
/// loops of both members.
pub fn smallest_detection(measured: &Measured) -> Duration {
    let (_, late) = worst(measured);
    (3 * LISTENING + 2 * late).max(SHORTEST_DETECTION)
}

pub fn verdict(ttl: Duration, measured: &Measured, floor: Duration) -> Verdict {
    if measured.store.count < ENOUGH {
        return Verdict::Unknown;
    }
    if !survives(ttl, measured) {
        return Verdict::TooTight;
    }
    if ttl >= USUAL_TTL && ttl >= LAX * smallest_ttl(measured, floor) {
        return Verdict::TooLax;
    }
    Verdict::Fits
}

/// The slowest answer of the store and the latest wake-up to be reckoned with.
fn worst(measured: &Measured) -> (Duration, Duration) {
    let reckon = |span: &Span| span.worst * SAFETY;
    (reckon(&measured.store), reckon(&measured.late))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FLOOR: Duration = Duration::from_secs(1);

    fn measured(store_ms: u64, late_ms: u64) -> Measured {
        let span =
            |worst_ms| Span { count: 100, typical: Duration::ZERO, worst: Duration::from_millis(worst_ms) };
        Measured { store: span(store_ms), commit: span(0), late: span(late_ms) }
    }

    #[test]
    fn a_good_network_and_an_idle_machine_allow_little() {
        let idle = measured(5, 2);
        assert_eq!(
            smallest_ttl(&idle, FLOOR),
            Duration::from_secs(2),
            "with one second a lost renewal is too much"
        );
        assert_eq!(smallest_ttl(&idle, Duration::from_millis(1500)), Duration::from_secs(2), "whole seconds");
        assert_eq!(verdict(Duration::from_secs(5), &idle, FLOOR), Verdict::Fits);
        assert_eq!(verdict(Duration::from_secs(30), &idle, FLOOR), Verdict::TooLax);
        assert_eq!(smallest_detection(&idle), Duration::from_millis(762));
    }

    #[test]
    fn slow_answers_and_late_loops_ask_for_more() {
        let slow = measured(300, 100);
        let least = smallest_ttl(&slow, FLOOR);
        assert!(least > Duration::from_secs(5), "{least:?}");
        assert_eq!(verdict(Duration::from_secs(5), &slow, FLOOR), Verdict::TooTight);
        assert_eq!(verdict(Duration::from_secs(30), &slow, FLOOR), Verdict::Fits);
        let unknown = Measured { store: Span { count: ENOUGH - 1, ..slow.store }, ..slow };
        assert_eq!(verdict(Duration::from_secs(5), &unknown, FLOOR), Verdict::Unknown);
    }

    proptest! {
        #[test]
        fn the_smallest_ttl_is_safe_and_the_smallest(store in 0u64..5_000, late in 0u64..5_000, floor in 1u64..30) {
            let (measured, floor) = (measured(store, late), Duration::from_secs(floor));
            let ttl = smallest_ttl(&measured, floor);
            prop_assert!(ttl >= floor && survives(ttl, &measured));
            prop_assert!(ttl == floor || !survives(ttl - STEP, &measured));
            prop_assert!(verdict(ttl, &measured, floor) != Verdict::TooTight);
        }

        #[test]
        fn worse_figures_never_allow_less(store in 0u64..2_000, late in 0u64..2_000, more in 0u64..2_000) {
            let least = |store, late| smallest_ttl(&measured(store, late), FLOOR);
            prop_assert!(least(store, late) <= least(store + more, late));
            prop_assert!(least(store, late) <= least(store, late + more));
            prop_assert!(smallest_detection(&measured(store, late)) <= smallest_detection(&measured(store, late + more)));
        }

        #[test]
        fn a_longer_ttl_is_never_less_safe(store in 0u64..2_000, late in 0u64..2_000, ttl in 1u64..300) {
            let (measured, ttl) = (measured(store, late), Duration::from_secs(ttl));
            prop_assert!(!survives(ttl, &measured) || survives(ttl + STEP, &measured));
        }
    }
}
