//! What befalls a server that runs, its disk and its files: troubles that no process dies of at once, and mishaps of people.
//!
//! - [`disk`]: the file system of the WAL fills up, by slots of members that are away, or turns read-only;
//! - [`files`]: the data directory is removed, damaged, or another cluster's;
//! - [`keys`]: somebody removes a key of the store by hand, or asks for a failover while all is well.
//!
//! Where agents look for gray failures ([`Scenario::gray`]), they try commits as well, and leaders in trouble hand over.

pub mod disk;
pub mod files;
pub mod keys;

use bellwether_types::{Lsn, settings::WalDiskMode};

use crate::{
    configuration::Change,
    event::HostId,
    faults::{Fault, Planned},
    random::Random,
    scenario::Scenario,
    schedule::{MILLIS, Nanos, SECONDS},
    world::World,
};
use disk::Room;
use files::Damage;
use keys::LostKey;

/// Of one host, for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// So much is left on the file system of the WAL before it counts as full.
    DiskFills {
        left: u64,
    },
    /// The kernel has seen an error.
    DiskReadOnly,
    /// Users have taken every session, walsenders included that nobody uses all the time.
    NoConnections,
    BadChecksums,
    /// `pg_promote` takes its time.
    SlowPromotion,
    /// WAL arrives and is not replayed.
    ReplayStops,
    /// pg_rewind ends with an error, whatever is tried.
    RewindFails,
    /// A transaction on the primary holds back what logical slots need.
    LongTransaction,
    /// The server runs with a `max_replication_slots` that leaves no room.
    NoRoomForSlots,
    /// The guardian dies, and no other one can be started.
    NoGuardian,
    Files(Damage),
}

/// What a host suffers now; numbers count faults that are under way.
#[derive(Debug, Default)]
pub struct Troubles {
    pub room: Option<Room>,
    pub read_only: u32,
    pub no_connections: u32,
    pub checksum_failures: u64,
    pub slow_promotion: u32,
    /// Nothing beyond this is replayed, since then.
    pub replay_stopped: Option<(Lsn, Nanos)>,
    pub rewind_fails: u32,
    pub long_transaction: u32,
    pub no_room_for_slots: u32,
    pub no_guardian: u32,
    pub damage: Option<Damage>,
}

impl Scenario {
    /// A third of the worlds sees some of it.
    pub(crate) fn draw_troubles(&mut self, random: &mut Random) {
        self.gray = random.percent(30);
        self.settings.commit_probe = self.gray;
        self.settings.wal_disk_guard.mode =
            *random.pick(&[WalDiskMode::Off, WalDiskMode::Alarm, WalDiskMode::EvictSlots]);
        self.restores = random.percent(15);
        // What it lacks would be lost where commits are owed to clients.
        let is_mode = |fault: &Fault| matches!(fault, Fault::Configure { change: Change::SyncMode { .. } });
        let is_asynchronous =
            !self.is_synchronous() && !self.faults.iter().any(|planned| is_mode(&planned.fault));
        self.has_backup = is_asynchronous && random.percent(40);
        self.hook_lasts = random.between(1, 8_000) * MILLIS;
        if !random.percent(35) {
            return;
        }
        if random.percent(40) {
            self.settings.remove_data_directory_on_rewind_failure = false;
        }
        // A member that comes back empty where nobody knows the cluster any more would found another one.
        let is_destructive = |fault: &Fault| {
            matches!(
                fault,
                Fault::LosesDisk { .. }
                    | Fault::Leaves { .. }
                    | Fault::Joins { .. }
                    | Fault::Reinitialize { .. }
            )
        };
        let loses_keys =
            !self.faults.iter().any(|planned| is_destructive(&planned.fault)) && random.percent(30);
        for _ in 0..random.between(1, 5) {
            let at = random.between(0, self.fault_phase);
            let lasts = (random.between(2, 60) * SECONDS).min(self.fault_phase - at);
            let host = random.index(self.members);
            let trouble = |what| Fault::Trouble { host, what };
            let fault = match random.between(0, 16) {
                0 | 1 => {
                    // Who is away holds back WAL by its slot.
                    let away =
                        Fault::PowerLoss { host: (host + 1 + random.index(self.members - 1)) % self.members };
                    self.faults.push(Planned { at, lasts, fault: away });
                    trouble(Trouble::DiskFills { left: random.between(0, 300_000) })
                }
                2 => trouble(Trouble::DiskReadOnly),
                3 => trouble(Trouble::NoConnections),
                4 => trouble(Trouble::BadChecksums),
                5 | 6 => trouble(Trouble::SlowPromotion),
                7 => trouble(Trouble::ReplayStops),
                8 => trouble(Trouble::RewindFails),
                9 if !self.settings.slots.is_empty() => trouble(Trouble::LongTransaction),
                10 if !self.settings.slots.is_empty() => trouble(Trouble::NoRoomForSlots),
                11 if self.can_lose_guardian(host) => trouble(Trouble::NoGuardian),
                12 | 13 if !loses_keys => trouble(Trouble::Files(Damage::draw(random))),
                12 | 13 => Fault::KeyGone {
                    key: if random.percent(70) { LostKey::Initialize } else { LostKey::Sync },
                },
                14 => Fault::Failover { candidate: host },
                _ => continue,
            };
            self.faults.push(Planned { at, lasts, fault });
        }
        self.faults.sort_by_key(|planned| planned.at);
    }

    /// In some worlds the store loses everything, once or twice.
    pub(crate) fn draw_wipes(&mut self, random: &mut Random) {
        // A member that comes back empty may be the only one whose agent answers; and what `/sync` promised before another cluster was followed
        // is known to the store alone.
        let excludes = |fault: &Fault| {
            matches!(
                fault,
                Fault::LosesDisk { .. }
                    | Fault::Leaves { .. }
                    | Fault::Joins { .. }
                    | Fault::Reinitialize { .. }
                    | Fault::FollowAnother
                    | Fault::KeyGone { .. }
                    | Fault::Trouble { what: Trouble::Files(_), .. }
            )
        };
        let is_excluded = self.settings.standby_cluster.is_some()
            || self.faults.iter().any(|planned| excludes(&planned.fault));
        if is_excluded || !random.percent(10) {
            return;
        }
        for _ in 0..random.between(1, 3) {
            let at = random.between(0, self.fault_phase);
            self.faults.push(Planned { at, lasts: 0, fault: Fault::KeyGone { key: LostKey::All } });
        }
        self.faults.sort_by_key(|planned| planned.at);
    }

    /// Without a guardian nobody may survive what else befalls the agent.
    fn can_lose_guardian(&self, host: HostId) -> bool {
        self.guardian
            && !self.faults.iter().any(|planned| {
                matches!(planned.fault, Fault::FreezeAgent { host: at } | Fault::KillAgent { host: at, .. } | Fault::Suspend { host: at } if at == host)
            })
    }
}

impl World {
    pub(crate) fn trouble_begins(&mut self, host: HostId, what: Trouble) {
        let now = self.now;
        match what {
            Trouble::DiskFills { left } => self.disk_fills(host, left),
            Trouble::DiskReadOnly => {
                self.hosts[host].troubles.read_only += 1;
                self.hosts[host].disk_stalls += 1;
            }
            Trouble::NoConnections => self.hosts[host].troubles.no_connections += 1,
            Trouble::BadChecksums => self.hosts[host].troubles.checksum_failures += 1,
            Trouble::SlowPromotion => self.hosts[host].troubles.slow_promotion += 1,
            Trouble::ReplayStops => {
                let flushed = self.hosts[host].pg.data.flushed;
                self.hosts[host].troubles.replay_stopped = Some((self.wal.lsn(flushed), now));
            }
            Trouble::RewindFails => self.hosts[host].troubles.rewind_fails += 1,
            Trouble::LongTransaction => self.hosts[host].troubles.long_transaction += 1,
            Trouble::NoRoomForSlots => self.hosts[host].troubles.no_room_for_slots += 1,
            Trouble::NoGuardian => {
                self.hosts[host].troubles.no_guardian += 1;
                self.guardian_dies(host);
            }
            Trouble::Files(damage) => self.files_damaged(host, damage),
        }
    }

    pub(crate) fn trouble_ends(&mut self, host: HostId, what: Trouble) {
        let troubles = &mut self.hosts[host].troubles;
        match what {
            Trouble::DiskFills { .. } => troubles.room = None,
            Trouble::DiskReadOnly => {
                troubles.read_only -= 1;
                self.disk_works_again(host);
            }
            Trouble::NoConnections => troubles.no_connections -= 1,
            // What was counted stays so: the pages are still wrong.
            Trouble::BadChecksums => {}
            Trouble::SlowPromotion => troubles.slow_promotion -= 1,
            Trouble::ReplayStops => {
                troubles.replay_stopped = None;
                self.try_receiver_in(host, 0);
            }
            Trouble::RewindFails => troubles.rewind_fails -= 1,
            Trouble::LongTransaction => troubles.long_transaction -= 1,
            Trouble::NoRoomForSlots => troubles.no_room_for_slots -= 1,
            Trouble::NoGuardian => troubles.no_guardian -= 1,
            Trouble::Files(_) => troubles.damage = None,
        }
    }

    /// A standby that was started since then reads WAL of its own, and has not come to its end.
    pub(crate) fn is_reading_own_wal(&self, host: HostId) -> Option<Lsn> {
        let h = &self.hosts[host];
        let (at, since) = h.troubles.replay_stopped?;
        let server = h.pg.server().filter(|server| server.in_recovery && server.since > since)?;
        let end = self.wal.lsn(h.pg.data.flushed);
        (server.receiver.is_none() && at < end).then_some(at)
    }

    /// How far a server has replayed.
    pub(crate) fn replayed(&self, host: HostId) -> Lsn {
        let h = &self.hosts[host];
        let flushed = self.wal.lsn(h.pg.data.flushed);
        match h.troubles.replay_stopped {
            Some((at, _)) if h.pg.server().is_some_and(|server| server.in_recovery) => at.min(flushed),
            _ => flushed,
        }
    }

    /// A promotion waits for all that was received to be replayed, and for the disk.
    pub(crate) fn is_promotion_slow(&mut self, host: HostId) -> bool {
        let troubles = &self.hosts[host].troubles;
        let is_slow = troubles.slow_promotion > 0 || troubles.read_only > 0;
        is_slow || self.replayed(host) < self.wal.lsn(self.hosts[host].pg.data.flushed)
    }

    /// Whether it is promised that nothing is lost: who has asked for a failover to this very member accepts the loss.
    pub(crate) fn is_loss_accepted(&self, host: HostId) -> bool {
        self.checks.named_by_operator == Some(host) || self.checks.failed_over_to.contains(&host)
    }

    /// Does it say in its report that it is in trouble?
    pub(crate) fn is_unfit(&self, host: HostId) -> bool {
        self.hosts[host].agent.mind.memory.gray.alarms.keys().any(|alarm| alarm.makes_unfit())
    }

    /// What was promised to clients of synchronous replication is given up.
    pub(crate) fn gives_sync_up(&mut self) {
        for acknowledged in self.checks.acknowledged.values_mut() {
            acknowledged.covered = 0;
        }
    }
}
