//! What operators do beside their emergencies: restarts and switchovers at a given time, rolling restarts of agents, reloads; and the
//! equipment that not every cluster has: watchdogs, permanent slots, hooks.

use std::{collections::BTreeMap, time::Duration};

use bellwether_ha::view::{RequestKind, RestartConditions, Watchdog};
use bellwether_types::{
    cluster::{FailoverRequest, Schedule},
    settings::SyncMode,
    slots::{LogicalSlot, PermanentSlot, SlotKind},
};

use crate::{
    event::{Event, HostId},
    faults::{Fault, Planned},
    random::Random,
    scenario::Scenario,
    schedule::{Nanos, SECONDS},
    store::Write,
    world::World,
};

/// `watchdog.mode`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WatchdogMode {
    #[default]
    Off,
    Automatic,
    Required,
}

impl Scenario {
    pub(crate) fn draw_equipment(&mut self, random: &mut Random) {
        self.watchdog = match random.between(0, 10) {
            0 | 1 => WatchdogMode::Automatic,
            2 | 3 => WatchdogMode::Required,
            _ => WatchdogMode::Off,
        };
        if random.percent(20) {
            let logical = LogicalSlot {
                database: "postgres".to_owned(),
                plugin: "test_decoding".to_owned(),
                failover: false,
            };
            let slot = |kind| PermanentSlot { kind, cluster_type: None };
            self.settings.slots = BTreeMap::from([
                ("archive".to_owned(), slot(SlotKind::Physical)),
                // Somebody may give it the name of a member, by mistake.
                (
                    if random.percent(15) { "b" } else { "changes" }.to_owned(),
                    slot(SlotKind::Logical(logical)),
                ),
            ]);
        }
        if random.percent(30) {
            self.settings.member_slots_ttl = Duration::from_secs(random.between(0, 30));
        }
        self.pre_promote = random.percent(20);
        self.rewindable = random.percent(85);
        if !self.rewindable {
            // Without it somebody would have to copy a member by hand.
            self.settings.remove_data_directory_on_diverged_timelines = true;
        }
        self.settings.primary_race_backoff =
            Duration::from_secs(if random.percent(10) { random.between(1, 10) } else { 0 });
    }

    /// A third of the worlds sees some of it.
    pub(crate) fn draw_operations(&mut self, random: &mut Random) {
        if !random.percent(33) {
            return;
        }
        for _ in 0..random.between(1, 6) {
            let at = random.between(0, self.fault_phase);
            let lasts = (random.between(1, 40) * SECONDS).min(self.fault_phase - at);
            let host = random.index(self.members);
            let after = random.between(0, 20) * SECONDS;
            let fault = match random.between(0, 11) {
                0 | 1 => Fault::StopAgent { host },
                2 => Fault::ScheduleRestart { host, after, conditional: random.percent(30) },
                3 | 4 => Fault::ScheduleSwitchover { candidate: random.percent(50).then_some(host), after },
                5 => Fault::Reload { host },
                6 => Fault::ReplayPaused { host },
                7 | 8 if self.pre_promote => Fault::PrePromoteFails { host },
                9 | 10 if self.watchdog != WatchdogMode::Off => Fault::WatchdogFails { host },
                _ => continue,
            };
            self.faults.push(Planned { at, lasts, fault });
        }
        self.faults.sort_by_key(|planned| planned.at);
    }
}

impl World {
    pub(crate) fn request_switchover(&mut self, candidate: Option<HostId>) {
        let cluster = self.store.cluster().clone();
        let Some(leader) = cluster.leader_name().cloned() else { return };
        let candidate = candidate.map(|host| self.names.of(host).clone()).filter(|name| *name != leader);
        let is_stranger = candidate.as_ref().is_some_and(|name| cluster.member(name).is_none());
        if is_stranger || self.hosts.iter().any(|host| host.agent.mind.settings.pause) {
            return;
        }
        // What the command line refuses is not asked for.
        let mode = self.in_force.sync_mode();
        let sync = cluster.active_sync();
        if mode == SyncMode::On
            && !candidate.as_ref().is_none_or(|name| sync.is_some_and(|sync| sync.has_voter(name)))
        {
            return;
        }
        let request = FailoverRequest { leader: Some(leader), candidate, scheduled_at: None };
        self.operate(vec![Write::Failover(Some(request))]);
    }

    /// A failover to a named member: whatever it lacks may be lost.
    pub(crate) fn request_failover(&mut self, candidate: HostId) {
        let candidate = Some(self.names.of(candidate).clone());
        let request = FailoverRequest { leader: None, candidate, scheduled_at: None };
        self.operate(vec![Write::Failover(Some(request))]);
    }

    /// `bellwether resume` refuses while a running primary has no agent that has seen the pause; the operator tries again.
    pub(crate) fn resume_cluster(&mut self) {
        let place = self.store_place();
        let unseen = (0..self.hosts.len()).any(|index| {
            // It asks the agent itself: the member key of a frozen or isolated one says "paused" for a whole ttl.
            let host = &self.hosts[index];
            let reachable = self.network.is_open(place, index) && self.network.is_open(index, place);
            let answers = reachable && host.is_alive() && host.agent.alive && !host.agent.frozen;
            host.pg.is_primary() && !(answers && host.agent.mind.settings.pause)
        });
        if unseen && self.now < self.heal_from {
            self.schedule.push(self.now + SECONDS, Event::Operator);
        } else {
            self.checks.resumed_at = self.now;
            self.set_pause(false);
        }
    }

    pub(crate) fn operator_tries_again(&mut self) {
        self.resume_cluster();
    }

    /// The service manager stops the agent, and starts it again.
    pub(crate) fn stop_agent(&mut self, host: HostId) {
        let agent = &mut self.hosts[host].agent;
        if agent.alive && !agent.frozen {
            agent.mind.stopping = true;
            self.wake(host);
        }
    }

    pub(crate) fn schedule_restart(&mut self, host: HostId, after: Nanos, conditional: bool) {
        let wall = self.hosts[host].wall(self.now);
        let at = bellwether_types::WallTime::from_unix_millis(wall.unix_millis + millis(after));
        let conditions = RestartConditions { pending: conditional, ..RestartConditions::default() };
        let text = at.unix_millis.to_string();
        self.request(host, RequestKind::ScheduleRestart { at, text, conditions, timeout: None });
    }

    pub(crate) fn schedule_switchover(&mut self, candidate: Option<HostId>, after: Nanos) {
        let cluster = self.store.cluster().clone();
        let Some(leader) = cluster.leader_name().cloned() else { return };
        let wall = self.hosts[0].wall(self.now);
        let time = bellwether_types::WallTime::from_unix_millis(wall.unix_millis + millis(after));
        let candidate = candidate.map(|host| self.names.of(host).clone());
        let candidate = candidate.filter(|name| *name != leader && cluster.member(name).is_some());
        let scheduled_at = Some(Schedule::At { text: time.unix_millis.to_string(), time });
        let request = FailoverRequest { leader: Some(leader), candidate, scheduled_at };
        self.operate(vec![Write::Failover(Some(request))]);
    }

    pub(crate) fn watchdog_view(&self, host: HostId) -> Watchdog {
        let h = &self.hosts[host];
        let active = h.watchdog_active;
        match self.scenario.watchdog {
            WatchdogMode::Off => Watchdog::Off,
            WatchdogMode::Automatic => Watchdog::Optional { active },
            WatchdogMode::Required => Watchdog::Required { usable: h.watchdog_broken == 0, active },
        }
    }

    /// False: the device does not work. It never fires here: guardians do, and they are no later.
    pub(crate) fn activate_watchdog(&mut self, host: HostId) -> bool {
        let h = &mut self.hosts[host];
        h.watchdog_active = h.watchdog_broken == 0;
        h.watchdog_active
    }

    pub(crate) fn watchdog_fails(&mut self, host: HostId) {
        self.hosts[host].watchdog_broken += 1;
        self.hosts[host].watchdog_active = false;
    }
}

fn millis(time: Nanos) -> i64 {
    i64::try_from(time / 1_000_000).expect("seconds")
}
