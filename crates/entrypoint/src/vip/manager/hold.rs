//! One address with this host: coming, here, or left by an agent before this one.

use std::time::Duration;

use bellwether_config::sections::vip::Announce;
use bellwether_types::Timestamp;

use crate::vip::announce::Announcing;

/// Renewals in the kernel are not closer together, unless the deadline has moved by more than this.
const RENEWAL: Duration = Duration::from_millis(500);
/// What is held is put to the kernel so often anyway: somebody else may have removed it.
const REPAIR: Duration = Duration::from_secs(1);
const PROBES: u32 = 3;
const PROBE_GAP: Duration = Duration::from_millis(200);

/// An address as far as this host is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// The lease is ours; asking who has it meanwhile.
    Coming {
        since: Timestamp,
        probes: u32,
    },
    /// It may be here.
    Adopted,
    Here {
        until: Timestamp,
        put_at: Timestamp,
        announcing: Announcing,
    },
}

impl Hold {
    pub(super) fn adopted() -> Self {
        Self::Adopted
    }

    pub(super) fn coming(now: Timestamp) -> Self {
        Self::Coming { since: now, probes: 0 }
    }

    /// As it is after the kernel has got it.
    pub(super) fn renewed(before: Option<&Self>, now: Timestamp, until: Timestamp, ttl: Duration) -> Self {
        let announcing = match before {
            Some(Self::Here { announcing, .. }) => *announcing,
            _ => Announcing::from(now, ttl),
        };
        Self::Here { until, put_at: now, announcing }
    }

    pub(super) fn needs_renewal(before: Option<&Self>, now: Timestamp, until: Timestamp) -> bool {
        match before {
            Some(Self::Here { until: known, put_at, .. }) => {
                now.since(*put_at) >= REPAIR
                    || until.since(*known) >= RENEWAL
                    || known.since(until) >= RENEWAL
            }
            _ => true,
        }
    }

    pub(super) fn is_here(&self) -> bool {
        matches!(self, Self::Here { .. })
    }

    pub(super) fn may_be_here(&self) -> bool {
        !matches!(self, Self::Coming { .. })
    }

    /// Whether to ask again who has it; counts the question.
    pub(super) fn probe_is_due(&mut self, now: Timestamp) -> bool {
        let Self::Coming { since, probes } = self else { return false };
        let is_due = *probes < PROBES && now >= *since + PROBE_GAP * *probes;
        if is_due {
            *probes += 1;
        }
        is_due
    }

    /// Whether to announce it now; counts the announcement. `burst`: a neighbour contradicts, and is to be answered then.
    pub(super) fn announcement_is_due(
        &mut self,
        settings: &Announce,
        burst: Option<Timestamp>,
        now: Timestamp,
    ) -> bool {
        let Self::Here { announcing, .. } = self else { return false };
        let contradicted = settings.on && burst.is_some_and(|at| now >= at);
        let is_due = contradicted || announcing.next(settings).is_some_and(|due| now >= due);
        if is_due {
            announcing.last = Some(now);
        }
        is_due
    }

    /// When something is to be done with it at the latest.
    pub(super) fn next_due(&self, settings: &Announce, burst: Option<Timestamp>) -> Option<Timestamp> {
        match self {
            Self::Coming { since, probes } => (*probes < PROBES).then(|| *since + PROBE_GAP * *probes),
            Self::Adopted => None,
            Self::Here { until, announcing, .. } => {
                let announce = announcing.next(settings).into_iter().chain(burst);
                announce.chain([*until]).min()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn the_kernel_is_told_of_a_longer_lease_and_once_a_second_anyway() {
        let hold = Hold::renewed(None, at(0), at(3_000), Duration::from_secs(5));
        for (now, until, expected) in [
            (100, 3_100, false),
            (100, 3_500, true),
            (999, 3_000, false),
            (1_000, 3_000, true),
            (10, 2_000, true),
        ] {
            assert_eq!(Hold::needs_renewal(Some(&hold), at(now), at(until)), expected, "{now} {until}");
        }
        assert!(Hold::needs_renewal(None, at(0), at(1)));
        assert!(Hold::needs_renewal(Some(&Hold::Adopted), at(0), at(1)));
    }

    #[test]
    fn three_probes_go_out_while_it_comes() {
        let mut hold = Hold::coming(at(0));
        let sent: Vec<u64> =
            (0..10).map(|turn| turn * 100).filter(|now| hold.probe_is_due(at(*now))).collect();
        assert_eq!(sent, [0, 200, 400]);
        assert!(!hold.may_be_here());
    }

    #[test]
    fn a_contradiction_is_answered() {
        let settings = Announce::default();
        let mut hold = Hold::renewed(None, at(0), at(9_000), Duration::from_secs(1));
        while hold.next_due(&settings, None).is_some_and(|due| due < at(8_000)) {
            let due = hold.next_due(&settings, None).unwrap();
            assert!(hold.announcement_is_due(&settings, None, due));
        }
        assert!(!hold.announcement_is_due(&settings, Some(at(8_500)), at(8_400)));
        assert!(hold.announcement_is_due(&settings, Some(at(8_500)), at(8_500)));
    }
}
