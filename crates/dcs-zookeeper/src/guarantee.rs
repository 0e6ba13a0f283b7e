//! How long the ensemble keeps a session, by what its client knows for sure.
//!
//! A session ends when the *leader* has heard nothing of it for the negotiated timeout. A request counts when it reaches the
//! leader's clock, and the server that answers it may be a follower: that one reports the sessions it has heard from with each
//! of the leader's pings, twice per tick. A follower that dies in between takes its newest report with it. What it was told
//! before the last ping it did report, because reports and forwarded writes travel in order: so an answered *write* proves that
//! every request answered up to [`relay`] before it counts.

use std::{collections::VecDeque, time::Duration};

use bellwether_types::Timestamp;

/// Requests that may be looked back on.
const KEPT: usize = 256;

/// The longest time for which a follower keeps its knowledge to itself: half a tick, and a tenth for the leader's timer.
pub(crate) fn relay(tick_time: Duration) -> Duration {
    tick_time / 2 + tick_time / 10
}

/// When requests of one session were sent that were answered.
#[derive(Debug)]
pub(crate) struct Heard {
    /// The session's creation, which the leader itself saw.
    created: Timestamp,
    sent: VecDeque<Timestamp>,
}

impl Heard {
    pub(crate) fn new(created: Timestamp) -> Self {
        Self { created, sent: VecDeque::new() }
    }

    /// A request sent then was answered.
    pub(crate) fn note(&mut self, sent: Timestamp) {
        let place = self.sent.partition_point(|earlier| *earlier <= sent);
        self.sent.insert(place, sent);
        if self.sent.len() > KEPT {
            self.sent.pop_front();
        }
    }

    /// What the ensemble guarantees from `sent` on: the time when a write was sent that was answered.
    pub(crate) fn guaranteed(&self, sent: Timestamp, timeout: Duration, relay: Duration) -> Duration {
        let reported = sent.saturating_sub(relay);
        let counts = self.sent.iter().rev().find(|earlier| **earlier <= reported).unwrap_or(&self.created);
        timeout.saturating_sub(sent.since(*counts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);
    const RELAY: Duration = Duration::from_secs(1);

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn only_what_a_follower_must_have_reported_counts() {
        let mut heard = Heard::new(at(1_000));
        for (case, sent, expected) in [
            ("right after the creation", 1_100, 9_900),
            ("before anything can have been reported", 1_900, 9_100),
            ("the last request is too young to have been reported", 2_800, 8_200),
            ("the last request is just old enough", 2_900, 9_000),
            ("long after it", 5_000, 6_900),
        ] {
            if sent == 2_800 {
                heard.note(at(1_900));
            }
            let guaranteed = heard.guaranteed(at(sent), TIMEOUT, RELAY);
            assert_eq!(guaranteed, Duration::from_millis(expected), "{case}");
        }
        assert_eq!(heard.guaranteed(at(60_000), TIMEOUT, RELAY), Duration::ZERO);
    }

    #[test]
    fn the_oldest_are_forgotten_and_the_order_kept() {
        let mut heard = Heard::new(at(0));
        (1..1_000).rev().for_each(|millis| heard.note(at(millis)));
        assert_eq!(heard.sent.len(), KEPT);
        assert!(heard.sent.iter().is_sorted());
        assert_eq!(heard.guaranteed(at(2_500), TIMEOUT, RELAY), Duration::from_millis(8_499));
    }
}
