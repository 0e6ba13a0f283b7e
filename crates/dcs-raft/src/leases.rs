//! When each lease was last renewed: in the store leader's memory only, because a renewal writes nothing.
//!
//! The rules that keep a promise of `ttl` true across elections and crashes:
//! - A renewal counts from its arrival, and is answered only after a heartbeat round that began later.
//! - From the proposal of an expiry on, renewals of that lease are refused, so nobody is promised what is ending.
//! - A new leader knows nothing of past renewals and starts every lease anew with its full ttl.
//! - So does a leader that a majority answers again after a silence: meanwhile nobody could renew anything. Without this the ends that
//!   it proposed in the silence would be the first that the majority takes when the links are back.
//!
//! Pure: time comes in as an argument.

use std::{collections::BTreeMap, time::Duration};

use bellwether_types::Timestamp;

use crate::{consensus::LeaderTag, state::Lease};

#[derive(Clone, Copy, Debug)]
struct Timer {
    granted: u64,
    ttl: Duration,
    until: Timestamp,
    /// An expiry was proposed. There is no way back: it may be in the log.
    ending: bool,
}

/// The end of a renewal as the leader's memory sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Renewed {
    For(Duration),
    /// The lease is about to end.
    Ending,
    /// Another leadership holds the timers.
    NotLeading,
}

/// An expiry to propose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Overdue {
    pub(crate) lease: u64,
    pub(crate) granted: u64,
}

#[derive(Debug)]
pub(crate) struct LeaseTimers {
    leadership: Option<LeaderTag>,
    timers: BTreeMap<u64, Timer>,
    /// When what a majority has acknowledged last was sent; the start of a leadership counts.
    acknowledged: Timestamp,
    /// Longer without an answer of a majority is a silence.
    patience: Duration,
}

impl LeaseTimers {
    pub(crate) fn new(patience: Duration) -> Self {
        Self { leadership: None, timers: BTreeMap::new(), acknowledged: Timestamp::ZERO, patience }
    }

    /// Brings the timers in line with the leases there are. Under a newer leadership all of them start anew; an older
    /// one is not listened to. Losing the leadership clears nothing: a proposed end may still be in the log, and the
    /// same leadership never comes back.
    pub(crate) fn align(&mut self, leadership: LeaderTag, leases: &BTreeMap<u64, Lease>, now: Timestamp) {
        if self.leadership.is_some_and(|known| known > leadership) {
            return;
        }
        if self.leadership != Some(leadership) {
            self.leadership = Some(leadership);
            self.acknowledged = now;
            self.timers.clear();
        }
        self.timers.retain(|id, timer| leases.get(id).is_some_and(|lease| lease.granted == timer.granted));
        for (id, lease) in leases {
            let ttl = Duration::from_millis(lease.ttl_ms);
            self.timers.entry(*id).or_insert(Timer {
                granted: lease.granted,
                ttl,
                until: now + ttl,
                ending: false,
            });
        }
    }

    /// A majority has acknowledged what this leader sent at `sent`.
    pub(crate) fn acknowledge(&mut self, leadership: LeaderTag, sent: Timestamp) {
        if self.leadership != Some(leadership) || sent <= self.acknowledged {
            return;
        }
        let was_silent = sent > self.acknowledged + self.patience;
        self.acknowledged = sent;
        if was_silent {
            for timer in self.timers.values_mut().filter(|timer| !timer.ending) {
                timer.until = timer.until.max(sent + timer.ttl);
            }
        }
    }

    /// Counts a renewal that arrived at `arrived` and was confirmed under `leadership` afterwards.
    pub(crate) fn renew(&mut self, leadership: LeaderTag, lease: u64, arrived: Timestamp) -> Renewed {
        if self.leadership != Some(leadership) {
            return Renewed::NotLeading;
        }
        match self.timers.get_mut(&lease) {
            Some(timer) if !timer.ending => {
                timer.until = timer.until.max(arrived + timer.ttl);
                Renewed::For(timer.ttl)
            }
            _ => Renewed::Ending,
        }
    }

    /// The leases whose time is over, marked as ending; none while no majority answers. Proposals that are still without effect come up
    /// again.
    pub(crate) fn overdue(&mut self, now: Timestamp) -> Vec<Overdue> {
        let is_heard = now <= self.acknowledged + self.patience;
        self.timers
            .iter_mut()
            .filter(|(_, timer)| timer.ending || (is_heard && timer.until <= now))
            .map(|(lease, timer)| {
                timer.ending = true;
                Overdue { lease: *lease, granted: timer.granted }
            })
            .collect()
    }

    /// When the next lease is over after `now`, unless it is renewed.
    pub(crate) fn next(&self, now: Timestamp) -> Option<Timestamp> {
        self.timers
            .values()
            .filter(|timer| !timer.ending)
            .map(|timer| timer.until)
            .filter(|until| *until > now)
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: LeaderTag = LeaderTag { term: 1, node: 1 };
    const SECOND: LeaderTag = LeaderTag { term: 2, node: 1 };

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn leases() -> BTreeMap<u64, Lease> {
        BTreeMap::from([(7, Lease { ttl_ms: 5000, granted: 7 })])
    }

    /// A majority answers all the time.
    fn timers() -> LeaseTimers {
        let mut timers = LeaseTimers::new(Duration::from_secs(1000));
        timers.align(FIRST, &leases(), at(100));
        timers
    }

    #[test]
    fn nothing_ends_in_a_silence_and_every_lease_starts_anew_after_it() {
        let mut timers = LeaseTimers::new(Duration::from_secs(1));
        timers.align(FIRST, &leases(), at(100));
        timers.acknowledge(FIRST, at(101));
        assert_eq!(timers.overdue(at(106)), [], "nobody could renew it");
        assert_eq!(timers.next(at(106)), None, "there is no hurry");
        timers.acknowledge(SECOND, at(106));
        assert_eq!(
            timers.overdue(at(106)),
            [],
            "what others have acknowledged is nothing to this leadership"
        );
        timers.acknowledge(FIRST, at(110));
        assert_eq!(timers.overdue(at(110)), []);
        assert_eq!(timers.next(at(110)), Some(at(115)));
        for second in 111..=115 {
            timers.acknowledge(FIRST, at(second));
        }
        assert_eq!(timers.next(at(114)), Some(at(115)), "answers alone renew nothing");
        assert_eq!(timers.overdue(at(115)), [Overdue { lease: 7, granted: 7 }]);
        timers.acknowledge(FIRST, at(120));
        assert_eq!(timers.renew(FIRST, 7, at(120)), Renewed::Ending, "its end may be in the log");
    }

    #[test]
    fn a_leadership_that_no_majority_has_answered_yet_ends_nothing() {
        let mut timers = LeaseTimers::new(Duration::from_secs(1));
        timers.align(FIRST, &leases(), at(100));
        assert_eq!(timers.overdue(at(105)), []);
        timers.acknowledge(FIRST, at(106));
        assert_eq!(timers.next(at(106)), Some(at(111)));
    }

    #[test]
    fn a_lease_ends_a_ttl_after_the_arrival_of_the_last_renewal() {
        let mut timers = timers();
        assert_eq!(timers.renew(FIRST, 7, at(103)), Renewed::For(Duration::from_secs(5)));
        assert_eq!(timers.renew(FIRST, 7, at(102)), Renewed::For(Duration::from_secs(5)));
        assert_eq!(timers.next(at(103)), Some(at(108)), "a late answer to an early renewal shortens nothing");
        assert_eq!(timers.overdue(Timestamp::from_millis(107_999)), []);
        assert_eq!(timers.overdue(at(108)), [Overdue { lease: 7, granted: 7 }]);
    }

    #[test]
    fn nobody_is_promised_a_lease_whose_end_is_proposed() {
        let mut timers = timers();
        assert_eq!(timers.overdue(at(105)).len(), 1);
        assert_eq!(timers.renew(FIRST, 7, at(104)), Renewed::Ending);
        timers.align(FIRST, &leases(), at(106));
        assert_eq!(timers.renew(FIRST, 7, at(106)), Renewed::Ending, "not even when the proposal is delayed");
        assert_eq!(timers.overdue(at(106)).len(), 1, "it is proposed until it has effect");
        timers.align(FIRST, &BTreeMap::new(), at(107));
        assert_eq!(timers.overdue(at(200)), []);
    }

    #[test]
    fn a_new_leadership_starts_every_lease_anew() {
        let mut timers = timers();
        assert_eq!(timers.overdue(at(105)).len(), 1);
        timers.align(SECOND, &leases(), at(106));
        assert_eq!(timers.next(at(106)), Some(at(111)));
        assert_eq!(timers.renew(FIRST, 7, at(106)), Renewed::NotLeading);
        assert_eq!(timers.renew(SECOND, 7, at(107)), Renewed::For(Duration::from_secs(5)));
        timers.align(FIRST, &leases(), at(108));
        assert_eq!(timers.next(at(108)), Some(at(112)), "a leadership that is over has no say");
    }
}
