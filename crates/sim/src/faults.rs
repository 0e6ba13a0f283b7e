//! Faults and what operators do: drawn from the seed, each with a beginning and an end.

mod draw;

use bellwether_ha::view::RequestKind;

pub use self::draw::plan;
use crate::{
    configuration::Change,
    event::{Event, HostId},
    membership::Tag,
    remote::Elsewhere,
    schedule::Nanos,
    trouble::{Trouble, keys::LostKey},
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
    // --- troubles, and what people do by mistake ---
    Trouble {
        host: HostId,
        what: Trouble,
    },
    KeyGone {
        key: LostKey,
    },
    Failover {
        candidate: HostId,
    },
    /// To the cluster that this one follows.
    Elsewhere {
        what: Elsewhere,
    },
    /// The operator makes it a cluster of its own.
    OwnCluster,
}

/// A fault with its time, counted from when the cluster was founded.
#[derive(Clone, Debug)]
pub struct Planned {
    pub at: Nanos,
    pub lasts: Nanos,
    pub fault: Fault,
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
            Fault::KillGuardian { host } => self.guardian_dies(host),
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
            Fault::Trouble { host, what } => self.trouble_begins(host, what),
            Fault::KeyGone { key } => self.key_removed(key),
            Fault::Failover { candidate } => self.failover_asked_for(candidate),
            Fault::Elsewhere { what } => self.elsewhere_begins(what),
            Fault::OwnCluster => self.set_config("standby_cluster", serde_json::Value::Null),
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
            Fault::DiskStall { host } => self.disk_works_again(host),
            Fault::Trouble { host, what } => self.trouble_ends(host, what),
            Fault::KeyGone { key } => self.key_put_back(key),
            Fault::Elsewhere { what } => self.elsewhere_ends(what),
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
