//! Another cluster, which this one follows: of it this world sees one primary, somewhere else.
//!
//! It writes all the time, is away now and then, and fails over to a standby of its own, which may lack the last records. Whoever follows
//! it reads what it has every [`PERIOD`]; connections are not modelled.

use bellwether_ha::view::{ControlState, Divergence, Upstream};
use bellwether_types::{SystemId, settings::StandbyCluster};

use crate::{
    bug::Bug,
    event::{HostId, PostgresEvent},
    faults::{Fault, Planned},
    pg::{ControlFile, Data, Files},
    random::Random,
    scenario::Scenario,
    schedule::{MILLIS, Nanos, SECONDS},
    trouble::Trouble,
    wal::{Pos, RecordKind},
    world::World,
};

/// How often a standby gets what is new.
const PERIOD: Nanos = 200 * MILLIS;
/// Who writes its WAL.
const WRITER: usize = 1_000;
/// A standby leader may be so many records behind while all is well.
const BEHIND: u32 = 8;

#[derive(Debug)]
pub struct Remote {
    system_id: SystemId,
    flushed: Pos,
    /// How many faults keep everybody from reaching it.
    away: u32,
    promotions: usize,
}

/// What happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elsewhere {
    Away,
    /// Its new primary lacks so many records.
    FailsOver {
        lost: u32,
    },
}

impl Scenario {
    /// A few clusters are founded as followers of another one; most of them become clusters of their own.
    pub(crate) fn draw_remote(&mut self, bug: Bug, random: &mut Random) {
        if bug != Bug::None || self.patroni.is_some() || !random.percent(8) {
            return;
        }
        self.settings.standby_cluster =
            Some(StandbyCluster { host: Some("elsewhere".to_owned()), ..StandbyCluster::default() });
        (self.restores, self.same_backup) = (false, false);
        // A standby leader that cannot be rewound needs people: see the open findings.
        let is_of_others = |fault: &Fault| {
            let is_rewind = matches!(fault, Fault::Trouble { what: Trouble::RewindFails, .. });
            is_rewind
                || matches!(fault, Fault::FollowAnother | Fault::KeyGone { .. } | Fault::Failover { .. })
        };
        self.faults.retain(|planned| !is_of_others(&planned.fault));
        for _ in 0..random.between(1, 5) {
            let at = random.between(0, self.fault_phase);
            let lasts = (random.between(1, 40) * SECONDS).min(self.fault_phase - at);
            let what = match random.between(0, 2) {
                0 => Elsewhere::Away,
                _ => Elsewhere::FailsOver { lost: u32::try_from(random.between(0, 4)).expect("few") },
            };
            self.faults.push(Planned { at, lasts, fault: Fault::Elsewhere { what } });
        }
        if random.percent(70) {
            let at = random.between(self.fault_phase / 4, self.fault_phase);
            self.faults.push(Planned { at, lasts: 0, fault: Fault::OwnCluster });
        }
        self.faults.sort_by_key(|planned| planned.at);
    }
}

impl World {
    pub(crate) fn begin_remote(&mut self) {
        if self.scenario.settings.standby_cluster.is_some() {
            let flushed = self.wal.plant(WRITER);
            let system_id = "7100000000000000002".parse().expect("nineteen digits");
            self.remote = Some(Remote { system_id, flushed, away: 0, promotions: 0 });
        }
    }

    /// Its clients write.
    pub(crate) fn remote_writes(&mut self) {
        if let Some(remote) = &mut self.remote {
            let writer = WRITER + remote.promotions;
            remote.flushed = self.wal.append(remote.flushed, 3_000, RecordKind::Commit, writer);
        }
    }

    pub(crate) fn elsewhere_begins(&mut self, what: Elsewhere) {
        let Some(remote) = &mut self.remote else { return };
        match what {
            Elsewhere::Away => remote.away += 1,
            Elsewhere::FailsOver { lost } => {
                remote.promotions += 1;
                let count = remote.flushed.count.saturating_sub(lost).max(1);
                let end = Pos { count, ..remote.flushed };
                remote.flushed = self.wal.fork(end, WRITER + remote.promotions, None);
            }
        }
    }

    pub(crate) fn elsewhere_ends(&mut self, what: Elsewhere) {
        if let (Elsewhere::Away, Some(remote)) = (what, &mut self.remote) {
            remote.away -= 1;
        }
    }

    pub(crate) fn is_remote_there(&self) -> bool {
        self.remote.as_ref().is_some_and(|remote| remote.away == 0)
    }

    /// A standby of it reads on, if its own WAL is a part of that.
    pub(crate) fn follow_remote(&mut self, host: HostId) {
        self.try_remote_again(host);
        let Some(remote) = self.remote.as_ref().filter(|remote| remote.away == 0) else { return };
        let upto = remote.flushed;
        let fits = self.hosts[host].pg.data.system_id == Some(remote.system_id);
        let Some(server) = self.hosts[host].pg.server_mut() else { return };
        if fits && server.inserted != upto && self.wal.contains(upto, server.inserted) {
            server.inserted = upto;
            self.flush_soon(host);
        }
    }

    fn try_remote_again(&mut self, host: HostId) {
        if let Some(server) = self.hosts[host].pg.server_mut()
            && !server.receiver_retry
        {
            server.receiver_retry = true;
            self.pg_later(host, PERIOD, PostgresEvent::ReceiverTries);
        }
    }

    pub(crate) fn streams_from_remote(&self, host: HostId) -> bool {
        let server = self.hosts[host].pg.server().filter(|server| server.in_recovery);
        let Some(server) = server.filter(|server| server.upstream.as_ref().is_some_and(|up| up.is_remote))
        else {
            return false;
        };
        // Who has parted from it gets an error instead.
        let remote = self.remote.as_ref().filter(|remote| remote.away == 0);
        remote.is_some_and(|remote| self.wal.contains(remote.flushed, server.inserted))
    }

    /// A base backup of it. `founding`: of a cluster that is in the making.
    pub(crate) fn pg_copied_from_remote(&mut self, host: HostId, founding: bool) -> bool {
        let Some(remote) = self.remote.as_ref().filter(|remote| remote.away == 0) else { return false };
        let (system_id, flushed) = (Some(remote.system_id), remote.flushed);
        let control = ControlFile {
            state: ControlState::InProduction,
            timeline: self.wal.timeline(flushed),
            checkpoint: self.wal.lsn(flushed),
            shutdown_end: None,
            minimum_recovery: Some(flushed),
        };
        let founding_id = founding.then(|| format!("{}-{}", self.names.of(host), self.now));
        self.hosts[host].pg.data = Data {
            files: Files::Present,
            system_id,
            flushed,
            control,
            backup_label: true,
            has_roles: true,
            in_the_making: founding,
            founding: founding_id,
            ..Data::default()
        };
        true
    }

    /// pg_rewind with it as the source.
    pub(crate) fn pg_rewound_to_remote(&mut self, host: HostId) -> bool {
        let Some(remote) = self.remote.as_ref().filter(|remote| remote.away == 0) else { return false };
        let upto = remote.flushed;
        if self.wal.common(self.hosts[host].pg.data.flushed, upto).is_none() {
            return false;
        }
        let (timeline, checkpoint) = (self.wal.timeline(upto), self.wal.lsn(upto));
        let data = &mut self.hosts[host].pg.data;
        (data.flushed, data.backup_label, data.torn) = (upto, true, false);
        data.control = ControlFile {
            state: ControlState::InArchiveRecovery,
            timeline,
            checkpoint,
            shutdown_end: None,
            minimum_recovery: Some(upto),
        };
        self.stats.rewinds += 1;
        true
    }

    pub(crate) fn compare_with_remote(&mut self, host: HostId, upstream: &Upstream) -> bool {
        let Some(remote) = self.remote.as_ref().filter(|remote| remote.away == 0) else { return false };
        let Some((local_timeline, local_lsn)) = self.local_end(host) else { return false };
        let mine = &self.hosts[host].pg;
        let found = Divergence {
            checked_at: self.hosts[host].clock(self.now),
            leader: upstream.member.clone(),
            leader_is_primary: true,
            leader_timeline: self.wal.timeline(remote.flushed),
            leader_history: self.wal.history(remote.flushed).to_vec(),
            local_timeline,
            local_history: self.wal.history(mine.data.flushed).to_vec(),
            local_lsn,
            local_was_primary: mine.server().is_none() && mine.data.control.state == ControlState::ShutDown,
            shutdown_checkpoint_end: mine.data.control.shutdown_end,
        };
        self.hosts[host].agent.mind.divergence = Some(found);
        true
    }

    /// What is wrong with a cluster that follows another one.
    pub(crate) fn illness_of_follower(&self, leader: HostId) -> Option<String> {
        let Some(remote) = &self.remote else { return Some("it follows nobody".to_owned()) };
        let pg = &self.hosts[leader].pg;
        if !pg.server().is_some_and(|server| server.in_recovery) || !self.streams_from_remote(leader) {
            return Some("its leader follows nobody".to_owned());
        }
        let owed = Pos { count: remote.flushed.count.saturating_sub(BEHIND), ..remote.flushed };
        let is_behind = !self.wal.contains(pg.data.flushed, owed);
        is_behind.then(|| "its leader does not get what is new".to_owned())
    }
}
