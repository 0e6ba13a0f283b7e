//! Worlds in which nothing is broken, and nothing is quick at all times either: messages, disks, the store and the loops themselves are
//! late now and then, within an envelope. Whoever is replaced there, or steps down, does so for nothing ([`crate::invariant::calm`]).
//!
//! The envelope ([`Jitter::WORST`]) is what a lease of five seconds survives by `bellwether_ha::timing`, and what `make soak` does to a real
//! cluster: latency spikes of 200 ms and processes that wait for a core.

use std::time::Duration;

use bellwether_types::settings::SyncMode;

use crate::{
    bug::Bug,
    event::HostId,
    random::Random,
    scenario::Scenario,
    schedule::{MILLIS, Nanos, SECONDS},
    store::StoreKind,
    world::World,
};

/// How late things are, at most, and how often at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jitter {
    /// In so many of a thousand cases something is late.
    pub per_mille: u64,
    /// One message, besides the usual latency.
    pub message: Nanos,
    /// One write of the store.
    pub store_write: Nanos,
    /// The loop of an agent, or the task that renews its lease.
    pub wake_up: Nanos,
    /// One flush of WAL.
    pub flush: Nanos,
    /// PostgreSQL answers its agent.
    pub answer: Nanos,
    /// A renewal is lost with its whole timeout; never two in a row.
    pub loses_renewals: bool,
}

impl Jitter {
    /// The worst that is promised to be survived with every `ttl`.
    pub const WORST: Self = Self {
        per_mille: 40,
        message: 200 * MILLIS,
        store_write: 300 * MILLIS,
        wake_up: 200 * MILLIS,
        flush: 2_500 * MILLIS,
        answer: 1_500 * MILLIS,
        loses_renewals: true,
    };

    fn draw(random: &mut Random) -> Self {
        Self { per_mille: random.between(1, Self::WORST.per_mille + 1), ..Self::WORST }
    }
}

impl Scenario {
    /// A world without faults, for a few hours.
    pub fn draw_calm(seed: u64, bug: Bug) -> Self {
        let mut scenario = Self::draw(seed, Bug::None);
        let mut random = Random::new(seed ^ 0xCA13_0000_0000_0001);
        (scenario.faults, scenario.founding, scenario.late) = (Vec::new(), None, None);
        (scenario.sites, scenario.same_backup, scenario.patroni) = (false, false, None);
        (scenario.gray, scenario.restores, scenario.has_backup) = (false, false, false);
        scenario.settings.wal_disk_guard = Default::default();
        scenario.guardian = true;
        scenario.jitter = Some(Jitter::draw(&mut random));
        scenario.latency = random.between(100, 2_000) * MILLIS / 1_000;
        scenario.write_interval = random.between(500, 5_000) * MILLIS;
        scenario.wal_timeout = 5 * SECONDS;
        scenario.fault_phase = random.between(60, 180) * 60 * SECONDS;
        if scenario.store == StoreKind::Consul && bug != Bug::None {
            scenario.store = StoreKind::Embedded;
        }
        let settings = &mut scenario.settings;
        settings.commit_probe = true;
        settings.gray_failure_timeout = None;
        settings.quorum_takeover = settings.synchronous_mode == SyncMode::Quorum;
        if bug == Bug::HastyTrouble {
            settings.gray_failure_timeout = Some(Duration::from_millis(100));
        }
        scenario
    }
}

impl World {
    /// How late this is: nothing at all where nothing is said of it.
    pub(crate) fn lateness(&mut self, most: fn(&Jitter) -> Nanos) -> Nanos {
        let Some(jitter) = &self.scenario.jitter else { return 0 };
        let (per_mille, most) = (jitter.per_mille, most(jitter));
        if self.random.between(0, 1_000) < per_mille { self.random.between(0, most) } else { 0 }
    }

    /// The answer of PostgreSQL to its agent is not there yet.
    pub(crate) fn is_answer_late(&mut self, host: HostId) -> bool {
        let late = self.lateness(|jitter| jitter.answer);
        let h = &mut self.hosts[host];
        if h.busy_until <= self.now && late > 0 {
            h.busy_until = self.now + late;
        }
        self.now < h.busy_until
    }

    /// This renewal gets lost, and none of the last two did.
    pub(crate) fn loses_renewal(&mut self, host: HostId) -> bool {
        let Some(jitter) = self.scenario.jitter.filter(|jitter| jitter.loses_renewals) else { return false };
        let lost = self.random.between(0, 1_000) < jitter.per_mille / 4;
        let spacing = 3 * self.renewal_period();
        let h = &mut self.hosts[host];
        if !lost || h.renewal_lost_at.is_some_and(|at| self.now < at + spacing) {
            return false;
        }
        h.renewal_lost_at = Some(self.now);
        true
    }

    /// How long ago a WAL receiver heard something: keepalives come several times a second, and some are late.
    pub(crate) fn hearing_age(&mut self) -> Nanos {
        if self.scenario.jitter.is_none() {
            return 0;
        }
        let usual = self.random.between(0, 250) * MILLIS;
        usual + self.lateness(|jitter| jitter.message) + self.lateness(|jitter| jitter.wake_up)
    }
}
