//! A host: power, clocks, disk, and the guardian, which outlives agents.

use bellwether_ha::view::{FailedBootstraps, FailsafeAcceptance, Kept};
use bellwether_types::{Tags, Timestamp, WallTime};

use crate::{
    agent::Agent,
    event::{AgentEvent, Event, HostId},
    pg::Postgres,
    schedule::{MILLIS, Nanos},
    trouble::Troubles,
    world::World,
};

#[derive(Debug)]
pub struct Host {
    pub powered: bool,
    pub suspended: bool,
    /// Grows with every boot.
    pub boot: u32,
    booted_at: Nanos,
    /// What CLOCK_BOOTTIME shows at boot; differs from host to host so that mixing them up shows.
    epoch: u64,
    pub wall_skew_millis: i64,
    /// How many faults keep the disk from finishing anything.
    pub disk_stalls: u32,
    /// How many faults keep the checkpointer from reading its signals: an immediate checkpoint, or a SIGSTOP.
    pub checkpointer_busy: u32,
    pub slow_start: bool,
    pub slow_stop: bool,
    /// See [`crate::pg::commit::THAW_GRACE`].
    pub thawed_until: Nanos,
    pub pg: Postgres,
    pub agent: Agent,
    pub guardian: GuardianModel,
    /// On disk: what this member promised to a leader without a store.
    pub acceptance: Option<FailsafeAcceptance>,
    /// On disk: what this member promised to those who may replace a leader.
    pub promise: Option<Kept>,
    /// Whom its WAL receiver listens to, and when something came last.
    pub heard: Option<(HostId, Nanos)>,
    /// What would have happened while nothing ran here.
    pub deferred: Vec<Event>,
    /// It has not joined yet, or has left for good.
    pub absent: bool,
    /// PostgreSQL is slow to answer its agent until then.
    pub busy_until: Nanos,
    pub renewal_lost_at: Option<Nanos>,
    /// How many faults keep the watchdog from working.
    pub watchdog_broken: u32,
    pub watchdog_active: bool,
    /// `pre_promote` fails.
    pub hook_fails: bool,
    pub troubles: Troubles,
    /// In a file that agents find: bootstraps that failed here.
    pub failed_bootstraps: Option<FailedBootstraps>,
    pub tags: Tags,
    /// The tags were changed then.
    pub tagged_at: Nanos,
}

/// The fencing helper. Lives apart from the agent and does one thing.
#[derive(Debug, Default)]
pub struct GuardianModel {
    pub alive: bool,
    pub deadline: Option<Timestamp>,
    sequence: u32,
}

impl Host {
    pub fn new(agent: Agent, epoch: u64, wall_skew_millis: i64) -> Self {
        Self {
            powered: true,
            suspended: false,
            boot: 1,
            booted_at: 0,
            epoch,
            wall_skew_millis,
            disk_stalls: 0,
            checkpointer_busy: 0,
            slow_start: false,
            slow_stop: false,
            thawed_until: 0,
            pg: Postgres::default(),
            agent,
            guardian: GuardianModel::default(),
            acceptance: None,
            promise: None,
            heard: None,
            deferred: Vec::new(),
            absent: false,
            busy_until: 0,
            renewal_lost_at: None,
            watchdog_broken: 0,
            watchdog_active: false,
            hook_fails: false,
            troubles: Troubles::default(),
            failed_bootstraps: None,
            tags: Tags::default(),
            tagged_at: 0,
        }
    }

    /// Something can run here.
    pub fn is_alive(&self) -> bool {
        self.powered && !self.suspended
    }

    /// CLOCK_BOOTTIME.
    pub fn clock(&self, now: Nanos) -> Timestamp {
        Timestamp::from_nanos(now - self.booted_at + self.epoch)
    }

    /// When this host's clock shows `at`.
    pub fn virtual_time(&self, at: Timestamp) -> Nanos {
        at.as_nanos().saturating_sub(self.epoch).saturating_add(self.booted_at)
    }

    pub fn wall(&self, now: Nanos) -> WallTime {
        let millis = i64::try_from(now / MILLIS).unwrap_or(i64::MAX);
        WallTime::from_unix_millis(1_700_000_000_000 + millis + self.wall_skew_millis)
    }
}

impl World {
    /// The guardian takes a deadline. It never gives up time that it was given before.
    pub(crate) fn arm_guardian(&mut self, host: HostId, until: Timestamp) -> bool {
        if !self.hosts[host].guardian.alive {
            return false;
        }
        if !self.bug.arms_guardian() {
            return true;
        }
        let h = &mut self.hosts[host];
        h.guardian.deadline = Some(h.guardian.deadline.map_or(until, |old| old.max(until)));
        h.guardian.sequence += 1;
        let sequence = h.guardian.sequence;
        let boot = h.boot;
        let at = h.virtual_time(h.guardian.deadline.expect("just set"));
        self.schedule.push(at.max(self.now), Event::GuardianDeadline { host, boot, sequence });
        true
    }

    pub(crate) fn guardian_dies(&mut self, host: HostId) {
        let guardian = &mut self.hosts[host].guardian;
        guardian.alive = false;
        guardian.deadline = None;
        self.tell_agent(host, MILLIS, AgentEvent::GuardianDied);
    }

    pub(crate) fn disarm_guardian(&mut self, host: HostId) {
        self.hosts[host].guardian.deadline = None;
    }

    /// Time is up: kill. A moment passes until the signals are delivered.
    pub(crate) fn guardian_deadline(&mut self, host: HostId, sequence: u32) {
        let h = &self.hosts[host];
        if !h.guardian.alive || h.guardian.sequence != sequence {
            return;
        }
        let Some(deadline) = h.guardian.deadline else { return };
        if h.clock(self.now) < deadline {
            return;
        }
        let boot = h.boot;
        self.hosts[host].guardian.deadline = None;
        let delay = self.random.between(MILLIS / 10, 4 * MILLIS);
        self.schedule.push(self.now + delay, Event::GuardianKills { host, boot });
    }

    pub(crate) fn guardian_kills(&mut self, host: HostId) {
        let has_prey = !self.hosts[host].pg.is_down() || self.hosts[host].pg.orphans.is_some();
        if has_prey {
            self.stats.guardian_kills += 1;
            self.note(host, "guard", &[1], || "the lease is over: killing PostgreSQL".to_owned());
            self.pg_kill(host);
        }
    }

    /// The power fails.
    pub(crate) fn power_off(&mut self, host: HostId) {
        if !self.hosts[host].powered {
            return;
        }
        self.note(host, "host", &[1], || "loses power".to_owned());
        self.pg_gone(host, false);
        let h = &mut self.hosts[host];
        h.powered = false;
        h.suspended = false;
        h.boot += 1;
        h.deferred.clear();
        h.pg.orphans = None;
        h.guardian = GuardianModel::default();
        h.heard = None;
        h.watchdog_active = false;
        self.agent_dies(host);
        self.ways_changed();
    }

    /// The power is back; the service manager starts the agent.
    pub(crate) fn power_on(&mut self, host: HostId) {
        let epoch = self.random.between(1_000_000_000, 60_000_000_000);
        let h = &mut self.hosts[host];
        if h.powered || h.absent {
            return;
        }
        h.powered = true;
        h.booted_at = self.now;
        h.epoch = epoch;
        // How much of the promise is left cannot be told after a reboot: all of it.
        let ttl = self.scenario.ttl;
        let until = h.clock(self.now) + std::time::Duration::from_nanos(ttl);
        if let Some(acceptance) = &mut h.acceptance {
            acceptance.until = until;
        }
        if let Some(kept) = &mut h.promise {
            kept.made_at = Timestamp::ZERO;
        }
        self.note(host, "host", &[2], || "has power again".to_owned());
        let delay = self.random.between(500, 5_000) * MILLIS;
        self.respawn_agent(host, delay);
        self.ways_changed();
    }

    pub(crate) fn suspend(&mut self, host: HostId) {
        if self.hosts[host].is_alive() {
            self.note(host, "host", &[3], || "is suspended".to_owned());
            self.hosts[host].suspended = true;
            self.ways_changed();
        }
    }

    pub(crate) fn resume(&mut self, host: HostId) {
        let h = &mut self.hosts[host];
        if !std::mem::take(&mut h.suspended) {
            return;
        }
        h.thawed_until = self.now + crate::pg::commit::THAW_GRACE;
        self.note(host, "host", &[4], || "runs again".to_owned());
        let deferred = std::mem::take(&mut self.hosts[host].deferred);
        // Timers that ran out fire first, the guardian's before all: it has a real-time class.
        let (guardian, others): (Vec<_>, Vec<_>) = deferred
            .into_iter()
            .partition(|event| matches!(event, Event::GuardianDeadline { .. } | Event::GuardianKills { .. }));
        for event in guardian {
            self.schedule.push(self.now, event);
        }
        for event in others {
            self.schedule.push(self.now + crate::pg::commit::THAW_GRACE, event);
        }
        self.ways_changed();
    }
}
