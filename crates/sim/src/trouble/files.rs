//! A data directory that is gone, cannot be read, or is not this cluster's.

use bellwether_ha::view::DataDirectory;
use bellwether_types::SystemId;

use crate::{
    event::{HostId, PostgresEvent},
    pg::{Data, Files},
    random::Random,
    schedule::MILLIS,
    world::World,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Errors of input and output, until the storage is back.
    Unreadable,
    /// Somebody has removed the files, for good. A server that runs goes on for a moment.
    Removed,
    /// The control file is damaged, until somebody puts a copy into place.
    Invalid,
    /// Somebody has put another cluster's directory into the place of ours, and corrects the mistake later.
    Foreign,
}

impl Damage {
    pub(super) fn draw(random: &mut Random) -> Self {
        *random.pick(&[Self::Unreadable, Self::Removed, Self::Invalid, Self::Foreign])
    }
}

/// The cluster that a directory belongs to which somebody has confused with ours.
fn stranger() -> SystemId {
    "7000000000000000001".parse().expect("nineteen digits")
}

impl World {
    pub(crate) fn files_damaged(&mut self, host: HostId, damage: Damage) {
        if self.hosts[host].pg.data.files != Files::Present || !self.hosts[host].is_alive() {
            return;
        }
        match damage {
            Damage::Removed if !self.may_lose(host) => return,
            Damage::Removed => {
                self.checks.members_lost = true;
                self.hosts[host].pg.data.files = Files::Empty;
                if self.hosts[host].pg.is_down() {
                    self.hosts[host].pg.data = Data::default();
                }
                // The postmaster looks for its pid file once a minute; backends fail earlier.
                let delay = self.random.between(10, 10_000) * MILLIS;
                self.pg_later(host, delay, PostgresEvent::MissesFiles);
                return;
            }
            Damage::Foreign => self.pg_kill(host),
            Damage::Unreadable | Damage::Invalid => {}
        }
        self.hosts[host].troubles.damage = Some(damage);
    }

    /// The postmaster finds out that its files are gone.
    pub(crate) fn pg_misses_files(&mut self, host: HostId) {
        if self.hosts[host].pg.data.files == Files::Empty {
            self.pg_kill(host);
        }
    }

    /// What an agent sees in the place of the data directory, if not what is there.
    pub(crate) fn damaged_view(&self, host: HostId) -> Option<DataDirectory> {
        match self.hosts[host].troubles.damage? {
            Damage::Unreadable => Some(DataDirectory::Unreadable("Input/output error".to_owned())),
            Damage::Invalid => Some(DataDirectory::Invalid("pg_control cannot be read".to_owned())),
            Damage::Removed | Damage::Foreign => None,
        }
    }

    pub(crate) fn shown_system_id(&self, host: HostId) -> Option<SystemId> {
        match self.hosts[host].troubles.damage {
            Some(Damage::Unreadable | Damage::Invalid) => None,
            Some(Damage::Foreign) => Some(stranger()),
            Some(Damage::Removed) | None => self.hosts[host].pg.data.system_id,
        }
    }
}
