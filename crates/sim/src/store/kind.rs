//! The stores differ in what a lease is worth and in how old a read may be.

use crate::{
    random::Random,
    scenario::Scenario,
    schedule::{MILLIS, Nanos, SECONDS},
};

/// Whose rules the store follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// Leases end on time; every read is linearizable.
    Embedded,
    /// Leases end when the next sweep finds them; a watch may come from a member that lags.
    Etcd,
    /// A session is asked for with half of the `ttl`, which is all that is guaranteed, and lasts up to twice that.
    Consul,
    /// Sessions are counted in ticks, outlive connections, and are served by whichever server is near, which may lag.
    ZooKeeper,
}

impl StoreKind {
    pub fn draw(scenario: &Scenario, random: &mut Random) -> Self {
        let kind = *random.pick(&[
            Self::Embedded,
            Self::Embedded,
            Self::Etcd,
            Self::Etcd,
            Self::Consul,
            Self::ZooKeeper,
        ]);
        // The voters of two sites are members; Consul keeps no session that is shorter than ten seconds.
        let is_possible = !scenario.sites && (kind != Self::Consul || scenario.ttl >= 20 * SECONDS);
        if is_possible { kind } else { Self::Embedded }
    }

    /// For how long a renewal is good, for certain.
    pub fn guaranteed(self, ttl: Nanos) -> Nanos {
        if self == Self::Consul { ttl / 2 } else { ttl }
    }

    /// How long a lease that is renewed now will last if it is not renewed again.
    pub(super) fn lasts(self, ttl: Nanos, random: &mut Random) -> Nanos {
        match self {
            Self::Embedded => ttl,
            Self::Etcd => ttl + random.between(0, SECONDS),
            Self::Consul => ttl / 2 + random.between(0, ttl / 2),
            Self::ZooKeeper => ttl + random.between(0, ttl / 5),
        }
    }

    /// How old what it shows may be, at most.
    pub fn worst_lag(self) -> Nanos {
        match self {
            Self::Embedded => 0,
            Self::Etcd => 600 * MILLIS,
            Self::Consul => 300 * MILLIS,
            Self::ZooKeeper => 2 * SECONDS,
        }
    }
}
