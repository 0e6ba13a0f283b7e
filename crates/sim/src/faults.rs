//! Faults and what operators do: drawn from the seed, each with a beginning and an end.

use bellwether_ha::view::RequestKind;

use crate::{
    bug::Bug,
    configuration::Change,
    event::{AgentEvent, Event, HostId},
    membership::Tag,
    random::Random,
    scenario::Scenario,
    schedule::{MILLIS, Nanos, SECONDS},
    world::World,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    // --- PostgreSQL ---
    KillPostgres {
        host: HostId,
    },
    KillPostmaster {
        host: HostId,
        orphans_for: Nanos,
    },
    FreezePostgres {
        host: HostId,
    },
    BusyCheckpointer {
        host: HostId,
    },
    SlowStart {
        host: HostId,
    },
    SlowStop {
        host: HostId,
    },
    // --- the agent and its guardian ---
    KillAgent {
        host: HostId,
        respawn_after: Nanos,
    },
    FreezeAgent {
        host: HostId,
    },
    KillGuardian {
        host: HostId,
    },
    // --- the host ---
    PowerLoss {
        host: HostId,
    },
    Suspend {
        host: HostId,
    },
    DiskStall {
        host: HostId,
    },
    // --- the network; place `members` is the store ---
    Isolate {
        host: HostId,
    },
    Cut {
        from: usize,
        to: usize,
    },
    CutBoth {
        a: usize,
        b: usize,
    },
    Slow {
        from: usize,
        to: usize,
        by: Nanos,
    },
    // --- the store ---
    StoreSilent,
    StoreElection,
    // --- operators ---
    Switchover {
        candidate: Option<HostId>,
    },
    Restart {
        host: HostId,
    },
    Pause,
    /// The operator lowers `ttl`, and sets it back.
    ShorterTtl {
        seconds: u64,
    },
    /// The operator makes this a standby cluster, of one that nobody reaches, and a cluster of its own again. As nothing comes from the
    /// other one, all that was acknowledged before is still owed afterwards.
    FollowAnother,
    /// The operator changes a setting, and sets it back.
    Configure {
        change: Change,
    },
    // --- members ---
    Retag {
        host: HostId,
        tag: Tag,
    },
    /// `bellwether reinit`
    Reinitialize {
        host: HostId,
        force: bool,
        from_leader: bool,
    },
    LosesDisk {
        host: HostId,
    },
    Leaves {
        host: HostId,
    },
    Joins {
        host: HostId,
    },
    // --- operations and equipment ---
    StopAgent {
        host: HostId,
    },
    ScheduleRestart {
        host: HostId,
        after: Nanos,
        conditional: bool,
    },
    ScheduleSwitchover {
        candidate: Option<HostId>,
        after: Nanos,
    },
    Reload {
        host: HostId,
    },
    ReplayPaused {
        host: HostId,
    },
    PrePromoteFails {
        host: HostId,
    },
    WatchdogFails {
        host: HostId,
    },
}

/// A fault with its time, counted from when the cluster was founded.
#[derive(Clone, Debug)]
pub struct Planned {
    pub at: Nanos,
    pub lasts: Nanos,
    pub fault: Fault,
}

/// Draws the faults of a scenario.
pub fn plan(scenario: &Scenario, bug: Bug, random: &mut Random) -> Vec<Planned> {
    let count = random.between(3, 14);
    // A guardian that dies while its agent is frozen leaves nobody to fence: two faults too many, so a scenario has one kind.
    let agents_suffer = random.percent(70);
    let mut planned = Vec::new();
    for _ in 0..count {
        let at = random.between(0, scenario.fault_phase);
        let mut lasts = match random.between(0, 4) {
            0 => random.between(100, 1_500) * MILLIS,
            1 => random.between(1, scenario.ttl / SECONDS + 1) * SECONDS,
            2 => scenario.ttl + random.between(0, 10_000) * MILLIS,
            _ => random.between(1, 40) * SECONDS,
        };
        let fault = match bug.favourite(scenario, random) {
            Some(fault) => fault,
            None => draw(scenario, agents_suffer, random),
        };
        if fault == Fault::Pause {
            lasts = random.between(5, 60) * SECONDS;
        }
        let lasts = lasts.min(scenario.fault_phase - at);
        planned.push(Planned { at, lasts, fault });
    }
    planned.extend(rare(scenario, &mut random.fork(2)));
    if bug == Bug::None {
        // A bug is looked for where losses count.
        planned.extend(rarer(scenario, &mut random.fork(3)));
    }
    planned.sort_by_key(|planned| planned.at);
    planned
}

/// What operators do now and then. From a source of its own, and not in most worlds: those stay as they were before it was added.
fn rare(scenario: &Scenario, random: &mut Random) -> Option<Planned> {
    if !random.percent(10) || scenario.ttl < 10 * SECONDS {
        return None;
    }
    let at = random.between(0, scenario.fault_phase);
    let lasts = (random.between(5, 60) * SECONDS).min(scenario.fault_phase - at);
    let seconds = scenario.ttl / SECONDS / random.between(2, 5);
    Some(Planned { at, lasts, fault: Fault::ShorterTtl { seconds } })
}

/// The same for what came later still.
fn rarer(scenario: &Scenario, random: &mut Random) -> Option<Planned> {
    if !random.percent(12) {
        return None;
    }
    let at = random.between(0, scenario.fault_phase);
    let lasts = (random.between(1, 90) * SECONDS).min(scenario.fault_phase - at);
    Some(Planned { at, lasts, fault: Fault::FollowAnother })
}

fn draw(scenario: &Scenario, agents_suffer: bool, random: &mut Random) -> Fault {
    let members = scenario.members;
    let host = random.index(members);
    let other = (host + 1 + random.index(members.max(2) - 1)) % members;
    let store = members;
    let fenced = scenario.guardian;
    loop {
        return match random.between(0, 25) {
            0 => Fault::KillPostgres { host },
            1 => Fault::KillPostmaster { host, orphans_for: random.between(10, 3_000) * MILLIS },
            2 => Fault::FreezePostgres { host },
            3 => Fault::SlowStart { host },
            4 => Fault::SlowStop { host },
            5 | 6 if fenced && agents_suffer => {
                Fault::KillAgent { host, respawn_after: random.between(100, 3_000) * MILLIS }
            }
            7 | 8 if fenced && agents_suffer => Fault::FreezeAgent { host },
            9 if fenced && !agents_suffer => Fault::KillGuardian { host },
            10 | 11 => Fault::PowerLoss { host },
            12 if fenced && agents_suffer => Fault::Suspend { host },
            13 => Fault::DiskStall { host },
            14 | 15 => Fault::Isolate { host },
            16 => Fault::CutBoth { a: host, b: store },
            17 => Fault::CutBoth { a: host, b: other },
            18 => match random.between(0, 3) {
                0 => Fault::Cut { from: host, to: store },
                1 => Fault::Cut { from: store, to: host },
                _ => Fault::Cut { from: host, to: other },
            },
            19 => {
                let by = random.between(20, 400) * MILLIS;
                match random.between(0, 3) {
                    0 => Fault::Slow { from: host, to: store, by },
                    1 => Fault::Slow { from: store, to: host, by: random.between(0, scenario.ttl / 5) },
                    _ => Fault::Slow { from: host, to: other, by },
                }
            }
            20 => Fault::StoreSilent,
            21 => Fault::StoreElection,
            22 => Fault::Switchover { candidate: random.percent(50).then_some(other) },
            23 => match random.between(0, 3) {
                0 => Fault::Pause,
                1 => Fault::Restart { host },
                _ => Fault::Switchover { candidate: None },
            },
            24 => Fault::BusyCheckpointer { host },
            _ => continue,
        };
    }
}

impl World {
    /// The cluster is founded: from now on things go wrong.
    pub(crate) fn schedule_faults(&mut self) {
        for Planned { at, lasts, fault } in self.scenario.faults.clone() {
            let at = self.now + at;
            self.schedule.push(at, Event::FaultBegins(Box::new(fault.clone())));
            self.schedule.push(at + lasts, Event::FaultEnds(Box::new(fault)));
        }
    }

    pub(crate) fn fault_begins(&mut self, fault: &Fault) {
        let line = format!("{fault:?} begins");
        self.note_world(&[1], || line);
        if let Fault::PowerLoss { host } = *fault {
            self.expect_take_over(host);
        }
        self.active_faults += 1;
        self.checks.disturbed_at = self.now;
        self.checks.disturbances += 1;
        match *fault {
            Fault::KillPostgres { host } => self.pg_kill(host),
            Fault::KillPostmaster { host, orphans_for } => self.pg_lose_postmaster(host, orphans_for),
            Fault::FreezePostgres { host } => self.hosts[host].pg.frozen = !self.hosts[host].pg.is_down(),
            Fault::BusyCheckpointer { host } => self.hosts[host].checkpointer_busy += 1,
            Fault::SlowStart { host } => self.hosts[host].slow_start = true,
            Fault::SlowStop { host } => self.hosts[host].slow_stop = true,
            Fault::KillAgent { host, respawn_after } => {
                if self.hosts[host].agent.alive {
                    self.agent_dies(host);
                    self.respawn_agent(host, respawn_after);
                }
            }
            Fault::FreezeAgent { host } => self.hosts[host].agent.frozen = self.hosts[host].agent.alive,
            Fault::KillGuardian { host } => {
                let guardian = &mut self.hosts[host].guardian;
                guardian.alive = false;
                guardian.deadline = None;
                self.tell_agent(host, MILLIS, AgentEvent::GuardianDied);
            }
            Fault::PowerLoss { host } => self.power_off(host),
            Fault::Suspend { host } => self.suspend(host),
            Fault::DiskStall { host } => self.hosts[host].disk_stalls += 1,
            Fault::Isolate { host } => self.each_way(host, |network, from, to| network.cut(from, to)),
            Fault::Cut { from, to } => self.network.cut(from, to),
            Fault::CutBoth { a, b } => {
                self.network.cut(a, b);
                self.network.cut(b, a);
            }
            Fault::Slow { from, to, by } => self.network.set_slow(from, to, by),
            Fault::StoreSilent | Fault::StoreElection => self.store.silenced += 1,
            Fault::Switchover { candidate } => self.request_switchover(candidate),
            Fault::Restart { host } => {
                self.request(host, RequestKind::Restart { conditions: Default::default(), timeout: None });
            }
            Fault::Pause => self.set_pause(true),
            Fault::ShorterTtl { seconds } => self.set_config("ttl", seconds.into()),
            Fault::FollowAnother => self.follow_another(),
            Fault::Configure { ref change } => self.change_configuration(change),
            Fault::Retag { host, tag } => self.retag(host, Some(tag)),
            Fault::Reinitialize { host, force, from_leader } => self.request_copy(host, force, from_leader),
            Fault::LosesDisk { host } => self.disk_lost(host),
            Fault::Leaves { host } => self.member_leaves(host),
            Fault::Joins { host } => self.member_joins(host),
            Fault::StopAgent { host } => self.stop_agent(host),
            Fault::ScheduleRestart { host, after, conditional } => {
                self.schedule_restart(host, after, conditional);
            }
            Fault::ScheduleSwitchover { candidate, after } => self.schedule_switchover(candidate, after),
            Fault::Reload { host } => self.request(host, RequestKind::Reload),
            Fault::ReplayPaused { host } => {
                let server = self.hosts[host].pg.server_mut().filter(|server| server.in_recovery);
                server.into_iter().for_each(|server| server.replay_paused = true);
            }
            Fault::PrePromoteFails { host } => self.hosts[host].hook_fails = true,
            Fault::WatchdogFails { host } => self.watchdog_fails(host),
        }
        self.ways_changed();
        self.voters_changed();
    }

    pub(crate) fn fault_ends(&mut self, fault: &Fault) {
        let line = format!("{fault:?} ends");
        self.note_world(&[2], || line);
        self.active_faults -= 1;
        self.checks.disturbed_at = self.now;
        self.checks.disturbances += 1;
        match *fault {
            Fault::FreezePostgres { host } if self.hosts[host].pg.frozen => {
                self.hosts[host].pg.frozen = false;
                self.release_deferred(host);
            }
            Fault::BusyCheckpointer { host } => self.hosts[host].checkpointer_busy -= 1,
            Fault::SlowStart { host } => self.hosts[host].slow_start = false,
            Fault::SlowStop { host } => self.hosts[host].slow_stop = false,
            Fault::FreezeAgent { host } if self.hosts[host].agent.frozen => {
                self.hosts[host].agent.frozen = false;
                self.release_deferred(host);
            }
            Fault::PowerLoss { host } | Fault::LosesDisk { host } => self.power_on(host),
            Fault::Suspend { host } => self.resume(host),
            Fault::DiskStall { host } => {
                self.hosts[host].disk_stalls -= 1;
                let server = self.hosts[host].pg.server_mut();
                server.into_iter().for_each(|server| server.flush_pending = false);
                self.flush_soon(host);
            }
            Fault::Isolate { host } => self.each_way(host, |network, from, to| network.mend(from, to)),
            Fault::Cut { from, to } => self.network.mend(from, to),
            Fault::CutBoth { a, b } => {
                self.network.mend(a, b);
                self.network.mend(b, a);
            }
            Fault::Slow { from, to, .. } => self.network.set_slow(from, to, 0),
            Fault::StoreSilent => self.store.silenced -= 1,
            Fault::StoreElection => {
                self.store.silenced -= 1;
                self.store.elected(self.now);
            }
            Fault::Pause => self.resume_cluster(),
            Fault::ShorterTtl { .. } => self.set_ttl_back(),
            Fault::Configure { ref change } => self.undo_configuration(change),
            Fault::Retag { host, .. } => self.retag(host, None),
            Fault::ScheduleRestart { host, .. } => self.request(host, RequestKind::CancelScheduledRestart),
            Fault::PrePromoteFails { host } => self.hosts[host].hook_fails = false,
            Fault::WatchdogFails { host } => self.hosts[host].watchdog_broken -= 1,
            Fault::FollowAnother => self.set_config("standby_cluster", serde_json::Value::Null),
            _ => {}
        }
        self.ways_changed();
        self.voters_changed();
    }

    fn each_way(&mut self, host: HostId, change: impl Fn(&mut crate::network::Network, usize, usize)) {
        for place in (0..=self.scenario.members).filter(|place| *place != host) {
            change(&mut self.network, host, place);
            change(&mut self.network, place, host);
        }
    }
}
