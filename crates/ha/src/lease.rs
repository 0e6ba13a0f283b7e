//! Lease arithmetic: until when a leader may believe that it is one. Never violated, never configured.

use std::time::Duration;

use bellwether_types::Timestamp;

/// How long before the end of the belief a demotion must have begun, where the lease is long enough.
const STOP_LEAD: Duration = Duration::from_secs(1);

/// The limits that follow from one confirmed renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseLimits {
    /// Writes may be accepted until then.
    pub until: Timestamp,
    /// Demotion begins by then at the latest.
    pub demote_at: Timestamp,
}

/// Limits after a renewal that left at `sent_at` and that the store guarantees for `guaranteed`.
///
/// margin = max(0.5 s, G/10), but never more than half of G, so that the shortest leases remain usable.
pub fn limits(sent_at: Timestamp, guaranteed: Duration) -> LeaseLimits {
    let margin = margin(guaranteed);
    let until = sent_at + guaranteed.saturating_sub(margin);
    let lead = STOP_LEAD.min(guaranteed.saturating_sub(margin) / 3);
    LeaseLimits { until, demote_at: until.saturating_sub(lead) }
}

/// What is kept back from the guaranteed time for clocks and delays.
pub fn margin(guaranteed: Duration) -> Duration {
    (guaranteed / 10).max(Duration::from_millis(500)).min(guaranteed / 2)
}

/// How long one renewal may take, and how soon the next one follows where nothing else is said.
pub fn renewal_period(guaranteed: Duration) -> Duration {
    guaranteed / 5
}

/// What rests on a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rests {
    /// The member's own key alone.
    Membership,
    /// The right to lead.
    Leadership,
    /// That, and a watchdog device, which is fed with each renewal and may be set to half of the lease.
    Watchdog,
}

/// From this length on a lease is renewed less often than [`renewal_period`] says: the store is spared.
const LONG: Duration = Duration::from_secs(20);

/// How far apart renewals are while each of them is answered.
pub fn renewal_pace(guaranteed: Duration, rests: Rests) -> Duration {
    match rests {
        _ if guaranteed < LONG => renewal_period(guaranteed),
        Rests::Watchdog => renewal_period(guaranteed),
        Rests::Leadership => guaranteed * 3 / 10,
        Rests::Membership => guaranteed / 2,
    }
}

/// How long a member that accepted a leader's failsafe call keeps out of races at least, if it does not say: the smallest `ttl`
/// that Patroni allows.
pub const UNSAID_PROMISE: Duration = Duration::from_secs(20);

/// However long a leader asks for: nobody is kept from the lock for longer.
const LONGEST_PROMISE: Duration = Duration::from_secs(600);

/// For how long a member promises to keep out of races when a leader asks it to.
///
/// At least for its own `ttl`; and for as long as the leader is going to rely on it: a leader that is cut off from the store does not
/// hear of a `ttl` that was lowered meanwhile.
pub fn failsafe_promise(ttl: Duration, rely_on: Option<Duration>) -> Duration {
    rely_on.map_or(ttl, |rely_on| ttl.max(rely_on.min(LONGEST_PROMISE)))
}

/// For how long a leader may rely on an acceptance, from before it asked: never longer than was promised.
pub fn failsafe_belief(rely_on: Duration, promised: Option<Duration>) -> Duration {
    rely_on.min(promised.unwrap_or(UNSAID_PROMISE))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// One lost renewal must not cost the lease, and demotion must begin before belief ends, for every ttl from 1 to 60.
        #[test]
        fn a_lease_survives_one_lost_renewal(ttl_ms in 1_000u64..60_000, sent_ms in 0u64..1_000_000) {
            let (guaranteed, sent_at) = (Duration::from_millis(ttl_ms), Timestamp::from_millis(sent_ms));
            let limits = limits(sent_at, guaranteed);
            prop_assert!(limits.demote_at < limits.until);
            prop_assert!(limits.until + Duration::from_millis(1) < sent_at + guaranteed);
            // Sent, lost after a full timeout, sent again: still before the demotion.
            let retry_done = sent_at + renewal_period(guaranteed);
            prop_assert!(retry_done < limits.demote_at, "{limits:?}");
            // And so after a pause as long as it may be, even if the second one takes its whole time, too.
            let timeout = renewal_period(guaranteed);
            let pace = |rests| renewal_pace(guaranteed, rests);
            if guaranteed >= LONG {
                prop_assert!(sent_at + pace(Rests::Leadership) + 2 * timeout < limits.demote_at, "{limits:?}");
            }
            prop_assert!(pace(Rests::Membership) + 2 * timeout < guaranteed);
            prop_assert!(pace(Rests::Watchdog) <= pace(Rests::Leadership));
        }
    }

    proptest! {
        /// Whatever `ttl` each side knows: the sender's belief ends before the promise does.
        #[test]
        fn a_failsafe_promise_outlasts_the_belief_in_it(mine in 1u64..2_000, theirs in 1u64..2_000, told: bool) {
            let (mine, theirs) = (Duration::from_secs(mine), Duration::from_secs(theirs));
            // Somebody who does not read our field has a `ttl` that Patroni allows.
            let (promised, said) = match told {
                true => (failsafe_promise(theirs, Some(mine)), Some(failsafe_promise(theirs, Some(mine)))),
                false => (theirs.max(UNSAID_PROMISE), None),
            };
            prop_assert!(failsafe_belief(mine, said) <= promised);
        }
    }

    #[test]
    fn the_margin_is_half_a_second_or_a_tenth() {
        assert_eq!(margin(Duration::from_secs(5)), Duration::from_millis(500));
        assert_eq!(margin(Duration::from_secs(30)), Duration::from_secs(3));
        assert_eq!(margin(Duration::from_millis(600)), Duration::from_millis(300));
    }
}
